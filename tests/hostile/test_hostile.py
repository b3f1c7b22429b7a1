"""Hostile candidates against each layer that claims to stop them; here it has to.

``pytest -m slow tests/hostile`` runs every candidate in every configuration that claims it;
by default a few of each kind. ``python -m tests.hostile.claims`` makes a table of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmatic_hpc.source import gate

from . import candidates_generated as generated
from .bed import CONFIGURATIONS, Bed, available, faults
from .matrix import CANDIDATES, claimed
from .table import Hostile


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with Bed() as made:
        yield made


def _cases(*, default: bool) -> list[object]:
    return [
        pytest.param(hostile, configuration, id=f"{hostile.kind}: {hostile.name}, {configuration}")
        for hostile in CANDIDATES
        for configuration in CONFIGURATIONS
        if hostile.default == default and claimed(hostile, configuration)
    ]


def _stopped(bed: Bed, hostile: Hostile, configuration: str) -> None:
    missing = hostile.needs - available()
    if configuration == "child" and missing:
        pytest.skip(f"this child has no {', '.join(sorted(missing))}")
    seen = bed.run(hostile, configuration)
    assert not bed.damage() + faults(hostile, seen)


@pytest.mark.parametrize(("hostile", "configuration"), _cases(default=True))
def test_a_hostile_candidate_comes_to_nothing(
    bed: Bed, hostile: Hostile, configuration: str
) -> None:
    """Nothing outside of its folder changed, nothing was told, nothing is left; it has a status."""
    _stopped(bed, hostile, configuration)


@pytest.mark.slow
@pytest.mark.parametrize(("hostile", "configuration"), _cases(default=False))
def test_every_hostile_candidate_comes_to_nothing(
    bed: Bed, hostile: Hostile, configuration: str
) -> None:
    """The same, for all that anybody thought of."""
    _stopped(bed, hostile, configuration)


def test_the_table_is_whole() -> None:
    """Names are unique, every kind is there, and each layer has something to stop."""
    names = [(h.kind, h.name) for h in CANDIDATES]
    assert len(set(names)) == len(names) >= 80
    assert {h.kind for h in CANDIDATES} == {"escape", "resource", "forge", "crash"}
    assert all(h.claims and set(h.expect) <= {"gate", "measure", "train"} for h in CANDIDATES)


@pytest.mark.parametrize("found", [generated.doors, generated.torch_functions])
def test_the_gate_knows_no_other_way_out_of_torch(found: object) -> None:
    """Everything torch holds besides the vocabulary is refused, one by one."""
    expressions = found()  # type: ignore[operator]
    sources = generated.gathering(expressions)
    let_in = [
        expression
        for expression, source in zip(expressions, sources, strict=True)
        if "no class" in gate.check(source, max_bytes=10_000).failure
    ]
    assert len(expressions) > 400
    assert let_in == []


def test_the_gate_refuses_every_route_to_python() -> None:
    """Dotted paths from torch to os, sys and their like, found by walking it."""
    routes = generated.routes()
    assert {"os", "sys", "io", "importlib"} <= set(routes)
    for paths in routes.values():
        for path, source in zip(paths, generated.gathering(paths), strict=True):
            assert gate.check(source, max_bytes=10_000).status == "forbidden", path

"""Runs of one method: those whose configurations differ in nothing that matters but the seed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import config as configuration
from ..config import BASELINES
from ..config.fields import settings_of
from ..store import Record, hours, promotion
from ..store.record import EVALUATED

if TYPE_CHECKING:
    from .compare import Comparison

Settings = dict[str, Any]

WRITER = "generator"
"""Key for what wrote the networks, beside the settings: after a fallback these do not say it."""

_NAMES = {"llmatic": "LLMatic", "random": "random search"}


@dataclass(frozen=True, eq=False)
class Run:
    """Record with the values that a comparison needs."""

    path: Path
    record: Record
    settings: Settings
    """Settings by full name that may not differ when a run is continued, and :data:`WRITER`."""
    queries: NDArray[np.intp]
    """Candidates with a score of their own, in order: within the budget, if there is one."""
    finished: bool
    """True where its own budget or the comparison's is spent."""
    unspent: str = ""
    """Part of its budget that was spent at its end, as ``154 of 2000 queries``; empty: all."""

    @property
    def seed(self) -> int:
        """Seed of every random draw."""
        return int(self.record.config["run"]["seed"])


@dataclass(frozen=True, eq=False)
class Method:
    """Runs that differ in their seeds, and in what the comparison puts side by side."""

    name: str
    runs: tuple[Run, ...]
    differs: Settings
    """Settings in which it differs from other methods of the same name."""
    number: int
    """Number that tells methods of one name apart, from 1; 0 where there is one only."""

    @property
    def settings(self) -> Settings:
        """Settings of its first run; the others differ in what is put side by side."""
        return self.runs[0].settings

    @property
    def title(self) -> str:
        """Name and number, with a star where a run is not finished."""
        number = f" [{self.number}]" if self.number else ""
        return self.name + number + ("" if all(run.finished for run in self.runs) else " *")

    @property
    def note(self) -> str:
        """Differing settings that its number stands for, in words."""
        return ", ".join(f"{key} = {json.dumps(value)}" for key, value in self.differs.items())


def look(path: Path, record: Record, budget: int) -> Run:
    """Return a run as far as its first ``budget`` queries; 0: all of it.

    Raises :class:`~llmatic_hpc.errors.ConfigError` for the settings of a newer version.
    """
    config = configuration.from_tables(record.config, str(path))
    settings = {
        name: list(lasting)
        if isinstance(lasting := field.metadata["lasting"](value), tuple)
        else lasting
        for name, field, value in settings_of(config)
        if name != "run.seed" and not field.metadata["resumable"]
    }
    scored = record.candidates["status"] == b"scored"
    queries = np.flatnonzero(scored & ~record.are_repeats)
    enough = [n for n in (budget, config.search.queries) if n]
    spent = promotion.committed_cost(record, record.archives["network"].elite)
    finished = any(len(queries) >= n for n in enough) or (
        record.phase == EVALUATED
        and (
            record.committed_generations >= config.search.generations
            or 0.0 < config.search.budget <= spent
            or bool(hours.spent(record, record.archives["network"].elite))
        )
    )
    search, unspent = config.search, ""
    if finished and not (any(len(queries) >= n for n in enough) or 0.0 < search.budget <= spent):
        if enough:
            unspent = f"{len(queries)} of {min(enough)} queries"
        elif search.budget:
            unspent = f"{spent:.4g} of {search.budget:g} full trainings"
    settings[WRITER] = record.environment.get("generator")
    return Run(path, record, settings, queries[: budget or None], finished, unspent)


def methods(runs: Iterable[Run], comparison: Comparison) -> list[Method]:
    """Group the runs of one kind of problem by method, in the order of names.

    A run that is named twice counts once.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in {run.record.run_id: run for run in runs}.values():
        common = {key: value for key, value in run.settings.items() if key not in comparison.aside}
        groups[json.dumps([common, comparison.same(run)], sort_keys=True)].append(run)
    by_name: dict[str, list[list[Run]]] = defaultdict(list)
    for group in groups.values():
        group.sort(key=lambda run: (run.seed, str(run.path)))
        by_name[_name(group[0].settings)].append(group)
    names = sorted(by_name, key=str.lower)
    return [one for name in names for one in _numbered(name, by_name[name], comparison)]


def _numbered(name: str, groups: Sequence[list[Run]], comparison: Comparison) -> list[Method]:
    """Make the methods of one name, and number them where they differ in more than is told."""
    told = comparison.told
    settings = [group[0].settings for group in groups]
    differing = [
        key
        for key in sorted(settings[0].keys() - {*comparison.aside, *told})
        if any(other[key] != settings[0][key] for other in settings)
    ]
    differs = [{key: one[key] for key in differing} for one in settings]
    texts = [json.dumps(one) for one in differs]
    numbers = {text: number for number, text in enumerate(sorted(set(texts)), 1)}
    found = [
        Method(name, tuple(group), one, numbers[text] if differing else 0)
        for group, one, text in zip(groups, differs, texts, strict=True)
    ]
    return sorted(found, key=lambda one: (one.number, [str(one.settings[key]) for key in told]))


def _name(settings: Settings) -> str:
    """Return ``LLMatic (procedural control)``: an algorithm, and what writes its networks."""
    variant, writer = settings["search.variant"], str(settings[WRITER])
    is_control = writer.startswith("procedural")
    plain = variant.replace("-", " ") if variant in BASELINES else f"LLMatic, {variant}"
    name = _NAMES.get(variant, plain)
    if is_control and (variant in BASELINES or variant == "random"):
        return name
    return f"{name} ({'procedural control' if is_control else _model(writer)})"


def _model(writer: str) -> str:
    """Shorten ``huggingface:Qwen/Qwen2.5-0.5B`` to the model, and a file to its name."""
    kind, _, model = writer.partition(":")
    if kind == "replay" or not model:
        return writer
    return Path(model).name if Path(model).is_absolute() else model

"""The screen: gate, digest and contained measuring, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from llmatic_hpc.config import ContainmentSettings
from llmatic_hpc.evaluation.screen import Screener

from .helpers import INITIAL

SETTINGS = ContainmentSettings(screen_seconds=5.0, max_params=1_000_000, source_bytes=5000)


@pytest.fixture(scope="module")
def screener() -> Iterator[Screener]:
    with Screener(input_shape=(3, 32, 32), classes=10, containment=SETTINGS) as made:
        yield made


def variant(width: int) -> str:
    """A network of its own for every ``width``."""
    return INITIAL.replace("nn.Conv2d(3, 1, 1)", f"nn.Conv2d(3, {width}, 1)").replace(
        "1024", str(1024 * width)
    )


def test_memory_that_no_machine_has_is_too_large(screener: Screener) -> None:
    """Measured without being allocated, in company or alone, it is a verdict that fits a record."""
    line = "{} = torch.zeros(1 << 30, 1 << 30)\n        "
    vast = INITIAL.replace("x = F.relu", line.format("p") + line.format("q") + "x = F.relu")
    for sources in ([vast, variant(4)], [vast + "# alone"]):
        assert screener.screen(sources)[0].status == "too_large"


def test_verdicts_come_in_order(screener: Screener) -> None:
    """Each source gets its own, whether the gate or the measuring decides."""
    endless = INITIAL.replace(
        "x = F.relu", "while True:\n            x = x + 0\n        x = F.relu"
    )
    sources = [
        variant(2),
        "import os\n" + INITIAL,
        "def (",
        variant(200),
        INITIAL,
        INITIAL.replace("1024", "77"),
        endless,
        "#" * 6000,
        variant(3),
    ]
    found = screener.screen(sources)
    statuses = [s.status for s in found]
    assert statuses[0] == statuses[4] == statuses[8] == "pending"
    assert statuses[2] == "invalid"
    assert statuses[3] == statuses[7] == "too_large"
    assert statuses[5] == "invalid"
    assert statuses[6] in ("too_slow", "forbidden")
    params = [s.descriptors.params for s in found if s.descriptors]
    assert params == [20_498, 10_254, 30_742]
    assert all(bool(s.failure) == (s.status != "pending") for s in found)
    assert all(s.canonical_sha256 for s in found if s.status == "pending")


def test_the_same_network_is_measured_once(
    screener: Screener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renamed, commented, within a batch or batches later: one digest, one measurement."""
    source = variant(5)
    renamed = source.replace("conv1", "first").replace(
        "import torch\n", "import torch  # well\n", 1
    )
    first, second = screener.screen([source, renamed])
    assert first == second
    monkeypatch.setattr(
        screener._container, "run_many", lambda jobs: iter([(j, 1 / 0) for j in jobs])
    )
    assert screener.screen([renamed, source]) == [first, first]


def test_a_hundred_candidates_take_seconds(screener: Screener) -> None:
    """A generation is screened in about a second on two free cores."""
    sources = [variant(10 + i) for i in range(60)]
    started = time.monotonic()
    assert {s.status for s in screener.screen(sources)} == {"pending"}
    assert time.monotonic() - started < 20


def test_an_empty_batch_is_none(screener: Screener) -> None:
    """No sources, no verdicts."""
    assert screener.screen([]) == []


def test_a_verdict_does_not_suffer_from_the_search_for_repairs() -> None:
    """A misfit that hangs while repairs are looked for, on the meta device, is what it was."""
    misfit = INITIAL.replace("1024", "77")
    hangs = misfit.replace(
        "x = F.relu",
        "i = 1 if x.is_meta else 0\n        while i:\n            i = i * 1\n        x = F.relu",
    )
    quick = ContainmentSettings(screen_seconds=1.5)
    with Screener(input_shape=(3, 32, 32), classes=10, containment=quick) as screener:
        mended, found = screener.examine([misfit, hangs], repair=True)
        assert mended.screened.status == "pending"
        assert [repair.rule for repair in mended.repairs] == ["size"]
        assert found.source == hangs
        assert found.screened == found.written
        assert found.screened.status == "invalid"
        assert "77" in found.screened.failure
        assert screener.screen([hangs]) == [found.screened]

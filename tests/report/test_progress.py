"""Lines of the log while a run goes on."""

from __future__ import annotations

import pytest

from llmatic_hpc.report import progress
from llmatic_hpc.report.progress import Lines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_generating_says_how_fast_it_is(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens per second of the stage so far; a stage without tokens says nothing of them."""
    lines = Lines(3)
    lines.stage(0, "generated", 4)
    lines.advance("generated", tokens=100)
    clock[0] += 25
    lines.advance("generated", 2, tokens=400)
    lines.stage(0, "screened", 4)
    lines.advance("screened", 4)
    assert capsys.readouterr().err.splitlines() == [
        "generation 1/3: generated 3/4, 20 tokens/s, best none yet",
        "generation 1/3: screened 4/4, best none yet",
    ]

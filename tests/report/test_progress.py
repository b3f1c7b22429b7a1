"""Lines of the log while a run goes on."""

from __future__ import annotations

import logging

import pytest

from llmatic_hpc.report import lines as lines_of
from llmatic_hpc.report import progress
from llmatic_hpc.report.bars import Bars
from llmatic_hpc.report.progress import Lines

from ..store.conftest import made_up


def test_what_it_says_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Lines of a run go to the log, too, and so does what ended a generation."""
    with caplog.at_level(logging.INFO, "llmatic_hpc"):
        lines = Lines(3)
        lines.knows(record := made_up())
        lines.stage(0, "trained", 1)
        lines.advance("trained")
        lines.generation_done(record)
    best = lines_of.best_candidate(record)
    said = [one.getMessage() for one in caplog.records]
    assert said[0].startswith("generation 1/3: trained 1/1, best ")
    assert said[0].endswith(f"(candidate {best})")
    assert said[1].endswith(f"(candidate {best})")


def test_of_equals_the_first_candidate_is_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    """The best is the record's, in any order of results."""
    lines = Lines(3)
    for candidate in (7, 3, 5):
        lines.scored(candidate, 0.5)
    assert lines.best == "best 0.5000 (candidate 3)"


def test_queries_are_counted_where_they_are_the_budget() -> None:
    """The line of a generation says how many are spent."""
    record = made_up()
    assert "queries" not in lines_of.generation_line(record)
    record.config["search"]["queries"] = 500
    spent = int((record.candidates["status"] == b"scored").sum())
    assert lines_of.generation_line(record).startswith(f"queries {spent}/500, generation 3 done: ")
    lines = Lines(3, 500)
    lines.knows(record)
    assert lines.title == f"queries {spent}/500"
    lines.scored(99, 0.01)
    assert lines.title == f"queries {spent + 1}/500"
    lines.generation_done(record)
    assert lines.title == f"queries {spent}/500"


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


def test_waiting_says_what_for(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Results that are out and where their tasks stand: every twenty seconds while that changes,
    every five minutes while it does not."""
    lines = Lines(3)
    lines.waits("reading the data, digits")
    lines.stage(0, "trained", 100)
    for second in range(700):
        clock[0] += 1
        if second == 35:
            lines.advance("trained", 88)
        lines.waits("8 running on gpu01; 4 in the queue: 4 Priority" if second > 10 else "")
    lines.advance("trained", 12)
    wait = "8 running on gpu01; 4 in the queue: 4 Priority), best none yet"
    assert capsys.readouterr().err.splitlines() == [
        "reading the data, digits",
        f"generation 1/3: waiting for 100 of 100 results ({wait}",
        f"generation 1/3: waiting for 12 of 100 results ({wait}",
        f"generation 1/3: waiting for 12 of 100 results ({wait}",
        f"generation 1/3: waiting for 12 of 100 results ({wait}",
        "generation 1/3: trained 100/100, best none yet",
    ]


def test_bars_say_the_same() -> None:
    """Beside the bar of the stage; a bar of their own counts the queries."""
    bars = Bars(3, 500)
    bars.knows(record := made_up())
    bars.stage(0, "trained", 10)
    bars.advance("trained")
    bars.waits("3 running")
    spent = int((record.candidates["status"] == b"scored").sum())
    queries, trained = bars.progress.tasks
    assert (queries.completed, queries.total, trained.completed) == (spent, 500, 1)
    best = lines_of.best_candidate(record)
    assert trained.fields["note"].startswith(f"queries {spent}/500, 3 running, best 0.")
    assert trained.fields["note"].endswith(f"(candidate {best})")

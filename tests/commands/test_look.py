"""The commands that look at runs, on made-up records."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmatic_hpc import store
from llmatic_hpc.commands.main import cli, summary
from llmatic_hpc.rundir.paths import RunPaths

from ..store.conftest import made_up


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a made-up record."""
    return written(tmp_path / "runs" / "one")


def written(folder: Path) -> Path:
    """Write a made-up record into a run directory."""
    folder.mkdir(parents=True)
    store.commit(RunPaths(folder), made_up())
    return folder


def llmatic(*words: str | os.PathLike[str]) -> Result:
    """Call the command line; an error stays an exception."""
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)


def rows_of(result: Result) -> list[dict[str, object]]:
    assert result.exception is None
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_elites_are_the_map_as_a_list(run: Path) -> None:
    """The fittest first, each elite of the archive once, as the candidate table has it."""
    record = store.load(RunPaths(run).record)
    rows = rows_of(llmatic("elites", run, "--json"))
    alive = record.archives["network"].elite
    assert sorted(row["candidate"] for row in rows) == sorted(alive[alive >= 0].tolist())
    fitness = [row["fitness"] for row in rows]
    assert fitness == sorted(fitness, reverse=True)
    assert fitness[0] == record.candidates["fitness"][rows[0]["candidate"]]
    assert set(rows[0]["descriptors"]) == {"ratio", "flops"}
    assert str(rows[0]["candidate"]) in llmatic("elites", run).stdout.splitlines()[1]


def test_runs_below_a_folder(run: Path) -> None:
    """Each with its state and best; one that is damaged says so and hides no other."""
    written(run.parent / "deep" / "two")
    damaged = written(run.parent / "three")
    (damaged / "run.h5").write_bytes(b"not a record")
    rows = rows_of(llmatic("runs", run.parent, "--json"))
    assert [Path(str(row["run"])).name for row in rows] == ["two", "one", "three"]
    assert [row["state"] for row in rows] == ["finished", "finished", "unreadable"]
    assert rows[1]["fitness"] == pytest.approx(max(made_up().candidates["fitness"][[0, 1, 2]]), 1)
    assert "three" in llmatic("runs", run.parent).stdout
    error = llmatic("runs", run).exception is None, llmatic("runs", run / "nope").exception
    assert "no run below it" in str(error[1])


def test_export_does_not_overwrite_by_itself(run: Path, tmp_path: Path) -> None:
    """A file that is there stays, unless --force; a run without scores has a clear line."""
    target = tmp_path / "best.py"
    words = ("export", run, "--best", "--output", target)
    assert llmatic(*words).exception is None
    target.write_text("mine")
    assert "exists; --force overwrites it" in str(llmatic(*words).exception)
    assert target.read_text() == "mine"
    assert llmatic(*words, "--force").exception is None
    assert "def" in target.read_text() or "x =" in target.read_text()
    empty = tmp_path / "empty"
    empty.mkdir()
    store.commit(RunPaths(empty), made_up(0))
    error = str(llmatic("export", empty, "--best", "--output", tmp_path / "x.py").exception)
    assert error.endswith("no candidate has a score yet")


def test_compare_takes_patterns_and_doubts(run: Path) -> None:
    """A quoted pattern is expanded; a seed that counts twice and mixed budgets are said."""
    other = run.parent / "other"
    other.mkdir()
    record = made_up(2)
    record.run_id = "another"
    record.config["search"]["queries"] = 20
    store.commit(RunPaths(other), record)
    (row,) = rows_of(llmatic("compare", f"{run.parent}/*", "--json"))
    assert row["runs"] == [str(run), str(other)]
    assert row["warnings"] == [
        f"seed 0 counts 2 times ({run}, {other})",
        "runs of different budgets: search.queries is 0, 20",
    ]
    assert "WARNING" in llmatic("compare", run, other).stdout
    (alone,) = rows_of(llmatic("compare", run, "--json"))
    assert alone["warnings"] == []


def test_a_budget_that_is_not_spent_is_said(run: Path) -> None:
    """Generations that end before the queries do not look like all of them."""
    record = made_up()
    assert "queries are spent" not in summary(record, RunPaths(run))
    record.config["search"]["queries"] = 5000
    spent = int((record.candidates["status"] == b"scored").sum())
    assert f"{spent} of 5000 queries are spent" in summary(record, RunPaths(run))


def test_watch_waits_for_the_record(tmp_path: Path) -> None:
    """Seconds after the start of a run there is none yet."""
    folder = tmp_path / "run"
    folder.mkdir()
    timer = threading.Timer(1.0, store.commit, (RunPaths(folder), made_up()))
    timer.start()
    assert "finished" in llmatic("status", folder, "--watch").stdout
    timer.join()


def test_summaries_of_help_are_whole() -> None:
    """No command's summary is cut off, and none has markup."""
    text = llmatic("--help").stdout.partition("Commands:")[2]
    assert "evaluate" in text
    assert "..." not in text
    assert "`" not in text


def test_status_takes_the_record_and_a_folder_of_runs(run: Path) -> None:
    """run.h5 stands for its run; a folder of runs is listed; a pipe gets no trailing blanks."""
    text = llmatic("status", run / "run.h5").stdout
    assert text == llmatic("status", run).stdout
    assert text.endswith("\n")
    assert all(line == line.rstrip() for line in text.splitlines())
    assert rows_of(llmatic("status", run.parent, "--json"))[0]["run"] == str(run)
    assert "FLOPs (FLOP)" in llmatic("status", run, "--map").stdout

"""The commands that look at runs, on made-up records."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner, Result

from llmatic_hpc import store
from llmatic_hpc.commands.main import cli, summary
from llmatic_hpc.report.listing import age
from llmatic_hpc.rundir import lock
from llmatic_hpc.rundir.paths import RunPaths

from ..coordinator import command
from ..store.conftest import made_up

RECORDS = Path(__file__).parents[1] / "golden" / "records"


@pytest.mark.parametrize("words", [("status",), ("run", "configs/smoke.toml", "--run-dir")])
def test_a_path_that_no_file_system_takes(words: tuple[str, ...]) -> None:
    """One line; as for a folder that may not be entered."""
    done = command.llmatic(*words, "x" * 300, check=False)
    assert done.returncode == 1
    assert "File name too long" in done.stderr


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
    """Each with its state, best and age in a line; what is damaged, of an earlier version, no
    record at all or not yet one hides no other."""
    deep = written(run.parent / "deep" / "two")
    os.utime(deep / "run.h5", (0, 0))  # a copy: its age is that of what it holds
    damaged = written(run.parent / "three")
    (damaged / "run.h5").write_bytes(b"not a record")
    shutil.copytree(RECORDS / "old-smoke", run.parent / "four")
    (run.parent / "five" / "run.h5").mkdir(parents=True)
    (run.parent / "six").mkdir()
    with h5py.File(run.parent / "six" / "run.h5", "w") as file:
        file["x"] = 1
    (run.parent / "seven").mkdir()
    with lock.hold(run.parent / "seven" / "coordinator.lock"):
        rows = rows_of(llmatic("runs", run.parent, "--json"))
    assert {Path(str(row["run"])).name: row["state"] for row in rows} == {
        "two": "finished", "four": "finished", "one": "finished", "three": "unreadable",
        "six": "unreadable", "seven": "starting",
    }  # fmt: skip
    one = next(row for row in rows if row["run"] == str(run))
    assert one["fitness"] == pytest.approx(max(made_up().candidates["fitness"][[0, 1, 2]]), 1)
    two = next(row for row in rows if row["run"] == str(deep))
    assert 0 <= int(str(two["age_seconds"])) < 600
    lines = llmatic("runs", run.parent).stdout.splitlines()
    assert len(lines) == 1 + len(rows)
    assert lines[0].split() == ["state", "done", "candidates", "fitness", "test", "age", "run"]
    assert any(line.startswith("finished") and line.endswith(str(run)) for line in lines)
    assert any(line.startswith("empty") and line.endswith("seven") for line in lines)
    error = llmatic("runs", run).exception is None, llmatic("runs", run / "nope").exception
    assert "no run below it" in str(error[1])


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (100, "2 min"), (9000, "2 h"), (864_000, "10 days")]
)
def test_ages(seconds: float, words: str) -> None:
    """In their largest unit."""
    assert age(seconds) == words


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


def test_watch_into_a_pipe_is_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the record, says what changes line by line, and ends with the whole status."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr("time.sleep", lambda seconds: store.commit(RunPaths(folder), made_up()))
    result = llmatic("status", folder, "--watch", "--map")
    assert result.exception is None
    first, second, third, *rest = result.stdout.splitlines()
    assert first[20:] == f"waiting for {folder / 'run.h5'}: there is none yet"
    assert second[20:].startswith(f"{folder}: finished, generation 3 of 3, best 0.")
    assert third.startswith("run  ")
    assert rest[-1].endswith("no elite")
    assert "\x1b" not in result.stdout
    rows = llmatic("status", folder, "--watch", "--json")
    assert [row["state"] for row in rows_of(rows)] == ["finished"]


def test_interrupting_a_watcher_is_no_accident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C has a line of its own and the exit code of its signal."""

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    result = llmatic("status", tmp_path, "--watch")
    assert result.exit_code == 130
    assert result.stderr == "llmatic: no longer watching; a run goes on without it\n"


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

"""Studies through the command line: continued, added to, refused; failures that stop no other."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from llmatic_hpc import config, store
from llmatic_hpc.commands import study as study_command
from llmatic_hpc.coordinator.study import results, running
from llmatic_hpc.coordinator.study.plan import plan, read
from llmatic_hpc.coordinator.study.progress import Board
from llmatic_hpc.coordinator.study.progress import table as laid_out
from llmatic_hpc.coordinator.study.running import Job, Runner, devices_of, reason, shared
from llmatic_hpc.coordinator.study.standing import FINISHED, STOPPED, WAITING, standings
from llmatic_hpc.errors import Interrupted
from llmatic_hpc.report.live import Look
from llmatic_hpc.rundir import lock
from llmatic_hpc.rundir.paths import StudyPaths

from ..coordinator import command

ROOT = Path(__file__).parents[2]
STUDY = """
config = "{root}/configs/nasbench201.toml"
seeds = {seeds}
at_once = 2
[settings]
problem.table = "{table}"
search = {{ generations = {generations}, batch = 5, queries = 0 }}
archive.samples = 1000
[variants.evolution]
search.variant = "regularized-evolution"
search.population = 10
[variants.local]
search.variant = "local-search"
{more}
"""


@pytest.fixture
def study(tmp_path: Path, table: Path) -> Callable[..., Path]:
    """Writes the file of a small study; the same one again, changed."""

    def write(*, seeds: object = 1, generations: int = 3, more: str = "") -> Path:
        file = tmp_path / "small.toml"
        file.write_text(STUDY.format(
            root=ROOT, table=table, seeds=seeds, generations=generations, more=more
        ))  # fmt: skip
        return file

    return write


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command in this process: without its signals, and without figures, which take longest."""
    monkeypatch.setattr(study_command, "stop_on_signals", lambda: nullcontext(threading.Event()))
    monkeypatch.setattr(results, "draw", lambda runs, paths, tell: None)


def words(file: Path, *more: str) -> list[str]:
    return ["study", str(file), "--output", str(file.parent / "out"), *more]


def llmatic(file: Path, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, which must end with this code."""
    done = command.llmatic(*words(file, *more), check=False)
    assert done.returncode == code, done.stderr
    return done


def rows_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Rows of ``--json`` by run."""
    rows = [json.loads(text) for text in done.stdout.splitlines()]
    return {f"{row['variant']}/seed{row['seed']}": row for row in rows}


def written(file: Path) -> dict[str, tuple[int, str]]:
    """Every record below a study: its version on disk, and which run it is."""
    found = (file.parent / "out").rglob("run.h5")
    return {
        str(path.parent.relative_to(file.parent / "out")): (
            path.stat().st_mtime_ns, store.load(path).run_id
        )
        for path in found
    }  # fmt: skip


def test_a_failure_stops_no_other_and_an_added_seed_repeats_nothing(
    study: Callable[..., Path],
) -> None:
    """Named with its reason; results of the rest; mended it goes on; nothing runs twice."""
    broken = "[variants.broken]\ngenerator = { kind = 'replay', replay = 'none.jsonl' }\n"
    file = study(more=broken)
    done = llmatic(file, code=1)
    assert "1 of 3 runs failed; the same command tries them again" in done.stderr
    assert "broken/seed0: none.jsonl: no such file of completions" in done.stderr
    assert done.stderr.count("local/seed0: finished") == 1
    assert "regularized evolution" in done.stdout
    out = StudyPaths(file.parent / "out")
    assert "regularized evolution" in out.comparison.read_text()
    assert (out.report / "index.html").stat().st_size > 10_000
    summary = {row["variant"]: row for row in csv.DictReader(out.summary.read_text().splitlines())}
    assert summary["local"]["finished"] == "1"
    assert float(summary["local"]["fitness_mean"]) > 0.5
    before = written(file)
    assert set(before) == {"evolution/seed0", "local/seed0", "broken/seed0"}

    more = broken.replace("replay = 'none.jsonl'", "").replace("'replay',", "'procedural'")
    rows = rows_of(llmatic(file := study(seeds=2, more=more), "--json", code=1))
    # It began with another generator: said before anything starts.
    assert rows == {}
    rows = rows_of(llmatic(study(seeds=2), "--json"))
    assert {name: row["state"] for name, row in rows.items()} == {
        f"{name}/seed{seed}": "finished" for name in ("evolution", "local") for seed in (0, 1)
    }
    assert rows["local/seed1"]["generation"] == rows["local/seed1"]["generations"] == 3
    after = written(file)
    assert {name: after[name] for name in before} == before


def test_other_settings_are_refused_before_anything_starts(study: Callable[..., Path]) -> None:
    """Each run that differs is named with what differs; more generations are no difference."""
    file = study()
    llmatic(file)
    before = written(file)
    done = llmatic(file, "--set", "search.batch=6", code=1)
    assert "2 of 2 runs were started with other settings" in done.stderr
    assert "out/local/seed0: search.batch (was 5, now 6)" in done.stderr
    assert "nothing was started" in done.stderr
    assert written(file) == before
    rows = rows_of(llmatic(study(generations=4), "--json"))
    assert {row["generation"] for row in rows.values()} == {4}
    assert {name: run for name, (_, run) in written(file).items()} == {
        name: run for name, (_, run) in before.items()
    }


def test_usage(study: Callable[..., Path]) -> None:
    """2 for a faulty option, 1 for a faulty file."""
    file = study()
    assert "did you mean" in llmatic(file, "--set", "search.bacth=1", code=2).stderr
    assert "a study says it itself" in llmatic(file, "--set", "run.seed=1", code=2).stderr
    file = study(more="[variants.third]\nsearch.bacth = 1\n")
    assert "variant third: unknown setting" in llmatic(file, code=1).stderr
    assert not (file.parent / "out").exists()


# --- ends of all kinds ------------------------------------------------------------------------


LONG = 100_000
"""Generations that no test waits for."""


@contextmanager
def started(file: Path) -> Iterator[subprocess.Popen[str]]:
    """A study whose runs have begun, in a session of its own."""
    process = subprocess.Popen([sys.executable, "-m", "llmatic_hpc", *words(file)], text=True,
                               stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    try:
        runs = [StudyPaths(file.parent / "out").run(n, 0) for n in ("evolution", "local")]
        deadline = time.monotonic() + 120
        while not all(run.record.exists() for run in runs):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)  # other processes: nothing to wait on
        yield process
    finally:
        process.kill()
        process.communicate()


def held(file: Path) -> list[int]:
    """Processes that hold runs of the study."""
    locks = (file.parent / "out").rglob("coordinator.lock")
    return [who["pid"] for who in map(lock.holder, locks) if who]


def gone(file: Path) -> bool:
    deadline = time.monotonic() + 20
    while held(file) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not held(file)


@pytest.mark.parametrize("number", [
    signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow),
])  # fmt: skip
def test_an_end_at_any_time_is_continued(study: Callable[..., Path], number: int) -> None:
    """Killed, its runs end with it; asked to stop, they save first; then the same command.

    Until then there is one study at a time: a second one says so, and touches nothing.
    """
    file = study(generations=LONG)
    with started(file) as process:
        children = held(file)
        assert len(children) == 2
        other = llmatic(file, code=1)
        assert "another 'llmatic study' is at work there: host" in other.stderr
        process.send_signal(number)
        code = process.wait(timeout=60)
        assert gone(file)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 75)
    before = written(file)
    done = max(store.load(path).committed_generations
               for path in (file.parent / "out").rglob("run.h5"))  # fmt: skip
    rows = rows_of(llmatic(study(generations=done + 2), "--json"))
    assert {row["state"] for row in rows.values()} == {"finished"}
    assert {row["generation"] for row in rows.values()} == {done + 2}
    assert {run for _, run in written(file).values()} == {run for _, run in before.values()}
    for path in (file.parent / "out").rglob("run.h5"):
        assert [str(found) for found in store.verify(store.load(path))] == []


@pytest.mark.slow
def test_a_run_that_somebody_cancels_leaves_the_study_to_be_continued(
    study: Callable[..., Path],
) -> None:
    """75, although the study was not asked to stop; the other run ends as it would have."""
    file = study(more=f"search.generations = {LONG}\n", generations=2)
    with started(file) as process:
        runs = StudyPaths(file.parent / "out")
        who = lock.holder(runs.run("local", 0).lock)
        assert who is not None
        os.kill(who["pid"], signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 75, said
    assert "local/seed0: stopped: the run was asked to stop" in said
    assert "not all runs are finished" in said


# --- parts ------------------------------------------------------------------------------------


def test_a_second_interrupt_ends_the_children_at_once(
    study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the process of the study is no different: none of its runs outlives it."""
    file = study(generations=LONG)
    paths = StudyPaths(file.parent / "out")
    found = standings(plan(read(file), file), paths)
    assert {one.state for one in found} == {WAITING}
    jobs = []
    for one in found:
        running.write_config(paths.config(one.run.name, 0), one.run.config)
        jobs.append(Job(one.paths, paths.config(one.run.name, 0)))

    def fails() -> None:
        if len(held(file)) == 2:
            raise KeyboardInterrupt

    runner = Runner(2, SetNever(), started=lambda job: None, ended=never, tick=fails)
    with pytest.raises(KeyboardInterrupt):
        runner.run(jobs)
    assert gone(file)


class SetNever:
    """An event that nobody sets."""

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        time.sleep(timeout)
        return False


def never(*_: object) -> None:
    raise AssertionError


def test_nothing_starts_once_it_is_asked_to_stop(tmp_path: Path) -> None:
    """Also before the first run."""

    class Set(SetNever):
        def is_set(self) -> bool:
            return True

    runner = Runner(1, Set(), started=never, ended=never)
    with pytest.raises(Interrupted):
        runner.run([Job(StudyPaths(tmp_path).run("v", 0), tmp_path / "none.toml")])


def test_a_run_that_cannot_be_started_stops_no_other(tmp_path: Path) -> None:
    """It is named with what the system said."""
    paths = StudyPaths(tmp_path)
    broken, other = Job(paths.run("a", 0), tmp_path / "a"), Job(paths.run("b", 0), tmp_path / "b")
    broken.paths.logs.mkdir(parents=True)
    broken.paths.console.mkdir()
    ended = dict[Path, str]()
    runner = Runner(
        1, SetNever(), started=lambda job: None,
        ended=lambda job, code, why: ended.update({job.config: why}),
    )  # fmt: skip
    runner.run([broken, other])
    assert "cannot be started: [Errno 21] Is a directory" in ended[broken.config]
    assert "cannot be read" in ended[other.config]


def test_nobody_to_tell_ends_no_run(study: Callable[..., Path]) -> None:
    """A full disk below standard error, or a run that moves on while it is looked at."""
    file = study()
    found = standings(plan(read(file), file), StudyPaths(file.parent / "out"))
    shown = Board(found)
    with redirect_stderr(Full()):
        shown.started(found[0].paths)
        watch = shown._watches[found[0].paths]
        watch.look = never_found  # type: ignore[method-assign]
        shown.tick()
        shown.ended(found[0].paths, 1, "why")


class Full(io.StringIO):
    """A file on a disk without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def never_found() -> Look:
    raise FileNotFoundError


def test_runs_share_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores and devices are dealt out, unless the settings say otherwise, and not on Slurm."""
    monkeypatch.setattr(running, "available_cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    base = config.Config()

    def of(at_once: int, *settings: str) -> tuple[int, int, int]:
        found = shared(config.override(base, settings), at_once)
        return found.cluster.array_parallelism, found.training.threads, found.generator.threads

    assert of(1) == (0, 0, 0)
    assert of(2) == (4, 1, 4)
    assert of(16) == (1, 1, 1)
    assert of(2, "cluster.kind=inline") == (0, 4, 4)
    assert of(2, "cluster.array_parallelism=2") == (2, 2, 4)
    assert of(2, "training.threads=3", "generator.threads=5") == (4, 3, 5)
    assert of(2, "cluster.kind=slurm") == (0, 0, 4)
    assert [devices_of(n, 2, "abc") for n in range(2)] == [("a", "c"), ("b",)]
    assert [devices_of(n, 3, "ab") for n in range(3)] == [("a",), ("b",), ("a",)]
    assert devices_of(0, 2, ()) == ()


@pytest.mark.parametrize(("code", "printed", "said"), [
    (1, "reading\nllmatic: a.h5: is\nno file\n", "a.h5: is no file"),
    (2, "Usage: llmatic\n\nError: --set: unknown\n", "Error: --set: unknown"),
    (1, "Traceback\nKeyError: 3\n", "KeyError: 3"),
    (-9, "generation 1 done\n", "ended by SIGKILL"),
    (1, "", "it ended with 1"),
])  # fmt: skip
def test_the_reason_is_the_last_message(code: int, printed: str, said: str) -> None:
    """Lines of one message are one line."""
    assert reason(code, printed) == said


def test_the_table_fits_a_short_terminal(study: Callable[..., Path]) -> None:
    """Failures and runs that go on are shown first; all are counted."""
    file = study(seeds=9)
    found = standings(plan(read(file), file), StudyPaths(file.parent / "out"))
    assert laid_out(found).row_count == 18  # type: ignore[attr-defined]
    short = laid_out(found, most=4)
    assert short.row_count == 4  # type: ignore[attr-defined]
    assert short.caption == "18 waiting"  # type: ignore[attr-defined]


def test_a_record_that_cannot_be_read_is_left_to_its_run(study: Callable[..., Path]) -> None:
    """Others go on, and the run itself says what is wrong with it."""
    file = study()
    paths = StudyPaths(file.parent / "out")
    spoiled = paths.run("local", 0)
    spoiled.root.mkdir(parents=True)
    spoiled.record.write_bytes(b"no record")
    done = llmatic(file, code=1)
    assert "1 of 2 runs failed" in done.stderr
    assert "evolution/seed0: finished" in done.stderr
    assert f"local/seed0: {spoiled.record}" in done.stderr
    assert [one.state for one in standings(plan(read(file), file), paths)] == [FINISHED, STOPPED]


@pytest.mark.slow
def test_figures_are_drawn(study: Callable[..., Path]) -> None:
    """By the scripts of the checkout, of all runs."""
    file = study()
    done = subprocess.run(
        [sys.executable, "-m", "llmatic_hpc", *words(file)], capture_output=True, text=True,
        check=True, timeout=600,
    )  # fmt: skip
    figures = StudyPaths(file.parent / "out").figures
    assert {path.name for path in figures.glob("*.png")} == {f"{n}.png" for n in results.FIGURES}
    assert "drawn: " in done.stderr

"""Candidates as elements of arrays on a real Slurm; more faults in tests/crash/slurm_faults.py."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import submitit.core.utils

from llmatic_hpc import store
from llmatic_hpc.cluster.journal import Journal
from llmatic_hpc.rundir.paths import RunPaths

from ..crash.kill_anywhere import differences
from ..crash.slurm_faults import ROOT, SITE, Bench, Run, llmatic
from .arrays import dispatcher, evaluated, submissions, work
from .bed import Bed, Slurm

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two generations of eight, two elements each, and the same evaluated locally."""
    return Bench(tmp_path_factory.mktemp("bench"), batch=8, epochs=2)


@pytest.fixture
def new_run(slurm: Slurm, bed: Bed, bench: Bench) -> Iterator[Callable[[str], Run]]:
    """Runs by name; whatever happens, nothing of them stays in the queue."""
    made: list[Run] = []

    def make(name: str) -> Run:
        made.append(Run(bench, name, random.Random(0), slurm=slurm, bed=bed))
        return made[-1]

    yield make
    for run in made:
        run.clean_up()


def without(tmp_path: Path, *missing: str) -> str:
    """A search path with all of Slurm's commands but some."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sacctmgr", "srun"):
        if name not in missing:
            (folder / name).symlink_to(shutil.which(name) or "")
    for name in ("bash", "sh", "env"):
        (folder / name).symlink_to(shutil.which(name) or "")
    return str(folder)


# --- whole runs -------------------------------------------------------------------------------


def test_arrays_equal_local_workers_after_refusals(
    new_run: Callable[[str], Run], tmp_path: Path
) -> None:
    """Refusals say what to change and cost nothing; the rest is as it is locally."""
    run = new_run("refused")
    words = ("run", run.bench.config, "--run-dir", run.folder)
    nowhere = llmatic(*words, "--set", "cluster.partition=nowhere", check=False)
    assert nowhere.returncode == 1
    assert "Traceback" not in nowhere.stderr
    assert "cluster.partition, or array.partition in a site file" in nowhere.stderr
    assert "the same command continues the run" in nowhere.stderr
    missing = llmatic(*words, check=False, PATH=without(tmp_path, "sbatch"))
    assert missing.returncode == 1
    assert "there is no sbatch here" in missing.stderr
    before = store.load(run.paths.record)
    assert before.rows == run.bench.batch
    assert list(store.verify(before)) == []
    run.submit()
    run.wait_end()
    run.check()
    assert len(run.array_jobs(0)) == len(run.array_jobs(1)) == 1


@pytest.mark.slow
def test_a_hundred_candidates_in_one_array(slurm: Slurm, tmp_path: Path) -> None:
    """``sbatch slurm/launch.sh``, an element each: all gathered, archives as of local workers."""
    config, run = ROOT / "configs" / "smoke.toml", tmp_path / "run"
    settings = (
        "search.batch=100", "search.generations=1", "training.epochs=1", "training.threads=1",
        "problem.train_images=200", "cluster.candidates_per_task=1",
    )  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    llmatic("run", config, "--run-dir", tmp_path / "local", *words, "--set", "cluster.kind=local")
    (tmp_path / "site.toml").write_text(SITE.format(root=ROOT, python=sys.executable, path=ROOT))
    job = slurm.sbatch(
        "--partition=coord", "--mem=4G", f"--output={tmp_path}/%j.log",
        f"--job-name={tmp_path.name}", ROOT / "slurm" / "launch.sh", config, run, *words,
        env={"LLMATIC_PYTHON": sys.executable, "LLMATIC_SITE": str(tmp_path / "site.toml")},
    )  # fmt: skip
    assert slurm.wait_end(job, seconds=1800) == ("COMPLETED", 0), f"{tmp_path}/{job}.log"
    reference = store.load(RunPaths(tmp_path / "local").record)
    assert differences(reference, run, {}) == []
    table = store.load(RunPaths(run).record).candidates
    jobs = [name.decode() for name in table["slurm_job"] if name]
    assert len(set(jobs)) == len(jobs) > 60  # the rest are duplicates, or do not fit
    assert len({name.split("_")[0] for name in jobs}) == 1


def test_invariant_1_on_slurm(new_run: Callable[[str], Run]) -> None:
    """A node fails, an element is cancelled, the coordinator dies: as if nothing had happened."""
    run = new_run("broken")
    run.submit()
    run.wait(lambda: len(run.elements(0, "RUNNING")) == 2, "both elements", 60)
    first, second = run.elements(0)
    node = ("scontrol", "update", f"nodename={first.node}")
    run.slurm.command(*node, "state=down", "reason=test")
    run.slurm.command("scancel", second.job)
    run.wait(lambda: run.elements(1, "RUNNING"), "generation 1", 90)
    run.slurm.command(*node, "state=resume")
    os.kill(run.coordinator(), signal.SIGKILL)
    # The array goes on without it; the next one finds the results, and submits nothing.
    run.wait(lambda: not run.elements(1), "the end of the array", 60)
    run.wait_end(requeue=True)
    run.check()
    assert len(run.array_jobs(1)) == 1


# --- the dispatcher on arrays of next to nothing ------------------------------------------------


@pytest.fixture
def named(slurm: Slurm, tmp_path: Path) -> Iterator[str]:
    """The name of a test's submissions, none of which stays in the queue."""
    name = f"test-{tmp_path.parent.name[-4:]}-{tmp_path.name[:20]}-{os.getpid()}"
    yield name
    slurm.cancel_named(name)


def killed_coordinator(paths: RunPaths, name: str, count: int, kill: Callable[[], None]) -> None:
    """A coordinator in a process of its own, which ``kill`` prepares to end by SIGKILL."""

    def coordinate() -> None:
        kill()
        dispatcher(paths, name).run(work(count))

    process = multiprocessing.get_context("fork").Process(target=coordinate)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_between_sbatch_and_the_journal(slurm: Slurm, tmp_path: Path, named: str) -> None:
    """The array is there and nobody has written down its id: adopted by its pickles."""
    paths = RunPaths(tmp_path / "run")
    write = Journal.write

    def or_die(journal: Journal, event: str, **facts: object) -> None:
        die() if event == "submitted" else write(journal, event, **facts)

    killed_coordinator(paths, named, 4, lambda: setattr(Journal, "write", or_die))
    assert submissions(paths) == []
    done = dispatcher(paths, named).run(work(4))
    assert {gathered.attempts for gathered in done.values()} == {1}
    assert sorted(evaluated(paths)) == ["0.1", "1.1", "2.1", "3.1"]
    assert submissions(paths) == []


def test_killed_while_submitting(slurm: Slurm, tmp_path: Path, named: str) -> None:
    """Elements whose pickle never came do not stay; all is submitted again, and found."""
    paths = RunPaths(tmp_path / "run")
    job_paths = submitit.core.utils.JobPaths
    original, moved = job_paths.move_temporary_file, []

    def second_dies(self: object, path: Path, name: str, **options: bool) -> None:
        moved.append(name)
        if moved.count("submitted_pickle") == 2:
            die()
        original(self, path, name, **options)

    killed_coordinator(
        paths, named, 4, lambda: setattr(job_paths, "move_temporary_file", second_dies)
    )
    assert slurm.queue(f"{named}-0")
    done = dispatcher(paths, named).run(work(4))
    assert sorted(done) == [0, 1, 2, 3]
    assert set(evaluated(paths)) >= {"1.2", "2.2", "3.2"}
    slurm.wait_until(lambda: not slurm.queue(named), "an empty queue")


def test_a_limit_that_can_be_asked_for(slurm: Slurm, bed: Bed, tmp_path: Path, named: str) -> None:
    """MaxSubmitJobs: never more in the queue than allowed, and sbatch refuses nothing."""
    slurm.wait_until(lambda: not slurm.queue(), "a queue without jobs that other tests left")
    slurm.command("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=3")
    paths = RunPaths(tmp_path / "run")
    done = dispatcher(paths, named).run(work(8))
    assert {gathered.attempts for gathered in done.values()} == {1}
    sizes = [len(jobs) for jobs in submissions(paths)]
    assert sum(sizes) == 8
    assert 1 < max(sizes) <= 3
    assert '"refused"' not in paths.journal.read_text()


def test_a_limit_that_only_sbatch_tells(
    slurm: Slurm, bed: Bed, tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of the whole account: found by trial, waited for, and nothing is lost."""
    monkeypatch.setattr("llmatic_hpc.cluster.dispatch.LEAST_BUSY_SECONDS", 0.5)
    slurm.wait_until(lambda: not slurm.queue(), "a queue without jobs that other tests left")
    account = ("sacctmgr", "-i", "modify", "account", "root", "set")
    slurm.command(*account, "GrpSubmitJobs=3")
    try:
        paths = RunPaths(tmp_path / "run")
        done = dispatcher(paths, named).run(work(8))
    finally:
        slurm.command(*account, "GrpSubmitJobs=-1")
    assert sorted(done) == list(range(8))
    assert '"refused"' in paths.journal.read_text()
    assert sorted(evaluated(paths)) == sorted(f"{n}.1" for n in range(8))


def test_without_accounting(
    slurm: Slurm, tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sacct: an element that died is missed after a while, and evaluated again."""
    monkeypatch.setenv("PATH", without(tmp_path, "sacct", "sacctmgr"))
    paths = RunPaths(tmp_path / "run")
    started = dispatcher(paths, named, wait=True)

    def kill_one() -> bool:
        running = [element for element in slurm.queue(named) if element.state == "RUNNING"]
        if len(running) == 2:
            slurm.command("scancel", "--signal=KILL", "--batch", running[0].job)
            (paths.generation / "go").touch()
        return len(running) == 2

    watcher = threading.Thread(target=slurm.wait_until, args=(kill_one, "two elements"))
    watcher.start()
    done = started.run(work(2))
    watcher.join()
    assert sorted(gathered.attempts for gathered in done.values()) == [1, 2]

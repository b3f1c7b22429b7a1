"""Runs that are stopped, killed or out of disk: nothing is lost, nothing done twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..crash.kill_anywhere import disturbed, finish, workers
from ..slurm.bed import descendants
from .command import ROOT, SMALL, llmatic, load, run


def test_invariant_7_a_second_coordinator_is_refused_and_a_run_can_be_stopped(
    tmp_path: Path,
) -> None:
    """While one runs, another is refused by name; cancel stops it with 75; run continues."""
    folder = tmp_path / "run"
    words = [word for setting in [*SMALL, "search.generations=60"] for word in ("--set", setting)]
    command = [
        sys.executable, "-m", "llmatic_hpc", "run", "configs/smoke.toml", "--run-dir",
        str(folder), *words,
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        first.stderr.readline()  # "generated": it holds the lock
        second = run(folder, check=False)
        assert second.returncode == 1
        assert f"process {first.pid}" in second.stderr
        assert os.uname().nodename in second.stderr
        llmatic("cancel", folder)
        first.stderr.read()
        assert first.wait(60) == 75
    done = load(folder).committed_generations
    run(folder, f"search.generations={done + 1}")
    assert load(folder).committed_generations == done + 1


def test_a_full_disk(tmp_path: Path) -> None:
    """A disk that fills up in a run: a message, exit 1, and the record as committed before."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        done = run(disk / "run", "search.batch=60", check=False)
        assert done.returncode == 1
        assert "disk is full" in done.stderr
        assert load(disk / "run").committed_generations == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = run(disk / "run", "search.batch=60", check=False)
        assert done.returncode == 1
        assert "read-only" in done.stderr
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_invariant_1_killed_at_any_instant(tmp_path: Path, count: int) -> None:
    """Kills at random: the archives of an undisturbed run, nothing evaluated twice."""
    finish(tmp_path / "reference")
    rng, kills = random.Random(0), 0
    while kills < count:
        name = f"run{kills}"
        found = disturbed(tmp_path / name, min(10, count - kills), 10.0, rng)
        assert found["failed"] == 0
        kills += found["kills"]


OVERSAMPLED = ("search.oversample=3", "search.generations=1", "search.batch=4")


def test_invariant_1_killed_while_oversampling(tmp_path: Path) -> None:
    """Candidates passed over stay so; nobody is evaluated twice, wherever a kill falls."""
    finish(tmp_path / "reference", OVERSAMPLED)
    found = disturbed(tmp_path / "run", 1, 6.0, random.Random(1), OVERSAMPLED)
    assert found["failed"] == 0


def test_a_stop_by_signal_saves_everything(tmp_path: Path) -> None:
    """SIGUSR1, as a batch system sends it before the limit: exit 75, then continue."""
    stopped_by(signal.SIGUSR1, tmp_path / "run")


def test_ctrl_c_ends_with_one_message(tmp_path: Path) -> None:
    """SIGINT reaches the workers, too, which say nothing; the log has what the terminal had."""
    said = stopped_by(signal.SIGINT, tmp_path / "run", until="screened")
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("llmatic: ")
    log = (tmp_path / "run" / "logs" / "coordinator.log").read_text()
    assert "screened" in log
    assert "1/1 done" in log


def test_a_signal_ends_the_wait_for_a_server(tmp_path: Path) -> None:
    """A run that waits for a server, for half an hour if need be, leaves with 75 at once."""
    words = (*SMALL, "generator.kind=endpoint", "generator.model=some", "generator.url=serve.json")
    command = [
        sys.executable, "-m", "llmatic_hpc", "run", "configs/smoke.toml", "--run-dir",
        str(tmp_path / "run"), *[word for setting in words for word in ("--set", setting)],
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "looking for the server" not in (said := process.stderr.readline()):
            assert said
        process.terminate()
        said = process.stderr.read()
        assert process.wait(30) == 75
    assert "Traceback" not in said
    assert "asked to stop; nothing is lost" in said


def stopped_by(number: int, folder: Path, until: str = "") -> str:
    """Send a signal to a run's process group once it says ``until``; then let it end.

    Returns standard error after the signal.
    """
    one = "search.generations=1"
    words = [word for setting in (*SMALL, one) for word in ("--set", setting)]
    command = [
        sys.executable, "-m", "llmatic_hpc", "run", "configs/smoke.toml", "--run-dir",
        str(folder), *words,
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        while until not in process.stderr.readline():
            pass
        if until:
            deadline = time.monotonic() + 60
            while not is_training(folder) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(60) == 75
    run(folder, one)
    assert load(folder).committed_generations == 1
    return said


def is_training(folder: Path) -> bool:
    """Return whether a worker of the run has started the process that trains its candidates."""
    for pid in [child for worker in [*workers(folder)] for child in descendants(worker)]:
        with contextlib.suppress(OSError):
            if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return True
    return False

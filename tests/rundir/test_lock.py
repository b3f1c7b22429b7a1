"""Invariant 7: one coordinator per run directory."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llmatic_hpc.errors import RunLockedError
from llmatic_hpc.rundir import lock

HOLD = """
import sys
from pathlib import Path
from llmatic_hpc.rundir import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "SLURM_JOB_ID": "4242"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_invariant_7_one_coordinator_per_run_directory(tmp_path: Path) -> None:
    """A second holder is refused with the first one's host, process and job."""
    path = tmp_path / "coordinator.lock"
    with start_holder(path) as process:
        with pytest.raises(RunLockedError) as caught, lock.hold(path):
            pass
        message = str(caught.value)
        assert os.uname().nodename in message
        assert f"process {process.pid}" in message
        assert "Slurm job 4242" in message
        process.kill()
    with lock.hold(path):  # a killed holder leaves nothing to remove
        pass


def test_who_only_asks_keeps_nobody_out(tmp_path: Path) -> None:
    """Asking for the holder locks the file for an instant, which is waited out."""
    path = tmp_path / "coordinator.lock"
    path.touch()
    with path.open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(asking, fcntl.LOCK_UN)).start()
        with lock.hold(path):
            pass


def test_holder(tmp_path: Path) -> None:
    """The holder of a lock can be asked for without taking it."""
    path = tmp_path / "coordinator.lock"
    assert lock.holder(path) is None
    with lock.hold(path):
        who = lock.holder(path)
        assert who is not None
        assert who["pid"] == os.getpid()
    assert lock.holder(path) is None

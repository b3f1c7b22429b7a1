"""The whole command on small runs, as tests call it."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from unittest import mock

from llmatic_hpc import store
from llmatic_hpc.commands.main import main
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record

ROOT = Path(__file__).parents[2]

SMALL = (
    "search.generations=2", "search.batch=6", "search.start_elites=2", "training.epochs=1",
    "problem.train_images=200", "problem.test_images=100", "cluster.poll_seconds=0.1",
)  # fmt: skip


def llmatic(
    *words: str | Path, check: bool = True, apart: bool = False
) -> subprocess.CompletedProcess[str]:
    """The whole command, here; ``apart``: in a process of its own, as what takes signals must be.

    A new process would import everything again, which takes longer than most commands.
    """
    line = [sys.executable, "-m", "llmatic_hpc", *map(str, words)]
    if apart:
        done = subprocess.run(
            line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
    else:
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(sys, "argv", line[2:]), contextlib.chdir(ROOT),
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        ):  # fmt: skip
            try:
                code = main()
            except SystemExit as left:
                code = left.code
        done = subprocess.CompletedProcess(line, code or 0, out.getvalue(), err.getvalue())
    assert "Traceback" not in done.stderr, done.stderr
    assert not check or done.returncode == 0, done.stderr
    return done


def run(folder: Path, *settings: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A small run with the procedural control."""
    words = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    line = ("run", "configs/smoke.toml", "--run-dir", folder, *words)
    return llmatic(*line, check=check, apart=True)


def load(folder: Path) -> Record:
    return store.load(RunPaths(folder).record)

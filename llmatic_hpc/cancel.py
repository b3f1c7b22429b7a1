"""Stop a run from outside: its coordinator first, then workers that have none."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable

from . import lock
from .cluster import stop_orphans
from .errors import LLMaticError
from .paths import RunPaths

PAUSE_SECONDS = 0.1


def cancel(paths: RunPaths, *, wait_seconds: float) -> str:
    """Ask the coordinator and all workers to save and leave; returns what was done, in words.

    Raises :class:`LLMaticError` when the coordinator is a Slurm job or on another machine (the
    message says how to end it), or does not end within ``wait_seconds``.
    """
    who = lock.holder(paths.lock)
    done = []
    if who is not None:
        if job := who.get("slurm_job"):
            # Asked from here it would end with "run me again", and its job would requeue itself.
            raise LLMaticError(
                f"{paths.root}: held by {lock.describe(who)}: end the job, which saves first: "
                f"scancel {job}"
            )
        if who.get("host") != socket.gethostname():
            how = f"run this command on {who.get('host')}"
            raise LLMaticError(f"{paths.root}: held by {lock.describe(who)}: {how}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(who["pid"]), signal.SIGTERM)
        if not _until(lambda: lock.holder(paths.lock) is None, wait_seconds):
            raise LLMaticError(
                f"{paths.root}: asked process {who['pid']} to stop, but it has not ended within "
                f"{wait_seconds:.0f} s. It ends once its present step is done (a batch of "
                "sampling can take minutes); or run the command again with a longer --wait"
            )
        done.append(f"coordinator {who['pid']} has stopped")
    if orphans := stop_orphans(paths.tasks):
        if not _until(lambda: stop_orphans(paths.tasks) == 0, wait_seconds):
            raise LLMaticError(
                f"{paths.root}: workers are still running after {wait_seconds:.0f} s"
            )
        done.append(f"{orphans} workers without a coordinator have stopped")
    if not done:
        return f"{paths.root}: nothing was running"
    return f"{paths.root}: {' and '.join(done)}; everything is saved, 'llmatic run' continues it"


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)  # another process: nothing to wait on
    return True

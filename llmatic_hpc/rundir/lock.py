"""Keep a run directory to one coordinator (invariant 7).

The lock is the kernel's, on an open file: it goes with the process however that ends, so
there is no stale lock to remove. The file's text says who holds it; it is for people only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import RunLockedError

ASKED_SECONDS = 2.0
"""Longest wait for others that only ask who holds a lock."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; raises :class:`RunLockedError` when another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if (other := _take(descriptor, path)) is not None:
            raise RunLockedError(
                f"{path.parent}: another coordinator holds this run: {describe(other)}. Follow it "
                f"with 'llmatic status {path.parent}', end it with 'llmatic cancel {path.parent}', "
                "or choose another --run-dir"
            )
        text = json.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
                "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            }
        )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> dict[str, Any] | None:
    """Lock an open file; returns who else holds it where that is not to be.

    Who asks for the holder locks it, too, for an instant: that is waited out.
    """
    until = time.monotonic() + ASKED_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            other = holder(path)
            if other is not None or time.monotonic() >= until:
                return other or {}
        time.sleep(0.01)


def holder(path: Path) -> dict[str, Any] | None:
    """Return who holds the lock file ``path``; None if nobody does, as this machine sees it."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                found = json.loads(file.read())
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}
    return None


def describe(who: dict[str, Any] | None) -> str:
    """Describe a holder in words."""
    if not who:
        return "it has not said which"
    job = f", Slurm job {who['slurm_job']}" if who.get("slurm_job") else ""
    return f"host {who.get('host')}, process {who.get('pid')}{job}, since {who.get('since')}"

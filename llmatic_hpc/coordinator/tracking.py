"""Trackers beside a run: a process each, which is told of commits and never waited for.

A byte into a pipe that is never full for long is all that the coordinator does between
generations. What a tracker's library imports, starts, prints or hangs on is that process's own; the
end of the pipe, which even SIGKILL brings about, ends it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..rundir.paths import RunPaths

log = logging.getLogger(__name__)

LAST_SECONDS = 60.0
"""Time that trackers have for the last generations when a run leaves, all of them together."""


@dataclass(eq=False)
class Mirrors:
    """The trackers of one coordinator; of one that is in trouble a notice says so, once."""

    paths: RunPaths
    notice: Callable[[str], None]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)

    def start(self, kinds: Sequence[str]) -> None:
        """Start a process for each kind; what is not installed is told and left out."""
        for kind in dict.fromkeys(kinds):
            if importlib.util.find_spec(kind) is None:
                self._lost(kind, f"it is not installed: pip install 'llmatic-hpc[{kind}]'")
                continue
            words = [
                sys.executable,
                "-m",
                "llmatic_hpc.report.trackers",
                kind,
                str(self.paths.root),
            ]
            try:
                self.paths.logs.mkdir(parents=True, exist_ok=True)
                with open(self.paths.tracker_log(kind), "wb") as output:
                    # A session of its own: Ctrl-C is not for it.
                    started = subprocess.Popen(
                        words, stdin=subprocess.PIPE, stdout=output, stderr=output,
                        start_new_session=True,
                    )  # fmt: skip
            except OSError as error:
                self._lost(kind, str(error))
                continue
            assert started.stdin is not None
            os.set_blocking(started.stdin.fileno(), False)
            self._running[kind] = started

    def tell(self) -> None:
        """Say that there is something new in the record; return at once."""
        for kind, process in list(self._running.items()):
            assert process.stdin is not None
            with suppress(OSError):  # it has ended, or is busy and has enough bytes waiting
                os.write(process.stdin.fileno(), b".")
            if process.poll() is not None:
                self._ended(kind)

    def leave(self) -> None:
        """Have the rest written and wait for nothing; may be called twice."""
        for process in self._running.values():
            assert process.stdin is not None
            process.stdin.close()

    def finish(self) -> None:
        """Have the rest written, in bounded time."""
        self.leave()
        deadline = time.monotonic() + LAST_SECONDS
        for kind, process in list(self._running.items()):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                del self._running[kind]
                self._lost(kind, f"it did not come to an end in {LAST_SECONDS:.0f} seconds")
            else:
                self._ended(kind)

    def _ended(self, kind: str) -> None:
        process = self._running.pop(kind)
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode:
            log_file = self.paths.tracker_log(kind)
            with suppress(OSError):
                said = log_file.read_text(errors="replace").strip().splitlines()
                why = said[-1] if said else f"it ended with {process.returncode}"
                self._lost(kind, f"{why} (all of it: {log_file})")

    def _lost(self, kind: str, why: str) -> None:
        self.notice(
            f"tracker {kind}: {why}. The run goes on without it and its record lacks nothing; the "
            "same command again, also when it has finished, mirrors what is missing"
        )

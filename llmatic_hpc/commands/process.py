"""The process of ``llmatic run``: signals ask it to stop, and what it logs goes to a file."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..rundir.paths import RunPaths


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that TERM, INT, USR1 and USR2 set; a second INT ends the process at once.

    On leaving, these signals are ignored to the very end of the process, so that its exit code
    arrives: Python restores default handlers while it ends, and a second TERM would replace the
    code, but it leaves ignored signals ignored.
    """
    stop = threading.Event()

    def request(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    for number in numbers:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


class _LogFile(logging.FileHandler):
    """Log file that a full disk cuts short without a word; the run itself reports a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def logging_to(paths: RunPaths) -> Iterator[None]:
    """Send the package's log records to the run's log file while the context lasts."""
    try:
        paths.logs.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = _LogFile(paths.log, encoding="utf-8")
    except OSError:  # the run itself will say what is wrong with the folder
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("llmatic_hpc")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()

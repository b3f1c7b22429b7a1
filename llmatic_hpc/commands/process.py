"""The process of ``llmatic run``: signals ask it to stop, and what it logs goes to a file."""

from __future__ import annotations

import atexit
import logging
import os
import select
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import Interrupted, LLMaticError
from ..rundir.paths import RunPaths


class SignalEvent(threading.Event):
    """An event that a signal handler may set at any instant.

    Setting a plain event takes its lock, which the very code that the signal interrupted may hold:
    the process would wait for itself. Here a byte in a pipe ends the wait, and there is no lock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = False
        self._end, self._beginning = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for descriptor in (self._end, self._beginning):
            weakref.finalize(self, os.close, descriptor)

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._told

    def set(self) -> None:
        """Set it, for good, and end every wait."""
        if not self._told:
            self._told = True
            os.write(self._beginning, b".")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait ``timeout`` seconds, or without end, for it; return whether it is set."""
        if not self._told:
            poll = select.poll()
            poll.register(self._end, select.POLLIN)
            poll.poll(None if timeout is None else max(timeout, 0.0) * 1000)
        return self._told


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that TERM, INT, USR1 and USR2 set; a second INT ends the process at once.

    After leaving they change nothing any more, to the very end of the process, so that its exit
    code arrives: Python restores default handlers while it ends, and a second TERM would replace
    the code, but it leaves alone what is ignored by then.
    """
    stop, has_left = SignalEvent(), False

    def request(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT and not has_left:
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    for number in numbers:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        has_left = True
        # Not before the end: a process that is started meanwhile would inherit it.
        for number in numbers:
            atexit.register(signal.signal, number, signal.SIG_IGN)


@contextmanager
def interrupted_by_signals(text: str) -> Iterator[None]:
    """Have TERM and INT raise :class:`Interrupted`, for what may be broken off anywhere."""

    def leave(number: int, frame: object) -> None:
        raise Interrupted(text)

    before = {n: signal.signal(n, leave) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
        )
    )
    logger = logging.getLogger("llmatic_hpc")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    except (LLMaticError, Interrupted) as error:
        logger.error("%s", error)
        raise
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()

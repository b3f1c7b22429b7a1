"""Signals by which a worker is asked to save and leave."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from ..sandbox.container import Container

_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


class Stop:
    """Notes that this process is asked to stop, and tells the container that runs."""

    def __init__(self) -> None:
        self.asked = False
        self._container: Container | None = None
        self._received: list[signal.Signals] = []

    @classmethod
    @contextlib.contextmanager
    def on_signals(cls) -> Iterator[Stop]:
        """Take over the signals; afterwards the former handlers hear of TERM and INT, too."""
        stop = cls()
        former = {number: signal.signal(number, stop._note) for number in _SIGNALS}
        try:
            yield stop
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            for number in stop._received:
                if number != signal.SIGUSR2 and _belongs_to_a_program(former[number]):
                    signal.raise_signal(number)

    @contextlib.contextmanager
    def tells(self, container: Container) -> Iterator[None]:
        """Hand on to ``container`` what is asked for meanwhile."""
        self._container = container
        try:
            if self.asked:
                container.stop()
            yield
        finally:
            self._container = None

    def _note(self, number: int, _: object) -> None:
        self.asked = True
        self._received.append(signal.Signals(number))
        if self._container is not None:
            self._container.stop()


def _belongs_to_a_program(handler: object) -> bool:
    return callable(handler) and handler is not signal.default_int_handler

"""Protocol of a generator, the error of a model that cannot be had, and how a wait is ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from ..errors import GeneratorError
from ..types import Completion, Request

STOP: ContextVar[threading.Event | None] = ContextVar("stop", default=None)
"""Event at which generators that are made now leave a wait for a server; None: they wait on."""


@contextmanager
def stopped_by(stop: threading.Event) -> Iterator[None]:
    """Have generators made inside raise ``Interrupted`` while they wait, once it is set."""
    token = STOP.set(stop)
    try:
        yield
    finally:
        STOP.reset(token)


class ModelUnavailable(GeneratorError):  # noqa: N818 (a fact, not a fault)
    """The model is neither here nor to be had; another generator may take over.

    A model that is here but damaged is a plain :class:`GeneratorError`: that wants a person.

    Args:
        reason: what is not available, and why.
        advice: what to do about it.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason, self.advice = reason, advice


class Generator(Protocol):
    """Writer of networks: turns requests into texts.

    One that also answers requests of the operator ``rewriting``, for a new prompt in prose, has a
    ``writes_prose`` that is true; where there is none it does not.
    """

    kind: str
    """The ``generator.kind`` that it is, given to it by :func:`.create`; another than that of the
    settings after a fallback."""

    name: str
    """Name of the writer of the networks, in words, for the report; nothing depends on it."""

    form: str
    """``completion``, ``chat`` or ``source``; of the completions it yields (each says it, too)."""

    repeatable: bool
    """True where the same requests give the same texts at no cost, so that none has to be kept."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion for each request as soon as it is finished, in any order.

        What is written for a request depends on that request alone (up to floating point),
        so that a run stopped half-way asks for the rest only.

        Raises:
            GeneratorError: nothing more can be written. What one request makes impossible is
                no error but that completion's ``failure``.
            Interrupted: it was made inside :func:`stopped_by`, and was to stop while it waited.
        """
        ...

    def close(self) -> None:
        """Give back what the generator holds (memory, mostly); it may be called twice."""
        ...

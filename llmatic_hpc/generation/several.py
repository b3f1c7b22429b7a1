"""Several writers as one generator: each request goes to the writer that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..errors import GeneratorError
from ..types import Completion, Request
from .base import Generator

LOADED: ContextVar[dict[tuple[object, ...], Any] | None] = ContextVar("loaded", default=None)
"""Models that generators made now have loaded, by what they are; None: each loads its own."""


@contextmanager
def sharing() -> Iterator[None]:
    """Load a model once for all generators that are made inside and have the same.

    Two forms of one model, a chat and a continuation, then take the memory of one.
    """
    token = LOADED.set({})
    try:
        yield
    finally:
        LOADED.reset(token)


class Several:
    """Generators by their names, asked one after the other.

    Where one of them can write no more, the others still answer what they are asked, so that
    nothing of theirs is lost; then the error is raised, with the writer's name.
    """

    kind = "writers"
    form = ""

    def __init__(self, writers: Mapping[str, Generator]) -> None:
        self.writers = dict(writers)
        self.name = f"writers:{'+'.join(writers)}"
        self.repeatable = all(one.repeatable for one in writers.values())

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield the completions of each writer in turn; see :meth:`.Generator.generate`."""
        failed: dict[str, GeneratorError] = {}
        for name, generator in self.writers.items():
            asked = [request for request in requests if request.writer == name]
            try:
                yield from generator.generate(asked) if asked else ()
            except GeneratorError as error:
                failed[name] = error
        for name, why in failed.items():
            others = ", ".join(other for other in self.writers if other not in failed)
            kept = f"what {others} wrote is kept" if others else "nothing is lost"
            raise GeneratorError(
                f"writer {name}: {why} ({kept}; the same command goes on)"
            ) from why

    def close(self) -> None:
        """Close all of them."""
        for generator in self.writers.values():
            generator.close()


def prose_writer(generator: Generator) -> str | None:
    """Return the name of the first writer that can write prompts; empty: the only one. None: none.

    Writers are asked in the order of the settings.
    """
    several = generator.writers if isinstance(generator, Several) else {"": generator}
    can = (name for name, one in several.items() if getattr(one, "writes_prose", False))
    return next(can, None)


def repeatable(generator: Generator, request: Request) -> bool:
    """Return whether the text for a request can be had again at no cost, from whoever writes it."""
    if isinstance(generator, Several):
        generator = generator.writers[request.writer]
    return generator.repeatable

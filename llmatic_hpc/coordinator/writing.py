"""Time that a language model takes for a generation, from a few completions of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from .. import generation
from ..config import Config, GeneratorSettings
from ..errors import LLMaticError
from ..generation import Generator
from ..generation.extract import extracted_from
from ..generation.several import sharing
from ..types import Completion, Problem, Request

SHORT, SHORTER = 24, 8
"""Lengths, in tokens, of the completions by which a full batch is timed."""
REFILL = 8
"""Share of a batch, one in so many, that is free before others come in."""


@dataclass(frozen=True)
class Pace:
    """Speed of a writer. Seconds of a generation follow from :func:`seconds`."""

    lengths: Sequence[int]
    """Tokens of the completions that were tried."""
    load: float
    """Seconds until it can write."""
    read: float = 0.0
    """Seconds for a request before its first token."""
    step: float = 0.0
    """Seconds of a step of any number of completions, one token each."""
    token: float = 0.0
    """Seconds that each of them adds."""
    batch: int = 1
    is_free: bool = False
    """True where no model writes."""
    asked: Sequence[Request] = ()
    """Requests of the completions that were tried."""
    networks: Sequence[str] = ()
    """Source that was written for each."""

    @property
    def tokens(self) -> float:
        """Tokens of a completion, on average."""
        return sum(self.lengths) / len(self.lengths) if self.lengths else 0.0


def paces(
    config: Config, problem: Problem, parents: Sequence[str], completions: int,
    notify: Callable[[str], None],
) -> dict[str, Pace | None]:  # fmt: skip
    """Try each writer of the settings on requests like a run's; None: it is not to be had here."""
    found: dict[str, Pace | None] = {}
    with sharing():
        for name, writer in config.generator.by_name().items():
            if writer.kind in ("procedural", "replay"):
                found[name] = Pace((), 0.0, is_free=True)
                continue
            try:
                found[name] = _pace(config, writer, problem, parents, completions, notify)
            except LLMaticError as error:
                notify(f"{f'writer {name}' if name else 'the model'} cannot be tried here: {error}")
                found[name] = None
    return found


def seconds(pace: Pace, completions: int) -> float:
    """Return what so many completions take: places of a batch are filled as they come free."""
    if pace.is_free or not pace.lengths:
        return 0.0
    left = [pace.lengths[n % len(pace.lengths)] for n in range(completions)]
    total, active, waiting = pace.read * completions, list[int](), left
    while waiting or active:
        free = pace.batch - len(active)
        if waiting and free * REFILL >= pace.batch:
            active, waiting = [*active, *waiting[:free]], waiting[free:]
        steps = max(1, min(active))
        total += steps * (pace.step + pace.token * len(active))
        active = [n - steps for n in active if n > steps]
    return total


def _pace(
    config: Config, writer: GeneratorSettings, problem: Problem, parents: Sequence[str],
    completions: int, notify: Callable[[str], None],
) -> Pace:  # fmt: skip
    several = min(writer.batch, config.search.batch * config.search.oversample)
    if writer.kind == "endpoint":
        several = min(several, writer.concurrency)
    began = time.monotonic()
    with _made(writer, problem, notify) as made:
        load = time.monotonic() - began
        asked = _requests(config, problem, parents, max(several, completions))
        tried = asked[: min(completions, several)]
        took, answers = _timed(made, tried)
    lengths = [one.tokens for one in answers]
    networks = [extracted_from(one, request, problem.helpers).source
                for one, request in zip(answers, tried, strict=True)]  # fmt: skip
    if writer.kind == "endpoint" or not any(lengths):
        number = max(1, len(lengths))
        return Pace(lengths, load, step=took / max(1, max(lengths)) , token=0.0,
                    batch=max(several, number), asked=tried, networks=networks)  # fmt: skip
    brief = {}
    for most in (SHORTER, SHORT):
        with _made(replace(writer, max_new_tokens=most), problem, notify) as made:
            brief[most] = _timed(made, asked[:several])[0]
    # Of a batch of so many: time of a step, and what reading their requests takes.
    full = max(0.0, brief[SHORT] - brief[SHORTER]) / (SHORT - SHORTER)
    read = max(0.0, brief[SHORTER] - SHORTER * full) / several
    longest, together = max(lengths), sum(lengths)
    writing = max(0.0, took - read * len(lengths))
    # writing = step longest + token together; full = step + token several
    apart = together - several * longest
    token = (writing - full * longest) / apart if apart < 0 else 0.0
    token = min(max(0.0, token), full / several)
    step = full - token * several
    return Pace(lengths, load, read, step, token, several, asked=tried, networks=networks)


@contextmanager
def _made(
    writer: GeneratorSettings, problem: Problem, notify: Callable[[str], None]
) -> Iterator[Generator]:
    """Hold a generator, without a fallback."""
    with closing(generation.create(replace(writer, fallback=""), problem, notify=notify)) as made:
        yield made


def _timed(generator: Generator, requests: Sequence[Request]) -> tuple[float, list[Completion]]:
    began = time.monotonic()
    found = {one.candidate: one for one in generator.generate(requests)}
    return time.monotonic() - began, [found[one.candidate] for one in requests]


def _requests(
    config: Config, problem: Problem, parents: Sequence[str], count: int
) -> list[Request]:
    """Make requests like those of a run: the prompts in turn, the first of the initial network."""
    known = [problem.initial_source, *parents[: max(0, count // 2)]]
    prompts = problem.prompts
    return [
        Request(
            n, "mutation", n % len(prompts), prompts[n % len(prompts)], (known[n % len(known)],),
            config.generator.temperature, config.run.seed + n,
        )
        for n in range(count)
    ]  # fmt: skip

"""Times of short trainings on the device at hand, from which those of long ones follow."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import Config, accelerators
from ..sandbox.container import Container
from ..types import Outcome
from . import data
from .trainer import Trainer

BATCHES = 4
"""Steps of an epoch of a short training."""
EVALUATED = 64
"""Examples for validation and for testing, each, that a short training predicts at most."""
LONG_SECONDS = 1.0
"""Time that the steps of the longer training should take, so that its start does not blur it."""
MOST_EPOCHS = 60
MOST_SECONDS = 30.0
"""Longest short training; a network that is slower than that is taken to be just so slow."""


@dataclass(frozen=True)
class Timed:
    """Seconds of a network's training, by what they go into."""

    start: float
    """From the fork of its child to the first step, the first step's own warm-up, and the reply."""
    step: float
    """A step of the optimiser, with a full batch."""
    predict: float
    """An example that is predicted after the training."""


@dataclass(frozen=True)
class Bench:
    """Findings of timing: networks, and what belongs to none."""

    networks: tuple[Timed | None, ...]
    """In the order of the sources; None for one that could not be trained here."""
    worker_seconds: float
    """Data read and torch imported: until a worker's first candidate can begin, its interpreter
    not counted."""
    train: int
    evaluated: int
    """Examples that a training has, and those that it predicts afterwards."""
    device: str


def time_networks(config: Config, sources: Sequence[str], *, slots: int, threads: int) -> Bench:
    """Train each source for a few steps, ``slots`` of them side by side as in a run.

    Each three times: without a step, with an epoch of four, with so many epochs that their
    difference can be told from the noise. Raises :class:`~llmatic_hpc.errors.DataError` and
    :class:`~llmatic_hpc.errors.ContainmentError`.
    """
    began = time.monotonic()
    limits = config.containment
    limits = replace(limits, wall_seconds=min(limits.wall_seconds, MOST_SECONDS))
    devices = () if config.training.device == "cpu" else accelerators.visible()
    with (
        tempfile.TemporaryDirectory(prefix="llmatic-", ignore_cleanup_errors=True) as scratch,
        Container(limits, threads=threads, slots=slots, devices=devices) as container,
    ):
        whole = data.load(config.problem, config.training, seed=config.run.seed)
        few = _part(whole, BATCHES * config.training.batch)
        container.share(data.for_training(few))
        trainer = Trainer(container, few, config.training, limits, threads)

        def outcomes(epochs: dict[int, int]) -> dict[int, Outcome]:
            jobs = {}
            for number, count in epochs.items():
                folder = Path(tempfile.mkdtemp(dir=scratch))
                jobs[number] = trainer.job(sources[number], seed=0, epochs=count, folder=folder)
            replies = {id(job): reply for job, reply in container.run_many(jobs.values())}
            return {n: trainer.outcome(job, replies[id(job)]) for n, job in jobs.items()}

        first = outcomes({0: 0}) if sources else {}
        started = time.monotonic() - began - sum(one.train_seconds for one in first.values())
        none = outcomes(dict.fromkeys(range(len(sources)), 0))
        fit = [number for number, one in none.items() if one.status == "scored"]
        short = outcomes(dict.fromkeys(fit, 1))
        more = {
            n: int(
                np.clip(LONG_SECONDS / max(_difference(short[n], none[n]), 1e-3), 2, MOST_EPOCHS)
            )
            for n in fit
            if short[n].status == "scored" and _difference(short[n], none[n]) < MOST_SECONDS / 4
        }
        long = outcomes(more)
    steps = -(-len(few.train) // config.training.batch)
    found: list[Timed | None] = []
    for number in range(len(sources)):
        if number not in short or short[number].status not in ("scored", "too_slow"):
            found.append(None)
            continue
        step = _difference(short[number], none[number]) / steps
        if number in more and long[number].status in ("scored", "too_slow"):
            step = _difference(long[number], short[number]) / ((more[number] - 1) * steps)
        batch = min(config.training.batch, len(few.test))
        start = max(none[number].train_seconds, short[number].train_seconds - steps * step)
        found.append(Timed(start, step, none[number].milliseconds / 1000 / max(1, batch)))
    evaluated = len(whole.validation) + len(whole.test)
    device = next((one.device for one in none.values() if one.device), "")
    return Bench(tuple(found), started, len(whole.train), evaluated, device)


def _difference(longer: Outcome, shorter: Outcome) -> float:
    return max(0.0, longer.train_seconds - shorter.train_seconds)


def _part(found: data.Dataset, examples: int) -> data.Dataset:
    """Return a data set with a few examples of each split."""
    return replace(
        found,
        train=found.train.take(np.arange(min(examples, len(found.train)))),
        validation=found.validation.take(np.arange(min(EVALUATED, len(found.validation)))),
        test=found.test.take(np.arange(min(EVALUATED, len(found.test)))),
    )

"""Cost of trainings of a model's networks, where the control's stand in for them in a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import NamedTuple

import numpy as np

from ..config import Config, GeneratorSettings
from ..generation import Generator, create
from ..problems.evaluator import Evaluator
from ..types import PENDING
from .rehearsal import Training
from .writing import Pace


class Cost(NamedTuple):
    """Seconds of a training by its parts."""

    training: float
    predicting: float
    starting: float

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.training + self.predicting + self.starting

    def times(self, scale: Cost) -> Cost:
        """Return each part as many times as ``scale`` says."""
        return Cost(*(part * by for part, by in zip(self, scale, strict=True)))


AS_THE_CONTROL = Cost(1.0, 1.0, 1.0)
"""Scale of networks that take as long as the control's."""


def scale_of(
    config: Config,
    real: Evaluator,
    cost_of: Callable[[Training], Cost],
    paces: Iterable[Pace | None],
) -> Cost:
    """Return what trainings take, as multiples of those of the control's networks.

    ``real`` examines networks, ``cost_of`` says what one takes. Each writer is compared by what it
    wrote for the same requests as the control, on average of the networks that fit; one of which
    nothing fits is taken to be like the control.
    """
    settings = GeneratorSettings(kind="procedural")
    with closing(create(settings, real.problem, notify=_say_nothing)) as control:
        found = [_compared(config, real, cost_of, pace, control) for pace in paces]
    return Cost(*np.mean(found or [AS_THE_CONTROL], axis=0).tolist())


def _compared(
    config: Config, real: Evaluator, cost_of: Callable[[Training], Cost], pace: Pace | None,
    control: Generator,
) -> Cost:  # fmt: skip
    if pace is None or not pace.asked:
        return AS_THE_CONTROL
    means = []
    for sources in (pace.networks, [one.text for one in control.generate(pace.asked)]):
        examined = real.examine(sources, repair=config.generator.repair)
        costs = [
            cost_of(Training(0, one.source, config.training.epochs, seen.flops, seen.depth,
                              seen.params, seen.activation_bytes))
            for one in examined
            if one.screened.status == PENDING and (seen := one.screened.descriptors) is not None
        ]  # fmt: skip
        if not costs:
            return AS_THE_CONTROL
        means.append(np.mean(costs, axis=0))
    return Cost(*np.divide(means[0], means[1], where=means[1] > 0, out=np.ones(3)).tolist())


def _say_nothing(text: str) -> None:
    """Be told of what a generator notices, for nothing."""

"""A network from scratch, for the variant of the search that has no evolution."""

from __future__ import annotations

import random

from .draft import ACTS
from .fit import LADDER, climb
from .layers import (
    Act,
    AdaptivePool,
    Conv,
    Depthwise,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Norm,
    Pool,
    Recurrent,
    Residual,
    Shape,
)


def fresh(shape: Shape, rng: random.Random) -> list[Layer]:
    """Draw stages of like blocks with a smaller map and more channels from one to the next.

    Not yet fitted to a problem.
    """
    act = Act(rng.choice((*ACTS, "relu", "relu")))
    norm = rng.choices(("batch", "group", ""), (5, 2, 3))[0]
    layers: list[Layer] = []
    if len(shape) > 1:
        layers += _body(rng, act, norm)
        layers += _bridge(rng)
    for _ in range(rng.choice((0, 0, 1, 1, 2)) if len(shape) > 1 else rng.choice((1, 2, 3))):
        layers += [Linear(rng.choice((64, 128, 256, 512))), act]
        if rng.random() < 0.4:
            layers.append(Dropout(rng.choice((0.1, 0.25, 0.5))))
    return [*layers, Linear(1)]


def _body(rng: random.Random, act: Act, norm: str) -> list[Layer]:
    width = rng.choice(LADDER[1:10])
    style = rng.choices(("plain", "residual", "separable"), (5, 4, 2))[0]
    growth, blocks = rng.choice((0, 1, 2)), rng.choice((1, 1, 2, 2, 3))
    kernel = rng.choice((3, 3, 3, 5))
    shrink = rng.choice(("max", "max", "avg", "stride"))
    normalized: list[Layer] = [Norm(norm, 4)] if norm else []
    layers: list[Layer] = [Conv(width, kernel, padding=kernel // 2), *normalized, act]
    for stage in range(rng.randint(1, 4)):
        stride = 1
        if stage:
            width = climb(width, growth)
            if shrink == "stride":
                stride = 2
            else:
                layers.append(Pool(shrink))
        for _ in range(blocks):
            conv = Conv(width, kernel, stride, kernel // 2)
            if style == "residual":
                second = Conv(width, kernel, padding=kernel // 2)
                body = (conv, *normalized, act, second, *normalized)
                layers += [Residual(body), act]
            elif style == "separable":
                depthwise = Depthwise(kernel, stride, kernel // 2)
                pointwise = Conv(width, 1, padding=0)
                layers += [depthwise, *normalized, act, pointwise, *normalized, act]
            else:
                layers += [conv, *normalized, act]
            stride = 1
    return layers


def _bridge(rng: random.Random) -> list[Layer]:
    kind = rng.choices(("global", "small", "flat", "recurrent"), (5, 2, 2, 0.7))[0]
    if kind == "recurrent":
        steps = rng.choice(("pixels", "rows"))
        return [Recurrent(rng.choice(("GRU", "LSTM")), rng.choice((64, 128)), steps, "mean")]
    if kind == "flat":
        return [Pool("max"), Flatten()]
    return [AdaptivePool("avg", 1 if kind == "global" else rng.choice((2, 4))), Flatten()]

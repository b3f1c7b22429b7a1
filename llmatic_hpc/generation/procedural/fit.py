"""Turn any list of layers into a network that fits the problem and stays within bounds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import takewhile
from math import gcd, prod

from .layers import (
    WEIGHTED,
    Act,
    AdaptivePool,
    Conv,
    Depthwise,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MisfitError,
    Network,
    Norm,
    Pool,
    Recurrent,
    Residual,
    Shape,
    Site,
    cost_of,
    has_weights,
    sites_of,
    size_of,
    splice,
)

LADDER = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Widths as people choose them; one rung is a small step."""

MAX_WIDTH = LADDER[-1]
MAX_LAYERS = 40
"""Layers with weights, normalization not counted."""
MAX_MATRIX = 4_000_000
"""Weights of a fully connected or recurrent layer."""
MAX_PARAMETERS = 20_000_000
MAX_MACS = 2_000_000_000
"""Multiply-adds for one example."""
MAX_STEPS = 256
"""Steps of a recurrent layer: they run one after the other."""


SMALL = (Act, Norm, Dropout)
"""Layers of which one each is enough between layers that compute something."""


def climb(width: int, rungs: int) -> int:
    """Return the width so many rungs up or down the ladder of usual widths."""
    if rungs > 0:
        return max(width, LADDER[min(bisect_right(LADDER, width) + rungs, len(LADDER)) - 1])
    if rungs < 0:
        return min(width, LADDER[max(bisect_left(LADDER, width) + rungs, 0)])
    return width


def rescaled(network: Network, rungs: int, *, only: int = 0) -> Network:
    """Make every hidden layer, or ``only`` those of that width, so many rungs wider or narrower."""

    def one(layer: Layer) -> Layer:
        if isinstance(layer, Residual):
            return Residual(tuple(map(one, layer.body)))
        if isinstance(layer, Conv | Linear | Recurrent) and only in (0, layer.width):
            return replace(layer, width=climb(layer.width, rungs))
        return layer

    return (*map(one, network[:-1]), network[-1])


def fitted(layers: Sequence[Layer], shape: Shape, classes: int) -> Network:
    """Make the nearest network that maps ``shape`` to ``classes`` logits within the bounds.

    Layers that cannot take their input are adapted or left out; nothing follows the last
    fully connected layer, so that no activation clips the logits.
    """
    body, after = _aligned(layers, shape)
    last = max((i for i, layer in enumerate(body) if isinstance(layer, Linear)), default=None)
    if last is not None and len(after) == 1 and not has_weights(body[last + 1 :]):
        body = body[:last]
    elif len(after) != 1:
        body.append(Flatten())
    return _bounded((*body, Linear(classes)), shape, classes)


def _aligned(layers: Sequence[Layer], shape: Shape) -> tuple[list[Layer], Shape]:
    done: list[Layer] = []
    for layer in layers:
        for suited in _suited(layer, shape):
            after = _after(suited, shape)
            if after and not _idle(suited, done, shape):
                done.append(suited)
                shape = after
    return done, shape


def _after(layer: Layer, shape: Shape) -> Shape | None:
    """Return the shape after a layer; None where it cannot take its input."""
    try:
        return cost_of(layer, shape).after
    except MisfitError:
        return None


def _idle(layer: Layer, done: Sequence[Layer], shape: Shape) -> bool:
    """Return whether a layer repeats one since the last that computes something."""
    if isinstance(layer, AdaptivePool):
        return set(shape[1:]) == {layer.size}
    if isinstance(layer, Pool) and layer.stride == 1:
        return layer.size == 1 or set(shape[1:]) == {1} or layer in done[-1:]
    if not isinstance(layer, SMALL):
        return False
    since = takewhile(lambda previous: isinstance(previous, SMALL), reversed(done))
    return any(type(previous) is type(layer) for previous in since)


@lru_cache(maxsize=1 << 14)
def _suited(layer: Layer, shape: Shape) -> tuple[Layer, ...]:
    """Return the layer as it can take the shape, or what stands in its place."""
    spatial = len(shape) > 1
    match layer:
        case Conv() if spatial:
            width = max(1, min(layer.width, MAX_WIDTH))
            groups = gcd(layer.groups, shape[0], width)
            if groups == shape[0] == width > 1:
                return _suited(Depthwise(layer.kernel, layer.stride, layer.padding), shape)
            return (_window(replace(layer, width=width, groups=groups), shape),)
        case Depthwise() if spatial:
            # Of a single channel it is an ordinary convolution.
            if shape[0] == 1:
                return _suited(Conv(1, layer.kernel, layer.stride, layer.padding), shape)
            return (_window(layer, shape),)
        case AdaptivePool() if spatial:
            return (replace(layer, size=max(1, min(layer.size, *shape[1:]))),)
        case Linear():
            linear = Linear(max(1, min(layer.width, 2 * MAX_WIDTH)))
            return (linear,) if len(shape) == 1 else (Flatten(), linear)
        case Recurrent() if spatial:
            width = max(1, min(layer.width, MAX_WIDTH))
            steps = layer.steps if len(shape) == 3 else "pixels"  # a sequence has no rows
            output = "mean" if (steps, layer.output) == ("rows", "map") else layer.output
            layers = max(1, min(layer.layers, 3))
            layer = replace(layer, width=width, steps=steps, output=output, layers=layers)
            return (*_fewer_steps(layer, shape), layer)
        case Norm():
            return _norm(layer, shape)
        case Dropout():
            rate = round(min(0.8, max(0.01, layer.rate)), 3)
            return (Dropout(rate, layer.channels and spatial),)
        case Residual():
            body, _ = _aligned(layer.body, shape)
            whole = Residual(tuple(body))
            return (whole,) if has_weights(body) and _after(whole, shape) else tuple(body)
        case _:
            return (layer,)


def _window(layer: Conv | Depthwise, shape: Shape) -> Conv | Depthwise:
    """Pad so that the map keeps its size, if the window would not fit otherwise."""
    kernel, stride = max(1, min(layer.kernel, 11)), max(1, min(layer.stride, 4))
    padding = max(0, min(layer.padding, kernel))
    if min(shape[1:]) + 2 * padding < kernel:
        kernel = kernel if kernel % 2 else kernel - 1
        padding = kernel // 2
    return replace(layer, kernel=kernel, stride=stride, padding=padding)


def _fewer_steps(layer: Recurrent, shape: Shape) -> list[Layer]:
    """List the poolings before a recurrent layer until it has few enough steps."""
    sizes = shape[1:]
    pools: list[Layer] = []
    while (sizes[0] if layer.steps == "rows" else prod(sizes)) > MAX_STEPS:
        if min(sizes) < 2:
            break
        pools.append(Pool("max"))
        sizes = tuple(size // 2 for size in sizes)
    return pools


def _norm(layer: Norm, shape: Shape) -> tuple[Layer, ...]:
    if len(shape) > 1:
        if layer.kind == "batch":
            return (Norm("batch"),)
        groups = gcd(layer.groups, shape[0]) if layer.kind == "group" else 1
        return (Norm("group", groups if prod(shape) // groups > 1 else 1),)
    return (Norm("batch" if layer.kind == "batch" else "layer"),)


# --- bounds -----------------------------------------------------------------------------------


def _bounded(network: Network, shape: Shape, classes: int) -> Network:
    for _ in range(200):
        sites = sites_of(network, shape)
        size = size_of(sites)
        heavy = next((site for site in sites if site.largest > MAX_MATRIX), None)
        if heavy is not None:
            network = _lightened(network, sites, heavy)
        elif size.parameters > MAX_PARAMETERS or size.macs > MAX_MACS:
            network = _narrowed(network, sites)
        elif size.layers > MAX_LAYERS:
            network = _shortened(network, sites, size.layers - MAX_LAYERS)
        else:
            return network
        # What was taken away may leave a layer without its use or its fit.
        body, after = _aligned(network[:-1], shape)
        network = (*body, *(() if len(after) == 1 else (Flatten(),)), Linear(classes))
    return (*(() if len(shape) == 1 else (AdaptivePool(), Flatten())), Linear(classes))


def _lightened(network: Network, sites: Sequence[Site], heavy: Site) -> Network:
    """Shrink the map before a layer whose matrix is too large, or else narrow the layer."""
    index = heavy.path[0]
    for site in reversed([s for s in sites if s.path[0] <= index and len(s.path) == 1]):
        if isinstance(site.layer, Flatten | Recurrent) and len(site.before) > 1:
            if min(site.before[1:]) > 1:
                return splice(network, site.path, 0, (Pool("max"),))
            break
    if isinstance(heavy.layer, Linear | Recurrent) and heavy.path != (len(network) - 1,):
        narrow = replace(heavy.layer, width=climb(heavy.layer.width, -1))
        if narrow != heavy.layer:
            return splice(network, heavy.path, 1, (narrow,))
    return _narrowed(network, sites)


def _narrowed(network: Network, sites: Sequence[Site]) -> Network:
    """Make every layer narrower, or the network shorter where none can be."""
    narrower = rescaled(network, -1)
    return _shortened(network, sites) if narrower == network else narrower


def _shortened(network: Network, sites: Sequence[Site], by: int = 1) -> Network:
    """Leave out the last hidden layers that have weights."""
    head = (len(network) - 1,)
    paths = [s.path for s in sites if isinstance(s.layer, WEIGHTED) and s.path != head]
    for path in reversed(paths[-by:]):  # from the end, so that the other paths stay true
        network = splice(network, path, 1, ())
    return network

"""Networks as the procedural control sees them: layers in order, sizes by plain arithmetic.

A network is a tuple of layers, each without its input size: that follows from what comes
before, so that an edit never has to repair its neighbours. A shape is that of one example,
(channels, height, width) or (channels, length) of a map, or (features,) of a vector. Nothing
here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution to ``width`` channels, its window as long in every direction."""

    width: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Depthwise:
    """A convolution of each channel by itself."""

    kernel: int = 3
    stride: int = 1
    padding: int = 1


@dataclass(frozen=True, slots=True)
class Linear:
    """A fully connected layer to ``width`` features."""

    width: int


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A recurrent layer that reads a map as a sequence.

    ``steps``: ``pixels``, each with its channels, or ``rows``, of an image alone, each with
    channels x width.
    ``output``: a vector, of the ``last`` step or the ``mean`` over steps, or again a ``map``.
    """

    cell: str
    width: int
    steps: str = "pixels"
    output: str = "last"
    layers: int = 1
    bidirectional: bool = False


@dataclass(frozen=True, slots=True)
class Norm:
    """``batch``, ``group`` (of maps) or ``layer`` (of vectors) normalization."""

    kind: str
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Act:
    """An activation, by its name in torch.nn.functional."""

    name: str = "relu"


@dataclass(frozen=True, slots=True)
class Pool:
    """``max`` or ``avg`` pooling."""

    kind: str
    size: int = 2
    stride: int = 2
    padding: int = 0


@dataclass(frozen=True, slots=True)
class AdaptivePool:
    """``max`` or ``avg`` pooling to a map of ``size`` (x ``size``); 1 is global pooling."""

    kind: str = "avg"
    size: int = 1


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout of values, or of whole channels of a map, with probability ``rate``."""

    rate: float = 0.25
    channels: bool = False


@dataclass(frozen=True, slots=True)
class Flatten:
    """Flattening of a map to a vector."""


@dataclass(frozen=True, slots=True)
class Residual:
    """``body(x) + x``; where the shapes differ, x goes through a projection."""

    body: tuple[Layer, ...]


Layer = (
    Conv | Depthwise | Linear | Recurrent | Norm | Act | Pool | AdaptivePool | Dropout | Flatten
    | Residual
)  # fmt: skip
Network = tuple[Layer, ...]
Path = tuple[int, ...]
"""Place of a layer: its index, and its index within each residual body down to it."""

WEIGHTED = (Conv, Depthwise, Linear, Recurrent)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def has_weights(layers: Sequence[Layer]) -> bool:
    """Return whether any of the layers has weights, normalization not counted."""
    return any(
        has_weights(layer.body) if isinstance(layer, Residual) else isinstance(layer, WEIGHTED)
        for layer in layers
    )


def splice(network: Network, path: Path, remove: int, insert: Network) -> Network:
    """Return the network with ``remove`` layers from ``path`` on replaced."""
    index, *deeper = path
    if deeper:
        layer = network[index]
        assert isinstance(layer, Residual)
        insert = (Residual(splice(layer.body, tuple(deeper), remove, insert)),)
        remove = 1
    return (*network[:index], *insert, *network[index + remove :])


# --- shapes and costs -------------------------------------------------------------------------


class MisfitError(ValueError):
    """A layer cannot take the shape that it is given, or an edit finds no place."""


class Cost(NamedTuple):
    """Shape after a layer, and its cost for one example."""

    after: Shape
    parameters: int = 0
    macs: int = 0
    """Multiply-adds."""
    largest: int = 0
    """Weights of its largest matrix."""


class Site(NamedTuple):
    """A layer in its place, with the shapes around it and its cost; see :class:`Cost`."""

    path: Path
    layer: Any
    """A layer; None: the end of the network or of a residual body."""
    before: Shape
    after: Shape
    parameters: int = 0
    macs: int = 0
    largest: int = 0


class Size(NamedTuple):
    """Cost of a network; multiply-adds are those for one example."""

    parameters: int
    macs: int
    layers: int
    """Layers with weights."""


def size_of(sites: Sequence[Site]) -> Size:
    """Sum the costs of all sites of a network."""
    return Size(
        sum(site.parameters for site in sites),
        sum(site.macs for site in sites),
        sum(isinstance(site.layer, WEIGHTED) for site in sites),
    )


@lru_cache(maxsize=64)
def sites_of(network: Network, shape: Shape, base: Path = ()) -> tuple[Site, ...]:
    """List every layer in the order of execution, a residual connection after its body.

    Raises MisfitError where a layer cannot take its input.
    """
    sites: list[Site] = []
    for index, layer in enumerate(network):
        path = (*base, index)
        if isinstance(layer, Residual):
            sites += sites_of(layer.body, shape, path)
        sites.append(Site(path, layer, shape, *cost_of(layer, shape)))
        shape = sites[-1].after
    return (*sites, Site((*base, len(network)), None, shape, shape))


@lru_cache(maxsize=1 << 14)
def cost_of(layer: Layer, shape: Shape) -> Cost:
    """Compute the shape after a layer and its cost; of a residual connection, the projection's.

    Raises MisfitError where the layer, or one within it, cannot take the shape.
    """
    channels, spatial = shape[0], len(shape) > 1
    match layer:
        case Residual(body):
            after = shape
            for inner in body:
                after = cost_of(inner, after).after
            return _projection(shape, after)
        case Conv(width, kernel, groups=groups):
            after = (width, *_windows(kernel, layer, shape))
            _need(channels % groups == width % groups == 0, "groups do not divide the channels")
            weights = channels // groups * width * kernel ** len(after[1:])
            return Cost(after, weights + width, weights * prod(after[1:]))
        case Depthwise(kernel):
            after = (channels, *_windows(kernel, layer, shape))
            weights = channels * kernel ** len(after[1:])
            return Cost(after, weights + channels, weights * prod(after[1:]))
        case Pool(_, size):
            _need(2 * layer.padding <= size, "padding beyond half the window")
            return Cost((channels, *_windows(size, layer, shape)))
        case AdaptivePool(_, size):
            _need(spatial and size <= min(shape[1:]), "pooling would enlarge the map")
            return Cost((channels, *(size for _ in shape[1:])))
        case Flatten():
            _need(len(shape) > 1, "a vector is flat already")
            return Cost((prod(shape),))
        case Linear(width):
            _need(len(shape) == 1, "the map is not flat")
            weights = channels * width
            return Cost((width,), weights + width, weights, weights)
        case Recurrent():
            _need(spatial, "there is no map")
            return _recurrent(layer, shape)
        case Norm(kind, groups):
            # Over a single value each would give zero, and torch refuses some of these.
            several = channels % groups == 0 and prod(shape) // groups >= 2
            fits = kind == "batch" or (kind == "group") == spatial
            _need(fits and (kind == "batch" or several), "the shape does not suit the kind")
            return Cost(shape, 2 * channels)
        case Dropout():
            _need(spatial or not layer.channels, "there are no channels")
    return Cost(shape)


def _need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise MisfitError(otherwise)


def _windows(size: int, layer: Conv | Depthwise | Pool, shape: Shape) -> Shape:
    """Count the places of a window in each direction."""
    _need(len(shape) > 1, "there is no map")
    places = tuple((s + 2 * layer.padding - size) // layer.stride + 1 for s in shape[1:])
    _need(min(places) >= 1, "the map is smaller than the window")
    return places


def _projection(before: Shape, after: Shape) -> Cost:
    _need(len(before) == len(after), "a residual connection cannot join a map and a vector")
    if before == after:
        return Cost(after)
    if len(before) > 1:
        skip_stride(before, after)
    weights = before[0] * after[0]
    return Cost(after, weights + after[0], weights * prod(after[1:]), weights)


def skip_stride(before: Shape, after: Shape) -> int:
    """Compute the stride of the pointwise convolution that takes one map to the other.

    Raises MisfitError if there is none.
    """
    stride = -(-before[1] // after[1])
    fits = after[1:] == tuple((size - 1) // stride + 1 for size in before[1:])
    _need(fits, f"there is no projection from {before} to {after}")
    return stride


def _recurrent(layer: Recurrent, shape: Shape) -> Cost:
    channels, *sizes = shape
    steps, features = prod(sizes), channels
    if layer.steps == "rows":
        _need(len(sizes) == 2, "there are no rows")
        _need(layer.output != "map", "rows do not give a map again")
        steps, features = sizes[0], channels * sizes[1]
    directions = 2 if layer.bidirectional else 1
    gates = GATES[layer.cell] * layer.width
    parameters = macs = largest = 0
    for _ in range(layer.layers):
        weights = gates * (features + layer.width)
        largest = max(largest, weights)
        parameters += directions * (weights + 2 * gates)
        macs += directions * weights * steps
        features = directions * layer.width
    after = (features, *sizes) if layer.output == "map" else (features,)
    return Cost(after, parameters, macs, largest)

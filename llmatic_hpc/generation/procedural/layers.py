"""How the procedural control pictures a network: layers in order, sizes by plain arithmetic.

A network is a tuple of layers, each without its input size: that follows from what comes
before, so that an edit never has to repair its neighbours. A shape is that of one example,
(channels, height, width) of a map or (features,) of a vector. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conv:
    """A square convolution to ``width`` channels."""

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

    ``steps``: ``pixels``, each with its channels, or ``rows``, each with channels x width.
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
    """``max`` or ``avg`` pooling to a map of ``size`` x ``size``; 1 is global pooling."""

    kind: str = "avg"
    size: int = 1


@dataclass(frozen=True, slots=True)
class Dropout:
    """Zeroes values, or whole channels of a map, with probability ``rate``."""

    rate: float = 0.25
    channels: bool = False


@dataclass(frozen=True, slots=True)
class Flatten:
    """A map becomes a vector."""


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
"""Where a layer stands: its index, and its index within each residual body down to it."""

WEIGHTED = (Conv, Depthwise, Linear, Recurrent)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def has_weights(layers: Sequence[Layer]) -> bool:
    """Return whether any of the layers has weights, normalization not counted."""
    return any(
        has_weights(layer.body) if isinstance(layer, Residual) else isinstance(layer, WEIGHTED)
        for layer in layers
    )


class MisfitError(ValueError):
    """A layer cannot take the shape that it is given."""


@dataclass(frozen=True, slots=True)
class Site:
    """A layer in its place, with the shapes around it and its cost for one example."""

    path: Path
    layer: Layer | None
    """None: the end of the network or of a residual body."""
    before: Shape
    after: Shape
    parameters: int = 0
    macs: int = 0
    largest: int = 0
    """Weights of its largest matrix."""


@lru_cache(maxsize=64)
def sites_of(network: Network, shape: Shape) -> tuple[Site, ...]:
    """All of a :func:`walk`."""
    return tuple(walk(network, shape))


def walk(network: Network, shape: Shape, base: Path = ()) -> Iterator[Site]:
    """Every layer in the order of execution, a residual connection after its body.

    Raises MisfitError where a layer cannot take its input.
    """
    for index, layer in enumerate(network):
        path = (*base, index)
        if isinstance(layer, Residual):
            after = shape
            for site in walk(layer.body, shape, path):
                yield site
                after = site.after
            cost = _projection(shape, after)
        else:
            cost = cost_of(layer, shape)
        yield Site(path, layer, shape, *cost)
        shape = cost[0]
    yield Site((*base, len(network)), None, shape, shape)


@lru_cache(maxsize=1 << 12)
def shape_after(layer: Layer, shape: Shape) -> Shape:
    """The shape after a layer, a residual connection included; MisfitError as for a walk."""
    if not isinstance(layer, Residual):
        return cost_of(layer, shape)[0]
    after = shape
    for inner in layer.body:
        after = shape_after(inner, after)
    return _projection(shape, after)[0]


def skip_stride(before: Shape, after: Shape) -> int:
    """Stride of the 1x1 convolution that takes one map to the other.

    Raises MisfitError if there is none.
    """
    stride = -(-before[1] // after[1])
    if after[1:] != tuple((size - 1) // stride + 1 for size in before[1:]):
        raise MisfitError(f"no projection from {before} to {after}")
    return stride


def take(network: Network, path: Path) -> Layer:
    """The layer at a path."""
    layer = network[path[0]]
    if len(path) > 1:
        assert isinstance(layer, Residual)
        return take(layer.body, path[1:])
    return layer


def splice(network: Network, path: Path, remove: int, insert: Network) -> Network:
    """The network with ``remove`` layers from ``path`` on replaced."""
    index = path[0]
    if len(path) > 1:
        layer = network[index]
        assert isinstance(layer, Residual)
        inner = Residual(splice(layer.body, path[1:], remove, insert))
        return (*network[:index], inner, *network[index + 1 :])
    return (*network[:index], *insert, *network[index + remove :])


Cost = tuple[Shape, int, int, int]
"""The shape after a layer, its parameters, its multiply-adds, its largest matrix's weights."""


@lru_cache(maxsize=1 << 14)
def cost_of(layer: Layer, shape: Shape) -> Cost:
    """What a single layer makes of a shape, and its cost; see :class:`Site`.

    Raises MisfitError where it cannot take the shape.
    """
    after, parameters, macs, largest = shape, 0, 0, 0
    match layer:
        case Conv():
            after = (layer.width, *_window(layer, shape))
            if shape[0] % layer.groups or layer.width % layer.groups:
                raise MisfitError(f"{layer.groups} groups do not divide the channels")
            weights = shape[0] // layer.groups * layer.width * layer.kernel**2
            parameters, macs = weights + layer.width, weights * prod(after[1:])
        case Depthwise():
            after = (shape[0], *_window(layer, shape))
            weights = shape[0] * layer.kernel**2
            parameters, macs = weights + shape[0], weights * prod(after[1:])
        case Pool():
            if 2 * layer.padding > layer.size:
                raise MisfitError("padding beyond half the window")
            after = (shape[0], *_window(layer, shape))
        case AdaptivePool():
            _need(shape, 3)
            if layer.size > min(shape[1:]):
                raise MisfitError("pooling would enlarge the map")
            after = (shape[0], layer.size, layer.size)
        case Flatten():
            if len(shape) == 1:
                raise MisfitError("a vector is flat already")
            after = (prod(shape),)
        case Linear():
            _need(shape, 1)
            after = (layer.width,)
            largest = macs = shape[0] * layer.width
            parameters = macs + layer.width
        case Recurrent():
            return _recurrent(layer, shape)
        case Norm():
            _normalizes(layer, shape)
            parameters = 2 * shape[0]
        case Dropout():
            if layer.channels:
                _need(shape, 3)
        case _:
            pass
    return after, parameters, macs, largest


def _projection(before: Shape, after: Shape) -> Cost:
    if len(before) != len(after):
        raise MisfitError("a residual connection cannot join a map and a vector")
    if before == after:
        return after, 0, 0, 0
    if len(before) == 3:
        skip_stride(before, after)
    weights = before[0] * after[0]
    return after, weights + after[0], weights * prod(after[1:]), weights


def _need(shape: Shape, rank: int) -> None:
    if len(shape) != rank:
        raise MisfitError(f"needs {rank} dimensions, not {len(shape)}")


def _window(layer: Conv | Depthwise | Pool, shape: Shape) -> tuple[int, int]:
    _need(shape, 3)
    size = layer.size if isinstance(layer, Pool) else layer.kernel
    height, width = ((s + 2 * layer.padding - size) // layer.stride + 1 for s in shape[1:])
    if height < 1 or width < 1:
        raise MisfitError("the map is smaller than the window")
    return height, width


def _recurrent(layer: Recurrent, shape: Shape) -> Cost:
    _need(shape, 3)
    channels, height, width = shape
    steps, features = height * width, channels
    if layer.steps == "rows":
        if layer.output == "map":
            raise MisfitError("rows do not give a map again")
        steps, features = height, channels * width
    directions = 2 if layer.bidirectional else 1
    gates = GATES[layer.cell] * layer.width
    parameters = macs = largest = 0
    for _ in range(layer.layers):
        weights = gates * (features + layer.width)
        largest = max(largest, weights)
        parameters += directions * (weights + 2 * gates)
        macs += directions * weights * steps
        features = directions * layer.width
    after = (features, height, width) if layer.output == "map" else (features,)
    return after, parameters, macs, largest


def _normalizes(layer: Norm, shape: Shape) -> None:
    # Over a single value each would give zero, and torch refuses some of these.
    if layer.kind == "batch":
        if len(shape) not in (1, 3):
            raise MisfitError("batch normalization of neither a map nor a vector")
        return
    if (layer.kind == "group") != (len(shape) == 3):
        raise MisfitError(f"{layer.kind} normalization of {len(shape)} dimensions")
    if shape[0] % layer.groups or prod(shape) // layer.groups < 2:
        raise MisfitError("a group needs two values or more")

"""Networks in words: a line, or a table of layers, read from the source without running it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

from .procedural.layers import (
    Act,
    AdaptivePool,
    Conv,
    Depthwise,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MisfitError,
    Norm,
    Pool,
    Recurrent,
    Residual,
    sites_of,
)
from .procedural.read import read

MOST_LAYERS = 24
"""Layers that a table or a line names at most."""


@lru_cache(maxsize=1024)
def line(source: str, dimensions: int) -> str:
    """Describe a network in a line, such as ``conv 3x3 16, relu, flatten, linear 10``.

    ``dimensions`` of its maps, 2 of images, 1 of sequences. Empty where it cannot be read.
    """
    layers = read(source, dimensions) or []
    more = len(layers) - MOST_LAYERS
    return ", ".join(map(_words, layers[:MOST_LAYERS])) + (f", and {more} more" if more > 0 else "")


@lru_cache(maxsize=1024)
def table(source: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Describe each layer of a network with the shape after it and its parameters, a line each.

    ``shape`` of one example. Empty where it cannot be read, or would not fit as it is read.
    """
    layers = read(source, 1 if len(shape) == 2 else 2) or []
    try:
        sites = [site for site in sites_of(tuple(layers), shape) if site.layer is not None]
    except MisfitError:
        return ()
    lines = [
        f"{_words(site.layer)}: {' x '.join(map(str, site.after))} = {prod(site.after):,} values, "
        f"{site.parameters:,} parameters"
        for site in sites[:MOST_LAYERS]
        if not isinstance(site.layer, Act | Dropout)
    ]
    return tuple(lines)


def _words(layer: Layer) -> str:
    match layer:
        case Conv(width, kernel, stride):
            return f"conv {kernel}x{kernel} {width}{_stride(stride)}"
        case Depthwise(kernel, stride):
            return f"depthwise conv {kernel}x{kernel}{_stride(stride)}"
        case Linear(width):
            return f"linear {width}"
        case Recurrent(cell, width):
            return f"{cell} {width}"
        case Norm(kind):
            return f"{kind} norm"
        case Act(name):
            return name
        case Pool(kind, size):
            return f"{kind} pool {size}"
        case AdaptivePool(kind, size):
            return f"{kind} pool to {size}"
        case Dropout():
            return "dropout"
        case Flatten():
            return "flatten"
        case Residual(body):
            return f"residual ({_joined(body)})"


def _joined(layers: Sequence[Layer]) -> str:
    return ", ".join(map(_words, layers))


def _stride(stride: int) -> str:
    return f" stride {stride}" if stride > 1 else ""

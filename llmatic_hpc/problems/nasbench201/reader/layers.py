"""The layers that a cell may consist of, and what is wrong with any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ....evaluation.graph import Traced
from ..cells import CONV1, CONV3, NONE, POOL, SKIP

CARRIES = "an edge carries a ReLU-conv-BN 3x3 or 1x1, an average pooling 3x3, a skip or nothing"

CHANNELS = 31
"""Channels that a network is told where its constructor asks: no number that a source says."""


class NotACell(ValueError):  # noqa: N818 (a verdict on a text, not a fault)
    """A source is none of the 15,625 cells; the message says in one line why."""


def show(value: Any) -> str:
    """A size in a few characters; multiples of ``CHANNELS`` in words."""
    if isinstance(value, list):
        return f"({', '.join(map(show, value))})"
    if isinstance(value, int) and value and value % CHANNELS == 0:
        times = Fraction(value, CHANNELS)
        return "channels" if times == 1 else f"{times} * channels"
    return str(value)


def pair(value: Any) -> tuple[int, int]:
    """A size for height and width; (-1, -1) for anything that is none."""
    match value:
        case int():
            return value, value
        case [int(first), int(second)]:
            return first, second
    return -1, -1


def _shown(value: Any) -> str:
    first, second = pair(value)
    return show(first) if first == second and first != -1 else show(value)


def flaw(layer: Traced) -> str:
    """Why no edge of a cell may have ``layer`` in it; empty if one may."""
    if layer.kind == "other":
        return f"unknown operation {layer.text}"
    check = {"conv": _conv_flaw, "pool": _pool_flaw}.get(layer.kind)
    return check(layer.arguments) if check else ""


def _conv_flaw(given: Mapping[str, Any]) -> str:
    if given.get("in_channels") != given.get("out_channels"):
        return f"Conv2d from {show(given.get('in_channels'))} to {show(given.get('out_channels'))}"
    kernel = pair(given.get("kernel_size"))
    if kernel not in ((1, 1), (3, 3)):
        return f"Conv2d with kernel size {_shown(given.get('kernel_size'))}; {CARRIES}"
    for name in ("stride", "dilation", "groups"):
        if pair(given.get(name)) != (1, 1):
            return f"Conv2d with {name} {_shown(given.get(name))}"
    padding = given.get("padding")
    if isinstance(padding, str):
        padding = {"same": kernel[0] // 2, "valid": 0}.get(padding, padding)
    if pair(padding) != (kernel[0] // 2, kernel[0] // 2):
        return f"Conv2d with kernel size {kernel[0]} and padding {_shown(padding)}"
    if given.get("padding_mode") != "zeros":
        return f"Conv2d with padding mode {show(given.get('padding_mode'))}"
    return ""


def _pool_flaw(given: Mapping[str, Any]) -> str:
    if pair(given.get("kernel_size")) != (3, 3):
        return f"average pooling with kernel size {_shown(given.get('kernel_size'))}; {CARRIES}"
    for name, wanted in (("stride", (1, 1)), ("padding", (1, 1))):
        if pair(given.get(name)) != wanted:
            return f"average pooling with {name} {_shown(given.get(name))}"
    if given.get("divisor_override") is not None:
        return "average pooling with a divisor of its own"
    return ""


def operation(layers: Sequence[Traced]) -> int:
    """The operation that a faultless run of layers is; -1 if it is none."""
    kinds = [layer.kind for layer in layers]
    if kinds == ["relu", "conv", "bn"]:
        return CONV3 if pair(layers[1].arguments["kernel_size"]) == (3, 3) else CONV1
    if len(kinds) != 1:
        return -1
    return {"pool": POOL, "identity": SKIP, "zero": NONE}.get(kinds[0], -1)

"""Stand-ins for tensors and modules, with which the procedural control reads source text.

A tensor is the sequence of steps that made it from the input; two that are added share the
steps up to where they part, and that is a residual connection. A step without meaning for
the list of layers (a squeeze, a change of type) is no step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import Any

from .layers import (
    GATES,
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
    has_weights,
)

MAX_NESTING = 3
MAX_NUMBER = 10**9

UNKNOWN = object()
"""A value that could not be made out."""


@dataclass(frozen=True)
class Rearranged:
    """A change of layout around a recurrent layer, or the part of its output that is kept.

    ``rows`` and ``steps`` make a sequence; ``last``, ``mean`` and ``map`` end one.
    """

    kind: str


Step = Layer | Rearranged


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor, as the steps from the input to it, of which no two are the same object."""

    steps: tuple[Step, ...] = ()

    def then(self, *steps: Step) -> Tensor:
        """Return the tensor after further steps."""
        return Tensor((*self.steps, *map(copy, steps)))

    @property
    def layers(self) -> list[Layer]:
        """Layers from the input to the tensor."""
        return _collapsed(self.steps)


@dataclass(frozen=True, eq=False)
class Leaf:
    """An instance of one of PyTorch's own modules."""

    layers: tuple[Layer, ...]

    def apply(self, tensor: Tensor) -> Any:
        """Return the module's output; a recurrent layer's with its state."""
        after = tensor.then(*self.layers)
        match self.layers:
            case [Recurrent(cell)]:
                return (after, (after, after) if cell == "LSTM" else after)
        return after


def tensor_in(value: Any) -> Tensor | None:
    """Return a tensor, or the first one of a tuple; None where there is none."""
    values = value if isinstance(value, tuple) else (value,)
    return next((v for v in values if isinstance(v, Tensor)), None)


def join(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of two tensors: a residual connection around the longer of the two ways."""
    pairs = zip(first.steps, second.steps, strict=False)
    shared = len(list(takewhile(lambda pair: pair[0] is pair[1], pairs)))
    longer = second if len(second.steps) > len(first.steps) else first
    residual = Residual(tuple(_collapsed(longer.steps[shared:])))
    if not has_weights(residual.body) or _nesting(residual) > MAX_NESTING:
        return longer
    return Tensor(longer.steps[:shared]).then(residual)


def _nesting(layer: Layer) -> int:
    if not isinstance(layer, Residual):
        return 0
    return 1 + max(map(_nesting, layer.body), default=0)


def _collapsed(steps: Sequence[Step]) -> list[Layer]:
    """Return the layers, with what is rearranged around a recurrent layer made part of it."""
    layers: list[Layer] = []
    rows = settled = False
    for step in steps:
        last = layers[-1] if layers else None
        if isinstance(step, Rearranged):
            rows = rows or step.kind == "rows"
            if isinstance(last, Recurrent) and not settled and step.kind in ("last", "mean", "map"):
                layers[-1] = replace(last, output=step.kind)
                settled = True
        elif isinstance(step, Recurrent) and isinstance(last, Recurrent) and not settled:
            layers[-1] = replace(last, layers=last.layers + step.layers)
        else:
            if isinstance(step, Recurrent):
                step = replace(step, steps="rows" if rows else "pixels")
            layers.append(step)
            rows = settled = False
    return layers


# --- PyTorch's names --------------------------------------------------------------------------


@dataclass(frozen=True)
class Arguments:
    """Arguments of a call, of which any may be unknown."""

    positional: Sequence[Any]
    keywords: dict[str, Any]

    def get(self, index: int, name: str) -> Any:
        """Return an argument by its position or its name; None where it was not given."""
        if index < len(self.positional):
            return self.positional[index]
        return self.keywords.get(name)

    def whole(self, index: int, name: str, *, default: int, low: int = 1) -> int:
        """Return a whole number; of a tuple the largest."""
        value = self.get(index, name)
        if isinstance(value, list | tuple):
            value = max(filter(is_number, value), default=None)
        return max(low, int(value)) if is_number(value) else default


def is_number(value: Any) -> bool:
    """Return whether a value is a number of sensible size."""
    return isinstance(value, int | float) and abs(value) < MAX_NUMBER


def module(name: str, arguments: Arguments) -> Any:
    """Return an instance of one of PyTorch's own modules, if it has a meaning here."""
    make = _MODULES.get(_plain(name))
    return Leaf(make(arguments)) if make else UNKNOWN


def function(name: str, tensor: Tensor, arguments: Arguments) -> Any:
    """Return the result of a function or method of PyTorch; an unknown one changes nothing."""
    given = arguments.positional
    if name in ("size", "dim", "numel", "shape", "new_zeros", "argmax"):
        return UNKNOWN
    if name in ("add", "add_") and given and (other := tensor_in(given[0])):
        return join(tensor, other)
    if name == "flatten" and arguments.whole(0, "start_dim", default=1) > 1:
        return tensor.then(Rearranged("steps"))
    if make := _FUNCTIONS.get(_plain(name)):
        return tensor.then(*make(arguments))
    if len(given) == 1 and isinstance(given[0], list | tuple):
        given = given[0]
    match name:
        case "view" | "reshape":
            by_size = {3: Rearranged("rows"), 4: Rearranged("map")}
            return tensor.then(by_size.get(len(given), Flatten()))
        case "unflatten":
            return tensor.then(Rearranged("map"))
        case "permute" | "transpose" | "swapaxes":
            rows = len(given) == 4 and list(given[:3]) == [0, 2, 1]
            return tensor.then(Rearranged("rows" if rows else "steps"))
        case "mean" | "amax" | "max" | "sum":
            dims = arguments.get(0, "dim")
            dims = list(dims) if isinstance(dims, list | tuple) else [dims, *given[1:2]]
            if dims in ([2, 3], [3, 2], [-2, -1], [-1, -2]):
                return tensor.then(AdaptivePool("max" if "max" in name else "avg"), Flatten())
            return tensor.then(Rearranged("mean"))
    return tensor


def cat(tensors: Sequence[Any]) -> Any:
    """Return the longest way of a concatenation, which a list of layers cannot express."""
    ways = [t for t in tensors if isinstance(t, Tensor)]
    return max(ways, key=lambda tensor: len(tensor.steps), default=UNKNOWN)


def _plain(name: str) -> str:
    """Return the same for a module and its function: LeakyReLU and leaky_relu."""
    return name.replace("_", "").lower()


Make = Callable[[Arguments], tuple[Layer, ...]]


def _conv(a: Arguments) -> tuple[Layer, ...]:
    inputs = a.whole(0, "in_channels", default=0, low=0)
    width = a.whole(1, "out_channels", default=32)
    kernel = a.whole(2, "kernel_size", default=3)
    stride = a.whole(3, "stride", default=1)
    padding = a.whole(4, "padding", default=0, low=0)
    if a.get(4, "padding") == "same" or (padding and a.whole(5, "dilation", default=1) > 1):
        padding = kernel // 2
    groups = a.whole(6, "groups", default=1)
    if groups == inputs == width > 1:
        return (Depthwise(kernel, stride, padding),)
    return (Conv(width, kernel, stride, padding, groups),)


def _recurrent(cell: str, a: Arguments) -> tuple[Layer, ...]:
    width = a.whole(1, "hidden_size", default=64)
    layers = a.whole(2, "num_layers", default=1)
    both = a.keywords.get("bidirectional") is True
    return (Recurrent(cell, width, layers=layers, bidirectional=both),)


def _pool(kind: str, a: Arguments) -> tuple[Layer, ...]:
    size = a.whole(0, "kernel_size", default=2)
    stride = a.whole(1, "stride", default=size)
    return (Pool(kind, size, stride, a.whole(2, "padding", default=0, low=0)),)


def _adaptive_pool(kind: str, a: Arguments) -> tuple[Layer, ...]:
    return (AdaptivePool(kind, a.whole(0, "output_size", default=1)),)


def _dropout(channels: bool, a: Arguments) -> tuple[Layer, ...]:
    rate = a.get(0, "p")
    return (Dropout(float(rate) if is_number(rate) else 0.5, channels),)


def _always(*layers: Layer) -> Make:
    return lambda _: layers


_ACTIVATIONS = (
    "relu", "gelu", "silu", "elu", "leaky_relu", "selu", "hardswish", "mish", "tanh", "sigmoid",
)  # fmt: skip
_ALIKE = {
    "relu6": "relu",
    "softplus": "relu",
    "prelu": "leaky_relu",
    "celu": "elu",
    "swish": "silu",
}

_FUNCTIONS: dict[str, Make] = {
    "maxpool2d": partial(_pool, "max"),
    "avgpool2d": partial(_pool, "avg"),
    "adaptivemaxpool2d": partial(_adaptive_pool, "max"),
    "adaptiveavgpool2d": partial(_adaptive_pool, "avg"),
    "dropout": partial(_dropout, False),
    "dropout2d": partial(_dropout, True),
    "flatten": _always(Flatten()),
    **{_plain(name): _always(Act(name)) for name in _ACTIVATIONS},
    **{alias: _always(Act(name)) for alias, name in _ALIKE.items()},
}
_MODULES: dict[str, Make] = {
    **_FUNCTIONS,
    "conv2d": _conv,
    "linear": lambda a: (Linear(a.whole(1, "out_features", default=128)),),
    **dict.fromkeys(("batchnorm1d", "batchnorm2d", "instancenorm2d"), _always(Norm("batch"))),
    "layernorm": _always(Norm("layer")),
    "groupnorm": lambda a: (Norm("group", a.whole(0, "num_groups", default=1)),),
    "identity": _always(),
    **{cell.lower(): partial(_recurrent, cell) for cell in GATES},
}

"""Stand-ins for tensors and modules, with which the procedural control reads source text.

A tensor is the chain of steps that made it, back to the input; two that are added share the
steps up to where they part, and that is a residual connection. A step without meaning for
the list of layers (a squeeze, a change of type) is no step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .layers import (
    GATES,
    WEIGHTED,
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
)

MAX_NESTING = 3
MAX_NUMBER = 10**9


class Unknown:
    """A value that could not be made out."""


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Rearranged:
    """A change of layout around a recurrent layer, or what is kept of its output.

    ``rows`` and ``steps`` make a sequence; ``last``, ``mean`` and ``map`` end one.
    """

    kind: str


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor, as the last step that made it and the tensor before."""

    step: Layer | Rearranged | None = None
    parent: Tensor | None = None

    def then(self, *steps: Layer | Rearranged) -> Tensor:
        """The tensor after further steps."""
        tensor = self
        for step in steps:
            tensor = Tensor(step, tensor)
        return tensor


@dataclass(frozen=True, eq=False)
class Leaf:
    """An instance of one of PyTorch's own modules."""

    layers: tuple[Layer, ...]

    def apply(self, tensor: Tensor) -> Any:
        """What calling it gives; of a recurrent layer with its state."""
        after = tensor.then(*self.layers)
        if self.layers and isinstance(self.layers[-1], Recurrent):
            return (after, (after, after) if self.layers[-1].cell == "LSTM" else after)
        return after


def layers_of(tensor: Tensor) -> list[Layer]:
    """All layers from the input to a tensor."""
    return _collapsed(_steps(tensor, None))


def join(first: Tensor, second: Tensor) -> Tensor:
    """The sum of two tensors: a residual connection around the longer of the two ways."""
    ancestors: set[int] = set()
    node: Tensor | None = first
    while node is not None:
        ancestors.add(id(node))
        node = node.parent
    common = second
    while id(common) not in ancestors and common.parent is not None:
        common = common.parent
    ways = [(_steps(t, common), t) for t in (first, second)]
    way, longer = ways[1] if len(ways[1][0]) > len(ways[0][0]) else ways[0]
    body = tuple(_collapsed(way))
    if not any(isinstance(layer, (*WEIGHTED, Residual)) for layer in body):
        return longer
    residual = Residual(body)
    return longer if _nesting(residual) > MAX_NESTING else common.then(residual)


def cat(tensors: Sequence[Tensor]) -> Tensor | Unknown:
    """A concatenation, which the list of layers cannot say: the longest way stands for it."""
    return max(tensors, key=lambda t: len(_steps(t, None)), default=UNKNOWN)


def _steps(tensor: Tensor, since: Tensor | None) -> list[Layer | Rearranged]:
    steps: list[Layer | Rearranged] = []
    node: Tensor | None = tensor
    while node is not None and node is not since:
        if node.step is not None:
            steps.append(node.step)
        node = node.parent
    return steps[::-1]


def _nesting(layer: Layer) -> int:
    if not isinstance(layer, Residual):
        return 0
    return 1 + max(map(_nesting, layer.body), default=0)


def _collapsed(steps: Sequence[Layer | Rearranged]) -> list[Layer]:
    """The layers, with what is rearranged around a recurrent layer made part of it."""
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
        """An argument by its position or its name; None where it was not given."""
        if index < len(self.positional):
            return self.positional[index]
        return self.keywords.get(name)

    def whole(self, index: int, name: str, *, default: int, low: int = 1) -> int:
        """A whole number; of a tuple the largest."""
        value = self.get(index, name)
        if isinstance(value, list | tuple):
            value = max((v for v in value if is_number(v)), default=None)
        return max(low, int(value)) if is_number(value) else default


def is_number(value: Any) -> bool:
    """Whether a value is a number of sensible size."""
    return isinstance(value, int | float) and abs(value) < MAX_NUMBER


def module(name: str, arguments: Arguments) -> Leaf | Unknown:
    """One of PyTorch's own modules, if it has a meaning here."""
    make = _MODULES.get(_plain(name)) or _FUNCTIONS.get(_plain(name))
    return Leaf(make(arguments)) if make else UNKNOWN


def function(name: str, tensor: Tensor, arguments: Arguments) -> Any:
    """A function or a method of PyTorch on a tensor; what has no meaning here changes nothing."""
    if name in ("size", "dim", "numel", "shape", "new_zeros", "argmax"):
        return UNKNOWN
    if make := _FUNCTIONS.get(_plain(name)):
        if name == "flatten" and arguments.whole(0, "start_dim", default=1) > 1:
            return tensor.then(Rearranged("steps"))
        return tensor.then(*make(arguments))
    given = arguments.positional
    if len(given) == 1 and isinstance(given[0], list | tuple):
        given = given[0]
    match name:
        case "view" | "reshape":
            flat: tuple[Layer | Rearranged, ...] = (Flatten(),)
            by_size = {3: (Rearranged("rows"),), 4: (Rearranged("map"),)}
            return tensor.then(*by_size.get(len(given), flat))
        case "unflatten":
            return tensor.then(Rearranged("map"))
        case "permute" | "transpose" | "swapaxes":
            rows = list(given[:2]) == [0, 2] and len(given) == 4 and given[2] == 1
            return tensor.then(Rearranged("rows" if rows else "steps"))
        case "mean" | "amax" | "max" | "sum":
            dims = arguments.get(0, "dim")
            dims = list(dims) if isinstance(dims, list | tuple) else [dims, *given[1:2]]
            if dims in ([2, 3], [3, 2], [-2, -1], [-1, -2]):
                kind = "max" if "max" in name else "avg"
                return tensor.then(AdaptivePool(kind, 1), Flatten())
            return tensor.then(Rearranged("mean"))
    return tensor


def _plain(name: str) -> str:
    """The same for a module and its function: LeakyReLU and leaky_relu."""
    return name.replace("_", "").lower()


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


def _recurrent(cell: str) -> Callable[[Arguments], tuple[Layer, ...]]:
    def make(a: Arguments) -> tuple[Layer, ...]:
        width = a.whole(1, "hidden_size", default=64)
        layers = a.whole(2, "num_layers", default=1)
        both = a.keywords.get("bidirectional") is True
        return (Recurrent(cell, width, layers=layers, bidirectional=both),)

    return make


def _pool(kind: str) -> Callable[[Arguments], tuple[Layer, ...]]:
    def make(a: Arguments) -> tuple[Layer, ...]:
        size = a.whole(0, "kernel_size", default=2)
        stride = a.whole(1, "stride", default=size)
        return (Pool(kind, size, stride, a.whole(2, "padding", default=0, low=0)),)

    return make


def _dropout(channels: bool) -> Callable[[Arguments], tuple[Layer, ...]]:
    def make(a: Arguments) -> tuple[Layer, ...]:
        rate = a.get(0, "p")
        return (Dropout(float(rate) if is_number(rate) else 0.5, channels),)

    return make


ACTIVATIONS = (
    "relu", "gelu", "silu", "elu", "leaky_relu", "selu", "hardswish", "mish", "tanh", "sigmoid",
)  # fmt: skip
_ALIKE = {
    "relu6": "relu",
    "softplus": "relu",
    "prelu": "leaky_relu",
    "celu": "elu",
    "swish": "silu",
}

_FUNCTIONS: dict[str, Callable[[Arguments], tuple[Layer, ...]]] = {
    "maxpool2d": _pool("max"),
    "avgpool2d": _pool("avg"),
    "adaptiveavgpool2d": lambda a: (AdaptivePool("avg", a.whole(0, "output_size", default=1)),),
    "adaptivemaxpool2d": lambda a: (AdaptivePool("max", a.whole(0, "output_size", default=1)),),
    "dropout": _dropout(False),
    "dropout2d": _dropout(True),
    "flatten": lambda _: (Flatten(),),
}
_FUNCTIONS |= {_plain(name): lambda _, name=name: (Act(name),) for name in ACTIVATIONS}  # type: ignore[misc]
_FUNCTIONS |= {alias: lambda _, name=name: (Act(name),) for alias, name in _ALIKE.items()}  # type: ignore[misc]

_MODULES: dict[str, Callable[[Arguments], tuple[Layer, ...]]] = {
    "conv2d": _conv,
    "linear": lambda a: (Linear(a.whole(1, "out_features", default=128)),),
    "batchnorm1d": lambda _: (Norm("batch"),),
    "batchnorm2d": lambda _: (Norm("batch"),),
    "instancenorm2d": lambda _: (Norm("batch"),),
    "layernorm": lambda _: (Norm("layer"),),
    "groupnorm": lambda a: (Norm("group", a.whole(0, "num_groups", default=1)),),
    "identity": lambda _: (),
} | {cell.lower(): _recurrent(cell) for cell in GATES}

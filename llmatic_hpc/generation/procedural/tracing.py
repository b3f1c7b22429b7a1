"""Stand-ins for tensors, and the layers that PyTorch's names stand for, for the reader.

A tensor is the sequence of steps that made it from the input; two that are added share the
steps up to where they part, and that is a residual connection. What has no meaning for the
list of layers (a squeeze, a change of type) is no step.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

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
    has_weights,
)

MAX_NESTING = 3
MAX_NUMBER = 10**9

Step = Layer | str
"""A layer; or ``rows``, which makes a sequence for a recurrent layer; or ``last``, ``mean`` or
``map``, what is kept of its output."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor, as the steps from the input to it, of which no two layers are the same object."""

    steps: tuple[Step, ...] = ()
    dimensions: int = 2
    """Dimensions of the maps: 2 of images, 1 of sequences."""

    def then(self, *steps: Step) -> Tensor:
        """Return the tensor after further steps."""
        return replace(self, steps=(*self.steps, *map(copy, steps)))

    @property
    def layers(self) -> list[Layer]:
        """Layers from the input to the tensor."""
        return _collapsed(self.steps)


def tensor_in(value: Any) -> Tensor | None:
    """Return a tensor, or the one of a list that took the most steps; None where there is none."""
    values = value if isinstance(value, list | tuple) else (value,)
    tensors = [v for v in values if isinstance(v, Tensor)]
    return max(tensors, key=lambda tensor: len(tensor.steps), default=None)


def join(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of two tensors: a residual connection around the longer of the two ways."""
    pairs = zip(first.steps, second.steps, strict=False)
    shared = len(list(takewhile(lambda pair: pair[0] is pair[1], pairs)))
    longer = second if len(second.steps) > len(first.steps) else first
    residual = Residual(tuple(_collapsed(longer.steps[shared:])))
    if not has_weights(residual.body) or _nesting(residual) > MAX_NESTING:
        return longer
    return replace(longer, steps=longer.steps[:shared]).then(residual)


def _nesting(layer: Layer) -> int:
    if not isinstance(layer, Residual):
        return 0
    return 1 + max(map(_nesting, layer.body), default=0)


def _collapsed(steps: Sequence[Step]) -> list[Layer]:
    """Return the layers, with what is rearranged around a recurrent layer made part of it."""
    layers: list[Layer] = []
    rows = settled = False
    for step in steps:
        last = layers[-1] if layers and not settled else None
        if step == "rows":
            rows = True
        elif isinstance(step, str):
            if isinstance(last, Recurrent):
                layers[-1] = replace(last, output=step)
                settled = True
        elif isinstance(step, Recurrent) and isinstance(last, Recurrent):
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


_OF_IMAGES = ([2, 3], [3, 2], [-2, -1], [-1, -2])


def applied(name: str, tensor: Tensor, arguments: Arguments) -> Tensor | None:
    """Return a tensor after a function or method of PyTorch; an unknown one changes nothing."""
    given = arguments.positional
    if name in ("add", "add_") and given and (other := tensor_in(given[0])):
        return join(tensor, other)
    if len(given) == 1 and isinstance(given[0], list | tuple):
        given = given[0]
    match name:
        case "size" | "dim" | "numel" | "new_zeros" | "argmax":
            return None
        case "flatten" if arguments.whole(0, "start_dim", default=1) > 1:
            return tensor
        case "view" | "reshape" if len(given) in (3, 4):
            return tensor.then("rows" if len(given) == 3 else "map")
        case "view" | "reshape":
            return tensor.then(Flatten())
        case "unflatten":
            return tensor.then("map")
        case "permute" | "transpose" | "swapaxes" if tensor.dimensions == 1:
            return tensor.then("map")  # behind a recurrent layer; in front of it nothing
        case "permute" | "transpose" | "swapaxes":
            return tensor.then("rows") if list(given[:3]) == [0, 2, 1] and given[3:] else tensor
        case "mean" | "amax" | "max" | "sum":
            dims = arguments.get(0, "dim")
            dims = list(dims) if isinstance(dims, list | tuple) else [dims, *given[1:2]]
            of_maps = ([2], [-1]) if tensor.dimensions == 1 else _OF_IMAGES
            if dims in of_maps:
                return tensor.then(AdaptivePool("max" if "max" in name else "avg"), Flatten())
            return tensor.then("mean")
    layer = layer_of(name, arguments, tensor.dimensions)
    return tensor.then(layer) if layer else tensor


_ACTIVATIONS = (
    "relu", "gelu", "silu", "elu", "leaky_relu", "selu", "hardswish", "mish", "tanh", "sigmoid",
)  # fmt: skip
ACTIVATIONS = {
    **{name.replace("_", ""): Act(name) for name in _ACTIVATIONS},
    "relu6": Act("relu"),
    "softplus": Act("relu"),
    "prelu": Act("leaky_relu"),
    "celu": Act("elu"),
    "swish": Act("silu"),
}
"""Activations by what PyTorch calls them, in small letters; of some the nearest."""


def layer_of(name: str, a: Arguments, dimensions: int = 2) -> Layer | None:
    """Return the layer that a module or function of PyTorch stands for; None: none is known."""
    plain = name.replace("_", "").lower()  # LeakyReLU and leaky_relu are the same
    if dimensions == 1:
        plain = plain.replace("1d", "2d")
    match plain:
        case "conv2d":
            return _conv(a)
        case "linear":
            return Linear(a.whole(1, "out_features", default=128))
        case "batchnorm1d" | "batchnorm2d" | "instancenorm2d":
            return Norm("batch")
        case "layernorm":
            return Norm("layer")
        case "groupnorm":
            return Norm("group", a.whole(0, "num_groups", default=1))
        case "maxpool2d" | "avgpool2d":
            size = a.whole(0, "kernel_size", default=2)
            stride = a.whole(1, "stride", default=size)
            return Pool(plain[:3], size, stride, a.whole(2, "padding", default=0, low=0))
        case "adaptivemaxpool2d" | "adaptiveavgpool2d":
            return AdaptivePool(plain[8:11], a.whole(0, "output_size", default=1))
        case "dropout" | "dropout2d":
            rate = a.get(0, "p")
            return Dropout(float(rate) if is_number(rate) else 0.5, plain == "dropout2d")
        case "flatten":
            return Flatten()
        case "rnn" | "gru" | "lstm":
            width = a.whole(1, "hidden_size", default=64)
            layers = a.whole(2, "num_layers", default=1)
            both = a.keywords.get("bidirectional") is True
            return Recurrent(name.upper(), width, layers=layers, bidirectional=both)
    return ACTIVATIONS.get(plain)


def _conv(a: Arguments) -> Conv | Depthwise:
    inputs = a.whole(0, "in_channels", default=0, low=0)
    width = a.whole(1, "out_channels", default=32)
    kernel = a.whole(2, "kernel_size", default=3)
    stride = a.whole(3, "stride", default=1)
    padding = a.whole(4, "padding", default=0, low=0)
    if a.get(4, "padding") == "same" or (padding and a.whole(5, "dilation", default=1) > 1):
        padding = kernel // 2
    groups = a.whole(6, "groups", default=1)
    if groups == inputs == width > 1:
        return Depthwise(kernel, stride, padding)
    return Conv(width, kernel, stride, padding, groups)

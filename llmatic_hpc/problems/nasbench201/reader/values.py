"""What the symbolic interpreter computes with: tensors, layers, and what Python has besides.

A tensor is a place in the graph that ``forward`` spells out: the input, a layer applied to a
tensor, or a sum. Nothing here is ever a number of an image.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ..cells import CONV1, CONV3, NONE, POOL, SKIP

CARRIES = "an edge carries a ReLU-conv-BN 3x3 or 1x1, an average pooling 3x3, a skip or nothing"


class NotACell(ValueError):  # noqa: N818 (a verdict on a text, not a fault)
    """A source is none of the 15,625 cells; the message says in one line why."""


class Exhausted(NotACell):
    """A source asks for more work than any cell takes."""


@dataclass(frozen=True)
class Channels:
    """The number of channels of a cell, which its constructor is told, times ``scale``."""

    scale: Fraction = Fraction(1)

    def __str__(self) -> str:
        return "channels" if self.scale == 1 else f"{self.scale} channels"


LARGEST = 1 << 31
"""Numbers beyond this are no sizes."""

Value = Any
"""Of the interpreter: one of the classes here, or a Python constant, list, tuple or dict."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A module without parts, with its arguments by name (defaults included)."""

    kind: str
    """``relu``, ``conv``, ``bn``, ``pool``, ``identity``, ``zero`` or ``other``; while mending
    also ``operation``, one of the benchmark's."""
    text: str
    """As it was written, without its namespace."""
    line: int = 0
    arguments: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Chain:
    """``nn.Sequential``: modules applied one after the other."""

    modules: tuple[Value, ...]


@dataclass(eq=False)
class Tensor:
    """A value of ``forward``: the input (no origins), a layer of one origin, or a sum."""

    number: int
    """In order of evaluation."""
    line: int
    layer: Layer | None = None
    origins: tuple[Tensor, ...] = ()
    label: str = ""
    """Attribute or key of the module that was called."""
    names: list[str] = field(default_factory=list)
    """Variables of the network's own ``forward`` that were bound to it."""


@dataclass(frozen=True, eq=False)
class Stack:
    """``torch.stack([...])``, of which only the sum over its first dimension is of use."""

    tensors: tuple[Value, ...]


@dataclass(frozen=True)
class Opaque:
    """Something of which no more is known than what it is called, and whose it is."""

    text: str
    owner: Tensor | None = None


@dataclass(frozen=True)
class Absent:
    """What could not be understood, while mending: it adds nothing to a sum."""


@dataclass(frozen=True)
class Torch:
    """Something of torch, by its full name."""

    path: str

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


@dataclass(eq=False)
class Function:
    """A function or method of the source; ``owner``: what it is bound to."""

    node: ast.FunctionDef | ast.Lambda
    names: Mapping[str, Value]
    """Of the scopes around it."""
    owner: Instance | None = None
    home: Class | None = None
    """The class that it stands in, for ``super()``."""


@dataclass(eq=False)
class Class:
    """A class of the source."""

    node: ast.ClassDef
    bases: tuple[Value, ...]
    members: dict[str, Value] = field(default_factory=dict)

    def lineage(self) -> list[Class | Torch]:
        """Itself and what it derives from, in order of lookup (bounded)."""
        found: list[Class | Torch] = []
        todo: list[Value] = [self]
        while todo and len(found) < 16:
            current = todo.pop(0)
            if isinstance(current, Class | Torch) and current not in found:
                found.append(current)
                todo += current.bases if isinstance(current, Class) else []
        return found

    def torch_base(self) -> str:
        """Name of the class of ``torch.nn`` below; empty if there is none."""
        for base in self.lineage():
            if isinstance(base, Torch) and base.path.startswith("torch.nn."):
                return base.name
        return ""

    def find(self, name: str) -> Value:
        """A member, its own or inherited; None where there is none."""
        for base in self.lineage():
            if isinstance(base, Class) and name in base.members:
                return base.members[name]
        return None


@dataclass(eq=False)
class Instance:
    """An object of a class of the source."""

    kind: Class
    attributes: dict[str, Value] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    """Where each attribute was assigned last."""
    chain: Chain | None = None
    """What it holds as an ``nn.Sequential``."""


@dataclass(frozen=True)
class Super:
    """``super()`` within a method."""

    owner: Instance
    home: Class


@dataclass(frozen=True)
class Method:
    """A method of a value that is no instance: ``x.relu``, ``parts.append``."""

    owner: Value
    name: str


@dataclass(frozen=True)
class Builtin:
    """A function of Python itself."""

    name: str


# --- layers --------------------------------------------------------------------------------------

REQUIRED = object()

_CONV = {
    "in_channels": REQUIRED,
    "out_channels": REQUIRED,
    "kernel_size": REQUIRED,
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "device": None,
    "dtype": None,
}
_NORM = {
    "num_features": REQUIRED,
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": True,
    "track_running_stats": True,
    "device": None,
    "dtype": None,
}
_POOL = {
    "kernel_size": REQUIRED,
    "stride": None,
    "padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}

SIGNATURES: dict[str, tuple[str, dict[str, Value]]] = {
    "Conv2d": ("conv", _CONV),
    "BatchNorm2d": ("bn", _NORM),
    "AvgPool2d": ("pool", _POOL),
    "ReLU": ("relu", {"inplace": False}),
}
"""Kinds and parameters of the modules of torch.nn that an edge may consist of."""

FUNCTIONS: dict[str, tuple[str, dict[str, Value]]] = {
    "relu": ("relu", {"inplace": False}),
    "relu_": ("relu", {"inplace": True}),
    "avg_pool2d": ("pool", _POOL),
}
"""The same as functions of torch or methods, without the tensor that comes first."""


def bind(
    signature: Mapping[str, Value], args: list[Value], options: Mapping[str, Value]
) -> dict[str, Value]:
    """Arguments by name. Raises :class:`NotACell` where Python would refuse the call."""
    names = list(signature)
    if len(args) > len(names):
        raise NotACell(f"takes at most {len(names)} arguments")
    bound = dict(zip(names, args, strict=False))
    for name, value in options.items():
        if name not in signature:
            raise NotACell(f"knows no argument {name}")
        if name in bound:
            raise NotACell(f"is given {name} twice")
        bound[name] = value
    for name, default in signature.items():
        if bound.setdefault(name, default) is REQUIRED:
            raise NotACell(f"is not given {name}")
    return bound


def show(value: Value) -> str:
    """A value in a few characters, for a reason."""
    if isinstance(value, str | int | float | Channels) or value is None:
        text = str(value) if not isinstance(value, int) or abs(value) < LARGEST else "a huge number"
        return text if len(text) <= 40 else text[:37] + "..."
    if isinstance(value, list | tuple) and len(value) <= 4:
        return f"({', '.join(show(v) if isinstance(v, int) else '?' for v in value)})"
    return type(value).__name__.lower()


def pair(value: Value) -> tuple[int, int]:
    """A size for height and width; (-1, -1) for anything that is none."""
    match value:
        case int():
            return value, value
        case [int(first), int(second)]:
            return first, second
        case [int(single)]:
            return single, single
    return -1, -1


def _shown(value: Value) -> str:
    first, second = pair(value)
    return show(first) if first == second and first != -1 else show(value)


def same_channels(one: Value, other: Value) -> bool:
    """Whether two numbers of channels are numbers, and one."""
    known = isinstance(one, int | Channels) and isinstance(other, int | Channels)
    return known and one == other


def flaw(layer: Layer) -> str:
    """Why no edge of a cell may have ``layer`` in it; empty if one may."""
    if layer.kind == "other":
        return f"unknown operation {layer.text}"
    if layer.kind == "conv":
        return _conv_flaw(layer.arguments)
    if layer.kind == "pool":
        return _pool_flaw(layer.arguments)
    return ""


def _conv_flaw(given: Mapping[str, Value]) -> str:
    if not same_channels(given["in_channels"], given["out_channels"]):
        channels = f"{show(given['in_channels'])} to {show(given['out_channels'])} channels"
        return f"Conv2d from {channels}"
    kernel = pair(given["kernel_size"])
    if kernel not in ((1, 1), (3, 3)):
        return f"Conv2d with kernel size {_shown(given['kernel_size'])}; {CARRIES}"
    for name in ("stride", "dilation", "groups"):
        if pair(given[name]) != (1, 1):
            return f"Conv2d with {name} {_shown(given[name])}"
    padding = given["padding"]
    if isinstance(padding, str):
        padding = {"same": kernel[0] // 2, "valid": 0}.get(padding, padding)
    if pair(padding) != (kernel[0] // 2, kernel[0] // 2):
        return f"Conv2d with kernel size {kernel[0]} and padding {_shown(padding)}"
    if given["padding_mode"] != "zeros":
        return f"Conv2d with padding mode {show(given['padding_mode'])}"
    return ""


def _pool_flaw(given: Mapping[str, Value]) -> str:
    if pair(given["kernel_size"]) != (3, 3):
        return f"average pooling with kernel size {_shown(given['kernel_size'])}; {CARRIES}"
    stride = given["kernel_size"] if given["stride"] is None else given["stride"]
    if pair(stride) != (1, 1):
        return f"average pooling with stride {_shown(stride)}"
    if pair(given["padding"]) != (1, 1):
        return f"average pooling with padding {_shown(given['padding'])}"
    if given["divisor_override"] is not None:
        return "average pooling with a divisor of its own"
    return ""


def operation(layers: list[Layer]) -> int:
    """The operation that a faultless run of layers is; -1 if it is none."""
    kinds = [layer.kind for layer in layers]
    if kinds == ["operation"]:
        return int(layers[0].arguments["operation"])
    if kinds == ["relu", "conv", "bn"]:
        return CONV3 if pair(layers[1].arguments["kernel_size"]) == (3, 3) else CONV1
    if len(kinds) != 1:
        return -1
    return {"pool": POOL, "identity": SKIP, "zero": NONE}.get(kinds[0], -1)

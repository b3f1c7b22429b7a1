"""A network as the PyTorch source that a person would write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .layers import (
    Act,
    AdaptivePool,
    Conv,
    Depthwise,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Network,
    Norm,
    Pool,
    Recurrent,
    Residual,
    Shape,
    cost_of,
    skip_stride,
)

HEADER = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\n"
IN_TORCH = ("tanh", "sigmoid")
"""Activations whose function is in torch, not in torch.nn.functional."""
DEFAULTS = {"stride": 1, "padding": 0, "groups": 1, "num_layers": 1, "bidirectional": False}
"""Arguments that are left out where they are what PyTorch assumes."""


def written(network: Network, shape: Shape) -> str:
    """Write the source of a module ``Net`` that maps (N, \\*shape) to the last layer's features.

    Raises MisfitError where a layer cannot take its input.
    """
    writer = _Writer()
    writer.layers(network, shape, "residual")
    writer.end("return ")
    modules = "".join(f"        self.{name} = nn.{call}\n" for name, call in writer.modules)
    lines = "".join(f"        {line}\n" for line in writer.lines)
    return (
        f"{HEADER}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"{modules}\n    def forward(self, x):\n{lines}"
    )


def _call(function: str, *given: object, **named: object) -> str:
    """Write a call."""
    arguments = [str(value) for value in given]
    arguments += [f"{k}={v}" for k, v in named.items() if k not in DEFAULTS or v != DEFAULTS[k]]
    return f"{function}({', '.join(arguments)})"


class _Writer:
    """Modules and lines so far, and the expression that is still being nested."""

    def __init__(self) -> None:
        self.modules: list[tuple[str, str]] = []
        self.lines: list[str] = []
        self._numbers: Counter[str] = Counter()
        self._value = "x"

    def layers(self, layers: Iterable[Layer], shape: Shape, saved: str) -> None:
        """Write layers; ``saved`` is the variable for the input of a residual connection."""
        for layer in layers:
            after = cost_of(layer, shape).after
            if isinstance(layer, Residual):
                self.end()
                self.lines.append(f"{saved} = x")
                self.layers(layer.body, shape, f"inner_{saved}")
                self.end()
                self._value = f"x + {self._skip(saved, shape, after)}"
            else:
                self._layer(layer, shape)
            shape = after

    def end(self, target: str = "x = ") -> None:
        """Close the expression as a line."""
        if self._value != "x" or target != "x = ":
            self.lines.append(f"{target}{self._value}")
        self._value = "x"

    def _module(self, stem: str, name: str, *given: object, **named: object) -> str:
        self._numbers[stem] += 1
        variable = f"{stem}{self._numbers[stem]}"
        self.modules.append((variable, _call(name, *given, **named)))
        return f"self.{variable}"

    def _skip(self, saved: str, before: Shape, after: Shape) -> str:
        if before == after:
            return saved
        channels = before[0], after[0]
        if len(before) == 1:
            return f"{self._module('skip', 'Linear', *channels)}({saved})"
        stride, kind = skip_stride(before, after), f"Conv{len(before) - 1}d"
        return f"{self._module('skip', kind, *channels, 1, stride=stride)}({saved})"

    def _apply(self, function: str, *given: object, **named: object) -> None:
        """Apply a function in a line of its own."""
        self.end()
        self._value = _call(function, "x", *given, **named)

    def _nest(self, function: str) -> None:
        """Apply a function in the same line."""
        self._value = _call(function, self._value)

    def _layer(self, layer: Layer, shape: Shape) -> None:
        inputs, dimensions = shape[0], f"{len(shape) - 1}d"
        match layer:
            case Conv() | Depthwise():
                width, groups = inputs, inputs
                if isinstance(layer, Conv):
                    width, groups = layer.width, layer.groups
                more = {"stride": layer.stride, "padding": layer.padding, "groups": groups}
                name = f"Conv{dimensions}"
                self._apply(self._module("conv", name, inputs, width, layer.kernel, **more))
            case Linear(width):
                self._apply(self._module("fc", "Linear", inputs, width))
            case Norm("batch"):
                name = f"BatchNorm{max(1, len(shape) - 1)}d"
                self._nest(self._module("bn", name, inputs))
            case Norm("group", groups):
                self._nest(self._module("gn", "GroupNorm", groups, inputs))
            case Norm():
                self._nest(self._module("ln", "LayerNorm", inputs))
            case Act(name):
                self._nest(f"{'torch' if name in IN_TORCH else 'F'}.{name}")
            case Pool(kind, size, stride, padding):
                window = (size,) if stride == size else (size, f"stride={stride}")
                self._apply(f"F.{kind}_pool{dimensions}", *window, padding=padding)
            case AdaptivePool(kind, size):
                self._apply(f"F.adaptive_{kind}_pool{dimensions}", size)
            case Dropout(rate, channels):
                name = f"Dropout{dimensions if channels else ''}"
                self._apply(self._module("dropout", name, f"{rate:g}"))
            case Flatten():
                self._apply("torch.flatten", 1)
            case Recurrent():
                self._recurrent(layer, shape)

    def _recurrent(self, layer: Recurrent, shape: Shape) -> None:
        self.end()
        channels, *sizes = shape
        rows = layer.steps == "rows"
        module = self._module(
            layer.cell.lower(),
            layer.cell,
            channels * sizes[1] if rows else channels,
            layer.width,
            num_layers=layer.layers,
            batch_first=True,
            bidirectional=layer.bidirectional,
        )
        after = layer.width * (2 if layer.bidirectional else 1)
        output = {
            "last": "x[:, -1]",
            "mean": "x.mean(1)",
            "map": "x.transpose(1, 2)",
        }[layer.output]
        if layer.output == "map" and len(sizes) == 2:
            output += f".reshape(-1, {after}, {sizes[0]}, {sizes[1]})"
        steps = "x.flatten(2).transpose(1, 2)" if len(sizes) == 2 else "x.transpose(1, 2)"
        self.lines += [
            f"x = {'x.permute(0, 2, 1, 3).flatten(2)' if rows else steps}",
            f"x, _ = {module}(x)",
            f"x = {output}",
        ]

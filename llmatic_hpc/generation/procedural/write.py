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
    shape_after,
    skip_stride,
)

HEADER = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\n"
IN_TORCH = ("tanh", "sigmoid")
"""Activations whose function is in torch, not in torch.nn.functional."""


def written(network: Network, shape: Shape) -> str:
    """Source of a module ``Net`` that maps (N, \\*shape) to the last layer's features.

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


class _Writer:
    """Modules and lines so far, and the expression that is still being nested."""

    def __init__(self) -> None:
        self.modules: list[tuple[str, str]] = []
        self.lines: list[str] = []
        self._numbers: Counter[str] = Counter()
        self._value = "x"

    def layers(self, layers: Iterable[Layer], shape: Shape, saved: str) -> Shape:
        for layer in layers:
            after = shape_after(layer, shape)
            if isinstance(layer, Residual):
                self.end()
                self.lines.append(f"{saved} = x")
                self.layers(layer.body, shape, f"inner_{saved}")
                self.end()
                self._value = f"x + {self._skip(saved, shape, after)}"
            else:
                self._layer(layer, shape)
            shape = after
        return shape

    def end(self, target: str = "x = ") -> None:
        """Close the expression as a line."""
        if self._value != "x" or target != "x = ":
            self.lines.append(f"{target}{self._value}")
        self._value = "x"

    def _module(self, stem: str, call: str) -> str:
        self._numbers[stem] += 1
        name = f"{stem}{self._numbers[stem]}"
        self.modules.append((name, call))
        return f"self.{name}"

    def _skip(self, saved: str, before: Shape, after: Shape) -> str:
        if before == after:
            return saved
        if len(before) == 1:
            return f"{self._module('skip', f'Linear({before[0]}, {after[0]})')}({saved})"
        stride = skip_stride(before, after)
        arguments = f"{before[0]}, {after[0]}, 1" + (f", stride={stride}" if stride > 1 else "")
        return f"{self._module('skip', f'Conv2d({arguments})')}({saved})"

    def _apply(self, function: str, *arguments: str, fresh: bool = True) -> None:
        if fresh:
            self.end()
        self._value = f"{function}({', '.join((self._value, *arguments))})"

    def _layer(self, layer: Layer, shape: Shape) -> None:
        inputs = shape[0]
        match layer:
            case Conv(width, kernel, stride, padding, groups):
                window = _window(kernel, stride, padding, groups)
                self._apply(self._module("conv", f"Conv2d({inputs}, {width}, {window})"))
            case Depthwise(kernel, stride, padding):
                window = _window(kernel, stride, padding, inputs)
                self._apply(self._module("conv", f"Conv2d({inputs}, {inputs}, {window})"))
            case Linear(width):
                self._apply(self._module("fc", f"Linear({inputs}, {width})"))
            case Norm(kind, groups):
                name, call = {
                    "batch": ("bn", f"BatchNorm{'2d' if len(shape) == 3 else '1d'}({inputs})"),
                    "group": ("gn", f"GroupNorm({groups}, {inputs})"),
                    "layer": ("ln", f"LayerNorm({inputs})"),
                }[kind]
                self._apply(self._module(name, call), fresh=False)
            case Act(name):
                module = "torch" if name in IN_TORCH else "F"
                self._apply(f"{module}.{name}", fresh=False)
            case Pool(kind, size, stride, padding):
                arguments = [str(size)]
                arguments += [f"stride={stride}"] if stride != size else []
                arguments += [f"padding={padding}"] if padding else []
                self._apply(f"F.{kind}_pool2d", *arguments)
            case AdaptivePool(kind, size):
                self._apply(f"F.adaptive_{kind}_pool2d", str(size))
            case Dropout(rate, channels):
                call = f"Dropout{'2d' if channels else ''}({rate:g})"
                self._apply(self._module("dropout", call))
            case Flatten():
                self._apply("torch.flatten", "1")
            case Recurrent():
                self._recurrent(layer, shape)
            case Residual():
                raise AssertionError("written by layers()")

    def _recurrent(self, layer: Recurrent, shape: Shape) -> None:
        self.end()
        channels, height, width = shape
        rows = layer.steps == "rows"
        features = channels * width if rows else channels
        arguments = f"{features}, {layer.width}, "
        arguments += f"num_layers={layer.layers}, " if layer.layers > 1 else ""
        arguments += "batch_first=True" + (", bidirectional=True" if layer.bidirectional else "")
        module = self._module(layer.cell.lower(), f"{layer.cell}({arguments})")
        self.lines += [
            "x = x.permute(0, 2, 1, 3).flatten(2)" if rows else "x = x.flatten(2).transpose(1, 2)",
            f"x, _ = {module}(x)",
        ]
        after = layer.width * (2 if layer.bidirectional else 1)
        self._value = {
            "last": "x[:, -1]",
            "mean": "x.mean(1)",
            "map": f"x.transpose(1, 2).reshape(-1, {after}, {height}, {width})",
        }[layer.output]
        self.end()


def _window(kernel: int, stride: int, padding: int, groups: int) -> str:
    window = [str(kernel)]
    window += [f"stride={stride}"] if stride > 1 else []
    window += [f"padding={padding}"] if padding else []
    window += [f"groups={groups}"] if groups > 1 else []
    return ", ".join(window)

"""Find what running a network shows to be wrong: sizes, flattening, the way to the classes.

For a contained child only: this runs the source, on the meta device, where nothing is
computed. The network is built and run again after every change, until it maps images to
classes or nothing is found any more.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...source.network import dotted, imports, network_class
from ...source.parse import parse
from .. import build
from ..layers import Building, OverBudget, Running
from . import MOST_FINDINGS
from .rules import SIZES, Finding, apply, argument, flattened
from .spans import NotApplicableError, Span, Text, span_of
from .trace import Call, Watch, is_torch, position

MOST_DROPPED = 3
"""Calls that may be dropped: a network that needs more is not almost right."""

IMAGES = 3

MOST_FLAT = 1 << 16
"""More features than this are pooled before they are flattened."""
MOST_WEIGHTS = 20_000_000
"""A layer that would get more than this is given pooled features."""
FEW_CHANNELS = 16
"""A layer that expects so many features, as many as there are channels, wants them pooled."""

_CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
_SPATIAL = (
    nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.Upsample, nn.PixelShuffle,
)  # fmt: skip
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_TWINS = {
    "out_features": "out_channels",
    "out_channels": "out_features",
    "in_features": "in_channels",
    "in_channels": "in_features",
}
"""Attributes that linear layers and convolutions have by different names."""


def find(source: str, *, input_shape: tuple[int, ...], classes: int) -> list[Finding]:
    """Return what to change, in order, so that a network maps (N, \\*input_shape) to (N, classes).

    Empty where nothing is wrong or what is wrong is beyond the rules.
    """
    found: list[Finding] = []
    seen = {source}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(MOST_FINDINGS):
            trial = _Trial(source, input_shape, classes)
            if trial.fits():
                return found
            for finding in trial.findings():
                if finding.rule == "drop" and [f.rule for f in found].count("drop") >= MOST_DROPPED:
                    continue
                try:
                    changed, _ = apply(source, finding)
                except NotApplicableError:
                    continue
                if changed not in seen:
                    break
            else:
                return []
            found.append(finding)
            seen.add(source := changed)
    return []


def _side(name: str) -> str:
    """Return whether an argument's name speaks of input or output."""
    return next((side for side in ("in_", "out") if name.startswith(side)), "")


class _Trial:
    """One build and one pass, and what can be learned from how they went."""

    def __init__(self, source: str, input_shape: tuple[int, ...], classes: int) -> None:
        self._tree = parse(source)
        self._text = Text(source, self._tree)
        self._classes = classes
        self._watch = Watch()
        self._model: nn.Module | None = None
        self._error: BaseException | None = None
        self._output: Any = None
        try:
            with torch.device("meta"), self._watch, torch.no_grad():
                with Building(math.inf):
                    self._model = build.construct(source)
                self._model.eval()
                with Running():
                    self._output = self._model(torch.empty((IMAGES, *input_shape)))
        except OverBudget:
            self._error = MemoryError()
        except build.CANDIDATE_EXCEPTIONS as error:
            self._error = error

    def fits(self) -> bool:
        """Return whether the images became (N, classes)."""
        out = self._output
        return isinstance(out, Tensor) and out.shape == (IMAGES, self._classes)

    def findings(self) -> Iterator[Finding]:
        """Yield what may be wrong, the likeliest first."""
        if self._error is None:
            yield from self._misses()
            return
        place = self._place_of_error()
        if isinstance(self._error, AttributeError):
            yield from self._attribute(self._error, place)
        if place is None:
            return
        if self._model is None:
            yield from self._arguments(place)
            return
        call = self._watch.stack[-1] if self._watch.stack else None
        if call is not None and is_torch(call.module) and not isinstance(call.module, _CONTAINERS):
            yield from self._layer(call)
        else:
            node = self._node(place, ast.Call)
            if node is not None and flattened(node) is not None:
                yield Finding("view", place)
            if node is not None and isinstance(self._error, RuntimeError):
                yield from self._order(place)
            yield from self._tuple()
        yield from self._drop(place)

    # --- layers -----------------------------------------------------------------------------

    def _layer(self, call: Call) -> Iterator[Finding]:
        """Fit a layer of torch to its input."""
        module, x = call.module, call.inputs[0] if call.inputs else None
        if isinstance(x, tuple):
            yield from self._tuple()
        if not isinstance(x, Tensor) or x.dim() == 0:
            return
        if x.shape[0] != IMAGES:
            yield from self._views()
        if isinstance(module, nn.Linear):
            if x.dim() > 3:
                yield from self._flatten(call, x)
            else:
                yield from self._size(module, "in_features", x.shape[-1])
        elif x.dim() == 2 and isinstance(module, _SPATIAL):
            yield from self._order(call.place, module)
        elif isinstance(module, _CONVOLUTIONS) and x.dim() > 2:
            yield from self._size(module, "in_channels", x.shape[1])
        elif isinstance(module, nn.modules.batchnorm._NormBase) and x.dim() > 1:
            yield from self._size(module, "num_features", x.shape[1])
        elif isinstance(module, nn.GroupNorm) and x.dim() > 1:
            yield from self._size(module, "num_channels", x.shape[1])
        elif isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            yield from self._size(module, "normalized_shape", x.shape[-1])
        elif isinstance(module, nn.RNNBase) and x.dim() in (2, 3):
            yield from self._size(module, "input_size", x.shape[-1])

    def _size(self, module: nn.Module, name: str, size: int) -> Iterator[Finding]:
        """Correct a layer's input size where it is written down for this layer alone."""
        sites = self._watch.sites.get(id(module), [])
        shared = sum(places[:1] == sites[:1] for places in self._watch.sites.values()) > 1
        parameter, place = name, SIZES[name]
        for level, site in enumerate(sites):
            node = self._node(site, ast.Call)
            given = node and argument(node, parameter, place)
            if given is None:
                return
            parameter, place = self._parameter(given)
            if parameter and level + 1 < len(sites):
                continue  # handed on: the number stands in the call around this one
            if level > 0:
                yield Finding("number", span_of(given), "", (size,))
            elif not shared:
                yield Finding("size", site, name, (size,))
            return

    def _parameter(self, given: ast.expr) -> tuple[str, int]:
        """Return the parameter that an argument hands on, with its place in calls; empty: none."""
        function = self._around(given, ast.FunctionDef)
        if isinstance(given, ast.Name) and function is not None:
            names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
            if given.id in names[1:]:
                return given.id, names.index(given.id) - 1
        return "", -1

    def _flatten(self, call: Call, x: Tensor) -> Iterator[Finding]:
        """Flatten the images that a linear layer gets."""
        module = call.module
        assert isinstance(module, nn.Linear)
        features = math.prod(x.shape[1:])
        fits_pooled = module.in_features == x.shape[1] >= FEW_CHANNELS
        too_large = features * module.out_features > MOST_WEIGHTS
        numbers = (1,) if x.dim() == 4 and (fits_pooled or too_large) else ()
        above = self._watch.stack[-2].module if len(self._watch.stack) > 1 else None
        if isinstance(above, nn.Sequential) and next(iter(above), None) is not module:
            for site in self._watch.sites.get(id(module), [])[:1]:
                yield Finding("flatten layer", site, "", numbers)
        elif call.place:
            yield Finding("flatten", call.place, "", numbers)

    def _order(self, place: Span | None, module: nn.Module | None = None) -> Iterator[Finding]:
        """Move or drop the flattening before something that needs images."""
        above = self._watch.stack[-2].module if len(self._watch.stack) > 1 else None
        if module is not None and isinstance(above, nn.Sequential):
            for layer in above:
                if isinstance(layer, nn.Flatten):
                    yield Finding("unflatten", self._watch.sites[id(layer)][0])
        node = self._node(place, ast.Call) if place else None
        function = node and self._around(node, ast.FunctionDef)
        if node is None or function is None:
            return
        statement = next((s for s in function.body if node in set(ast.walk(s))), None)
        if statement is not None:
            end = function.body.index(statement)
            for at in range(end - 1, -1, -1):
                flat = function.body[at]
                if isinstance(flat, ast.Assign) and self._flattens(flat.value):
                    behind = function.body[at + 1 :]
                    lines = {s.lineno for s in behind if self._needs_images(s)}
                    lines.add(statement.lineno)
                    yield Finding("order", span_of(flat), "", tuple(sorted(lines)))
        for inner in ast.walk(function):
            if isinstance(inner, ast.Call) and flattened(inner) is not None:
                yield Finding("unflatten", span_of(inner))

    def _flattens(self, value: ast.expr) -> bool:
        if not isinstance(value, ast.Call):
            return False
        return flattened(value) is not None or isinstance(self._called(value), nn.Flatten)

    def _needs_images(self, statement: ast.stmt) -> bool:
        for node in ast.walk(statement):
            if not isinstance(node, ast.Call):
                continue
            module = self._called(node)
            if module is not None and any(isinstance(m, _SPATIAL) for m in module.modules()):
                return True
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if module is None and (name.endswith("2d") or name == "interpolate"):
                return True
        return False

    def _called(self, call: ast.Call) -> nn.Module | None:
        """Return the network's own layer that an expression calls, or None."""
        function = call.func
        if (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == "self"
        ):
            found = getattr(self._model, function.attr, None)
            return found if isinstance(found, nn.Module) else None
        return None

    def _views(self) -> Iterator[Finding]:
        """Correct views that let the number of images follow from that of the features."""
        calls = [n for n in ast.walk(self._tree) if isinstance(n, ast.Call)]
        for call in sorted(calls, key=span_of):
            views = isinstance(call.func, ast.Attribute) and call.func.attr in ("view", "reshape")
            if views and len(call.args) == 2 and ast.unparse(call.args[0]) == "-1":
                yield Finding("view", span_of(call))

    def _tuple(self) -> Iterator[Finding]:
        """Take the first of the tuple that the last such layer gave."""
        for place in self._watch.tuples[-1:]:
            yield Finding("first", place)

    def _drop(self, place: Span) -> Iterator[Finding]:
        """Drop a call that cannot be made, where nothing else helps."""
        call = self._node(place, ast.Call)
        if call is None or not isinstance(call.func, ast.Attribute):
            return
        owner = call.func.value
        plain = isinstance(owner, ast.Name) and owner.id in ("self", "torch", "F", "nn")
        yield Finding("drop", place, "", () if plain else (1,))

    def _arguments(self, place: Span) -> Iterator[Finding]:
        """Rename or drop arguments that a layer of torch does not take."""
        call = self._node(place, ast.Call)
        path = dotted(call.func, imports(self._tree.body)) if call else None
        kind = getattr(nn, (path or "").rpartition(".")[2], None)
        if not isinstance(kind, type) or not isinstance(self._error, TypeError):
            return
        known = list(inspect.signature(kind).parameters)
        by_place = known[: len(call.args)]
        for number, keyword in enumerate(call.keywords):
            if keyword.arg in by_place:
                yield Finding("twice", place, "", (by_place.index(keyword.arg),))
            elif keyword.arg is not None and keyword.arg not in known:
                free = [n for n in known[len(call.args) :] if _side(n) == _side(keyword.arg) != ""]
                yield Finding("keyword", place, free[0] if free else "", (number,))

    def _attribute(self, error: AttributeError, place: Span | None) -> Iterator[Finding]:
        """Rename an attribute that only a layer of another kind has."""
        twin = _TWINS.get(error.name or "", "")
        if place is not None and isinstance(error.obj, nn.Module) and hasattr(error.obj, twin):
            yield Finding("attribute", place, twin)

    # --- the output -------------------------------------------------------------------------

    def _misses(self) -> Iterator[Finding]:
        """Lead an output that is not (N, classes) to the classes."""
        out = self._output
        if isinstance(out, tuple):
            yield from self._tuple()
        if not isinstance(out, Tensor):
            return
        if out.dim() < 2:
            yield from self._mixed()
            return
        if out.shape[0] != IMAGES:
            yield from self._views()
            yield from self._mixed()
            return
        owner = network_class(self._tree)
        if owner is None:
            return
        features, how = math.prod(out.shape[1:]), 0 if out.dim() == 2 else 1
        if out.dim() == 4 and features > MOST_FLAT:
            features, how = out.shape[1], 2
        assert self._model is not None
        for name, layer in self._model.named_children():
            forgotten = isinstance(layer, nn.Linear) and id(layer) not in self._watch.called
            if forgotten and layer.out_features == self._classes:
                yield Finding("declared", span_of(owner), name, (1, 1, how))
        if features:
            yield Finding("projection", span_of(owner), "", (features, self._classes, how))

    def _mixed(self) -> Iterator[Finding]:
        """Drop what may have lost the batch on the way out."""
        owner = network_class(self._tree)
        for node in ast.walk(owner) if owner else ():
            if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "0":
                yield Finding("drop", span_of(node))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                mixes = node.func.attr in ("reshape", "view", "squeeze", "mean", "sum")
                if mixes:
                    yield Finding("drop", span_of(node), "", (1,))

    # --- where --------------------------------------------------------------------------------

    def _place_of_error(self) -> Span | None:
        """Return the innermost expression of the source that the exception passed through."""
        trace = self._error.__traceback__ if self._error else None
        place = None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == build.SOURCE_NAME:
                place = position(trace.tb_frame.f_code, trace.tb_lasti)
            trace = trace.tb_next
        return place

    def _node(self, span: Span, kind: type[ast.AST]) -> Any:
        """Return the node of a kind that fills a span, or None."""
        with contextlib.suppress(NotApplicableError):
            return self._text.node(span, kind)
        return None

    def _around(self, node: ast.AST, kind: type[ast.AST]) -> Any:
        """Return the innermost node of a kind that contains another, or None."""
        with contextlib.suppress(NotApplicableError):
            return self._text.above(node, kind)
        return None

"""Find what running a network shows to be wrong: sizes, flattening, the way to the classes.

For a contained child only: this runs the source, on the meta device, where nothing is
computed. The network is built and run again after every change, until it maps images to
classes or nothing is found any more.
"""

from __future__ import annotations

import ast
import inspect
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...source.network import dotted, imports, network_class
from ...source.nodes import walk
from .. import build
from ..building import Building, OverBudget
from ..layers import Running
from . import MOST_FINDINGS
from .rules import SIZES, Finding, argument, first_change, flattened
from .spans import Span, is_own, span_of, text_of
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
_ALONG_SEQUENCES = (
    nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool1d,
)  # fmt: skip
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_SIZED: tuple[tuple[Any, str, int, int, float], ...] = (
    (nn.Linear, "in_features", -1, 1, 3),
    (_CONVOLUTIONS, "in_channels", 1, 3, math.inf),
    (nn.modules.batchnorm._NormBase, "num_features", 1, 2, math.inf),
    (nn.GroupNorm, "num_channels", 1, 2, math.inf),
    (nn.LayerNorm, "normalized_shape", -1, 1, math.inf),
    (nn.RNNBase, "input_size", -1, 2, 3),
)
"""Layers, the argument that is the size of a dimension of their input, which dimension that is,
and the fewest and most dimensions of such an input."""
_TWINS = {"out_features": "out_channels", "in_features": "in_channels"}
_TWINS |= {other: one for one, other in _TWINS.items()}
"""Attributes that linear layers and convolutions have by different names."""


def find(source: str, *, input_shape: tuple[int, ...], classes: int) -> list[Finding]:
    """Return what to change, in order, so that a network maps (N, \\*input_shape) to (N, classes).

    Empty where nothing is wrong or what is wrong is beyond the rules.
    """
    found: list[Finding] = []
    seen = {source}
    with warnings.catch_warnings(action="ignore"), Watch() as watch:
        for _ in range(MOST_FINDINGS):
            trial = _Trial(source, input_shape, classes, watch.afresh())
            if trial.fits():
                return found
            may_drop = sum(finding.rule == "drop" for finding in found) < MOST_DROPPED
            findings = (f for f in trial.findings() if may_drop or f.rule != "drop")
            if (change := first_change(source, findings, seen)) is None:
                return []
            finding, source, _ = change
            found.append(finding)
            seen.add(source)
    return []


class _Trial:
    """One build and one pass, and what can be learned from how they went."""

    def __init__(
        self, source: str, input_shape: tuple[int, ...], classes: int, watch: Watch
    ) -> None:
        self._text = text_of(source)
        self._classes = classes
        self._has_sequences = len(input_shape) == 2
        self._spatial = _ALONG_SEQUENCES if self._has_sequences else _SPATIAL
        self._watch = watch
        self._model: nn.Module | None = None
        self._error: BaseException | None = None
        self._output: Any = None
        try:
            with torch.no_grad():
                with torch.device("meta"), Building(math.inf):
                    self._model = build.construct(source)
                self._model.eval()
                images = torch.empty((IMAGES, *input_shape), device="meta")
                with Running(meta=True):
                    self._output = self._model(images)
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
        if place is None:
            return
        if isinstance(self._error, AttributeError):
            yield from self._attribute(self._error, place)
        if self._model is None:
            yield from self._arguments(place)
            return
        call = self._watch.stack[-1] if self._watch.stack else None
        if call is not None and is_torch(call.module) and not isinstance(call.module, _CONTAINERS):
            yield from self._layer(call)
        else:
            node = self._text.node(place, ast.Call)
            if flattened(node) is not None:
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
        if isinstance(module, nn.Linear) and (x.dim() > 3 or self._is_map(x)):
            yield from self._flatten(module, x, call.place)
        elif isinstance(module, self._spatial) and x.dim() == 2:
            yield from self._order(call.place, self._chain())
        elif not isinstance(module, nn.LayerNorm) or len(module.normalized_shape) == 1:
            for kind, name, dimension, fewest, most in _SIZED:
                if isinstance(module, kind) and fewest <= x.dim() <= most:
                    yield from self._size(module, name, x.shape[dimension])

    def _is_map(self, x: Tensor) -> bool:
        """Return whether (N, C, L) are channels of a sequence, not what attention or a recurrent
        layer made of its steps."""
        ran = (m for m in self._watch.kept if id(m) in self._watch.called)
        by_step = any(isinstance(m, (nn.RNNBase, nn.MultiheadAttention)) for m in ran)
        return self._has_sequences and x.dim() == 3 and not by_step

    def _size(self, module: nn.Module, name: str, size: int) -> Iterator[Finding]:
        """Correct a layer's input size where it is written down for this layer alone."""
        sites = self._watch.sites.get(id(module), [])
        shared = sum(places[:1] == sites[:1] for places in self._watch.sites.values()) > 1
        parameter, place = name, SIZES[name]
        for level, site in enumerate(sites):
            node = self._text.node(site, ast.Call)
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
        function = self._text.above(given, ast.FunctionDef)
        if isinstance(given, ast.Name) and function is not None:
            names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
            if given.id in names[1:]:
                return given.id, names.index(given.id) - 1
        return "", -1

    def _flatten(self, module: nn.Linear, x: Tensor, place: Span | None) -> Iterator[Finding]:
        """Flatten the images that a linear layer gets."""
        fits_pooled = module.in_features == x.shape[1] >= FEW_CHANNELS
        too_large = math.prod(x.shape[1:]) * module.out_features > MOST_WEIGHTS
        numbers = (1,) if x.dim() == 4 and (fits_pooled or too_large) else ()
        chain = self._chain()
        if chain is not None and next(iter(chain), None) is not module:
            for site in self._watch.sites.get(id(module), [])[:1]:
                yield Finding("flatten layer", site, "", numbers)
        elif place:
            yield Finding("flatten", place, "", numbers)

    def _chain(self) -> nn.Sequential | None:
        """Return the nn.Sequential that called the layer which failed, or None."""
        above = self._watch.stack[-2].module if len(self._watch.stack) > 1 else None
        return above if isinstance(above, nn.Sequential) else None

    def _order(self, place: Span | None, chain: nn.Sequential | None = None) -> Iterator[Finding]:
        """Move or drop the flattening before something that needs images."""
        for layer in chain or ():
            if isinstance(layer, nn.Flatten):
                yield Finding("unflatten", self._watch.sites[id(layer)][0])
        node = self._text.node(place, ast.Call)
        function = node and self._text.above(node, ast.FunctionDef)
        if function is None:
            return
        body: list[ast.stmt] = function.body
        end = next((i for i, s in enumerate(body) if node in walk(s)), 0)
        for at in reversed(range(end)):
            flat = body[at]
            if isinstance(flat, ast.Assign) and self._flattens(flat.value):
                behind = filter(self._needs_images, body[at + 1 :])
                lines = {body[end].lineno, *(s.lineno for s in behind)}
                yield Finding("order", span_of(flat), "", tuple(sorted(lines)))
        for inner in walk(function):
            if flattened(inner) is not None:
                yield Finding("unflatten", span_of(inner))

    def _flattens(self, value: ast.expr) -> bool:
        return flattened(value) is not None or isinstance(self._called(value), nn.Flatten)

    def _needs_images(self, statement: ast.stmt) -> bool:
        """Return whether a statement calls a layer, or a function, for images or sequences."""
        for node in walk(statement):
            module = self._called(node)
            if module is not None and any(isinstance(m, self._spatial) for m in module.modules()):
                return True
            match node:
                case ast.Call(ast.Attribute(attr=name)) if module is None:
                    dimensions = "1d" if self._has_sequences else "2d"
                    if name.endswith(dimensions) or name == "interpolate":
                        return True
        return False

    def _called(self, node: ast.AST) -> nn.Module | None:
        """Return the network's own layer that an expression calls, or None."""
        if isinstance(node, ast.Call) and is_own(node.func):
            found = getattr(self._model, node.func.attr, None)
            return found if isinstance(found, nn.Module) else None
        return None

    def _views(self) -> Iterator[Finding]:
        """Correct views that let the number of images follow from that of the features."""
        spans = []
        for node in walk(self._text.tree):
            match node:
                case ast.Call(ast.Attribute(attr="view" | "reshape"), [first, _]):
                    if ast.unparse(first) == "-1":
                        spans.append(span_of(node))
        yield from (Finding("view", span) for span in sorted(spans))

    def _tuple(self) -> Iterator[Finding]:
        """Take the first of the tuple that the last such layer gave."""
        for place in self._watch.tuples[-1:]:
            yield Finding("first", place)

    def _drop(self, place: Span) -> Iterator[Finding]:
        """Drop a call that cannot be made, where nothing else helps."""
        match self._text.node(place, ast.Call):
            case ast.Call(ast.Attribute(ast.Name("self" | "torch" | "F" | "nn"))):
                yield Finding("drop", place)
            case ast.Call(ast.Attribute()):
                yield Finding("drop", place, "", (1,))

    def _arguments(self, place: Span) -> Iterator[Finding]:
        """Rename or drop arguments that a layer of torch does not take."""
        call = self._text.node(place, ast.Call)
        path = dotted(call.func, imports(self._text.tree.body)) if call else None
        kind = getattr(nn, (path or "").rpartition(".")[2], None)
        if not isinstance(kind, type) or not isinstance(self._error, TypeError):
            return
        known = list(inspect.signature(kind).parameters)
        by_place, by_name = known[: len(call.args)], known[len(call.args) :]
        for number, keyword in enumerate(call.keywords):
            if keyword.arg in by_place:
                yield Finding("twice", place, "", (by_place.index(keyword.arg),))
            elif keyword.arg is not None and keyword.arg not in known:
                side = keyword.arg[:3]  # of input or output
                free = [n for n in by_name if side in ("in_", "out") and n.startswith(side)]
                yield Finding("keyword", place, free[0] if free else "", (number,))

    def _attribute(self, error: AttributeError, place: Span) -> Iterator[Finding]:
        """Rename an attribute that only a layer of another kind has."""
        twin = _TWINS.get(error.name or "", "")
        if isinstance(error.obj, nn.Module) and hasattr(error.obj, twin):
            yield Finding("attribute", place, twin)

    # --- the output -------------------------------------------------------------------------

    def _misses(self) -> Iterator[Finding]:
        """Lead an output that is not (N, classes) to the classes."""
        out = self._output
        if isinstance(out, tuple):
            yield from self._tuple()
        if not isinstance(out, Tensor):
            return
        if out.dim() < 2 or out.shape[0] != IMAGES:
            if out.dim() >= 2:
                yield from self._views()
            yield from self._mixed()
            return
        owner = network_class(self._text.tree)
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
        owner = network_class(self._text.tree)
        for node in walk(owner) if owner else ():
            match node:
                case ast.Subscript(_, index) if ast.unparse(index) == "0":
                    yield Finding("drop", span_of(node))
                case ast.Call(ast.Attribute(attr="reshape" | "view" | "squeeze" | "mean" | "sum")):
                    yield Finding("drop", span_of(node), "", (1,))

    def _place_of_error(self) -> Span | None:
        """Return the innermost expression of the source that the exception passed through."""
        trace = self._error.__traceback__ if self._error else None
        place = None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == build.SOURCE_NAME:
                place = position(trace.tb_frame.f_code, trace.tb_lasti)
            trace = trace.tb_next
        return place

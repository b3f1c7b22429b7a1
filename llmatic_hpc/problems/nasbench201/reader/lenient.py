"""Running a source that is not quite a program: what cannot be is made what was meant, or left
out, and every such change is noted. The rules are told in :mod:`.repair`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..cells import CONV1, CONV3, NONE, OPERATIONS, POOL, SKIP
from ..write import SPELLINGS
from .expressions import Frame
from .parse import Lines
from .statements import RUN_ON, Interpreter
from .values import (
    REQUIRED,
    Absent,
    Chain,
    Channels,
    Class,
    Exhausted,
    Function,
    Instance,
    Layer,
    NotACell,
    Tensor,
    Torch,
    Value,
)

_CHANNELS = re.compile(
    r"c|ch|dims?|width|planes|filters|features|.*(channel|_ch|plane|feature).*|c_\w+"
)
_ONE = re.compile(r"(?<![0-9])1x|x1(?![0-9])|1_1|pointwise")
_MISSING = {"kernel_size": 3}

_MODULES = (Layer, Chain, Instance)


def meaning(name: str) -> int | None:
    """The operation that a name says plainly; None where it says none."""
    name = name.lower()
    if name in OPERATIONS:
        return OPERATIONS.index(name)
    if "conv" in name:
        return CONV1 if _ONE.search(name) else CONV3
    if "pool" in name or re.search(r"(^|_)avg", name):
        return POOL
    if re.search(r"skip|identity|residual|shortcut", name):
        return SKIP
    if re.match(r"(zeros?|none)(_|$|\d)", name):
        return NONE
    return None


def meant(layer: Layer) -> int | None:
    """The operation that a layer of any kind comes closest to; None: it is none by itself."""
    match layer.kind:
        case "operation":
            return int(layer.arguments["operation"])
        case "conv":
            return CONV1 if layer.arguments["kernel_size"] in (1, (1, 1), [1, 1]) else CONV3
        case "pool":
            return POOL
        case "zero":
            return NONE
        case "identity":
            return SKIP
        case "relu" | "bn":
            return None
    name = layer.text.partition("(")[0].lower()
    if "conv" in name:
        kernel = re.search(r"kernel_size\s*=\s*\(?(\d+)", layer.text) or re.match(
            r"\w+\([^,=]*,[^,=]*,\s*\(?(\d+)", layer.text
        )
        return CONV1 if kernel and int(kernel[1]) == 1 else CONV3
    return POOL if "pool" in name else None


@dataclass(frozen=True)
class Note:
    """One thing that was not as it should be."""

    rule: str
    line: int
    after: str
    before: str = ""
    """What of the line is meant; empty: all of it."""


class Lenient(Interpreter):
    """Like :class:`Interpreter`, but goes on where that one gives up."""

    def __init__(self, tree: ast.Module, lines: Lines) -> None:
        super().__init__(tree, lines)
        self.notes: list[Note] = []
        self.loose: list[Value] = []
        """Modules that were added to a node and applied to nothing."""
        self.applied: dict[int, Value] = {}
        """The modules that ``forward`` applied, by identity."""
        self._last: Tensor | None = None

    def note(self, rule: str, after: str = "", line: int = 0) -> None:
        """Put on the record what a rule made of a line."""
        self.notes.append(Note(rule, line or self.line, after))

    def forward(self, instance: Instance) -> Value:
        """As far as it can be followed: without a result, what was computed last."""
        try:
            found = super().forward(instance)
        except Exhausted:
            raise
        except NotACell:
            found = None
        return found if isinstance(found, Tensor) else self._last

    # --- statements and terms --------------------------------------------------------------------

    def statement(self, node: ast.stmt, frame: Frame) -> Value:
        """A statement that cannot be understood is left out; a variable keeps what it was."""
        try:
            return super().statement(node, frame)
        except Exhausted:
            raise
        except NotACell:
            self.note("left out", line=node.lineno)
        for target in node.targets if isinstance(node, ast.Assign) else []:
            if isinstance(target, ast.Name):
                frame.names.setdefault(target.id, Absent())
        return RUN_ON

    def assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        if isinstance(target, ast.Name) and isinstance(value, Absent):
            frame.names.setdefault(target.id, value)
            return
        super().assign(target, value, frame)
        if frame.main and isinstance(value, Tensor):
            self._last = value

    def operand(self, node: ast.expr, frame: Frame) -> Value:
        try:
            return super().operand(node, frame)
        except Exhausted:
            raise
        except NotACell:
            self.notes.append(Note("left out", node.lineno, "", self.lines.text(node)))
            return Absent()

    def binary(self, op: ast.operator, left: Value, right: Value) -> Value:
        if isinstance(left, Absent) or isinstance(right, Absent):
            return right if isinstance(left, Absent) else left
        if isinstance(left, Tensor) and isinstance(right, Tensor) and isinstance(op, ast.Sub):
            self.note("sum", "+")
            return self.add(left, right)
        return super().binary(op, left, right)

    def add(self, left: Value, right: Value) -> Value:
        if isinstance(left, Absent) or isinstance(right, Absent):
            return right if isinstance(left, Absent) else left
        try:
            return super().add(left, right)
        except NotACell:
            node, other = (left, right) if isinstance(left, Tensor) else (right, left)
            if isinstance(other, _MODULES):
                self.loose.append(other)
            else:
                self.note("left out")
            return node

    def multiply(self, left: Value, right: Value) -> Value:
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            self.note("sum", "+")
            return self.add(left, right)
        try:
            return super().multiply(left, right)
        except NotACell:
            self.note("left out")
            return left if isinstance(left, Tensor) else right

    # --- names -----------------------------------------------------------------------------------

    def name(self, name: str, frame: Frame) -> Value:
        try:
            return super().name(name, frame)
        except NotACell:
            if frame.owner is not None and name in frame.owner.attributes:
                self.note("self", f"self.{name}")
                return frame.owner.attributes[name]
            if (found := meaning(name)) is not None:
                return self._made(found, name)
            if self.where == "__init__" and _CHANNELS.fullmatch(name.lower()):
                self.note("name", "channels")
                return Channels()
            raise

    def attribute(self, owner: Value, name: str) -> Value:
        try:
            return super().attribute(owner, name)
        except NotACell:
            if isinstance(owner, Instance):
                found = self.globals.get(name)
                if isinstance(found, Function | Class):
                    self.note("self", name)
                    return found
            if isinstance(owner, Instance | Torch) and (says := meaning(name)) is not None:
                return self._made(says, name)
            raise

    def _made(self, operation: int, name: str) -> Layer:
        spelling = SPELLINGS[operation]
        if spelling.startswith(f"{name}("):
            self.note("helper", f"with the helper {name}")
        else:
            self.note("name", spelling)
        return Layer("operation", spelling, self.line, {"operation": operation})

    # --- calls -----------------------------------------------------------------------------------

    def call(
        self, function: Value, args: list[Value], options: Mapping[str, Value], node: ast.Call
    ) -> Value:
        values = [*args, *options.values()]
        images = [v for v in values if isinstance(v, Tensor | Absent)]
        if isinstance(function, str) and (says := meaning(function)) is not None:
            function = self._made(says, function)
        if isinstance(function, Layer | Chain) and not images:
            return function  # a helper of which no more than its name is known
        if any(isinstance(v, Absent) for v in images):
            return next((v for v in images if isinstance(v, Tensor)), Absent())
        if isinstance(function, _MODULES) and len(values) > 1:
            self.note("arguments", "one argument")
            return super().call(function, images[:1], {}, node)
        if isinstance(function, Class) or _is_module(function):
            if images:
                self.note("instance", f"{self.lines.text(node.func)}()(...)")
                return super().call(super().call(function, [], {}, node), images[:1], {}, node)
        elif isinstance(function, Torch) and function.name in ("cat", "concat", "concatenate"):
            parts = args[0] if args and isinstance(args[0], list | tuple) else []
            if any(isinstance(part, Tensor) for part in parts):
                self.note("sum", "+")
                total: Value = Absent()
                for part in parts:
                    total = self.add(total, part)
                return total
        elif isinstance(function, Function) and function.owner is None and len(images) == 1:
            module = self._helper(function, args, options, node)
            if module is not None:
                self.note("instance", f"{self.lines.text(node.func)}(channels)(...)")
                return self.apply(module, images[0], node)
        return super().call(function, args, options, node)

    def _helper(
        self, function: Function, args: list[Value], options: Mapping[str, Value], node: ast.Call
    ) -> Value:
        """The module that a helper makes when it is called with channels, not with a node."""
        before = len(self.notes)
        told = [Channels() if isinstance(a, Tensor) else a for a in args]
        named = {k: Channels() if isinstance(v, Tensor) else v for k, v in options.items()}
        try:
            made = super().call(function, told, named, node)
        except Exhausted:
            raise
        except NotACell:
            made = None
        if isinstance(made, _MODULES):
            return made
        del self.notes[before:]
        return None

    def apply(self, module: Value, x: Value, node: ast.AST) -> Value:
        if self.where == "forward":
            self.applied[id(module)] = module
        return x if isinstance(x, Absent) else super().apply(module, x, node)

    def bind(
        self, function: Function, given: list[Value], options: dict[str, Value], frame: Frame
    ) -> None:
        """What is missing is the number of channels, what is too much goes."""
        parameters = function.node.args
        plain = [p.arg for p in (*parameters.posonlyargs, *parameters.args)]
        known = {*plain, *(p.arg for p in parameters.kwonlyargs)}
        kept = given if parameters.vararg else given[: len(plain)]
        named = {
            k: v
            for k, v in options.items()
            if k not in plain[: len(kept)] and (k in known or parameters.kwarg)
        }
        wanted = plain[len(kept) : len(plain) - len(parameters.defaults)]
        missing = [name for name in wanted if name not in named]
        if len(kept) + len(named) < len(given) + len(options) or missing:
            self.note(
                "arguments", f"{getattr(function.node, 'name', 'lambda')}({', '.join(wanted)})"
            )
        named |= dict.fromkeys(missing, Channels())
        super().bind(function, kept, named, frame)

    def bound(
        self,
        name: str,
        signature: Mapping[str, Value],
        args: list[Value],
        options: Mapping[str, Value],
    ) -> dict[str, Value]:
        names = list(signature)
        kept = args[: len(names)]
        named = {k: v for k, v in options.items() if k in names[len(kept) :]}
        missing = {
            key: _MISSING.get(key, Channels())
            for key, default in signature.items()
            if default is REQUIRED and key not in named and key not in names[: len(kept)]
        }
        if missing or len(kept) + len(named) < len(args) + len(options):
            self.note("arguments", f"{name}({', '.join(k for k in signature if k in missing)})")
        return super().bound(name, signature, kept, {**named, **missing})


def _is_module(function: Value) -> bool:
    return (
        isinstance(function, Torch)
        and function.path.startswith("torch.nn.")
        and function.name[:1].isupper()
    )

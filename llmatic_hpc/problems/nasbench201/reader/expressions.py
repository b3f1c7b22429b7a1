"""Expressions, symbolically: what :mod:`.statements` needs to know of values."""

from __future__ import annotations

import ast
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import calls
from .parse import Lines
from .values import (
    LARGEST,
    Builtin,
    Chain,
    Channels,
    Class,
    Exhausted,
    Function,
    Instance,
    Layer,
    Method,
    NotACell,
    Opaque,
    Stack,
    Super,
    Tensor,
    Torch,
    Value,
    bind,
    show,
)

MAX_STEPS = 20_000
"""Expressions and statements that are looked at; a canonical source takes about 200."""

MAX_DEPTH = 90
"""Of expressions within expressions, calls included."""

MAX_LENGTH = 256
"""Of a list or a text that a program makes."""

_STANDARD = {
    "torch": Torch("torch"),
    "nn": Torch("torch.nn"),
    "F": Torch("torch.nn.functional"),
}
"""The imports that every candidate gets."""

_BUILTINS = (
    *("range", "len", "sum", "list", "tuple", "dict", "zip", "enumerate", "reversed", "super"),
    *("str", "int", "print", "getattr", "setattr", "hasattr"),
)

_COMPARE: dict[type[ast.cmpop], Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}

_ARITHMETIC: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


@dataclass
class Broken:
    """What a name at the top level is bound to that could not be understood."""

    reason: str


@dataclass
class Frame:
    """The names that a piece of code sees; its own hide those of the scopes around it."""

    names: dict[str, Value]
    outer: Mapping[str, Value] = field(default_factory=dict)
    owner: Instance | None = None
    home: Class | None = None
    main: bool = False
    """Whether it is the network's own ``forward``."""


class Evaluator(ABC):
    """Of the expressions of one source; what statements do is left to who derives from it."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.where = "the source"
        """Method of the network that is being run."""
        self.line = 0
        self.tensors: list[Tensor] = []
        self.globals: dict[str, Value] = {n: Builtin(n) for n in _BUILTINS} | _STANDARD
        self._steps = 0
        self._depth = 0

    @abstractmethod
    def enter(
        self,
        function: Function,
        args: Sequence[Value],
        options: Mapping[str, Value],
        *,
        main: bool = False,
    ) -> Value:
        """What a function of the source returns."""

    @abstractmethod
    def instantiate(
        self, kind: Class, args: Sequence[Value], options: Mapping[str, Value], node: ast.AST
    ) -> Value:
        """An object of a class of the source."""

    @abstractmethod
    def initialise(
        self, instance: Instance, args: list[Value], options: dict[str, Value], node: ast.AST
    ) -> None:
        """The constructor of the class of torch that an instance's class derives from."""

    @abstractmethod
    def assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        """``target = value``."""

    def call(
        self, function: Value, args: list[Value], options: Mapping[str, Value], node: ast.Call
    ) -> Value:
        """``function(*args, **options)``."""
        return calls.call(self, function, args, options, node)

    def bound(
        self,
        name: str,
        signature: Mapping[str, Value],
        args: list[Value],
        options: Mapping[str, Value],
    ) -> dict[str, Value]:
        """The arguments of a layer of torch by name."""
        try:
            return bind(signature, args, options)
        except NotACell as error:
            return dict(self.refuse(f"{name} {error}"))

    # --- tensors ---------------------------------------------------------------------------------

    def tensor(self, layer: Layer | None = None, *origins: Tensor) -> Tensor:
        """A new place in the graph."""
        self.tensors.append(Tensor(len(self.tensors), self.line, layer, origins))
        return self.tensors[-1]

    def apply(self, module: Value, x: Value, node: ast.AST) -> Value:
        """``module(x)``."""
        self.step()
        with self.deeper():
            if not isinstance(x, Tensor):
                self.refuse(f"calls a layer with {show(x)}")
            if isinstance(module, Layer):
                return self.tensor(module, x)
            if isinstance(module, Instance):
                forward = module.kind.find("forward")
                if isinstance(forward, Function):
                    made = self.enter(
                        Function(forward.node, forward.names, module, forward.home), [x], {}
                    )
                elif module.chain is not None:
                    made = self.apply(module.chain, x, node)
                else:
                    self.refuse(f"class {module.kind.node.name} has no forward method")
            elif isinstance(module, Chain):
                made = x
                for part in module.modules:
                    if not (isinstance(part, Layer) and part.kind == "identity"):
                        made = self.apply(part, made, node)
            else:
                self.refuse(f"calls {show(module)}")
            return self.tensor(Layer("identity", "Identity()"), x) if made is x else made

    def add(self, left: Value, right: Value) -> Value:
        """``left + right`` where one of them is a tensor."""
        for one, other in ((left, right), (right, left)):
            if isinstance(one, int | float) and one == 0:
                return other
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            return self.tensor(None, left, right)
        other = right if isinstance(left, Tensor) else left
        return self.refuse(f"adds {show(other)} to a node")

    def multiply(self, left: Value, right: Value) -> Value:
        """``left * right`` where one of them is a tensor."""
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            return self.refuse("multiplies two nodes")
        x, factor = (left, right) if isinstance(left, Tensor) else (right, left)
        if isinstance(factor, int | float) and factor == 0:
            return self.tensor(Layer("zero", "0"), x)
        if isinstance(factor, int | float) and factor == 1:
            return x
        return self.refuse(f"multiplies a node by {show(factor)}")

    def refuse(self, reason: str) -> Value:
        """Raises :class:`NotACell` with the method that is being run."""
        raise NotACell(f"{self.where}: {reason}")

    # --- expressions -----------------------------------------------------------------------------

    def value(self, node: ast.expr, frame: Frame) -> Value:
        """What an expression is."""
        self.step()
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise Exhausted("nested too deeply")
            return self._value(node, frame)
        finally:
            self._depth -= 1

    def _value(self, node: ast.expr, frame: Frame) -> Value:
        match node:
            case ast.Constant(value=constant):
                return constant
            case ast.Name(id=name):
                return self.name(name, frame)
            case ast.Attribute():
                return self.attribute(self.value(node.value, frame), node.attr)
            case ast.Call():
                return self._call(node, frame)
            case ast.BinOp():
                left, right = self.operand(node.left, frame), self.operand(node.right, frame)
                return self.binary(node.op, left, right)
            case ast.List() | ast.Tuple():
                parts = self._parts(node.elts, frame)
                return parts if isinstance(node, ast.List) else tuple(parts)
            case ast.Dict():
                if None in node.keys:
                    return self.refuse("a dictionary within a dictionary is not understood")
                keys = [calls.key(self, self.value(k, frame)) for k in node.keys if k]
                return dict(zip(keys, [self.value(v, frame) for v in node.values], strict=True))
            case ast.Subscript():
                owner = self.value(node.value, frame)
                return calls.item(self, owner, node.slice, frame)
            case ast.IfExp():
                chosen = node.body if self.truth(node.test, frame) else node.orelse
                return self.value(chosen, frame)
            case ast.Compare() | ast.BoolOp():
                return self.truth(node, frame)
            case ast.UnaryOp():
                return self._unary(node, frame)
            case ast.ListComp() | ast.GeneratorExp():
                return self._comprehension(node.generators, node.elt, frame)
            case ast.DictComp():
                pair = ast.Tuple([node.key, node.value], ast.Load())
                pairs = self._comprehension(node.generators, pair, frame)
                return {calls.key(self, k): v for k, v in pairs}
            case ast.Lambda():
                return Function(node, {**frame.outer, **frame.names})
            case ast.JoinedStr():
                return self._formatted(node, frame)
        return self.refuse(f"{self.lines.text(node)} is not understood")

    def operand(self, node: ast.expr, frame: Frame) -> Value:
        """What one side of an operation is, an argument, or a part of a list."""
        return self.value(node, frame)

    def name(self, name: str, frame: Frame) -> Value:
        for names in (frame.names, frame.outer, self.globals):
            if name in names:
                found = names[name]
                if isinstance(found, Broken):
                    raise NotACell(found.reason)
                return found
        return self.refuse(f"{name} is not defined")

    def attribute(self, owner: Value, name: str) -> Value:
        match owner:
            case Torch(path=path):
                return Torch(f"{path}.{name}")
            case Instance():
                if name in owner.attributes:
                    return owner.attributes[name]
                found = owner.kind.find(name)
                if isinstance(found, Function) and found.home is not None:
                    return Function(found.node, found.names, owner, found.home)
                if found is not None:
                    return found
                if name in ("append", "add_module", "register_module", "children", "modules"):
                    return Method(owner, name)
                return self.refuse(f"self.{name} is not defined")
            case Tensor() if name in ("shape", "device", "dtype", "data"):
                return owner if name == "data" else Opaque(name, owner)
            case Super() | Tensor() | Stack() | list() | dict() | str() | Chain() | Opaque():
                return Method(owner, name)
            case Layer() if name in ("weight", "bias"):
                return Opaque(name)
        return self.refuse(f"{show(owner)} has no attribute {name}")

    def _call(self, node: ast.Call, frame: Frame) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "super":
            if frame.owner is None or frame.home is None:
                return self.refuse("super() outside of a method")
            return Super(frame.owner, frame.home)
        function = self.value(node.func, frame)
        args = self._parts(node.args, frame)
        options: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, frame)
            if keyword.arg is not None:
                options[keyword.arg] = value
            elif isinstance(value, dict) and all(isinstance(k, str) for k in value):
                options |= value
            else:
                return self.refuse(f"{self.lines.text(node)} is not understood")
        before = len(self.tensors)
        made = self.call(function, args, options, node)
        if isinstance(made, Tensor) and made.number >= before and not made.label:
            made.label = self._label(node.func, frame)
        return made

    def _label(self, function: ast.expr, frame: Frame) -> str:
        """What a module is called that is called: its attribute, its variable, or its key."""
        if isinstance(function, ast.Attribute):
            return function.attr if isinstance(function.value, ast.Name) else ""
        if isinstance(function, ast.Name):
            return function.id
        if isinstance(function, ast.Subscript):
            key = self.value(function.slice, frame)
            return key if isinstance(key, str) else ""
        return ""

    def _parts(self, nodes: Sequence[ast.expr], frame: Frame) -> list[Value]:
        parts: list[Value] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                parts += self.items(self.value(node.value, frame))
            else:
                parts.append(self.operand(node, frame))
        return parts

    def items(self, value: Value) -> list[Value]:
        """What a loop over ``value`` sees."""
        match value:
            case list() | tuple() | range():
                found = list(value[: MAX_LENGTH + 1])
            case dict() | str():
                found = list(value)
            case Chain():
                found = list(value.modules)
            case Instance(chain=Chain() as chain):
                found = list(chain.modules)
            case _:
                return list(self.refuse(f"goes through {show(value)}"))
        if len(found) > MAX_LENGTH:
            self.refuse("a loop that is too long")
        return found

    def binary(self, op: ast.operator, left: Value, right: Value) -> Value:
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            match op:
                case ast.Add():
                    return self.add(left, right)
                case ast.Mult():
                    return self.multiply(left, right)
            return self.refuse(f"an operation on nodes other than a sum ({type(op).__name__})")
        match left, right:
            case (Channels(), int()) | (int(), Channels()) | (Channels(), Channels()):
                return calls.scaled(self, op, left, right)
            case (int() | float(), int() | float()) if type(op) in _ARITHMETIC:
                try:
                    number = _ARITHMETIC[type(op)](left, right)
                except (ArithmeticError, ValueError):
                    return self.refuse("an arithmetic error")
                return number if abs(number) < LARGEST else self.refuse("a huge number")
            case (list(), list()) | (tuple(), tuple()) | (str(), str()) if isinstance(op, ast.Add):
                if len(left) + len(right) <= MAX_LENGTH:
                    return left + right
            case (Opaque(), _) | (_, Opaque()):
                return Opaque("a value")
        return self.refuse(f"{show(left)} and {show(right)} do not go together")

    def _unary(self, node: ast.UnaryOp, frame: Frame) -> Value:
        if isinstance(node.op, ast.Not):
            return not self.truth(node.operand, frame)
        value = self.value(node.operand, frame)
        if isinstance(value, int | float) and isinstance(node.op, ast.USub | ast.UAdd):
            return -value if isinstance(node.op, ast.USub) else value
        return self.refuse(f"{self.lines.text(node)} is not understood")

    def truth(self, node: ast.expr, frame: Frame) -> bool:
        match node:
            case ast.BoolOp(op=ast.And()):
                return all(self.truth(part, frame) for part in node.values)
            case ast.BoolOp():
                return any(self.truth(part, frame) for part in node.values)
            case ast.Compare():
                values = [self.value(part, frame) for part in (node.left, *node.comparators)]
                for op, left, right in zip(node.ops, values, values[1:], strict=False):
                    if not self._compare(op, left, right, node):
                        return False
                return True
        value = self.value(node, frame)
        if isinstance(value, Tensor | Opaque | Stack):
            self.refuse("a branch that depends on the input")
        return bool(value)

    def _compare(self, op: ast.cmpop, left: Value, right: Value, node: ast.expr) -> bool:
        if isinstance(op, ast.Is | ast.IsNot):
            return bool(_COMPARE[type(op)](left, right))
        if _is_flat(left) and _is_flat(right):
            try:
                return bool(_COMPARE[type(op)](left, right))
            except TypeError:
                pass
        return bool(self.refuse(f"{self.lines.text(node)} is not understood"))

    def _comprehension(
        self, generators: Sequence[ast.comprehension], element: ast.expr, frame: Frame
    ) -> list[Value]:
        inner = Frame(
            dict(frame.names), frame.outer, frame.owner, frame.home
        )  # what it binds stays inside
        found: list[Value] = []
        self._generate(list(generators), element, inner, found)
        return found

    def _generate(
        self,
        generators: list[ast.comprehension],
        element: ast.expr,
        frame: Frame,
        found: list[Value],
    ) -> None:
        if not generators:
            found.append(self.value(element, frame))
            if len(found) > MAX_LENGTH:
                self.refuse("a loop that is too long")
            return
        first, *rest = generators
        for item in self.items(self.value(first.iter, frame)):
            self.step()
            self.assign(first.target, item, frame)
            if all(self.truth(test, frame) for test in first.ifs):
                self._generate(rest, element, frame, found)

    def _formatted(self, node: ast.JoinedStr, frame: Frame) -> str:
        text = ""
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.value(part.value, frame)
                if part.format_spec is not None or not isinstance(value, int | str):
                    return str(self.refuse(f"{self.lines.text(node)} is not understood"))
                text += str(value)
            elif isinstance(part, ast.Constant):
                text += str(part.value)
        return text if len(text) <= MAX_LENGTH else str(self.refuse("a text that is too long"))

    # --- bounds ----------------------------------------------------------------------------------

    def step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Exhausted("does more than any cell needs")

    @contextmanager
    def deeper(self, by: int = 1) -> Iterator[None]:
        self._depth += by
        try:
            if self._depth > MAX_DEPTH:
                raise Exhausted("nested too deeply")
            yield
        finally:
            self._depth -= by


def _is_flat(value: Value) -> bool:
    """Whether comparing a value takes little time: a constant, or a collection of constants."""
    constants = (int, float, str, type(None), Channels)
    if isinstance(value, tuple | list | dict):
        return all(isinstance(part, (*constants, Tensor, Layer, Chain)) for part in value)
    return isinstance(value, constants)

"""Source text as an ordered list of layers, by following its syntax tree; nothing is executed.

The reading of :func:`~llmatic_hpc.generation.procedural.write.written` is exact. Of others' code
are followed: assignments, calls, sums, branches, loops over ranges and lists, and the functions
and classes that it defines. What is not understood leaves a tensor as it is. Steps, depth and the
lengths of lists are limited, for the text may be hostile.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...source.literals import arithmetic
from ...source.network import STANDARD_NAMES, ancestry, dotted, imports, network_class
from ...source.parse import parse
from .layers import Layer, has_weights
from .tracing import Arguments, Tensor, applied, is_number, join, layer_of, tensor_in

MAX_STEPS = 10_000
MAX_DEPTH = 24
MAX_LAYERS = 256
MAX_ITEMS = 256


def read(source: str, dimensions: int = 2) -> list[Layer] | None:
    """Return the layers that the network applies, in order; None where none can be made out.

    Maps have as many ``dimensions``: 2 of images, 1 of sequences. Failing its forward pass, they
    are the layers that its constructor makes, in order.
    """
    try:
        tree = parse(source)
        network = network_class(tree, assumed=STANDARD_NAMES, constructible=False)
        return _Reader(tree, dimensions).layers(network.name) if network else None
    except (ValueError, RecursionError, MemoryError, _TooMuchError):
        return None


class _TooMuchError(Exception):
    """More steps or deeper calls than any sensible network takes."""


# --- values -----------------------------------------------------------------------------------
# A layer stands for a module, a list of modules for a Sequential or a ModuleList, and a dictionary
# of its methods for a class; numbers, texts and lists are Python's own; None is not known.

Scope = dict[str, Any]
Methods = dict[str, ast.FunctionDef]


@dataclass(frozen=True, eq=False)
class _Object:
    """An instance of a class of the source."""

    methods: Methods
    attributes: Scope = field(default_factory=dict)


def _items(value: Any) -> list[Any]:
    return list(value[:MAX_ITEMS]) if isinstance(value, list | tuple) else []


def _first_tensor(values: Sequence[Any]) -> Tensor | None:
    return next((tensor for value in values if (tensor := tensor_in(value))), None)


def _combined(op: ast.operator, left: Any, right: Any) -> Any:
    first, second = tensor_in(left), tensor_in(right)
    if isinstance(op, ast.Add) and first and second:
        return join(first, second)
    if first or second:
        return first or second
    if is_number(left) and is_number(right):
        made = arithmetic(op, left, right)
        return made if is_number(made) else None
    if isinstance(op, ast.Add) and isinstance(left, list) and isinstance(right, list):
        return (left + right)[:MAX_ITEMS]
    if isinstance(op, ast.Mult) and isinstance(left, list) and isinstance(right, int):
        return left * min(right, MAX_ITEMS // max(1, len(left)))
    return None


def _item(whole: Any, index: Any) -> Any:
    if isinstance(whole, Tensor):
        keeps_last = index == -1 or (isinstance(index, tuple) and -1 in index)
        return whole.then("last") if keeps_last else whole
    if isinstance(whole, list | tuple) and type(index) is int and 0 <= index < len(whole):
        return whole[index]
    return None


# --- the reader -------------------------------------------------------------------------------


class _Reader:
    def __init__(self, tree: ast.Module, dimensions: int) -> None:
        self._dimensions = dimensions
        self._names = {**STANDARD_NAMES, **imports(tree.body)}
        functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self._defined: Scope = {node.name: node for node in functions}
        for node in classes.values():
            inherited = ancestry(
                node, lambda base: dotted(base, self._names), lambda _, name: classes.get(name)
            )
            if inherited:
                self._defined[node.name] = inherited.methods
        self._steps = self._depth = 0

    def layers(self, name: str) -> list[Layer] | None:
        """Return the layers of the network of that name."""
        net = self._called(self._defined[name], [], {})
        try:
            made = tensor_in(self._called(net, [self._input], {}))
        except _TooMuchError:
            made = None
        found = made.layers if made else []
        if not has_weights(found):
            self._steps = 0
            found = self._called(list(net.attributes.values()), [self._input], {}).layers
        return found[:MAX_LAYERS] or None

    @property
    def _input(self) -> Tensor:
        return Tensor(dimensions=self._dimensions)

    def _spend(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _TooMuchError

    # --- calls ------------------------------------------------------------------------------

    def _run(self, function: ast.FunctionDef, given: Sequence[Any], named: Scope) -> Any:
        if self._depth >= MAX_DEPTH:
            raise _TooMuchError
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        defaults = function.args.defaults
        optional = zip(names[len(names) - len(defaults) :], defaults, strict=True)
        scope = {name: self._value(default, {}) for name, default in optional}
        scope |= {**dict(zip(names, given, strict=False)), **named}
        self._depth += 1
        try:
            return self._block(function.body, scope)
        finally:
            self._depth -= 1

    def _called(self, called: Any, given: Sequence[Any], named: Scope) -> Any:
        """Return what something that the source made or defined gives when it is called."""
        self._spend()
        tensor = _first_tensor(given)
        match called:
            case dict():
                made = _Object(called)
                if constructor := called.get("__init__"):
                    self._run(constructor, [made, *given], named)
                return made
            case ast.FunctionDef():
                return self._run(called, given, named)
            case _Object(methods) if forward := methods.get("forward"):
                return self._run(forward, [called, *given], named)
            case list() if tensor:
                for module in called:
                    tensor = tensor_in(self._called(module, [tensor], {})) or tensor
        return tensor.then(called) if tensor and isinstance(called, Layer) else tensor

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        given: list[Any] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                given += _items(self._value(argument.value, scope))
            else:
                given.append(self._value(argument, scope))
        named = {k.arg: self._value(k.value, scope) for k in node.keywords if k.arg}
        if path := dotted(node.func, self._names):
            return self._library_call(path.rpartition(".")[2], given, named)
        match node.func:
            case ast.Attribute(owner, name):
                held = self._value(owner, scope)
                if isinstance(held, Tensor):
                    return applied(name, held, Arguments(given, named))
                if isinstance(held, _Object) and name in held.methods:
                    return self._run(held.methods[name], [held, *given], named)
                if isinstance(held, list) and name == "append" and given and len(held) < MAX_ITEMS:
                    held.append(given[0])
            case ast.Name("range") if given and all(isinstance(number, int) for number in given):
                return list(range(*given[:3])[:MAX_ITEMS])
        return self._called(self._value(node.func, scope), given, named)

    def _library_call(self, name: str, given: list[Any], named: Scope) -> Any:
        if name == "Sequential":
            return given
        if name == "ModuleList":
            return _items(given[0]) if given else []
        tensor = _first_tensor(given)
        if tensor is None:
            return layer_of(name, Arguments(given, named), self._dimensions)
        return applied(name, tensor, Arguments(given[1:], named))

    # --- statements and expressions ---------------------------------------------------------

    def _block(self, body: Sequence[ast.stmt], scope: Scope) -> Any:
        """Return what the first return among the statements gives."""
        for node in body:
            self._spend()
            match node:
                case ast.Assign([target], value) | ast.AnnAssign(target, _, ast.expr() as value):
                    self._assign(target, self._value(value, scope), scope)
                case ast.AugAssign(target, op, value):
                    before = self._value(target, scope)
                    self._assign(target, _combined(op, before, self._value(value, scope)), scope)
                case ast.Expr(value):
                    self._value(value, scope)
                case ast.Return(value):
                    return self._value(value, scope) if value else None
                case ast.If(test, body, orelse):
                    # A condition that is not known holds.
                    taken = orelse if self._value(test, scope) is False else body
                    if (made := self._block(taken, scope)) is not None:
                        return made
                case ast.For(target, iterated, body):
                    for item in _items(self._value(iterated, scope)):
                        self._assign(target, item, scope)
                        self._block(body, scope)
        return None

    def _assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        match target:
            case ast.Name(name):
                scope[name] = value
            case ast.Attribute(owner, name):
                if isinstance(instance := self._value(owner, scope), _Object):
                    instance.attributes[name] = value
            case ast.Tuple(targets):
                # Of a recurrent layer, output and state are one tensor.
                items = [value] * len(targets) if isinstance(value, Tensor) else _items(value)
                for inner, item in zip(targets, items, strict=False):
                    self._assign(inner, item, scope)

    def _value(self, node: ast.expr, scope: Scope) -> Any:
        self._spend()
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return scope.get(name, self._defined.get(name))
            case ast.Attribute(owner, name):
                held = self._value(owner, scope)
                return held.attributes.get(name) if isinstance(held, _Object) else None
            case ast.Call():
                return self._call(node, scope)
            case ast.BinOp(left, op, right):
                return _combined(op, self._value(left, scope), self._value(right, scope))
            case ast.UnaryOp(ast.USub(), operand):
                value = self._value(operand, scope)
                return -value if is_number(value) else value
            case ast.Compare(left, [ast.Eq() | ast.NotEq() as op], [right]):
                both = self._value(left, scope), self._value(right, scope)
                if all(map(is_number, both)):
                    return (both[0] == both[1]) is isinstance(op, ast.Eq)
            case ast.Tuple(elements):
                return tuple(self._value(element, scope) for element in elements)
            case ast.List(elements):
                return [self._value(element, scope) for element in elements]
            case ast.ListComp(element, [generator]):
                found = []
                for item in _items(self._value(generator.iter, scope)):
                    self._assign(generator.target, item, scope)
                    found.append(self._value(element, scope))
                return found
            case ast.Subscript(owner, index):
                return _item(self._value(owner, scope), self._value(index, scope))
        return None

"""Source text as an ordered list of layers, by interpreting its syntax tree abstractly.

Nothing is ever executed: a small part of Python is followed over values that stand for
modules and tensors - assignments, loops over lists and ranges, helper classes and functions,
Sequential and ModuleList. What it does not understand counts as leaving a tensor as it is,
so the reading of foreign code is a best effort; that of
:func:`~llmatic_hpc.generation.procedural.write.written` is exact. Steps, depth and the
sizes of values are limited, for the text may be hostile.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from ...source.literals import arithmetic
from ...source.network import STANDARD_NAMES, imports, network_class
from ...source.parse import parse
from .layers import Layer, has_weights
from .tracing import (
    UNKNOWN,
    Arguments,
    Leaf,
    Rearranged,
    Tensor,
    cat,
    function,
    is_number,
    join,
    module,
    tensor_in,
)

MAX_STEPS = 10_000
MAX_DEPTH = 24
MAX_LAYERS = 256
MAX_ITEMS = 256


def read(source: str) -> list[Layer] | None:
    """Return the layers that the network applies, in order; None where none can be made out.

    Failing its forward pass, they are those that its constructor makes, in order.
    """
    try:
        tree = parse(source)
        network = network_class(tree, assumed=STANDARD_NAMES, constructible=False)
        return _Reader(tree).layers(network.name) if network else None
    except (ValueError, RecursionError, MemoryError, _TooMuchError):
        return None


class _TooMuchError(Exception):
    """More steps or deeper calls than any sensible network takes."""


class _ReturnError(Exception):
    """A return statement on its way to the call."""

    def __init__(self, value: Any) -> None:
        self.value = value


# --- values -----------------------------------------------------------------------------------
# Numbers, texts, lists and callables are Python's own; nothing here runs code of the source.

Scope = dict[str, Any]


@dataclass(frozen=True)
class _Library:
    """A name from torch or another package."""

    name: str


@dataclass(frozen=True, eq=False)
class _Function:
    """A function of the source; a method also knows its instance and what it overrides."""

    node: ast.FunctionDef | ast.Lambda
    scope: Scope
    inherited: dict[str, _Function] = field(default_factory=dict)
    instance: _Instance | None = None


@dataclass(frozen=True, eq=False)
class _Class:
    methods: dict[str, _Function]
    """Its own and inherited ones."""


@dataclass(frozen=True, eq=False)
class _Instance:
    methods: dict[str, _Function]
    attributes: dict[str, Any] = field(default_factory=dict)

    def method(self, name: str) -> _Function | None:
        """Return a method bound to the instance, or None."""
        found = self.methods.get(name)
        return replace(found, instance=self) if found else None


class _Sequential(list[Any]):
    """An instance of nn.Sequential: a list of modules that can be called."""


def _items(value: Any) -> list[Any]:
    return list(islice(value, MAX_ITEMS)) if isinstance(value, list | tuple | dict) else []


def _truth(value: Any) -> bool | None:
    """Return None where it is not known."""
    return None if value is UNKNOWN or isinstance(value, Tensor) else bool(value)


def _attempt(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    try:
        return call(*arguments, **keywords)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
        return UNKNOWN


def _combined(op: ast.operator, left: Any, right: Any) -> Any:
    first, second = tensor_in(left), tensor_in(right)
    if first and second:
        return join(first, second) if isinstance(op, ast.Add) else first
    if first or second:
        return first or second
    if is_number(left) and is_number(right):
        made = arithmetic(op, left, right)
        return made if is_number(made) else UNKNOWN
    if isinstance(op, ast.Add) and type(left) is type(right) and isinstance(left, list | str):
        return left + right if len(left) + len(right) <= MAX_ITEMS else UNKNOWN
    if isinstance(op, ast.Mult) and isinstance(left, list) and isinstance(right, int):
        return left * right if len(left) * right <= MAX_ITEMS else UNKNOWN
    return UNKNOWN


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}

_BUILTINS: dict[str, Callable[..., Any]] = {
    "range": lambda *a: list(range(*a)[:MAX_ITEMS]),
    "enumerate": lambda a, start=0: list(enumerate(_items(a), start)),
    "zip": lambda *a: list(zip(*map(_items, a), strict=False)),
    "reversed": lambda a: _items(a)[::-1],
    "list": lambda a=(): _items(a),
    "tuple": lambda a=(): tuple(_items(a)),
    "len": len,
    "int": int,
    "max": max,
    "min": min,
}


# --- the interpreter --------------------------------------------------------------------------


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        self._left = MAX_STEPS
        self._depth = 0
        paths = {**STANDARD_NAMES, **imports(tree.body)}
        libraries = {name: _Library(path.rpartition(".")[2]) for name, path in paths.items()}
        self._globals: Scope = {**libraries, **_BUILTINS}
        kept = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
        self._block([node for node in tree.body if isinstance(node, kept)], self._globals)

    def layers(self, name: str) -> list[Layer] | None:
        """Return the layers of the network, the last class of that name."""
        net = _Instance(self._globals[name].methods)
        try:
            self._call(net.method("__init__"), [], {})
            made = tensor_in(self._call(net, [Tensor()], {}))
        except _TooMuchError:
            made = None
        found = made.layers if made else []
        if not has_weights(found):
            self._left = MAX_STEPS
            found = self._through(net.attributes.values(), Tensor()).layers
        return found[:MAX_LAYERS] or None

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooMuchError

    # --- calls ------------------------------------------------------------------------------

    def _call(self, called: Any, arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
        self._spend()
        tensor = next((t for a in arguments if (t := tensor_in(a))), None)
        match called:
            case Leaf() if tensor:
                return called.apply(tensor)
            case _Sequential() if tensor:
                return self._through(called, tensor)
            case _Class(methods):
                made = _Instance(methods)
                self._call(made.method("__init__"), arguments, keywords)
                return made
            case _Instance() if forward := called.method("forward"):
                return self._user_call(forward, arguments, keywords)
            case _Function():
                return self._user_call(called, arguments, keywords)
            case _Library(name):
                return self._library_call(name, tensor, arguments, keywords)
        if callable(called):
            return _attempt(called, *arguments, **keywords)
        return tensor or UNKNOWN

    def _through(self, items: Iterable[Any], tensor: Tensor) -> Tensor:
        """Return a tensor after a list of modules; what is no module changes nothing."""
        for item in items:
            self._spend()
            if isinstance(item, list):
                tensor = self._through(item, tensor)
            elif isinstance(item, Leaf | _Instance):
                tensor = tensor_in(self._call(item, [tensor], {})) or tensor
        return tensor

    def _user_call(self, called: _Function, arguments: Sequence[Any], keywords: Scope) -> Any:
        if self._depth >= MAX_DEPTH:
            raise _TooMuchError
        spec, scope = called.node.args, dict(called.scope)
        names = [a.arg for a in (*spec.posonlyargs, *spec.args)]
        if instance := called.instance:
            arguments = [instance, *arguments]
            base = {name: replace(f, instance=instance) for name, f in called.inherited.items()}
            scope["super"] = lambda *_: _Instance({}, base)
        optional = names[len(names) - len(spec.defaults) :] + [a.arg for a in spec.kwonlyargs]
        defaults = [
            self._value(default, called.scope) if default else UNKNOWN
            for default in (*spec.defaults, *spec.kw_defaults)
        ]
        scope.update(dict.fromkeys(names, UNKNOWN))
        scope.update(zip(optional, defaults, strict=True))
        scope.update(zip(names, arguments, strict=False))
        scope.update(keywords)
        if spec.vararg:
            scope[spec.vararg.arg] = arguments[len(names) :]
        self._depth += 1
        try:
            if isinstance(called.node, ast.Lambda):
                return self._value(called.node.body, scope)
            self._block(called.node.body, scope)
        except _ReturnError as returned:
            return returned.value
        finally:
            self._depth -= 1
        return None

    def _library_call(
        self, name: str, tensor: Tensor | None, arguments: Sequence[Any], keywords: dict[str, Any]
    ) -> Any:
        first = arguments[0] if arguments else ()
        match name:
            case "Sequential":
                return _Sequential(first.values() if isinstance(first, dict) else arguments)
            case "ModuleList":
                return _items(first)
            case "ModuleDict" | "OrderedDict":
                return _attempt(dict, first)
        if tensor is None:
            return module(name, Arguments(arguments, keywords))
        if isinstance(first, list | tuple):
            return cat(first)
        others = [a for a in arguments if a is not tensor]
        return function(name, tensor, Arguments(others, keywords))

    # --- statements -------------------------------------------------------------------------

    def _block(self, body: Sequence[ast.stmt], scope: Scope) -> None:
        for node in body:
            self._statement(node, scope)

    def _statement(self, node: ast.stmt, scope: Scope) -> None:
        self._spend()
        match node:
            case ast.Assign(targets, value):
                made = self._value(value, scope)
                for target in targets:
                    self._assign(target, made, scope)
            case ast.AnnAssign(target, _, value) if value:
                self._assign(target, self._value(value, scope), scope)
            case ast.AugAssign(target, op, value):
                before = self._value(target, scope)
                self._assign(target, _combined(op, before, self._value(value, scope)), scope)
            case ast.Expr(value):
                self._value(value, scope)
            case ast.Return(value):
                raise _ReturnError(self._value(value, scope) if value else None)
            case ast.If(test, body, orelse):
                self._block(body if self._holds(test, scope) else orelse, scope)
            case ast.For(target, iterated, body):
                for item in _items(self._value(iterated, scope)):
                    self._assign(target, item, scope)
                    self._block(body, scope)
            case ast.With(_, body) | ast.Try(body):
                self._block(body, scope)
            case ast.FunctionDef(name):
                scope[name] = _Function(node, scope)
            case ast.ClassDef(name, bases, _, body):
                kinds = [self._value(base, scope) for base in bases]
                inherited = next((k.methods for k in kinds if isinstance(k, _Class)), {})
                own = [f for f in body if isinstance(f, ast.FunctionDef)]
                methods = {f.name: _Function(f, self._globals, inherited) for f in own}
                scope[name] = _Class({**inherited, **methods})

    def _assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        match target:
            case ast.Name(name):
                scope[name] = value
            case ast.Attribute(owner, name):
                instance = self._value(owner, scope)
                if isinstance(instance, _Instance):
                    instance.attributes[name] = value
            case ast.Tuple(targets) | ast.List(targets):
                given = list(value) if isinstance(value, list | tuple) else []
                given += [UNKNOWN] * (len(targets) - len(given))
                for inner, item in zip(targets, given, strict=False):
                    self._assign(inner, item, scope)
            case ast.Subscript(owner, index):
                whole, key = self._value(owner, scope), self._value(index, scope)
                if isinstance(whole, list | dict):
                    _attempt(operator.setitem, whole, key, value)

    # --- expressions ------------------------------------------------------------------------

    def _value(self, node: ast.expr, scope: Scope) -> Any:
        self._spend()
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return scope.get(name, self._globals.get(name, UNKNOWN))
            case ast.Attribute(owner, name):
                return self._attribute(self._value(owner, scope), name)
            case ast.Call(called, arguments, keywords):
                given: list[Any] = []
                for argument in arguments:
                    if isinstance(argument, ast.Starred):
                        given += _items(self._value(argument.value, scope))
                    else:
                        given.append(self._value(argument, scope))
                named = {k.arg: self._value(k.value, scope) for k in keywords if k.arg}
                return self._call(self._value(called, scope), given, named)
            case ast.BinOp(left, op, right):
                return _combined(op, self._value(left, scope), self._value(right, scope))
            case ast.UnaryOp(op, operand):
                value = self._value(operand, scope)
                if isinstance(op, ast.Not):
                    known = _truth(value)
                    return UNKNOWN if known is None else not known
                return -value if isinstance(op, ast.USub) and is_number(value) else value
            case ast.BoolOp(op, values):
                truths = [_truth(self._value(v, scope)) for v in values]
                decisive = isinstance(op, ast.Or)
                if decisive in truths:
                    return decisive
                return UNKNOWN if None in truths else not decisive
            case ast.Compare(left, [op], [right]):
                both = self._value(left, scope), self._value(right, scope)
                return UNKNOWN if UNKNOWN in both else _attempt(_COMPARISONS[type(op)], *both)
            case ast.IfExp(test, body, orelse):
                return self._value(body if self._holds(test, scope) else orelse, scope)
            case ast.Tuple(items):
                return tuple(self._value(item, scope) for item in items)
            case ast.List(items):
                return [self._value(item, scope) for item in items]
            case ast.Dict(keys, values):
                pairs = zip(keys, values, strict=True)
                constant = [(k.value, v) for k, v in pairs if isinstance(k, ast.Constant)]
                return {key: self._value(v, scope) for key, v in constant}
            case ast.Subscript(owner, index):
                return self._item(self._value(owner, scope), self._value(index, scope))
            case ast.Slice(lower, upper, step):
                return slice(*(self._value(e, scope) if e else None for e in (lower, upper, step)))
            case ast.ListComp(element, generators) | ast.GeneratorExp(element, generators):
                return self._comprehension(element, generators, dict(scope))
            case ast.JoinedStr(values):
                parts = [self._value(v, scope) for v in values]
                return "".join(str(p)[:64] for p in parts if isinstance(p, str | int))[:256]
            case ast.FormattedValue(value):
                return self._value(value, scope)
            case ast.Lambda():
                return _Function(node, scope)
        return UNKNOWN

    def _holds(self, test: ast.expr, scope: Scope) -> bool:
        """Return whether a condition holds or is unknown: the first branch then stands for both."""
        return _truth(self._value(test, scope)) is not False

    def _comprehension(
        self, element: ast.expr, generators: list[ast.comprehension], scope: Scope
    ) -> list[Any]:
        if not generators:
            return [self._value(element, scope)]
        found: list[Any] = []
        for item in _items(self._value(generators[0].iter, scope)):
            self._assign(generators[0].target, item, scope)
            if all(self._holds(test, scope) for test in generators[0].ifs):
                found += self._comprehension(element, generators[1:], scope)
        return found[:MAX_ITEMS]

    def _item(self, whole: Any, index: Any) -> Any:
        if isinstance(whole, Tensor):
            keeps_last = index == -1 or (isinstance(index, tuple) and -1 in index)
            return whole.then(Rearranged("last")) if keeps_last else whole
        if isinstance(whole, list | tuple | dict | str):
            found = _attempt(operator.getitem, whole, index)
            part = isinstance(whole, _Sequential) and isinstance(found, list)
            return _Sequential(found) if part else found
        return UNKNOWN

    def _attribute(self, owner: Any, name: str) -> Any:
        match owner:
            case _Library():
                return _Library(name)
            case Tensor() if name not in ("shape", "device", "dtype", "ndim"):
                return lambda *a, **k: function(name, owner, Arguments(a, k))
            case _Instance(_, attributes):
                if name in attributes:
                    return attributes[name]
                if name in ("add_module", "register_module"):
                    return attributes.__setitem__
                return owner.method(name) or name == "training" or UNKNOWN
            case list() if name in ("append", "add_module") and len(owner) < MAX_ITEMS:
                return lambda *a: owner.append(a[-1])
            case list() if name == "extend" and len(owner) < MAX_ITEMS:
                return lambda a: owner.extend(_items(a))
            case dict() if name in ("items", "values", "keys"):
                return lambda: list(getattr(owner, name)())
        return UNKNOWN

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
from collections.abc import Sequence
from typing import Any

from ...source.network import STANDARD_NAMES, network_class
from ...source.parse import parse
from .layers import WEIGHTED, Layer, Residual
from .tracing import (
    UNKNOWN,
    Arguments,
    Leaf,
    Tensor,
    cat,
    function,
    is_number,
    join,
    layers_of,
    module,
)
from .values import (
    BUILTINS,
    MAX_ITEMS,
    Chain,
    Instance,
    Library,
    Native,
    Super,
    UserClass,
    UserFunction,
    attempt,
    combined,
    compared,
    item_of,
    items_of,
    method_of,
    plain_key,
    tensor_in,
    truth,
)

MAX_STEPS = 10_000
MAX_DEPTH = 24
MAX_LAYERS = 256


def read(source: str) -> list[Layer] | None:
    """The layers that the network applies, in order; None where none can be made out.

    Failing its forward pass, the layers that its constructor makes, in order.
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


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        self._left = MAX_STEPS
        self._depth = 0
        self._classes: list[UserClass] = []
        self._globals: dict[str, Any] = {
            "torch": Library("torch"),
            "nn": Library("nn"),
            "F": Library("functional"),
            **{name: Native(call) for name, call in BUILTINS.items()},
        }
        kept = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.ImportFrom)
        self._block([node for node in tree.body if isinstance(node, kept)], self._globals)

    def layers(self, name: str) -> list[Layer] | None:
        """The layers of the network, the last class of that name."""
        net = Instance([c for c in self._classes if c.name == name][-1])
        try:
            self._method_call(net, "__init__", [], {})
            made = tensor_in(self._method_call(net, "forward", [Tensor()], {}))
        except _TooMuchError:
            made = None
        found = layers_of(made) if made else []
        if not any(isinstance(layer, (*WEIGHTED, Residual)) for layer in found):
            self._left = MAX_STEPS
            found = layers_of(self._through(list(net.attributes.values()), Tensor()))
        return found[:MAX_LAYERS] or None

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooMuchError

    # --- calls ------------------------------------------------------------------------------

    def _call(self, called: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        self._spend()
        tensor = next((t for a in arguments if (t := tensor_in(a))), None)
        match called:
            case Leaf() if tensor:
                return called.apply(tensor)
            case Chain(items) if tensor:
                return self._through(items, tensor)
            case Native(call):
                return attempt(call, *arguments, **keywords)
            case UserClass():
                made = Instance(called)
                self._method_call(made, "__init__", arguments, keywords)
                return made
            case Instance() if method_of(called.kind, "forward"):
                return self._method_call(called, "forward", arguments, keywords)
            case UserFunction():
                return self._user_call(called, arguments, keywords)
            case Library(name):
                return self._library_call(name, tensor, arguments, keywords)
        return tensor or UNKNOWN

    def _through(self, items: Sequence[Any], tensor: Tensor) -> Tensor:
        """A tensor after a list of modules; what is no module changes nothing."""
        for item in items:
            self._spend()
            if isinstance(item, list):
                tensor = self._through(item, tensor)
            elif isinstance(item, Leaf | Chain | Instance):
                tensor = tensor_in(self._call(item, [tensor], {})) or tensor
        return tensor

    def _method_call(
        self, instance: Instance, name: str, arguments: list[Any], keywords: dict[str, Any]
    ) -> Any:
        if found := method_of(instance.kind, name):
            owner, node = found
            made = UserFunction(node, self._globals, instance, owner)
            return self._user_call(made, arguments, keywords)
        return UNKNOWN

    def _user_call(
        self, called: UserFunction, arguments: list[Any], keywords: dict[str, Any]
    ) -> Any:
        if self._depth >= MAX_DEPTH:
            raise _TooMuchError
        spec, scope = called.node.args, dict(called.scope)
        names = [a.arg for a in (*spec.posonlyargs, *spec.args)]
        if called.bound is not None:
            arguments = [called.bound, *arguments]
            base = Super(called.bound, called.owner.base if called.owner else None)
            scope["super"] = Native(lambda *_: base)
        defaults = [self._value(d, called.scope) for d in spec.defaults]
        scope.update(dict.fromkeys(names, UNKNOWN))
        scope.update(zip(names[len(names) - len(defaults) :], defaults, strict=True))
        for name, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
            scope[name.arg] = self._value(default, called.scope) if default else UNKNOWN
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
        self, name: str, tensor: Tensor | None, arguments: list[Any], keywords: dict[str, Any]
    ) -> Any:
        first = arguments[0] if arguments else None
        if name == "Sequential":
            return Chain(list(first.values()) if isinstance(first, dict) else arguments)
        if name in ("ModuleList", "ModuleDict", "OrderedDict"):
            if isinstance(first, list) and name == "OrderedDict":
                return dict(p for p in first if isinstance(p, tuple) and len(p) == 2)
            return items_of(first) if name == "ModuleList" else first if first else {}
        if tensor is None:
            return module(name, Arguments(arguments, keywords))
        if isinstance(first, list | tuple):
            return cat([a for a in first if isinstance(a, Tensor)])
        others = [a for a in arguments if a is not tensor]
        return self._tensor_call(tensor, name, others, keywords)

    def _tensor_call(
        self, tensor: Tensor, name: str, arguments: list[Any], keywords: dict[str, Any]
    ) -> Any:
        if name in ("add", "add_") and arguments and (other := tensor_in(arguments[0])):
            return join(tensor, other)
        return function(name, tensor, Arguments(arguments, keywords))

    # --- statements -------------------------------------------------------------------------

    def _block(self, body: Sequence[ast.stmt], scope: dict[str, Any]) -> None:
        for node in body:
            self._statement(node, scope)

    def _statement(self, node: ast.stmt, scope: dict[str, Any]) -> None:
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
                self._assign(target, combined(op, before, self._value(value, scope)), scope)
            case ast.Expr(value):
                self._value(value, scope)
            case ast.Return(value):
                raise _ReturnError(self._value(value, scope) if value else None)
            case ast.If(test, body, orelse):
                # Where the condition is unknown, the first branch stands for both.
                taken = truth(self._value(test, scope)) is not False
                self._block(body if taken else orelse, scope)
            case ast.For(target, iterated, body):
                for item in items_of(self._value(iterated, scope)):
                    self._assign(target, item, scope)
                    self._block(body, scope)
            case ast.With(_, body) | ast.Try(body):
                self._block(body, scope)
            case ast.FunctionDef(name):
                scope[name] = UserFunction(node, scope)
            case ast.ClassDef(name):
                self._define(node, scope)
            case ast.ImportFrom(_, aliases):
                for alias in aliases:
                    scope[alias.asname or alias.name] = Library(alias.name)
            case _:
                pass

    def _define(self, node: ast.ClassDef, scope: dict[str, Any]) -> None:
        bases = [self._value(base, scope) for base in node.bases]
        base = next((b for b in bases if isinstance(b, UserClass)), None)
        methods = {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
        scope[node.name] = UserClass(node.name, methods, base)
        self._classes.append(scope[node.name])

    def _assign(self, target: ast.expr, value: Any, scope: dict[str, Any]) -> None:
        match target:
            case ast.Name(name):
                scope[name] = value
            case ast.Attribute(owner, name):
                instance = self._value(owner, scope)
                if isinstance(instance, Instance):
                    instance.attributes[name] = value
            case ast.Tuple(targets) | ast.List(targets):
                given = list(value) if isinstance(value, list | tuple) else []
                given += [UNKNOWN] * (len(targets) - len(given))
                for inner, item in zip(targets, given, strict=False):
                    self._assign(inner, item, scope)
            case ast.Subscript(owner, index):
                whole, key = self._value(owner, scope), self._value(index, scope)
                if isinstance(whole, list | dict):
                    attempt(operator.setitem, whole, key, value)
            case _:
                pass

    # --- expressions ------------------------------------------------------------------------

    def _value(self, node: ast.expr, scope: dict[str, Any]) -> Any:
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
                        given += items_of(self._value(argument.value, scope))
                    else:
                        given.append(self._value(argument, scope))
                named = {k.arg: self._value(k.value, scope) for k in keywords if k.arg}
                return self._call(self._value(called, scope), given, named)
            case ast.BinOp(left, op, right):
                return combined(op, self._value(left, scope), self._value(right, scope))
            case ast.UnaryOp(op, operand):
                value = self._value(operand, scope)
                if isinstance(op, ast.Not):
                    known = truth(value)
                    return UNKNOWN if known is None else not known
                return -value if isinstance(op, ast.USub) and is_number(value) else value
            case ast.BoolOp(op, values):
                truths = [truth(self._value(v, scope)) for v in values]
                decisive = isinstance(op, ast.Or)
                if decisive in truths:
                    return decisive
                return UNKNOWN if None in truths else not decisive
            case ast.Compare(left, [op], [right]):
                return compared(op, self._value(left, scope), self._value(right, scope))
            case ast.IfExp(test, body, orelse):
                taken = truth(self._value(test, scope)) is not False
                return self._value(body if taken else orelse, scope)
            case ast.Tuple(items):
                return tuple(self._value(item, scope) for item in items)
            case ast.List(items):
                return [self._value(item, scope) for item in items]
            case ast.Dict(keys, values):
                pairs = zip(keys, values, strict=True)
                return {k.value: self._value(v, scope) for k, v in pairs if plain_key(k)}  # type: ignore[union-attr]
            case ast.Subscript(owner, index):
                whole = self._value(owner, scope)
                return item_of(whole, self._value(index, scope))
            case ast.Slice(lower, upper, step):
                ends = [self._value(e, scope) if e else None for e in (lower, upper, step)]
                return slice(*ends)
            case ast.ListComp(element, generators) | ast.GeneratorExp(element, generators):
                return self._comprehension(element, generators, dict(scope))
            case ast.JoinedStr(values):
                parts = [self._value(v, scope) for v in values]
                return "".join(str(p)[:64] for p in parts if isinstance(p, str | int))[:256]
            case ast.FormattedValue(value):
                return self._value(value, scope)
            case ast.Lambda():
                return UserFunction(node, scope)
            case _:
                return UNKNOWN

    def _comprehension(
        self, element: ast.expr, generators: list[ast.comprehension], scope: dict[str, Any]
    ) -> list[Any]:
        if not generators:
            return [self._value(element, scope)]
        found: list[Any] = []
        for item in items_of(self._value(generators[0].iter, scope)):
            self._assign(generators[0].target, item, scope)
            if all(truth(self._value(test, scope)) is not False for test in generators[0].ifs):
                found += self._comprehension(element, generators[1:], scope)
        return found[:MAX_ITEMS]

    def _attribute(self, owner: Any, name: str) -> Any:
        match owner:
            case Library():
                return Library(name)
            case Tensor():
                if name in ("shape", "device", "dtype", "ndim"):
                    return UNKNOWN
                return Native(lambda *a, **k: self._tensor_call(owner, name, list(a), k))
            case Instance(_, attributes):
                if name in attributes:
                    return attributes[name]
                if name in ("add_module", "register_module"):
                    return Native(attributes.__setitem__)
                if found := method_of(owner.kind, name):
                    return UserFunction(found[1], self._globals, owner, found[0])
                return name == "training" or UNKNOWN
            case Super(bound, base):
                if base and (found := method_of(base, name)):
                    return UserFunction(found[1], self._globals, bound, found[0])
            case Chain(items) if name in ("append", "add_module"):
                return Native(lambda *a: items.append(a[-1]) if len(items) < MAX_ITEMS else None)
            case list() if name in ("append", "extend"):
                if len(owner) < MAX_ITEMS:
                    return Native(lambda a: owner.extend(items_of(a) if name == "extend" else [a]))
            case dict() if name in ("items", "values", "keys"):
                return Native(lambda: list(getattr(owner, name)()))
        return UNKNOWN

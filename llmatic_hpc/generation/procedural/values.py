"""Values that the procedural control's reader computes with: never the real things.

Numbers, texts and lists are Python's own, but of limited size; a module, a class or a function
is a record of its syntax tree; what cannot be made out is ``UNKNOWN``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from .tracing import UNKNOWN, Rearranged, Tensor, is_number, join

MAX_ITEMS = 256
MAX_BASES = 24


@dataclass(frozen=True)
class Library:
    """A name out of torch or another package."""

    name: str


@dataclass(frozen=True, eq=False)
class UserClass:
    name: str
    methods: dict[str, ast.FunctionDef]
    base: UserClass | None


@dataclass(frozen=True, eq=False)
class Instance:
    kind: UserClass
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class UserFunction:
    node: ast.FunctionDef | ast.Lambda
    scope: dict[str, Any]
    bound: Instance | None = None
    owner: UserClass | None = None


@dataclass(frozen=True, eq=False)
class Super:
    bound: Instance
    base: UserClass | None


@dataclass(frozen=True, eq=False)
class Native:
    """A function of the reader's own."""

    call: Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Chain:
    """A Sequential."""

    items: list[Any]


def method_of(kind: UserClass | None, name: str) -> tuple[UserClass, ast.FunctionDef] | None:
    for _ in range(MAX_BASES):
        if kind is None:
            break
        if name in kind.methods:
            return kind, kind.methods[name]
        kind = kind.base
    return None


def tensor_in(value: Any) -> Tensor | None:
    """A tensor, or the first one of a tuple."""
    if isinstance(value, tuple):
        return next((v for v in value if isinstance(v, Tensor)), None)
    return value if isinstance(value, Tensor) else None


def items_of(value: Any) -> list[Any]:
    if isinstance(value, Chain):
        return value.items
    return list(islice(value, MAX_ITEMS)) if isinstance(value, list | tuple | dict | range) else []


def item_of(whole: Any, index: Any) -> Any:
    if isinstance(whole, Tensor):
        keeps_last = index == -1 or (isinstance(index, tuple) and -1 in index)
        return whole.then(Rearranged("last")) if keeps_last else whole
    if isinstance(whole, Chain):
        found = attempt(operator.getitem, whole.items, index)
        return Chain(found) if isinstance(found, list) else found
    if isinstance(whole, list | tuple | dict | str):
        return attempt(operator.getitem, whole, index)
    return UNKNOWN


def plain_key(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | int)


def truth(value: Any) -> bool | None:
    """None where it is not known."""
    if value is UNKNOWN or isinstance(value, Tensor):
        return None
    return bool(value)


def attempt(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    try:
        return call(*arguments, **keywords)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
        return UNKNOWN


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda a, b: a**b if 0 <= b <= 16 and abs(a) < 1000 else UNKNOWN,
    ast.LShift: lambda a, b: a << b if b < 32 else UNKNOWN,
    ast.RShift: operator.rshift,
}


def combined(op: ast.operator, left: Any, right: Any) -> Any:
    first, second = tensor_in(left), tensor_in(right)
    if first and second:
        return join(first, second) if isinstance(op, ast.Add) else first
    if first or second:
        return first or second
    if is_number(left) and is_number(right):
        made = attempt(_ARITHMETIC.get(type(op), lambda *_: UNKNOWN), left, right)
        return made if is_number(made) else UNKNOWN
    if isinstance(op, ast.Add) and type(left) is type(right) and isinstance(left, list | str):
        return left + right if len(left) + len(right) <= MAX_ITEMS else UNKNOWN
    if isinstance(op, ast.Mult) and isinstance(left, list) and isinstance(right, int):
        return left * right if len(left) * right <= MAX_ITEMS else UNKNOWN
    return UNKNOWN


def compared(op: ast.cmpop, left: Any, right: Any) -> Any:
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    compare: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
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
    return attempt(compare[type(op)], left, right)


def _set(owner: Any, name: Any, value: Any) -> None:
    if isinstance(owner, Instance) and isinstance(name, str):
        owner.attributes[name] = value


def _get(owner: Any, name: Any, default: Any = UNKNOWN) -> Any:
    if isinstance(owner, Instance) and isinstance(name, str):
        return owner.attributes.get(name, default)
    return UNKNOWN


BUILTINS: dict[str, Callable[..., Any]] = {
    "range": lambda *a: list(range(*a)[:MAX_ITEMS]),
    "len": lambda a: len(items_of(a)) if isinstance(a, list | tuple | dict | Chain) else UNKNOWN,
    "enumerate": lambda a, start=0: list(enumerate(items_of(a), start)),
    "zip": lambda *a: list(zip(*map(items_of, a), strict=False)),
    "reversed": lambda a: items_of(a)[::-1],
    "list": lambda a=(): items_of(a),
    "tuple": lambda a=(): tuple(items_of(a)),
    "int": lambda a: int(a) if is_number(a) else UNKNOWN,
    "max": lambda *a: max(*a) if len(a) > 1 else max(a[0]),
    "min": lambda *a: min(*a) if len(a) > 1 else min(a[0]),
    "getattr": _get,
    "setattr": _set,
}

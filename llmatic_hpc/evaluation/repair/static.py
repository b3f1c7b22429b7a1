"""Find what the text alone shows to be wrong: constructors, attributes, modules. Pure.

These slips keep a source from passing the gate or from being built at all, so they are looked
for before anything is run.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator

from ...source import allowlist, network
from ...source.network import STANDARD_NAMES
from ...source.nodes import walk
from ...source.parse import try_parse
from .rules import Finding, calls_super, required
from .spans import is_own, methods, span_of

_LAST = re.compile(r"(fc|lin|linear|dense|out|output|classifier|head|last|final|proj|logits)\d*")
"""Names that models give to the layer that makes the classes."""

WIDTH = 16
"""Default of a constructor's size that nothing determines."""

_PLAIN_LAYERS = allowlist.words(
    "ReLU ReLU6 LeakyReLU ELU SELU CELU GELU SiLU Mish Sigmoid Tanh Softplus Flatten Identity "
    "Hardswish Hardsigmoid LogSigmoid Softsign Dropout Dropout2d"
)
"""Layers that need no arguments."""


def find(source: str, *, channels: int, classes: int) -> Iterator[Finding]:
    """Yield the faults that need no run to be seen, those that hide others first."""
    if (tree := try_parse(source)) is None:
        return
    owners = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    by_name = {owner.name: owner for owner in owners}
    owner = network.network_class(tree, constructible=False)
    if owner is not None and network.network_class(tree) is None:
        yield from _defaults(owner, channels, classes)
    for owner in owners:
        yield from _constructor(owner)
    for owner in owners:
        yield from _instances(owner)
        yield from _attributes(owner, by_name, classes)
    yield from _homes(tree)
    yield from _methods_of_tensors(tree)


def _defaults(owner: ast.ClassDef, channels: int, classes: int) -> Iterator[Finding]:
    """Give defaults to the sizes that the network's constructor asks for."""
    function = methods(owner).get("__init__")
    if function is None or "forward" not in methods(owner):
        return
    values = []
    for wanted in required(function):
        name = wanted.arg.lower()
        if re.search(r"class|out", name):
            values.append(classes)
        elif re.match(r"in|.*in_|channels", name):
            values.append(channels)
        elif "kernel" in name:
            values.append(3)
        else:
            values.append(WIDTH)
    if values:
        yield Finding("default", span_of(function), "", tuple(values))


def _constructor(owner: ast.ClassDef) -> Iterator[Finding]:
    """Call ``super().__init__()`` before the first attribute is set."""
    function = methods(owner).get("__init__")
    if function is None or not owner.bases:
        return
    for statement in function.body:
        if calls_super(statement):
            return
        if any(is_own(node) for node in walk(statement)):
            break
    yield Finding("super", span_of(function))


def _attributes(
    owner: ast.ClassDef, by_name: dict[str, ast.ClassDef], classes: int
) -> Iterator[Finding]:
    """Find what was meant by attributes that are read and set nowhere."""
    declared = {name for relative in _family(owner, by_name) for name in _declared(relative)}
    own = [node for node in walk(owner) if is_own(node)]
    read = [node for node in own if isinstance(node.ctx, ast.Load)]
    used = {node.attr for node in read}
    unknown = sorted(
        (n for n in read if n.attr not in declared and n.attr not in allowlist.ATTRIBUTES),
        key=span_of,
    )
    for node in unknown:
        twins = [name for name in declared if _stem(name) == _stem(node.attr)]
        if twins:
            nearest = min(twins, key=lambda name: (name in used, _distance(name, node.attr), name))
            yield Finding("attribute", span_of(node), nearest)
    for node in unknown:
        if not _LAST.fullmatch(node.attr):
            yield from _dropped(owner, node)
    if len({node.attr for node in unknown}) == 1 and _LAST.fullmatch(unknown[0].attr):
        yield Finding("undeclared", span_of(owner), unknown[0].attr, (classes,))


def _instances(owner: ast.ClassDef) -> Iterator[Finding]:
    """Make a layer of the class in ``self.act = nn.ReLU``."""
    for node in walk(owner):
        match node:
            case ast.Assign([target, *_], ast.Attribute() as value) if is_own(target):
                if value.attr in _PLAIN_LAYERS:
                    yield Finding("instance", span_of(value))


def _methods_of_tensors(tree: ast.Module) -> Iterator[Finding]:
    """Drop ``x.something()`` that no tensor has."""
    known = allowlist.ATTRIBUTES | allowlist.RESERVED
    known |= {n.attr for n in walk(tree) if is_own(n)}
    known |= {n.name for n in walk(tree) if isinstance(n, ast.FunctionDef)}
    for call in walk(tree):
        match call:
            case ast.Call(ast.Attribute(ast.Name(owner), name)) if name not in known:
                if owner not in ("self", *STANDARD_NAMES):
                    yield Finding("drop", span_of(call), "", (1,))


def _homes(tree: ast.Module) -> Iterator[Finding]:
    """Find the module of names that are used without it, or from another one."""
    names = network.imports(tree.body)
    if any(names.get(short) != path for short, path in STANDARD_NAMES.items()):
        return
    bound = set(names) | set(dir(builtins))
    for node in walk(tree):
        match node:
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.arg(name):
                bound.add(name)
            case ast.Name(name, ast.Store() | ast.Del()):
                bound.add(name)
    for node in walk(tree):
        match node:
            case ast.Name(name, ast.Load()) if name not in bound:
                yield from _moved(node, name)
                yield from _undefined(tree, node)
            case ast.Attribute(ast.Name(short), name) if short in STANDARD_NAMES:
                root, plain = STANDARD_NAMES[short], _stem(name)
                if f"{root}.{name}" in allowlist.PATHS | allowlist.NAMESPACES:
                    continue
                yield from _moved(node, name)
                if plain != name and f"{root}.{plain}" in allowlist.PATHS:
                    yield Finding("attribute", span_of(node), plain)
                yield from _dropped(tree, node)


def _moved(node: ast.expr, name: str) -> Iterator[Finding]:
    """Look a name of torch up in the module of the standard imports that has it."""
    for short, path in STANDARD_NAMES.items():
        if f"{path}.{name}" in allowlist.PATHS:
            yield Finding("module", span_of(node), short)
            return


def _undefined(tree: ast.AST, name: ast.Name) -> Iterator[Finding]:
    """Drop a named argument that is given something that does not exist."""
    for call in walk(tree):
        for number, keyword in enumerate(call.keywords if isinstance(call, ast.Call) else ()):
            if keyword.value is name:
                yield Finding("keyword", span_of(call), "", (number,))


def _dropped(tree: ast.AST, function: ast.Attribute) -> Iterator[Finding]:
    """Drop a call, outside of the constructor, of something that does not exist."""
    for method in walk(tree):
        if isinstance(method, ast.FunctionDef) and method.name != "__init__":
            for call in walk(method):
                if isinstance(call, ast.Call) and call.func is function and call.args:
                    yield Finding("drop", span_of(call))


def _family(owner: ast.ClassDef, by_name: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """Return a class with those of the source that it derives from."""
    found, todo = [owner], [owner]
    while todo:
        for base in todo.pop().bases:
            parent = by_name.get(base.id) if isinstance(base, ast.Name) else None
            if parent is not None and parent not in found:
                found.append(parent)
                todo.append(parent)
    return found


def _declared(owner: ast.ClassDef) -> set[str]:
    """Return the attributes that a class itself gives to its instances."""
    found = {name for statement in owner.body for name in network.bindings(statement)}
    for node in walk(owner):
        match node:
            case ast.Attribute(ast.Name("self"), name, ast.Store() | ast.Del()):
                found.add(name)
            case ast.Call(
                ast.Attribute(attr="register_buffer" | "register_parameter" | "add_module"),
                [ast.Constant(str(name)), *_],
            ):
                found.add(name)
    return found


def _stem(name: str) -> str:
    return re.sub(r"_?\d+", "", name)


def _distance(one: str, other: str) -> int:
    first, second = (int(re.sub(r"\D", "", name)[:6] or 0) for name in (one, other))
    return abs(first - second)

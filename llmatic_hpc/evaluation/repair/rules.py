"""Change a source text in the ways that a repair may, one rule each. Pure.

A *finding* names a rule, the node of the syntax tree that it is about, and the numbers or the
name that the rule needs; it carries no text of its own. So whoever found it (a contained child,
which may be anybody) can ask for nothing but the changes that the rules below make. Only the
characters that a rule names are replaced, the rest of the text stays as it was written.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any

from ...source.allowlist import words
from ...source.network import returned
from ...source.nodes import walk
from ...source.parse import SourceError
from ...types import Repair
from . import spans
from .spans import NotApplicableError, Span, Splice, Text, end_of, span_of, start_of, text_of

LARGEST = 1 << 31
"""Sizes beyond this are no network."""

SIZES = {
    **dict.fromkeys(words("in_features in_channels num_features input_size normalized_shape"), 0),
    "num_channels": 1,
}
"""Arguments that follow from the tensor that comes in, with their places."""

PROJECTION = "projection"
"""The attribute that a projection to the classes gets."""


@dataclass(frozen=True)
class Finding:
    """A fault at one place, and which rule repairs it."""

    rule: str
    at: Span
    name: str = ""
    numbers: tuple[int, ...] = ()


def apply(source: str, finding: Finding) -> tuple[str, Repair]:
    """Repair one finding; return the text and the change.

    Raises :class:`NotApplicableError` where the node is not there or not what the rule is about.
    """
    if finding.rule not in _RULES:
        raise NotApplicableError(f"no rule is called {finding.rule!r}")
    rule, *kinds = _RULES[finding.rule]
    try:
        text = text_of(source)
    except SourceError as error:
        raise NotApplicableError(str(error)) from None
    if (node := text.node(finding.at, *kinds)) is None:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise NotApplicableError(f"no {names} at {finding.at}")
    changed = text.spliced(rule(text, node, finding))
    if changed == text.source:
        raise NotApplicableError("it would change nothing")
    return changed, Repair(finding.rule, *spans.difference(text.source, changed))


def first_change(
    source: str, findings: Iterable[Finding], seen: Set[str]
) -> tuple[Finding, str, Repair] | None:
    """Repair the first finding that leads to a text not ``seen``; None: none does."""
    for finding in findings:
        try:
            changed, repair = apply(source, finding)
        except NotApplicableError:
            continue
        if changed not in seen:
            return finding, changed, repair
    return None


# --- sizes of layers -----------------------------------------------------------------------------


def _size(_: Text, call: ast.Call, finding: Finding) -> Iterator[Splice]:
    """Set the argument ``name`` of a constructor call to ``numbers[0]``."""
    (size,) = _positive(finding, 1)
    node = argument(call, finding.name, SIZES.get(finding.name, -1))
    if node is None:
        raise NotApplicableError(f"{finding.name} is not given there")
    yield span_of(node), str(size)


def _number(_: Text, node: ast.expr, finding: Finding) -> Iterator[Splice]:
    """Replace an expression, which a constructor hands on, by ``numbers[0]``."""
    (size,) = _positive(finding, 1)
    yield span_of(node), str(size)


def argument(call: ast.Call, name: str, place: int) -> ast.expr | None:
    """Return what a call gives for a parameter, by name or by place, or None."""
    for given in call.keywords:
        if given.arg == name:
            return given.value
    plain = not any(isinstance(a, ast.Starred) for a in call.args[: place + 1])
    return call.args[place] if plain and 0 <= place < len(call.args) else None


# --- flattening ----------------------------------------------------------------------------------


def _flatten(text: Text, call: ast.Call, finding: Finding) -> Iterator[Splice]:
    """Flatten the first argument of a call (``numbers``: pooled before)."""
    given = [*call.args, *(k.value for k in call.keywords)]
    if not given:
        raise NotApplicableError("a call without an argument")
    yield span_of(given[0]), _flat(text.segment(given[0]), pooled=bool(finding.numbers))


def _flat(expression: str, *, pooled: bool) -> str:
    if pooled:
        expression = f"F.adaptive_avg_pool2d({expression}, 1)"
    return f"torch.flatten({expression}, 1)"


def _flatten_layer(text: Text, call: ast.Call, finding: Finding) -> Iterator[Splice]:
    """Insert a flatten layer before a layer, in the same nn.Sequential (``numbers`` as above)."""
    if not _is_sequential(text, text.parents.get(call)):
        raise NotApplicableError("not an element of nn.Sequential")
    layers = "nn.AdaptiveAvgPool2d(1), nn.Flatten(), " if finding.numbers else "nn.Flatten(), "
    yield start_of(call) + start_of(call), layers


def _is_sequential(text: Text, home: ast.AST | None) -> bool:
    """Return whether it is a call of nn.Sequential, or a list that is starred into one."""
    if isinstance(home, ast.List):
        star = text.parents.get(home)
        return isinstance(star, ast.Starred) and _is_sequential(text, text.parents[star])
    return isinstance(home, ast.Call) and ast.unparse(home.func).endswith("Sequential")


def _unflatten(text: Text, call: ast.Call, _: Finding) -> Iterator[Splice]:
    """Remove a flatten; what it flattened stays."""
    home = text.parents.get(call)
    if (inner := flattened(call)) is not None:
        yield span_of(call), text.segment(inner)
    elif (
        ast.unparse(call.func).endswith("Flatten")
        and isinstance(home, ast.Call)
        and _is_sequential(text, home)
        and (following := [a for a in home.args if span_of(a) > span_of(call)])
    ):
        yield start_of(call) + start_of(following[0]), ""
    else:
        raise NotApplicableError("not a flatten")


def flattened(node: ast.AST | None) -> ast.expr | None:
    """Return what a call flattens to (N, features) or tries to; None: it does something else."""
    match node:
        case ast.Call(ast.Attribute(ast.Name("torch"), "flatten"), arguments):
            return arguments[0] if arguments else None
        case ast.Call(ast.Attribute(owner, "flatten")):
            return owner
        case ast.Call(ast.Attribute(owner, "view" | "reshape"), [_, _] as sizes):
            return owner if "-1" in map(ast.unparse, sizes) else None
    return None


def _order(text: Text, first: ast.Assign, finding: Finding) -> Iterator[Splice]:
    """Move a statement that flattens behind the last convolution.

    ``numbers``: the lines of the statements behind it, in the same block, that need what has
    not been flattened. These come first, the flatten and whatever else stood between come
    after, each in its order.
    """
    block = _block(text, first)
    start = block.index(first)
    lines = set(finding.numbers)
    marked = [i for i, s in enumerate(block) if i > start and s.lineno in lines]
    if not marked or len(marked) != len(lines):
        raise NotApplicableError("the statements are not in one block")
    moved = block[start : marked[-1] + 1]
    for place, statement in zip(
        moved, sorted(moved, key=lambda s: s.lineno not in lines), strict=True
    ):
        text.indent(statement)
        yield span_of(place), text.segment(statement)


def _block(text: Text, statement: ast.stmt) -> list[ast.stmt]:
    home = text.parents[statement]
    for field in ("body", "orelse", "finalbody"):
        block = getattr(home, field, [])
        if isinstance(block, list) and statement in block:
            return block
    raise NotApplicableError("not in a block")


def _view(text: Text, call: ast.Call, _: Finding) -> Iterator[Splice]:
    """Keep the images of a batch apart in a view that mixes them."""
    if (inner := flattened(call)) is None:
        raise NotApplicableError("not a view with two sizes")
    yield span_of(call), _flat(text.segment(inner), pooled=False)


def _first(text: Text, call: ast.Call, _: Finding) -> Iterator[Splice]:
    """Use the first of the tuple that a call gives."""
    home = text.parents.get(call)
    if isinstance(home, ast.Assign) and isinstance(home.targets[0], ast.Tuple):
        raise NotApplicableError("the tuple is taken apart already")
    yield end_of(call) + end_of(call), "[0]"


# --- the way to the classes ----------------------------------------------------------------------


def _projection(text: Text, owner: ast.ClassDef, finding: Finding) -> Iterator[Splice]:
    """Add a last layer from ``numbers[0]`` features to ``numbers[1]`` classes.

    ``numbers[2]``: 0 as it is, 1 flattened first, 2 pooled and flattened.
    """
    features, classes = _positive(finding, 2)
    if any(isinstance(n, ast.Attribute) and n.attr == PROJECTION for n in walk(owner)):
        raise NotApplicableError("it has such a layer")
    yield _appended(text, owner, f"self.{PROJECTION} = nn.Linear({features}, {classes})")
    yield from _returned_through(PROJECTION, text, owner, finding)


def _declared(text: Text, owner: ast.ClassDef, finding: Finding) -> Iterator[Splice]:
    """Call the last layer (``name``), which was declared and forgotten (numbers as above)."""
    yield from _returned_through(_identifier(finding), text, owner, finding)


def _undeclared(text: Text, owner: ast.ClassDef, finding: Finding) -> Iterator[Splice]:
    """Declare the last layer (``name``), which is called, with ``numbers[0]`` classes."""
    (classes,) = _positive(finding, 1)
    yield _appended(text, owner, f"self.{_identifier(finding)} = nn.Linear(1, {classes})")


def _appended(text: Text, owner: ast.ClassDef, statement: str) -> Splice:
    """Add a statement at the end of the constructor."""
    last = _method(owner, "__init__").body[-1]
    return end_of(last) + end_of(last), f"\n{text.indent(last)}{statement}"


def _returned_through(
    layer: str, text: Text, owner: ast.ClassDef, finding: Finding
) -> Iterator[Splice]:
    """Apply a layer to whatever ``forward`` returns."""
    how = finding.numbers[2] if len(finding.numbers) == 3 else 0
    for value in returned(_method(owner, "forward")):
        inner = text.segment(value)
        inner = _flat(inner, pooled=how == 2) if how else inner
        yield span_of(value), f"self.{layer}({inner})"


def _method(owner: ast.ClassDef, name: str) -> ast.FunctionDef:
    if (found := spans.methods(owner).get(name)) is None:
        raise NotApplicableError(f"class {owner.name} has no method {name}")
    return found


# --- calls ---------------------------------------------------------------------------------------


def _drop(text: Text, node: ast.Call | ast.Subscript, finding: Finding) -> Iterator[Splice]:
    """Remove a call, or an index, that cannot be; what it was about stays.

    That is the first argument, or (``numbers`` given) what the method or the index belongs to.
    """
    kept: ast.expr | None = None
    match node:
        case ast.Subscript(owner):
            kept = owner
        case ast.Call(ast.Attribute(owner)) if finding.numbers:
            kept = owner
        case ast.Call(_, [first, *_]) if not finding.numbers:
            kept = first
    if kept is None or isinstance(kept, ast.Starred | ast.Constant):
        raise NotApplicableError("a call on nothing")
    home = text.parents.get(node)
    if isinstance(home, ast.Assign) and ast.unparse(home.targets[-1]) == ast.unparse(kept):
        block = _block(text, home)
        if home is not block[-1]:  # what is left would be x = x
            text.indent(home)
            yield start_of(home) + start_of(block[block.index(home) + 1]), ""
            return
    yield span_of(node), text.segment(kept)


def _twice(_: Text, call: ast.Call, finding: Finding) -> Iterator[Splice]:
    """Remove the argument at place ``numbers[0]``, which is given by name, too."""
    place = finding.numbers[0] if finding.numbers else -1
    rest = [*call.args[place + 1 :], *call.keywords]
    if not 0 <= place < len(call.args) or not rest:
        raise NotApplicableError("no such argument")
    yield start_of(call.args[place]) + min(map(start_of, rest)), ""


def _keyword(_: Text, call: ast.Call, finding: Finding) -> Iterator[Splice]:
    """Call keyword number ``numbers[0]``, which is not known, ``name``, or remove it."""
    place = finding.numbers[0] if finding.numbers else -1
    if not 0 <= place < len(call.keywords) or call.keywords[place].arg is None:
        raise NotApplicableError("no such argument")
    node = call.keywords[place]
    if finding.name:
        line, column = start_of(node)
        yield (line, column, line, column + len(str(node.arg).encode())), _identifier(finding)
        return
    others = [n for n in (*call.args, *call.keywords) if n is not node]
    before = [end_of(other) for other in others if span_of(other) < span_of(node)]
    behind = [start_of(other) for other in others if span_of(other) > span_of(node)]
    if before:
        yield max(before) + end_of(node), ""
    else:
        yield start_of(node) + min(behind, default=end_of(node)), ""


def _default(_: Text, function: ast.FunctionDef, finding: Finding) -> Iterator[Splice]:
    """Give the constructor's parameters without a default those in ``numbers``."""
    wanted = required(function)
    values = _positive(finding, len(wanted))
    if not wanted or len(values) != len(finding.numbers):
        raise NotApplicableError("nothing is wanted")
    for parameter, value in zip(wanted, values, strict=True):
        gap = "" if parameter.annotation is None else " "
        yield end_of(parameter) + end_of(parameter), f"{gap}={gap}{value}"


def required(function: ast.FunctionDef) -> list[ast.arg]:
    """Return the parameters of a method, but the first, that have no default."""
    plain = [*function.args.posonlyargs, *function.args.args]
    return plain[1 : len(plain) - len(function.args.defaults)]


def _instance(_text: Text, node: ast.Attribute, _: Finding) -> Iterator[Splice]:
    """Call a layer's class that stands where the layer should."""
    yield end_of(node) + end_of(node), "()"


# --- names ---------------------------------------------------------------------------------------


def _super(text: Text, function: ast.FunctionDef, _: Finding) -> Iterator[Splice]:
    """Put ``super().__init__()`` first in a constructor."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if function.name != "__init__" or not body:
        raise NotApplicableError("not a constructor with statements")
    start = start_of(body[0])
    yield start + start, f"super().__init__()\n{text.indent(body[0])}"
    for late in filter(calls_super, body):
        text.indent(late)
        before, (last, _column) = late.lineno - 1, end_of(late)
        yield (before, len(text.lines[before - 1]), last, len(text.lines[last - 1])), ""


def calls_super(statement: ast.stmt) -> bool:
    """Return whether a statement initialises the module that a class derives from."""
    match statement:
        case ast.Expr(ast.Call(ast.Attribute(ast.Call(ast.Name("super")), "__init__"))):
            return True
        case ast.Expr(ast.Call(ast.Attribute(owner, "__init__"))):
            return ast.unparse(owner).endswith("Module")
    return False


def _attribute(_: Text, node: ast.Attribute, finding: Finding) -> Iterator[Splice]:
    """Rename an attribute that is read to ``name``."""
    line, column = end_of(node)
    yield (line, column - len(node.attr.encode()), line, column), _identifier(finding)


def _module(_: Text, node: ast.Name | ast.Attribute, finding: Finding) -> Iterator[Splice]:
    """Look up a name in the module ``name``: nn, F or torch."""
    if finding.name not in ("nn", "F", "torch"):
        raise NotApplicableError("not a module of the standard imports")
    last = node.id if isinstance(node, ast.Name) else node.attr
    yield span_of(node), f"{finding.name}.{last}"


def _identifier(finding: Finding) -> str:
    name = finding.name
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
        raise NotApplicableError("not a name")
    return name


def _positive(finding: Finding, count: int) -> tuple[int, ...]:
    numbers = finding.numbers[:count]
    if len(numbers) != count or not all(0 < number < LARGEST for number in numbers):
        raise NotApplicableError("not sizes")
    return numbers


_RULES: dict[str, tuple[Any, ...]] = {
    "size": (_size, ast.Call),
    "number": (_number, ast.expr),
    "flatten": (_flatten, ast.Call),
    "flatten layer": (_flatten_layer, ast.Call),
    "unflatten": (_unflatten, ast.Call),
    "order": (_order, ast.Assign),
    "view": (_view, ast.Call),
    "first": (_first, ast.Call),
    "projection": (_projection, ast.ClassDef),
    "declared": (_declared, ast.ClassDef),
    "undeclared": (_undeclared, ast.ClassDef),
    "drop": (_drop, ast.Call, ast.Subscript),
    "twice": (_twice, ast.Call),
    "keyword": (_keyword, ast.Call),
    "default": (_default, ast.FunctionDef),
    "instance": (_instance, ast.Attribute),
    "super": (_super, ast.FunctionDef),
    "attribute": (_attribute, ast.Attribute),
    "module": (_module, ast.Name, ast.Attribute),
}
"""Rules by name, each with the kinds of node that it is about."""

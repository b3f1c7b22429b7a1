"""Change a source text in the ways that a repair may, one rule each. Pure.

A *finding* names a rule, the node of the syntax tree that it is about, and the numbers or the
name that the rule needs; it carries no text of its own. So whoever found it (a contained child,
which may be anybody) can ask for nothing but the changes that the rules below make. Only the
characters that a rule names are replaced, the rest of the text stays as it was written.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...source.network import returned
from ...source.parse import SourceError, parse
from ...types import Repair
from .spans import NotApplicableError, Span, Splice, Text, difference, span_of

LARGEST = 1 << 31
"""Sizes beyond this are no network."""

SIZES = {
    "in_features": 0,
    "in_channels": 0,
    "num_features": 0,
    "input_size": 0,
    "normalized_shape": 0,
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
    rule = _RULES.get(finding.rule)
    if rule is None:
        raise NotApplicableError(f"no rule is called {finding.rule!r}")
    try:
        tree = parse(source)
    except SourceError as error:
        raise NotApplicableError(str(error)) from None
    text = Text(source, tree)
    changed = text.spliced(rule(text, finding))
    if changed == source:
        raise NotApplicableError("it would change nothing")
    return changed, Repair(finding.rule, *difference(source, changed))


# --- sizes of layers -----------------------------------------------------------------------------


def _size(text: Text, finding: Finding) -> list[Splice]:
    """Set the argument ``name`` of the constructor call at the place to ``numbers[0]``."""
    call = text.node(finding.at, ast.Call)
    (size,) = _positive(finding, 1)
    node = argument(call, finding.name, SIZES.get(finding.name, -1))
    if node is None:
        raise NotApplicableError(f"{finding.name} is not given there")
    return [(span_of(node), str(size))]


def _number(text: Text, finding: Finding) -> list[Splice]:
    """Replace the expression at the place, which a constructor hands on, by ``numbers[0]``."""
    (size,) = _positive(finding, 1)
    return [(span_of(text.node(finding.at, ast.expr)), str(size))]


def argument(call: ast.Call, name: str, place: int) -> ast.expr | None:
    """Return what a call gives for a parameter, by name or by place, or None."""
    for keyword_ in call.keywords:
        if keyword_.arg == name:
            return keyword_.value
    plain = not any(isinstance(a, ast.Starred) for a in call.args[: place + 1])
    return call.args[place] if plain and 0 <= place < len(call.args) else None


# --- flattening ----------------------------------------------------------------------------------


def _flatten(text: Text, finding: Finding) -> list[Splice]:
    """Flatten the first argument of the call at the place (``numbers``: pooled before)."""
    call = text.node(finding.at, ast.Call)
    node = call.args[0] if call.args else call.keywords[0].value if call.keywords else None
    if node is None:
        raise NotApplicableError("a call without an argument")
    return [(span_of(node), _flat(text.segment(node), pooled=bool(finding.numbers)))]


def _flat(expression: str, *, pooled: bool) -> str:
    if pooled:
        return f"torch.flatten(F.adaptive_avg_pool2d({expression}, 1), 1)"
    return f"torch.flatten({expression}, 1)"


def _flatten_layer(text: Text, finding: Finding) -> list[Splice]:
    """Insert a flatten layer before the layer at the place, in the same nn.Sequential."""
    call = text.node(finding.at, ast.Call)
    home = text.parents.get(call)
    if not isinstance(home, ast.Call | ast.List) or not _is_sequential(text, home):
        raise NotApplicableError("not an element of nn.Sequential")
    line, column, _, _ = span_of(call)
    layers = "nn.AdaptiveAvgPool2d(1), nn.Flatten(), " if finding.numbers else "nn.Flatten(), "
    return [((line, column, line, column), layers)]


def _is_sequential(text: Text, home: ast.AST) -> bool:
    if isinstance(home, ast.List):
        star = text.parents.get(home)
        return isinstance(star, ast.Starred) and _is_sequential(text, text.parents[star])
    return isinstance(home, ast.Call) and ast.unparse(home.func).endswith("Sequential")


def _unflatten(text: Text, finding: Finding) -> list[Splice]:
    """Remove the flatten at the place; what it flattened stays."""
    call = text.node(finding.at, ast.Call)
    if (inner := flattened(call)) is not None:
        return [(span_of(call), text.segment(inner))]
    home = text.parents.get(call)
    if _is_flatten_layer(call) and isinstance(home, ast.Call) and _is_sequential(text, home):
        following = [a for a in home.args if span_of(a) > span_of(call)]
        if following:
            start, end = span_of(call), span_of(following[0])
            return [((*start[:2], *end[:2]), "")]
    raise NotApplicableError("not a flatten")


def flattened(call: ast.Call) -> ast.expr | None:
    """Return what a call flattens to (N, features) or tries to; None: it does something else."""
    function = call.func
    if not isinstance(function, ast.Attribute):
        return None
    owner = function.value
    if function.attr == "flatten":
        if isinstance(owner, ast.Name) and owner.id == "torch":
            return call.args[0] if call.args else None
        return owner
    views = function.attr in ("view", "reshape") and len(call.args) == 2
    return owner if views and any(_is_minus_one(a) for a in call.args) else None


def _is_minus_one(node: ast.expr) -> bool:
    return ast.unparse(node) == "-1"


def _is_flatten_layer(call: ast.Call) -> bool:
    return ast.unparse(call.func).endswith("Flatten")


def _order(text: Text, finding: Finding) -> list[Splice]:
    """Move a flatten behind the last convolution.

    ``at``: the statement that flattens; ``numbers``: the lines of the statements behind it, in
    the same block, that need what has not been flattened. These come first, the flatten and
    whatever else stood between come after, each in its order.
    """
    first = text.node(finding.at, ast.Assign)
    block = _block(text, first)
    start = block.index(first)
    lines = set(finding.numbers)
    marked = [i for i, s in enumerate(block) if i > start and s.lineno in lines]
    if not marked or len(marked) != len(lines):
        raise NotApplicableError("the statements are not in one block")
    moved = block[start : marked[-1] + 1]
    ordered = [s for s in moved if s.lineno in lines] + [s for s in moved if s.lineno not in lines]
    for statement in moved:
        text.indent(statement)
    return [
        (span_of(place), text.segment(statement))
        for place, statement in zip(moved, ordered, strict=True)
    ]


def _block(text: Text, statement: ast.stmt) -> list[ast.stmt]:
    home = text.parents[statement]
    for field in ("body", "orelse", "finalbody"):
        block = getattr(home, field, [])
        if isinstance(block, list) and statement in block:
            return block
    raise NotApplicableError("not in a block")


def _view(text: Text, finding: Finding) -> list[Splice]:
    """Keep the images of a batch apart in a view that mixes them."""
    call = text.node(finding.at, ast.Call)
    inner = flattened(call)
    if inner is None:
        raise NotApplicableError("not a view with two sizes")
    return [(span_of(call), f"torch.flatten({text.segment(inner)}, 1)")]


def _first(text: Text, finding: Finding) -> list[Splice]:
    """Use the first of the tuple that the call at the place gives."""
    call = text.node(finding.at, ast.Call)
    home = text.parents.get(call)
    if isinstance(home, ast.Assign) and isinstance(home.targets[0], ast.Tuple):
        raise NotApplicableError("the tuple is taken apart already")
    return [(span_of(call), f"{text.segment(call)}[0]")]


# --- the way to the classes ----------------------------------------------------------------------


def _projection(text: Text, finding: Finding) -> list[Splice]:
    """Add a last layer from ``numbers[0]`` features to ``numbers[1]`` classes.

    ``at`` is the class; ``numbers[2]``: 0 as it is, 1 flattened first, 2 pooled and flattened.
    """
    owner = text.node(finding.at, ast.ClassDef)
    features, classes = _positive(finding, 2)
    how = finding.numbers[2] if len(finding.numbers) == 3 else 0
    if any(isinstance(n, ast.Attribute) and n.attr == PROJECTION for n in ast.walk(owner)):
        raise NotApplicableError("it has such a layer")
    layer = f"self.{PROJECTION} = nn.Linear({features}, {classes})"
    return [_appended(text, owner, layer), *_wrapped(text, owner, PROJECTION, how)]


def _declared(text: Text, finding: Finding) -> list[Splice]:
    """Call the last layer (``name``), which was declared and forgotten (numbers as above)."""
    owner = text.node(finding.at, ast.ClassDef)
    how = finding.numbers[2] if len(finding.numbers) == 3 else 0
    return _wrapped(text, owner, _identifier(finding), how)


def _undeclared(text: Text, finding: Finding) -> list[Splice]:
    """Declare the last layer (``name``), which is called, with ``numbers[0]`` classes."""
    owner = text.node(finding.at, ast.ClassDef)
    (classes,) = _positive(finding, 1)
    return [_appended(text, owner, f"self.{_identifier(finding)} = nn.Linear(1, {classes})")]


def _appended(text: Text, owner: ast.ClassDef, statement: str) -> Splice:
    """Add a statement at the end of the constructor."""
    last = text.method(owner, "__init__").body[-1]
    _, _, line, column = span_of(last)
    indent = text.indent(last)
    return (line, column, line, column), f"\n{indent}{statement}"


def _wrapped(text: Text, owner: ast.ClassDef, layer: str, how: int) -> list[Splice]:
    splices = []
    for statement in returned(text.method(owner, "forward")):
        value = text.segment(statement)
        inner = value if how == 0 else _flat(value, pooled=how == 2)
        splices.append((span_of(statement), f"self.{layer}({inner})"))
    return splices


# --- calls ---------------------------------------------------------------------------------------


def _drop(text: Text, finding: Finding) -> list[Splice]:
    """Remove a call, or an index, that cannot be; what it was about stays.

    That is the first argument, or (``numbers`` given) what the method or the index belongs to.
    """
    node = text.node(finding.at, ast.Call, ast.Subscript)
    kept: ast.expr | None
    if isinstance(node, ast.Subscript):
        kept = node.value
    elif finding.numbers:
        kept = node.func.value if isinstance(node.func, ast.Attribute) else None
    else:
        kept = node.args[0] if node.args else None
    if kept is None or isinstance(kept, ast.Starred | ast.Constant):
        raise NotApplicableError("a call on nothing")
    home = text.parents.get(node)
    if isinstance(home, ast.Assign) and ast.unparse(home.targets[-1]) == ast.unparse(kept):
        block = _block(text, home)
        if home is not block[-1]:  # what is left would be x = x
            text.indent(home)
            return [((*span_of(home)[:2], *span_of(block[block.index(home) + 1])[:2]), "")]
    return [(span_of(node), text.segment(kept))]


def _twice(text: Text, finding: Finding) -> list[Splice]:
    """Remove the argument at place ``numbers[0]``, which is given by name, too."""
    call = text.node(finding.at, ast.Call)
    place = finding.numbers[0] if finding.numbers else -1
    rest = [*call.args[place + 1 :], *(k for k in call.keywords)]
    if not 0 <= place < len(call.args) or not rest:
        raise NotApplicableError("no such argument")
    start, end = span_of(call.args[place]), min(span_of(node) for node in rest)
    return [((*start[:2], *end[:2]), "")]


def _keyword(text: Text, finding: Finding) -> list[Splice]:
    """Call keyword number ``numbers[0]``, which is not known, ``name``, or remove it."""
    call = text.node(finding.at, ast.Call)
    place = finding.numbers[0] if finding.numbers else -1
    if not 0 <= place < len(call.keywords) or call.keywords[place].arg is None:
        raise NotApplicableError("no such argument")
    node = call.keywords[place]
    line, column, end_line, end_column = span_of(node)
    if finding.name:
        length = len(str(node.arg).encode())
        return [((line, column, line, column + length), _identifier(finding))]
    others = [span_of(n) for n in (*call.args, *call.keywords) if n is not node]
    before = [other[2:] for other in others if other < span_of(node)]
    behind = [other[:2] for other in others if other > span_of(node)]
    if before:
        return [((*max(before), end_line, end_column), "")]
    end = min(behind) if behind else (end_line, end_column)
    return [((line, column, *end), "")]


def _default(text: Text, finding: Finding) -> list[Splice]:
    """Give the constructor's parameters without a default those in ``numbers``."""
    function = text.node(finding.at, ast.FunctionDef)
    wanted = required(function)
    values = _positive(finding, len(wanted))
    if not wanted or len(values) != len(finding.numbers):
        raise NotApplicableError("nothing is wanted")
    ends = [(span_of(a)[2:], "" if a.annotation is None else " ") for a in wanted]
    return [((*end, *end), f"{gap}={gap}{n}") for (end, gap), n in zip(ends, values, strict=True)]


def required(function: ast.FunctionDef) -> list[ast.arg]:
    """Return the parameters of a method, but the first, that have no default."""
    plain = [*function.args.posonlyargs, *function.args.args]
    return plain[1 : len(plain) - len(function.args.defaults)]


def _instance(text: Text, finding: Finding) -> list[Splice]:
    """Call a layer's class that stands where the layer should."""
    node = text.node(finding.at, ast.Attribute)
    _, _, line, column = span_of(node)
    return [((line, column, line, column), "()")]


# --- names ---------------------------------------------------------------------------------------


def _super(text: Text, finding: Finding) -> list[Splice]:
    """Put ``super().__init__()`` first in the constructor at the place."""
    function = text.node(finding.at, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if function.name != "__init__" or not body:
        raise NotApplicableError("not a constructor with statements")
    indent = text.indent(body[0])
    line, column, _, _ = span_of(body[0])
    splices: list[Splice] = [((line, column, line, column), f"super().__init__()\n{indent}")]
    for late in body:
        if calls_super(late):
            text.indent(late)
            _, _, end, _ = span_of(late)
            splices.append(((late.lineno - 1, len(text.lines[late.lineno - 2]), end,
                             len(text.lines[end - 1])), ""))  # fmt: skip
    return splices


def calls_super(statement: ast.stmt) -> bool:
    """Return whether a statement initialises the module that a class derives from."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    function = statement.value.func
    if not isinstance(function, ast.Attribute) or function.attr != "__init__":
        return False
    owner = function.value
    plain = isinstance(owner, ast.Call) and ast.unparse(owner.func) == "super"
    return plain or ast.unparse(owner).endswith("Module")


def _attribute(text: Text, finding: Finding) -> list[Splice]:
    """Rename the attribute read at the place to ``name``."""
    node = text.node(finding.at, ast.Attribute)
    _, _, line, column = span_of(node)
    start = column - len(node.attr.encode())
    return [((line, start, line, column), _identifier(finding))]


def _module(text: Text, finding: Finding) -> list[Splice]:
    """Look up the name at the place in the module ``name``: nn, F or torch."""
    node = text.node(finding.at, ast.Name, ast.Attribute)
    if finding.name not in ("nn", "F", "torch"):
        raise NotApplicableError("not a module of the standard imports")
    last = node.id if isinstance(node, ast.Name) else node.attr
    return [(span_of(node), f"{finding.name}.{last}")]


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


_RULES: Mapping[str, Callable[[Text, Finding], list[Splice]]] = {
    "size": _size,
    "number": _number,
    "flatten": _flatten,
    "flatten layer": _flatten_layer,
    "unflatten": _unflatten,
    "order": _order,
    "view": _view,
    "first": _first,
    "projection": _projection,
    "declared": _declared,
    "undeclared": _undeclared,
    "drop": _drop,
    "twice": _twice,
    "keyword": _keyword,
    "default": _default,
    "instance": _instance,
    "super": _super,
    "attribute": _attribute,
    "module": _module,
}

"""Make a cell of a network that is nearly one, from its syntax tree: nothing of it runs.

What a small model gets wrong is mostly ``forward``, or a layer that no edge may have. The six
attributes ``edge_i_j``, which it copies from its parent, say the cell anyway. The rules:

*operation*
    A layer becomes the operation that it comes closest to: a convolution ReLU-conv-BN, 1x1 if its
    kernel is, else 3x3; a pooling the average pooling; anything else what its name says.
*edge*
    A layer that ``forward`` applies to a node and adds to another one is what their edge carries.
*nodes*
    ``forward`` is replaced: the attributes called after edges say the cell.
*unused*
    The first layer that has no edge yet goes to the first edge that carries nothing.

What a candidate becomes is :func:`~..write.source` of the cell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ....source.parse import SourceError, parse
from ....types import Repair
from ..cells import CONV1, CONV3, EDGES, NONE, OPERATIONS, POOL, SKIP, Cell
from ..write import SPELLED, SPELLINGS
from .layers import NotACell
from .wiring import Edge, edge_named, number_named

RULES = ("operation", "edge", "nodes", "unused")

LEAST_NAMED = 3
"""Fewest attributes called after edges that say a cell."""

MOST_REPAIRS = 24
"""On the record of one source."""

_RETURN = "return self.edge_0_3(x) + self.edge_1_3(node_1) + self.edge_2_3(node_2)"
_ONE = re.compile(r"(?<![0-9])1x|x1(?![0-9])|1_1|pointwise")


class _Applied(NamedTuple):
    """A layer that ``forward`` applies and that no attribute called after an edge holds."""

    operation: int
    edge: Edge | None
    """Between the nodes whose names stand around it."""
    line: int


def mend(source: str, *, without: Collection[str] = ()) -> tuple[Cell, list[Repair]]:
    """The cell that ``source`` comes closest to, and what was changed to read it.

    ``without``: rules that are not applied. Raises :class:`NotACell` for a text that does not
    parse, that has no network, or in which there is nothing that an edge could carry.
    """
    try:
        tree = parse(source)
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        if not classes:
            raise NotACell("no class that derives from nn.Module")
        return _Mending(classes[-1], source.split("\n"), frozenset(without)).mended()
    except (SourceError, RecursionError) as error:
        raise NotACell(str(error)) from None


class _Mending:
    """The work on one class."""

    def __init__(self, network: ast.ClassDef, lines: list[str], without: frozenset[str]) -> None:
        self._network, self._lines, self._without = network, lines, without
        self._repairs: list[Repair] = []

    def mended(self) -> tuple[Cell, list[Repair]]:
        made = list(self._attributes())
        named = {edge: node for label, node in made if (edge := edge_named(label)) is not None}
        if len(named) < LEAST_NAMED or "nodes" in self._without:
            raise NotACell(f"fewer than {LEAST_NAMED} attributes are called after edges")
        found = {edge: self._operation(edge, node) for edge, node in named.items()}
        self._repair("nodes", self._last_line(), _RETURN)
        applied = [*self._applied(dict(made)), *self._forgotten(made)]
        if "edge" not in self._without:
            for layer in applied:
                if layer.edge is not None:
                    self._put(found, layer, layer.edge, "edge")
            applied = [layer for layer in applied if layer.edge is None]
        free = next((edge for edge in EDGES if found.get(edge, NONE) == NONE), None)
        if applied and free is not None and "unused" not in self._without:
            self._put(found, applied[0], free, "unused")
        if not any(found.values()):
            raise NotACell("nothing that an edge could carry")
        cell: Cell = tuple(found.get(edge, NONE) for edge in EDGES)  # type: ignore[assignment]
        return cell, list(dict.fromkeys(self._repairs))[:MOST_REPAIRS]

    def _put(self, found: dict[Edge, int], layer: _Applied, edge: Edge, rule: str) -> None:
        found[edge] = layer.operation
        self._repair(rule, layer.line, _written(edge, layer.operation))

    def _operation(self, edge: Edge, node: ast.expr) -> int:
        text = ast.unparse(node)
        if text in SPELLED:
            return SPELLED[text]
        if "operation" in self._without:
            raise NotACell(f"{text} is none of the operations")
        operation = meant(node) or NONE
        self._repair("operation", node.lineno, _written(edge, operation))
        return operation

    def _attributes(self) -> Iterator[tuple[str, ast.expr]]:
        """Collect what the class assigns to its attributes and keys, by their name, in order."""
        for node in ast.walk(self._network):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute | ast.Subscript):
                        yield _name(target), node.value
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if key is not None:
                        yield _text(key), value

    def _applied(self, made: dict[str, ast.expr]) -> Iterator[_Applied]:
        for statement in _statements(self._network):
            into = 3 if isinstance(statement, ast.Return) else None
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                into = number_named([statement.targets[0].id])
            for node in sorted(_calls(statement), key=lambda n: (n.end_lineno, n.end_col_offset)):
                name = _name(node.func)
                if edge_named(name) is not None and name in made:
                    continue
                found = meant(made.get(name, node))
                if not found:  # nothing, or NONE
                    continue
                origin = _origin(node)
                edge = (origin, into) if origin is not None and into is not None else None
                yield _Applied(found, edge if edge in EDGES else None, node.lineno)

    def _forgotten(self, made: list[tuple[str, ast.expr]]) -> Iterator[_Applied]:
        """Layers that the constructor makes and ``forward`` does not call by their name."""
        calls = [call for statement in _statements(self._network) for call in _calls(statement)]
        called = {_name(call.func) for call in calls}
        for name, node in made:
            found = meant(node)
            if found and edge_named(name) is None and name not in called:
                yield _Applied(found, None, node.lineno)

    def _repair(self, rule: str, line: int, after: str) -> None:
        before = self._lines[line - 1].strip() if 0 < line <= len(self._lines) else ""
        if before != after:
            self._repairs.append(Repair(rule, before, after))

    def _last_line(self) -> int:
        statements = _statements(self._network)
        return statements[-1].end_lineno or 0 if statements else 0


def _statements(network: ast.ClassDef) -> list[ast.stmt]:
    methods = [node for node in network.body if isinstance(node, ast.FunctionDef)]
    return next((method.body for method in methods if method.name == "forward"), [])


def _calls(statement: ast.stmt) -> Iterator[ast.Call]:
    """Calls of a layer; the one that makes it (``nn.ReLU()(x)``) counts with the one of it."""
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    inner = {id(call.func) for call in calls}
    yield from (call for call in calls if id(call) not in inner)


def _origin(call: ast.Call) -> int | None:
    """The number of the node that a layer is applied to."""
    names = [argument.id for argument in call.args if isinstance(argument, ast.Name)]
    if names and names[0] in ("x", "input", "inputs"):
        return 0
    return number_named(names[:1])


def _written(edge: Edge, operation: int) -> str:
    return f"self.edge_{edge[0]}_{edge[1]} = {SPELLINGS[operation]}"


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _name(function: ast.expr) -> str:
    """The last name of what is called."""
    while isinstance(function, ast.Call):
        function = function.func
    if isinstance(function, ast.Attribute):
        return function.attr
    if isinstance(function, ast.Subscript):
        return _text(function.slice)
    return function.id if isinstance(function, ast.Name) else ""


def meant(node: ast.expr) -> int | None:
    """The operation that an expression of a layer comes closest to; None where it says none."""
    if isinstance(node, ast.Constant):
        return meaning(node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.Name | ast.Attribute):
        return meaning(_name(node))
    if not isinstance(node, ast.Call):
        return None
    name = _name(node.func)
    if name == "Sequential":
        parts = [op for part in node.args if (op := meant(part)) is not None]
        return next((op for op in parts if op != SKIP), None)
    found = meaning(name)
    if found == CONV3 and name.startswith("Conv"):
        sizes = [k.value for k in node.keywords if k.arg == "kernel_size"] or node.args[2:3]
        return CONV1 if sizes and ast.unparse(sizes[0]) in ("1", "(1, 1)") else CONV3
    return found


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

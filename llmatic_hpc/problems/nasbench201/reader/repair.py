"""Making a cell of what is almost one: by fixed rules, and on the record.

What small language models write beside the benchmark's cells is mostly one of few things: a layer
more behind the cell, a name that nobody defined, a convolution without its ReLU, a second
operation on an edge, nodes that are wired as no cell is. The rules, in the order in which they
apply:

*name*, *helper*, *self*
    A name that is not defined means what it says (``conv3x3``, ``skip``, ``"nor_conv_3x3"``), or
    is the canonical helper, the attribute or the function of that name.
*arguments*
    Of a call that Python would refuse, what is missing is filled in and what is too much goes.
*instance*
    A class that is called with a tensor is made an instance first.
*sum*
    What joins nodes otherwise (product, difference, concatenation) is a sum.
*left out*
    Statements and terms that cannot be understood, and layers that no edge carries (dropout,
    activations and norms that stand alone, linear layers), go; what they stand on stays.
*operation*
    Any other convolution becomes ReLU-conv-BN, 1x1 if its kernel is, else 3x3; any other pooling
    the average pooling.
*channels*
    Convolutions that go from one number to another, or that differ, have the cell's number.
*edge*
    Of two operations on an edge the one that is no ``edge_i_j`` is the new one and stays, else
    the later in the text; a zero never.
*nodes*
    With more than two nodes between input and output, the attributes ``edge_i_j`` say the cell;
    without such attributes all nodes behind the second are the output.
*unused*
    An operation that was made and never applied, or left out for the nodes' sake, goes to the
    edge of its name if that is free; the first of those without such a name to the first free
    edge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ....types import Repair
from ..cells import CONV1, CONV3, EDGES, NONE, SKIP, Cell
from ..write import SPELLINGS
from .graph import Edge, Graph, Term, channel_flaw, edge_named, last_layers, number_named
from .lenient import Lenient, meaning, meant
from .parse import Lines, parse
from .read import read
from .values import Chain, Exhausted, Instance, Layer, NotACell, Tensor, Value, flaw, operation

MOST_REPAIRS = 24
"""On the record of one source."""

LEAST_NAMED = 3
"""Attributes called after edges that make them worth following where the wiring is none."""

_ASSIGNED = re.compile(r"self\.\w+ = ")
_RETURN = "return self.edge_0_3(x) + self.edge_1_3(node_1) + self.edge_2_3(node_2)"


def mend(source: str) -> tuple[Cell, list[Repair]]:
    """The cell that ``source`` comes closest to, and what was changed to read it.

    Nothing is changed in a source that :func:`.read.read` accepts. What a candidate becomes is
    :func:`.write.source` of the cell.

    Raises :class:`NotACell` where no rule helps: for a text that does not parse, that has no
    network, or in which there is nothing that an edge could carry.
    """
    try:
        return read(source), []
    except Exhausted:
        raise
    except NotACell as error:
        reason = str(error)
    try:
        return _Mending(source, reason).mended()
    except RecursionError:
        raise NotACell("nested too deeply") from None


class _Mending:
    """Of one source."""

    def __init__(self, source: str, reason: str) -> None:
        self.reason = reason
        self.lines = Lines(source)
        self.run = Lenient(parse(source), self.lines)
        self.repairs: list[Repair] = []

    def mended(self) -> tuple[Cell, list[Repair]]:
        self.network = self.run.network()
        output = self.run.forward(self.network)
        for note in self.run.notes:
            self._repair(note.rule, note.line, note.after, note.before)
        graph = None
        if isinstance(output, Tensor):
            tensors, output = self._operations(output)
            graph = Graph(tensors, output)
        named = self._named()
        found: dict[Edge, int] = {}
        terms = None if graph is None else self._wired(graph, named)
        if terms is not None:
            found = self._settled(terms)
        elif named:
            found = named
            self._repair("nodes", self._last_line(), _RETURN)
        elif graph is None:
            raise NotACell(self.reason)
        self._place(found, graph, wired=terms is not None)
        if not any(found.values()):
            raise NotACell(self.reason)
        unique = list(dict.fromkeys(self.repairs))
        cell: Cell = tuple(found.get(edge, NONE) for edge in EDGES)  # type: ignore[assignment]
        return cell, unique[:MOST_REPAIRS]

    def _repair(self, rule: str, line: int, after: str, before: str = "") -> None:
        before = before or self.lines.line(line)
        assigned = _ASSIGNED.match(before)
        if assigned and after in SPELLINGS.values():
            after = assigned[0] + after
        if before != after:
            self.repairs.append(Repair(rule, before, after))

    def _last_line(self) -> int:
        forward = self.network.kind.find("forward")
        return getattr(getattr(forward, "node", None), "end_lineno", 0) or 0

    # --- operation, left out ---------------------------------------------------------------------

    def _operations(self, output: Tensor) -> tuple[list[Tensor], Tensor]:
        """The graph with one layer for each operation and without all other layers."""
        called = [t for t in self.run.tensors if number_named(t.names) in (1, 2)]
        known = _reached([self.run.tensors[0], output, *called])
        whole = _whole(known)
        near = _trimmings(known, whole)
        fixed = {
            t.layer: t.layer.arguments["in_channels"]
            for t in known
            if t.layer is not None and t.layer.kind == "conv"
            and isinstance(t.layer.arguments["in_channels"], int)
        }  # fmt: skip
        for layer in fixed if len({*fixed.values()}) > 1 else ():
            self._repair("channels", layer.line, SPELLINGS[meant(layer) or CONV3])
        made: dict[Tensor, Tensor] = {}
        for tensor in known:
            made[tensor] = self._operation(tensor, made, whole, near)
        ordered = list(dict.fromkeys(made.values()))
        return ordered, made[output]

    def _operation(
        self, tensor: Tensor, made: dict[Tensor, Tensor], whole: set[Tensor], near: set[Tensor]
    ) -> Tensor:
        origins = tuple(made[origin] for origin in tensor.origins)
        if tensor.layer is None:
            origins = tuple(
                self._bare(old, new) for old, new in zip(tensor.origins, origins, strict=True)
            )
            return Tensor(tensor.number, tensor.line, None, origins, tensor.label, tensor.names)
        found = meant(tensor.layer)
        if found is None:
            (same,) = origins
            if tensor not in whole and tensor not in near:
                self._repair("left out", tensor.layer.line or tensor.line, "")
            if same.origins:
                same.names = [*same.names, *tensor.names]
                if edge_named(tensor.label) or not same.label:
                    same.label = tensor.label
            return same
        layer = Layer("operation", SPELLINGS[found], tensor.layer.line, {"operation": found})
        if tensor not in whole:
            self._repair("operation", layer.line or tensor.line, SPELLINGS[found])
        return Tensor(tensor.number, tensor.line, layer, origins, tensor.label, list(tensor.names))

    def _bare(self, old: Tensor, new: Tensor) -> Tensor:
        """A term of a sum that was nothing but layers that are left out: a skip, if need be."""
        if old.layer is None or meant(old.layer) is not None or new.layer is not None:
            return new
        layer = Layer("operation", SPELLINGS[SKIP], old.line, {"operation": SKIP, "bare": True})
        return Tensor(old.number, old.line, layer, (new,), old.label)

    # --- edge, nodes -----------------------------------------------------------------------------

    def _wired(self, graph: Graph, named: dict[Edge, int]) -> list[tuple[Edge, Term]] | None:
        """The terms as ``forward`` wires them; None: it has too many nodes, but edges' names."""
        failure: list[tuple[Edge, Term]] | None = None
        for promoted in graph.promotions():
            try:
                terms = graph.edges(promoted)
            except NotACell:
                continue
            if len({edge for edge, term in terms if term.operation != NONE}) == sum(
                term.operation != NONE for _, term in terms
            ):
                return terms
            failure = failure or terms
        if failure is not None or named:
            return failure
        self._repair("nodes", self._last_line(), "the nodes behind the second are the output")
        return graph.edges(frozenset(), merge=True)

    def _settled(self, terms: Sequence[tuple[Edge, Term]]) -> dict[Edge, int]:
        """One operation for each edge."""
        found: dict[Edge, Term] = {}
        for edge, term in terms:
            there = found.get(edge)
            if there is None or NONE in (there.operation, term.operation):
                if there is None or there.operation == NONE:
                    found[edge] = term
                continue
            if _is_bare(term) or _is_bare(there):
                found[edge] = there if _is_bare(term) else term
                continue
            keeps = edge_named(term.tensor.label) == edge != edge_named(there.tensor.label)
            stays, goes = (there, term) if keeps else (term, there)
            found[edge] = stays
            line = self._last_line() if goes.tensor is goes.origin else goes.tensor.line
            self._repair("edge", line, _line(edge, stays.operation))
        return {edge: term.operation for edge, term in found.items()}

    def _named(self) -> dict[Edge, int]:
        """What the attributes say that are called after edges; empty where too few are."""
        found = {}
        for name, value in self.network.attributes.items():
            edge, operation = edge_named(name), self._carried(value)
            if edge is not None and operation is not None:
                found[edge] = operation
        return found if len(found) >= LEAST_NAMED else {}

    def _carried(self, value: Value) -> int | None:
        """The operation that a module would be on an edge; None: it is no module."""
        if isinstance(value, str):
            return meaning(value)
        if not isinstance(value, Layer | Chain | Instance):
            return None
        run = self.run
        before, applied = len(run.notes), dict(run.applied)
        try:
            x = run.tensor()
            start = len(run.tensors)
            run.apply(value, x, self.network.kind.node)
        except NotACell:
            return None
        finally:
            del run.notes[before:]
            run.applied = applied
        layers = [t.layer for t in run.tensors[start:] if t.layer is not None]
        found = [o for layer in layers if (o := meant(layer)) is not None]
        return next((o for o in reversed(found) if o != SKIP), SKIP)

    # --- unused ----------------------------------------------------------------------------------

    def _place(self, found: dict[Edge, int], graph: Graph | None, *, wired: bool) -> None:
        """Puts on free edges what was made for nothing: all that name one, else the first."""
        fresh: list[tuple[int, int]] = []  # operation and line
        if graph is not None and not wired:
            fresh += [
                (o, tensor.line)
                for tensor in sorted(graph.known, key=lambda t: t.number)
                if tensor.layer is not None and tensor.label and edge_named(tensor.label) is None
                and (o := operation([tensor.layer])) > NONE
            ]  # fmt: skip
        for module in self.run.loose:
            if carried := self._carried(module):
                fresh.append((carried, self._last_line()))
        for name, value in self.network.attributes.items():
            if id(value) in self.run.applied:
                continue
            carried = self._carried(value)
            if not carried or _is_trimming(value):  # nothing, or NONE
                continue
            line, edge = self.network.lines.get(name, 0), edge_named(name)
            if edge is None:
                fresh.append((carried, line))
            elif found.get(edge, NONE) == NONE:
                found[edge] = carried
                origin = "x" if edge[0] == 0 else f"node_{edge[0]}"
                self._repair("unused", line, f"... + self.{name}({origin})")
        free = next((e for e in EDGES if found.get(e, NONE) == NONE), None)
        if fresh and free is not None:
            carried, line = fresh[0]
            found[free] = carried
            self._repair("unused", line, _line(free, carried))


def _line(edge: Edge, operation: int) -> str:
    return f"self.edge_{edge[0]}_{edge[1]} = {SPELLINGS[operation]}"


def _is_conv(tensor: Tensor) -> bool:
    return tensor.layer is not None and meant(tensor.layer) in (CONV1, CONV3)


def _is_trimming(value: Value) -> bool:
    """Whether a module is nothing that an edge carries by itself (a norm, a dropout)."""
    return isinstance(value, Layer) and meant(value) is None


def _is_bare(term: Term) -> bool:
    return term.tensor.layer is not None and "bare" in term.tensor.layer.arguments


def _reached(outputs: Sequence[Tensor]) -> list[Tensor]:
    """What some tensors depend on, themselves included, in order of evaluation."""
    found, todo = {*outputs}, [*outputs]
    while todo:
        for origin in todo.pop().origins:
            if origin not in found:
                found.add(origin)
                todo.append(origin)
    return sorted(found, key=lambda t: t.number)


def _trimmings(tensors: Sequence[Tensor], whole: set[Tensor]) -> set[Tensor]:
    """ReLUs and norms around convolutions that are not as they should be: they belong to what
    these become."""

    def trims(tensor: Tensor) -> bool:
        return tensor.layer is not None and tensor.layer.kind in ("relu", "bn")

    found: set[Tensor] = set()
    for tensor in tensors:
        if _is_conv(tensor) and tensor not in whole:
            (origin,) = tensor.origins
            while trims(origin) and origin not in whole:
                found.add(origin)
                (origin,) = origin.origins
            found.add(tensor)
        elif trims(tensor) and tensor.origins[0] in found and tensor not in whole:
            found.add(tensor)
    return found


def _whole(tensors: Sequence[Tensor]) -> set[Tensor]:
    """Those that are part of an operation as it should be."""
    found: set[Tensor] = set()
    for tensor in tensors:
        for length in (1, 3):
            run = last_layers(tensor, length)
            layers = [layer for layer, _ in run]
            if len(run) < length or any(map(flaw, layers)):
                continue
            if operation(layers) >= 0 and not channel_flaw(run[1:]):
                found |= {tensor, *(origin for _, origin in run[1:])}
    return found

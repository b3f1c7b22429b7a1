"""The cell of a traced graph: which tensors are nodes, and what the edges between them carry."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ....evaluation import graph
from ..cells import EDGES, NONE, OPERATIONS, SKIP, Cell
from .layers import Layer, NotACell, Tensor, flaw, operation, show

MOST_PROMOTED = 16
"""Sums that may or may not be nodes, of which all choices of two are tried."""

_NUMBERED = re.compile(r"(?:node|n|h|x|y|s|state|out|feat|features|inter|z)_?([0-3])")
_BETWEEN = re.compile(r"(?:^|[^0-9])([0-2])[^0-9x]{0,4}?([1-3])(?![0-9x])")
_INTO = re.compile(r"(?:^|[^0-9])([1-3])\s*(?:<-|<)\s*([0-2])(?![0-9])")

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


Edge = tuple[int, int]


@dataclass(frozen=True)
class Term:
    """What one operation adds to a node."""

    operation: int
    """-1: none that a cell may have."""
    origin: Tensor
    tensor: Tensor
    """The result."""
    flaw: str = ""


def cell_of(traced: graph.Graph) -> Cell:
    """The cell that a graph computes. Raises :class:`NotACell`."""
    tensors: list[Tensor] = []
    for number, entry in enumerate(traced.tensors):
        is_layer = entry.kind not in ("input", "sum")
        layer = Layer(entry.kind, entry.text, entry.arguments) if is_layer else None
        origins = tuple(tensors[origin] for origin in entry.origins)
        tensors.append(Tensor(number, layer, origins, entry.label, entry.names))
    wiring = Wiring(tensors, tensors[traced.output])
    failure: NotACell | None = None
    for promoted in wiring.promotions():
        try:
            return wiring.cell(promoted)
        except NotACell as error:
            failure = failure or error
    assert failure is not None
    raise failure


class Wiring:
    """The tensors that an output depends on, and which of them must be nodes."""

    def __init__(self, tensors: Sequence[Tensor], output: Tensor) -> None:
        self.input = tensors[0]
        if output is self.input:  # the node is then a sum of nothing but the input
            output = Tensor(len(tensors), None, (output,))
        self.output = output
        self.consumers: Counter[Tensor] = Counter()
        self.known: set[Tensor] = set()
        self.terms: dict[Tensor, Term] = {}
        self.nodes: set[Tensor] = set()
        """Tensors that an operation is applied to, or that are used twice."""
        self._reach(output)
        for tensor in tensors:  # computed for nothing, but a node by its name
            if number_named(tensor.names) in (1, 2) and tensor not in self.known:
                self.nodes.add(tensor)
                self._reach(tensor)
        self._measure()

    def _reach(self, tensor: Tensor) -> None:
        todo = [tensor]
        while todo:
            current = todo.pop()
            if current not in self.known:
                self.known.add(current)
                self.consumers.update(current.origins)
                todo += current.origins

    def _measure(self) -> None:
        """Finds terms and nodes, from the output back."""
        plain: Counter[Tensor] = Counter()
        todo, seen = [self.output, *self.nodes], set[Tensor]()
        while todo:
            current = todo.pop()
            if current in seen or current is self.input:
                continue
            seen.add(current)
            if current.layer is None:
                plain.update(current.origins)
                todo += current.origins
            else:
                term = self.terms[current] = self._term(current)
                self.nodes.add(term.origin)
                todo.append(term.origin)
        self.nodes |= {tensor for tensor, count in plain.items() if count > 1}
        self.nodes -= {self.input, self.output}
        self.plain = plain

    def _term(self, tensor: Tensor) -> Term:
        """The operation whose result a tensor is."""
        for length in (1, 3):
            run = last_layers(tensor, length)
            if len(run) == length and not any(flaw(layer) for layer, _ in run):
                found = operation([layer for layer, _ in run])
                if found >= 0:
                    return Term(found, run[0][1], tensor, channel_flaw(run[1:]))
        run = [_last(tensor)]
        while (origin := run[0][1]).layer is not None and self.consumers[origin] == 1:
            run.insert(0, _last(origin))
        return Term(-1, run[0][1], tensor, _reason([layer for layer, _ in run]))

    def promotions(self) -> Iterable[frozenset[Tensor]]:
        """What may be a node besides: first what is called so, then nothing, then what is the
        sum that one variable holds and another goes on with."""
        free = 2 - len(self.nodes)
        spare = sorted(
            (t for t in self.plain if t not in self.nodes and t is not self.input and t.names),
            key=lambda t: t.number,
        )[:MOST_PROMOTED]
        called = [t for t in spare if number_named(t.names) in (1, 2)]
        if 0 < len(called) <= free:
            yield frozenset(called)
        yield frozenset()
        sums = [t for t in spare if t.layer is None and not self._goes_on(t)]
        for count in range(1, free + 1):
            for chosen in itertools.combinations(sums, count):
                yield frozenset(chosen)

    def _goes_on(self, tensor: Tensor) -> bool:
        """Return whether a sum is only added to under the same name: ``out = out + more``."""
        return any(
            tensor in other.origins and set(tensor.names) & set(other.names) for other in self.known
        )

    # --- with the nodes known --------------------------------------------------------------------

    def cell(self, promoted: frozenset[Tensor]) -> Cell:
        """The cell, with some more tensors taken as nodes. Raises :class:`NotACell`."""
        found: dict[Edge, int] = {}
        for edge, term in self.edges(promoted):
            where = f"edge {edge[0]}>{edge[1]}"
            if term.flaw:
                raise NotACell(f"{where}: {term.flaw}")
            there = found.get(edge, NONE)
            if NONE not in (there, term.operation):
                both = ", ".join(OPERATIONS[o] for o in (there, term.operation))
                raise NotACell(f"{where}: two operations ({both})")
            found[edge] = max(there, term.operation)  # adding zero changes nothing
        self._check_channels()
        return tuple(found.get(edge, NONE) for edge in EDGES)  # type: ignore[return-value]

    def edges(self, promoted: frozenset[Tensor]) -> list[tuple[Edge, Term]]:
        """Every term with its edge. Raises :class:`NotACell` for too many nodes."""
        nodes = sorted(self.nodes | promoted, key=lambda t: t.number)
        if len(nodes) > 2:
            count = _WORDS[len(nodes)] if len(nodes) < len(_WORDS) else str(len(nodes))
            raise NotACell(f"{count} nodes between input and output; a cell has two")
        into = {node: self._into(node, {*nodes}) for node in (*nodes, self.output)}
        numbers = self._numbers(nodes, into)
        return [
            ((numbers[term.origin], numbers[node]), term)
            for node, terms in into.items()
            for term in terms
        ]

    def _into(self, node: Tensor, nodes: set[Tensor]) -> list[Term]:
        """The terms of a node, in the order in which they are written."""
        found, todo = [], [node]
        while todo:
            current = todo.pop()
            if current is not node and (current in nodes or current is self.input):
                found.append(Term(SKIP, current, current))
            elif current.layer is None:
                todo += reversed(current.origins)
            else:
                found.append(self.terms[current])
        return found

    def _numbers(
        self, nodes: Sequence[Tensor], into: dict[Tensor, list[Term]]
    ) -> dict[Tensor, int]:
        """Numbers of the nodes: as their names say, else in order of evaluation."""
        ends = {self.output: 3, self.input: 0}
        choices = [dict(zip(nodes, order, strict=True))
                   for order in itertools.permutations((1, 2), len(nodes))]  # fmt: skip
        names_count = not any(number_named(node.names) == 0 for node in nodes)

        def agreement(chosen: dict[Tensor, int]) -> int:
            numbers = {**chosen, **ends}
            score = 0
            for node in nodes:
                if names_count and (said := number_named(node.names)) is not None:
                    score += 1 if said == chosen[node] else -1
            for node, terms in into.items():
                for term in terms:
                    if edge := edge_named(term.tensor.label):
                        score += 1 if edge == (numbers.get(term.origin), numbers.get(node)) else -1
            return score

        possible = [
            chosen
            for chosen in choices
            if all(
                chosen[term.origin] < chosen[node]
                for node in nodes
                for term in into[node]
                if term.origin in chosen
            )
        ]
        best: dict[Tensor, int] = max(possible, key=agreement)
        return best | ends

    def _check_channels(self) -> None:
        """One number of channels for all: the sums have it."""
        seen: set[int] = set()
        for tensor in self.known:
            if tensor.layer is not None and tensor.layer.kind == "conv":
                seen.add(tensor.layer.arguments["in_channels"])
        if len(seen) > 1:
            raise NotACell(f"convolutions of {' and '.join(map(show, sorted(seen)))} channels")


def _last(tensor: Tensor) -> tuple[Layer, Tensor]:
    assert tensor.layer is not None
    return tensor.layer, tensor.origins[0]


def last_layers(tensor: Tensor, length: int) -> list[tuple[Layer, Tensor]]:
    """The last layers of a tensor, each with what it is applied to, in order."""
    found: list[tuple[Layer, Tensor]] = []
    while len(found) < length and tensor.layer is not None:
        found.insert(0, _last(tensor))
        tensor = tensor.origins[0]
    return found


def channel_flaw(run: Sequence[tuple[Layer, Tensor]]) -> str:
    """Why a batch norm does not fit its convolution; empty if it does."""
    if len(run) < 2:
        return ""
    channels, features = (
        run[0][0].arguments["out_channels"],
        run[1][0].arguments.get("num_features"),
    )
    if channels == features:
        return ""
    return f"BatchNorm2d({show(features)}) behind a convolution to {show(channels)}"


def _reason(layers: Sequence[Layer]) -> str:
    """What is wrong with layers that are no operation."""
    for layer in layers:
        if found := flaw(layer):
            return found
    kinds = [layer.kind for layer in layers]
    names = {"relu": "ReLU", "conv": "Conv2d", "bn": "batch norm", "pool": "average pooling"}
    if "conv" not in kinds:
        alone = next((k for k in kinds if k in ("relu", "bn")), kinds[0])
        return f"{names.get(alone, alone)} without a convolution"
    place = kinds.index("conv")
    if place == 0 or kinds[place - 1] != "relu":
        return "Conv2d without a ReLU before it"
    if kinds[place + 1 : place + 2] != ["bn"]:
        return "Conv2d without a batch norm behind it"
    return f"{', '.join(names.get(kind, kind) for kind in kinds)} one after the other"


def number_named(names: Iterable[str]) -> int | None:
    """The number of a node that its variables say, the last one first."""
    for name in reversed(list(names)):
        if match := _NUMBERED.fullmatch(name.lower()):
            return int(match[1])
    return None


def edge_named(label: str) -> Edge | None:
    """The edge that an attribute or a key says: ``edge_0_2``, ``op02``, ``0->2``, ``2<-0``."""
    if match := _INTO.search(label):
        edge = int(match[2]), int(match[1])
    elif match := _BETWEEN.search(label):
        edge = int(match[1]), int(match[2])
    else:
        return None
    return edge if edge in EDGES else None

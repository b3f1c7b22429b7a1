"""The cell of a traced graph: which tensors are nodes, and what the edges between them carry."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ....evaluation.graph import Graph, Traced
from ..cells import EDGES, NONE, OPERATIONS, SKIP, Cell
from .layers import NotACell, flaw, operation, show

INPUT = 0
"""Number of the tensor that a graph begins with."""

MOST_PROMOTED = 16
"""Sums that may or may not be nodes, of which all choices of two are tried."""

_NUMBERED = re.compile(r"(?:node|n|h|x|y|s|state|out|feat|features|inter|z)_?([0-3])")
_BETWEEN = re.compile(r"(?:^|[^0-9])([0-2])[^0-9x]{0,4}?([1-3])(?![0-9x])")
_INTO = re.compile(r"(?:^|[^0-9])([1-3])\s*(?:<-|<)\s*([0-2])(?![0-9])")

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


Edge = tuple[int, int]


class Term(NamedTuple):
    """Contribution of one operation to a node. Tensors are known by their numbers."""

    operation: int
    """-1: none that a cell may have."""
    origin: int
    label: str = ""
    """Attribute or key of the module whose result it is."""
    flaw: str = ""


def cell_of(traced: Graph) -> Cell:
    """The cell that a graph computes. Raises :class:`NotACell`."""
    wiring = Wiring(traced.tensors, traced.output)
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

    def __init__(self, tensors: Sequence[Traced], output: int) -> None:
        if output == INPUT:  # the node is then a sum of nothing but the input
            tensors, output = (*tensors, Traced("sum", (INPUT,))), len(tensors)
        self.tensors, self.output = tensors, output
        self.consumers: Counter[int] = Counter()
        self.known: set[int] = set()
        self.terms: dict[int, Term] = {}
        self.nodes: set[int] = set()
        """Tensors that an operation is applied to, or that are used twice."""
        self.plain: Counter[int] = Counter()
        """Tensors that sums are made of, and how often."""
        self._reach(output)
        for number, tensor in enumerate(tensors):  # computed for nothing, but a node by its name
            if number_named(tensor.names) in (1, 2) and number not in self.known:
                self.nodes.add(number)
                self._reach(number)
        self._measure()

    def _is_layer(self, number: int) -> bool:
        return self.tensors[number].kind not in ("input", "sum")

    def _reach(self, number: int) -> None:
        todo = [number]
        while todo:
            current = todo.pop()
            if current not in self.known:
                self.known.add(current)
                self.consumers.update(self.tensors[current].origins)
                todo += self.tensors[current].origins

    def _measure(self) -> None:
        """Finds terms and nodes, from the output back."""
        todo, seen = [self.output, *self.nodes], {INPUT}
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            if self._is_layer(current):
                term = self.terms[current] = self._term(current)
                self.nodes.add(term.origin)
                todo.append(term.origin)
            else:
                self.plain.update(self.tensors[current].origins)
                todo += self.tensors[current].origins
        self.nodes |= {number for number, count in self.plain.items() if count > 1}
        self.nodes -= {INPUT, self.output}

    def _term(self, number: int) -> Term:
        """The operation whose result a tensor is."""
        label = self.tensors[number].label
        for length in (1, 3):
            run, origin = self._last_layers(number, length)
            if len(run) == length and not any(map(flaw, run)) and (found := operation(run)) >= 0:
                return Term(found, origin, label, _channel_flaw(run))
        run, origin = self._last_layers(number, 1)
        while self._is_layer(origin) and self.consumers[origin] == 1:
            run.insert(0, self.tensors[origin])
            origin = run[0].origins[0]
        return Term(-1, origin, label, _reason(run))

    def _last_layers(self, number: int, length: int) -> tuple[list[Traced], int]:
        """The last layers of a tensor, in order, and what the first of them is applied to."""
        found: list[Traced] = []
        while len(found) < length and self._is_layer(number):
            found.insert(0, self.tensors[number])
            (number,) = self.tensors[number].origins
        return found, number

    def promotions(self) -> Iterable[frozenset[int]]:
        """List what may be a node besides: first what is called so, then nothing, then what is the
        sum that one variable holds and another goes on with."""
        free = 2 - len(self.nodes)
        spare = sorted(n for n in self.plain.keys() - self.nodes - {INPUT} if self.tensors[n].names)
        spare = spare[:MOST_PROMOTED]
        called = [n for n in spare if number_named(self.tensors[n].names) in (1, 2)]
        if 0 < len(called) <= free:
            yield frozenset(called)
        yield frozenset()
        sums = [n for n in spare if not self._is_layer(n) and not self._goes_on(n)]
        for count in range(1, free + 1):
            yield from map(frozenset, itertools.combinations(sums, count))

    def _goes_on(self, number: int) -> bool:
        """Return whether a sum is only added to under the same name: ``out = out + more``."""
        names = set(self.tensors[number].names)
        return any(
            number in other.origins and names.intersection(other.names)
            for other in (self.tensors[known] for known in self.known)
        )

    # --- with the nodes known --------------------------------------------------------------------

    def cell(self, promoted: frozenset[int]) -> Cell:
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

    def edges(self, promoted: frozenset[int]) -> list[tuple[Edge, Term]]:
        """Every term with its edge. Raises :class:`NotACell` for too many nodes."""
        nodes = sorted(self.nodes | promoted)
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

    def _into(self, node: int, nodes: set[int]) -> list[Term]:
        """The terms of a node, in the order in which they are written."""
        found, todo = [], [node]
        while todo:
            current = todo.pop()
            if current != node and (current in nodes or current == INPUT):
                found.append(Term(SKIP, current, self.tensors[current].label))
            elif self._is_layer(current):
                found.append(self.terms[current])
            else:
                todo += reversed(self.tensors[current].origins)
        return found

    def _numbers(self, nodes: Sequence[int], into: dict[int, list[Term]]) -> dict[int, int]:
        """Numbers of the nodes: as their names say, else in order of evaluation."""
        ends = {self.output: 3, INPUT: 0}
        said = {node: number_named(self.tensors[node].names) for node in nodes}
        names_count = 0 not in said.values()

        def agreement(chosen: dict[int, int]) -> int:
            numbers = {**chosen, **ends}
            score = 0
            for node in nodes:
                if names_count and said[node] is not None:
                    score += 1 if said[node] == chosen[node] else -1
            for node, terms in into.items():
                for term in terms:
                    if edge := edge_named(term.label):
                        score += 1 if edge == (numbers.get(term.origin), numbers[node]) else -1
            return score

        orders = itertools.permutations((1, 2), len(nodes))
        possible = [
            chosen
            for chosen in (dict(zip(nodes, order, strict=True)) for order in orders)
            if all(
                chosen[term.origin] < chosen[node]
                for node in nodes
                for term in into[node]
                if term.origin in chosen
            )
        ]
        return max(possible, key=agreement) | ends

    def _check_channels(self) -> None:
        """One number of channels for all: the sums have it."""
        layers = [self.tensors[number] for number in self.known]
        seen = {layer.arguments["in_channels"] for layer in layers if layer.kind == "conv"}
        if len(seen) > 1:
            raise NotACell(f"convolutions of {' and '.join(map(show, sorted(seen)))} channels")


def _channel_flaw(run: Sequence[Traced]) -> str:
    """Why a batch norm does not fit its convolution; empty if it does."""
    if len(run) == 1:
        return ""
    channels, features = run[1].arguments["out_channels"], run[2].arguments.get("num_features")
    if channels == features:
        return ""
    return f"BatchNorm2d({show(features)}) behind a convolution to {show(channels)}"


def _reason(layers: Sequence[Traced]) -> str:
    """Say what is wrong with layers that are no operation."""
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

"""The control without a language model on NAS-Bench-201: edits of a cell, drawn at random.

It answers the same requests as a language model, from the number of the prompt alone. A prompt
says which operation an edge is to carry; the edit is one of the parent's neighbours, a cell that
differs in one edge, and rather one that nobody has seen: what has a score already would be a
duplicate, from which nothing is learnt.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence, Set
from functools import cache

from ...config import ContainmentSettings, GeneratorSettings
from ...types import Completion, Request
from .cells import (
    CONV1,
    CONV3,
    EDGES,
    INITIAL,
    NONE,
    OPERATIONS,
    POOL,
    SKIP,
    Cell,
    architecture,
    neighbours,
)
from .reader.read import CellReader
from .write import cell_written, source

PROMPTED = (CONV3, CONV1, NONE, POOL, SKIP, CONV3, CONV1, POOL, SKIP)
"""The operation that each of the nine prompts puts on an edge; ``NONE`` deletes a layer."""

REPLACING = 5
"""From this prompt on, a layer is deleted where another is added; before, added where none is."""

INSISTENCE = 0.8
"""Share of cases in which a request whose prompt leaves nothing new to write repeats a known cell,
which costs no query, rather than go where the prompt does not point."""

Seen = tuple[Set[str], Set[str]]
"""Architectures that have a score, and those that were written for earlier requests."""

_NOTHING: Seen = (frozenset(), frozenset())

ATTEMPTS = 64
"""Number of times that a draw at one distance is repeated before the next larger one."""


class ProceduralCells:
    """A generator that edits the parent cell as the prompt's number asks.

    Everything is drawn from the seed of the request, rather among what neither has a score
    (``Request.seen``) nor was written for an earlier request of the same call: a batch is written
    as a whole, and again in the very same way. Where a prompt leaves nothing of that, mostly a
    known cell is repeated (``INSISTENCE``). Prompts beyond the nine mean any edit. A parent
    that is no cell is taken for the initial one.
    """

    kind = "procedural"
    name = "procedural (control without a language model)"
    form = "source"
    repeatable = True

    def __init__(self, settings: GeneratorSettings) -> None:
        self._unseen = settings.unseen
        self._free = settings.edits == "free"
        self._reader = CellReader(ContainmentSettings())

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """A completion for each request, in order: the canonical source of a cell."""
        written: set[str] = set()
        for request in requests:
            started = time.perf_counter()
            cell = self._cell(request, (request.seen, written) if self._unseen else _NOTHING)
            written.add(architecture(cell))
            text = source(cell)
            seconds = time.perf_counter() - started
            yield Completion(request.candidate, text, self.form, seconds=seconds)

    def close(self) -> None:
        """End the contained processes."""
        self._reader.close()

    def _cell(self, request: Request, seen: Seen) -> Cell:
        rng = random.Random(request.seed)
        if request.operator == "random":
            return _farther(INITIAL, rng, seen, len(EDGES))
        parents = [self._parent(text) for text in request.parents]
        if request.operator == "neighbour":
            return neighbours(parents[0])[request.neighbour]
        if request.operator == "crossover" and len(parents) >= 2:
            crossed = _crossed(parents[0], parents[1], rng, seen)
            return crossed or self._mutated(parents[0], None, rng, seen, request.temperature)
        prompt = request.prompt if 0 <= request.prompt < len(PROMPTED) else None
        return self._mutated(parents[0], prompt, rng, seen, request.temperature)

    def _mutated(
        self, parent: Cell, prompt: int | None, rng: random.Random, seen: Seen, heat: float
    ) -> Cell:
        child = parent
        if self._free:  # as many edges as the temperature makes it, seen or not
            extra = sum(rng.random() < 0.5 * heat for _ in range(3))
            child = _farther(parent, rng, _NOTHING, extra) if extra else parent
        scored, written = seen
        near = [
            cell
            for cell in neighbours(child)
            if (name := architecture(cell)) not in scored and name not in written
        ]
        asked = near if prompt is None else [c for c in near if _is_asked(child, c, prompt)]
        if asked:
            return rng.choice(asked)
        if self._unseen and rng.random() < INSISTENCE:
            return rng.choice(neighbours(child))
        return rng.choice(near) if near else _farther(child, rng, seen, 2)

    def _parent(self, text: str) -> Cell:
        """The cell of a source."""
        if (cell := cell_written(text)) is not None:
            return cell
        (reading,) = self._reader.read([text])
        return INITIAL if reading.cell is None else reading.cell


_OTHERS = [[o for o in range(len(OPERATIONS)) if o != op] for op in range(len(OPERATIONS))]
"""By operation: all others."""


def _is_new(cell: Cell, seen: Seen) -> bool:
    name = architecture(cell)
    return name not in seen[0] and name not in seen[1]


@cache
def _is_asked(parent: Cell, child: Cell, prompt: int) -> bool:
    """Return whether the edge in which two neighbours differ was edited as the prompt says."""
    edge = next(i for i in range(len(EDGES)) if parent[i] != child[i])
    if child[edge] != PROMPTED[prompt]:
        return False
    is_layer = parent[edge] not in (NONE, SKIP)
    if PROMPTED[prompt] == NONE:
        return True
    return is_layer if prompt >= REPLACING else not is_layer


def _crossed(first: Cell, second: Cell, rng: random.Random, seen: Seen) -> Cell | None:
    """Each edge of either parent; None where no such cell is new."""
    pairs = list(zip(first, second, strict=True))
    for _ in range(ATTEMPTS):
        child: Cell = tuple([rng.choice(pair) for pair in pairs])  # type: ignore[assignment]
        if child not in (first, second) and _is_new(child, seen):
            return child
    return None


def _farther(cell: Cell, rng: random.Random, seen: Seen, distance: int) -> Cell:
    """A cell at ``distance`` edges or more that is new; at the largest distance, any cell."""
    others, places = [_OTHERS[operation] for operation in cell], range(len(EDGES))
    for far in range(distance, len(EDGES)):
        for _ in range(ATTEMPTS):
            edges = list(cell)
            for edge in sorted(rng.sample(places, far)):
                edges[edge] = rng.choice(others[edge])
            child: Cell = tuple(edges)  # type: ignore[assignment]
            if _is_new(child, seen):
                return child
    for _ in range(ATTEMPTS * len(EDGES)):
        child = tuple(rng.randrange(len(OPERATIONS)) for _ in EDGES)  # type: ignore[assignment]
        if _is_new(child, seen):
            return child
    return child  # nearly everything has been seen

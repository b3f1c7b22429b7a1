"""The control without a language model: edits of the parent's layers, drawn at random.

It answers the same requests as a language model, from the number of the prompt alone, and so
shows what the search owes to the model. The parent's source is read as a list of layers
(:mod:`.read`), edited (:mod:`.edits`), made to fit the problem
(:mod:`.fit`) and written as source again (:mod:`.write`).
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator, Sequence

from ...types import Completion, Problem, Request
from .draft import Draft, Edit
from .edits import PROMPTED, PROMPTED_OF_TABLES, Goal, always, any_edit
from .fit import fitted
from .layers import Layer, MisfitError, Network, Site, has_weights
from .random_network import fresh
from .read import read
from .write import written

ATTEMPTS = 16
"""Number of times that an edit is drawn again when it does not apply or does not fit."""


class Procedural:
    """A generator that edits the parent as the prompt's number asks.

    How many edits and how large follows the temperature; at its lowest, 0.05, it is one small
    edit. Everything is drawn from the seed of the request: the same request gives the same
    text. Prompts beyond the paper's thirteen mean any edit. A parent that cannot be read is
    replaced by a fresh network. The operator ``neighbour`` is one edit, any, drawn from the
    parent and the neighbour's number.
    """

    kind = "procedural"
    name = "procedural (control without a language model)"
    form = "completion"
    repeatable = False

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield a completion for each request, in order: the whole source of a ``Net``."""
        for request in requests:
            started = time.perf_counter()
            network = _Variation(self._problem, request).network(request)
            text = written(network, self._problem.input_shape)
            seconds = time.perf_counter() - started
            yield Completion(request.candidate, text, self.form, seconds=seconds)

    def close(self) -> None:
        """Do nothing: nothing is held."""


class _Variation:
    """The variation operators for one request."""

    def __init__(self, problem: Problem, request: Request) -> None:
        self.shape = problem.input_shape
        self.dimensions = 1 if len(self.shape) == 2 else 2
        self.classes = problem.classes
        self.rng = random.Random(request.seed)
        self.strength = min(1.0, max(0.0, (request.temperature - 0.05) / 0.95))
        if request.operator == "neighbour":  # the same one, whoever asks and when
            parent = hashlib.sha256("\n".join(request.parents).encode())
            self.rng = random.Random(f"{parent.hexdigest()} {request.neighbour}")

    def network(self, request: Request) -> Network:
        """Make the network that answers the request."""
        if request.operator == "random" or not request.parents:
            return self._fresh()
        parents = []
        for source in request.parents:
            layers = read(source, self.dimensions)
            parents.append(self._fit(layers) if layers else self._fresh())
        if request.operator == "crossover":
            return self._crossed(parents)
        if request.operator == "neighbour":
            return self._edited(parents[0], any_edit) or self._fresh()
        prompted = PROMPTED_OF_TABLES if len(self.shape) == 1 else PROMPTED
        known = 0 <= request.prompt < len(prompted)
        return self._mutated(parents[0], *prompted[request.prompt if known else 2])

    def _fresh(self) -> Network:
        return self._fit(fresh(self.shape, self.rng))

    def _mutated(self, parent: Network, edit: Edit, goal: Goal) -> Network:
        """Return the parent after the edit, or any where that is impossible, and some more."""
        child = self._edited(parent, edit, goal)
        if child is None:  # nothing to delete, or no room to grow
            edit, goal = any_edit, always
            child = self._edited(parent, edit) or self._fresh()
        before = self._draft(parent).sites
        for _ in range(sum(self._chance(0.5 * self.strength) for _ in range(4))):
            more = self._edited(child, edit if self._chance(0.3) else any_edit)
            if more is not None and more != parent and goal(before, self._draft(more).sites):
                child = more
        return child

    def _crossed(self, parents: Sequence[Network]) -> Network:
        """Return the front of the first parent with the backs of the others."""
        child = parents[0]
        for mate in parents[1:]:
            child = self._joined(child, mate) or child
        if child in parents or self._chance(0.5 * self.strength):
            child = self._edited(child, any_edit) or child
        return child

    def _joined(self, front: Network, back: Network) -> Network | None:
        """Join two networks that are cut where their maps are about as large."""
        fronts = [s for s in self._cuts(front) if has_weights(front[: s.path[0]])]
        backs = [s for s in self._cuts(back) if has_weights(back[s.path[0] : -1])]
        cuts = [
            (abs(_scale(a) - _scale(b)) + self.rng.random(), a.path[0], b.path[0])
            for a in fronts
            for b in backs
            if len(a.before) == len(b.before)
        ]
        for _, i, j in sorted(cuts)[:ATTEMPTS]:
            child = self._fit((*front[:i], *back[j:]))
            if child not in (front, back):
                return child
        return None

    def _edited(self, network: Network, edit: Edit, goal: Goal = always) -> Network | None:
        """Return the network after one edit that reaches its goal; None if none was found."""
        draft = self._draft(network)
        for _ in range(ATTEMPTS):
            try:
                child = self._fit(edit(draft))
            except MisfitError:  # no place for it, or of several steps one that did not fit
                continue
            if child != network and goal(draft.sites, self._draft(child).sites):
                return child
        return None

    def _draft(self, network: Network) -> Draft:
        return Draft(network, self.shape, self.rng, self.strength)

    def _cuts(self, network: Network) -> list[Site]:
        draft = self._draft(network)
        return [*draft.maps(nested=False), *draft.vectors(nested=False)]

    def _fit(self, layers: Sequence[Layer]) -> Network:
        return fitted(layers, self.shape, self.classes)

    def _chance(self, probability: float) -> bool:
        return self.rng.random() < probability


def _scale(site: Site) -> float:
    """Return the logarithm to base 2 of the map's height or length; a vector has none."""
    return float(site.before[1].bit_length()) if len(site.before) > 1 else 0.0

"""The control without a language model: edits of the parent's syntax tree, drawn at random.

It answers the same requests as a language model, from the number of the prompt alone, and so
shows what the search owes to the model. The parent's source is read as a list of layers
(:mod:`.read`), edited (:mod:`.edits`), made to fit the problem
(:mod:`.fit`) and written as source again (:mod:`.write`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...types import Completion, Problem, Request
from . import edits
from .draft import Draft, Edit, count
from .fit import fitted
from .layers import (
    AdaptivePool,
    Conv,
    Depthwise,
    Dropout,
    Layer,
    Linear,
    MisfitError,
    Network,
    Norm,
    Pool,
    Recurrent,
    Residual,
    Site,
    has_weights,
    sites_of,
)
from .random_network import fresh
from .read import read
from .write import written

ATTEMPTS = 16
"""How often an edit is drawn again when it does not apply or does not fit."""

Sites = Sequence[Site]
Goal = Callable[[Sites, Sites], bool]
"""Whether an edit did what was asked, from the sites before and after."""


def _more(measure: Callable[[Sites], int], by: int = 1) -> Goal:
    return lambda before, after: measure(after) >= measure(before) + by


def _counting(*kinds: type) -> Callable[[Sites], int]:
    return lambda sites: count(sites, *kinds)


def _parameters(sites: Sites) -> int:
    return sum(site.parameters for site in sites)


def _macs(sites: Sites) -> int:
    return sum(site.macs for site in sites)


def _recurrent_layers(sites: Sites) -> int:
    return sum(site.layer.layers for site in sites if isinstance(site.layer, Recurrent))


def _always(before: Sites, after: Sites) -> bool:
    return True


PROMPTED: tuple[tuple[Edit, Goal], ...] = (
    (edits.add_layer, _more(len)),
    (edits.delete_layer, lambda before, after: len(after) < len(before)),
    (edits.any_edit, _always),
    (
        edits.reduce_size,
        lambda before, after: (
            _parameters(after) < 0.8 * _parameters(before) and _macs(after) <= _macs(before)
        ),
    ),
    (edits.increase_size, lambda before, after: _parameters(after) > 1.2 * _parameters(before)),
    (edits.add_linear, _more(_counting(Linear))),
    (edits.add_conv, _more(_counting(Conv, Depthwise))),
    (edits.add_pool, _more(_counting(Pool, AdaptivePool))),
    (edits.add_residual, _more(_counting(Residual))),
    (edits.add_residuals, _more(_counting(Residual), 2)),
    (edits.add_dropout, _more(_counting(Dropout))),
    (edits.add_norm, _more(_counting(Norm))),
    (edits.add_recurrent, _more(_recurrent_layers)),
)
"""By the number of the prompt, in the order of the paper's thirteen."""

ANY: tuple[Edit, Goal] = (edits.any_edit, _always)


class Procedural:
    """A generator that edits the parent as the prompt's number asks.

    How many edits and how large follows the temperature; at its lowest, 0.05, it is one small
    edit. Everything is drawn from the seed of the request: the same request gives the same
    text. Prompts beyond the paper's thirteen mean any edit. A parent that cannot be read is
    replaced by a fresh network.
    """

    kind = "procedural"
    name = "procedural (control without a language model)"
    form = "completion"
    repeatable = False

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """A completion for each request, in order. Each is the whole source of a ``Net``."""
        for request in requests:
            started = time.perf_counter()
            text = written(self._network(request), self._problem.input_shape)
            seconds = time.perf_counter() - started
            yield Completion(request.candidate, text, self.form, seconds=seconds)

    def close(self) -> None:
        """Nothing is held."""

    def _network(self, request: Request) -> Network:
        strength = min(1.0, max(0.0, (request.temperature - 0.05) / 0.95))
        draw = _Variation(self._problem, random.Random(request.seed), strength)
        if request.operator == "random" or not request.parents:
            return draw.fresh()
        parents = [draw.parent(source) for source in request.parents]
        if request.operator == "crossover":
            return draw.crossed(parents)
        known = 0 <= request.prompt < len(PROMPTED)
        return draw.mutated(parents[0], *(PROMPTED[request.prompt] if known else ANY))


@dataclass(frozen=True)
class _Variation:
    """The variation operators for one request."""

    problem: Problem
    rng: random.Random
    strength: float

    def parent(self, source: str) -> Network:
        """A parent as a network that fits the problem."""
        layers = read(source)
        return self._fit(layers) if layers else self.fresh()

    def fresh(self) -> Network:
        """A network from scratch."""
        return self._fit(fresh(self.problem.input_shape, self.rng))

    def mutated(self, parent: Network, edit: Edit, goal: Goal) -> Network:
        """The parent after the edit, or any other where that is impossible, and some more."""
        child = self._edited(parent, edit, goal)
        if child is None:  # nothing to delete, or no room to grow
            edit, goal = ANY
            child = self._edited(parent, edit, goal) or self.fresh()
        before = self._sites(parent)
        for _ in range(sum(self._chance(0.5 * self.strength) for _ in range(4))):
            more = self._edited(child, edit if self._chance(0.3) else edits.any_edit)
            if more is not None and more != parent and goal(before, self._sites(more)):
                child = more
        return child

    def crossed(self, parents: Sequence[Network]) -> Network:
        """The front of the first parent with the backs of the others."""
        child = parents[0]
        for mate in parents[1:]:
            child = self._joined(child, mate) or child
        if child in parents or self._chance(0.5 * self.strength):
            child = self._edited(child, edits.any_edit) or child
        return child

    def _joined(self, front: Network, back: Network) -> Network | None:
        """Two networks cut where their maps are about as large, and joined there."""
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

    def _edited(self, network: Network, edit: Edit, goal: Goal = _always) -> Network | None:
        """The network after one edit that fits and reaches its goal; None if none was found."""
        draft = Draft.of(network, self.problem.input_shape, self.rng, self.strength)
        for _ in range(ATTEMPTS):
            try:
                made = edit(draft)
            except MisfitError:  # of an edit in several steps, one that did not fit
                continue
            if made is None:
                continue
            child = self._fit(made)
            if child != network and goal(draft.sites, self._sites(child)):
                return child
        return None

    def _cuts(self, network: Network) -> list[Site]:
        draft = Draft.of(network, self.problem.input_shape, self.rng, self.strength)
        return [*draft.gaps(3, nested=False), *draft.gaps(1, nested=False)]

    def _fit(self, layers: Sequence[Layer]) -> Network:
        return fitted(layers, self.problem.input_shape, self.problem.classes)

    def _sites(self, network: Network) -> Sites:
        return sites_of(network, self.problem.input_shape)

    def _chance(self, probability: float) -> bool:
        return self.rng.random() < probability


def _scale(site: Site) -> float:
    """Logarithm to base 2 of the map's height; a vector has none."""
    return float(site.before[1].bit_length()) if len(site.before) == 3 else 0.0

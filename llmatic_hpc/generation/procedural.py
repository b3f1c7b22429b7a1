"""The control without a language model: edits of the parent's syntax tree, drawn at random.

It answers the same requests as a language model, from the number of the prompt alone, and so
shows what the search owes to the model. The parent's source is read as a list of layers
(:mod:`.procedural_reading`), edited (:mod:`.procedural_edits`), made to fit the problem
(:mod:`.procedural_fitting`) and written as source again (:mod:`.procedural_writing`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence

from ..problems import Problem
from ..records import Completion, Request
from . import procedural_edits as edits
from .procedural_edits import Draft, Edit, count
from .procedural_fitting import fitted
from .procedural_fresh import fresh
from .procedural_layers import (
    WEIGHTED,
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
    walk,
)
from .procedural_reading import read
from .procedural_writing import written

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


class Procedural:
    """A generator that edits the parent as the prompt's number asks.

    How many edits and how large follows the temperature; at its lowest, 0.05, it is one small
    edit. Everything is drawn from the seed of the request: the same request gives the same
    text. Prompts beyond the paper's thirteen mean any edit.
    """

    name = "procedural (control without a language model)"
    form = "completion"

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """A completion for each request, in order. Each is the whole source of a ``Net``."""
        for request in requests:
            started = time.perf_counter()
            text = self._text(request)
            seconds = time.perf_counter() - started
            yield Completion(request.candidate, text, self.form, seconds=seconds)

    def close(self) -> None:
        """Nothing is held."""

    def _text(self, request: Request) -> str:
        rng = random.Random(request.seed)
        strength = min(1.0, max(0.0, (request.temperature - 0.05) / 0.95))
        parents = [self._read(source, rng) for source in request.parents]
        if request.operator == "random" or not parents:
            network = self._fresh(rng)
        elif request.operator == "crossover":
            network = self._crossed(parents, rng, strength)
        else:
            network = self._mutated(parents[0], request.prompt, rng, strength)
        return written(network, self._problem.input_shape)

    def _read(self, source: str, rng: random.Random) -> Network:
        """A parent as a network; one that cannot be made out is replaced by a fresh one."""
        layers = read(source)
        return self._fit(layers) if layers else self._fresh(rng)

    def _fresh(self, rng: random.Random) -> Network:
        return self._fit(fresh(self._problem.input_shape, rng))

    def _fit(self, layers: Sequence[Layer]) -> Network:
        return fitted(layers, self._problem.input_shape, self._problem.classes)

    def _sites(self, network: Network) -> Sites:
        return tuple(walk(network, self._problem.input_shape))

    def _mutated(
        self, parent: Network, prompt: int, rng: random.Random, strength: float
    ) -> Network:
        known = 0 <= prompt < len(PROMPTED)
        edit, goal = PROMPTED[prompt] if known else (edits.any_edit, _always)
        child = self._edited(parent, edit, goal, rng, strength)
        if child is None:  # nothing to delete, or no room to grow
            goal = _always
            child = self._edited(parent, edits.any_edit, goal, rng, strength) or self._fresh(rng)
        return self._edited_on(parent, child, edit, goal, rng, strength)

    def _edited_on(
        self,
        parent: Network,
        child: Network,
        edit: Edit,
        goal: Goal,
        rng: random.Random,
        strength: float,
    ) -> Network:
        """Up to four more edits, as asked or any, that do not undo the first."""
        before = self._sites(parent)
        for _ in range(sum(rng.random() < 0.5 * strength for _ in range(4))):
            again = edit if rng.random() < 0.3 else edits.any_edit
            more = self._edited(child, again, _always, rng, strength)
            if more is not None and more != parent and goal(before, self._sites(more)):
                child = more
        return child

    def _edited(
        self, network: Network, edit: Edit, goal: Goal, rng: random.Random, strength: float
    ) -> Network | None:
        """The network after one edit that fits and reaches its goal; None if none was found."""
        draft = Draft.of(network, self._problem.input_shape, rng, strength)
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

    def _crossed(self, parents: Sequence[Network], rng: random.Random, strength: float) -> Network:
        child = parents[0]
        for mate in parents[1:]:
            child = self._joined(child, mate, rng) or child
        if child in parents:
            child = self._edited(child, edits.any_edit, _always, rng, strength) or child
        if rng.random() < 0.5 * strength:
            return self._edited(child, edits.any_edit, _always, rng, 0.0) or child
        return child

    def _joined(self, front: Network, back: Network, rng: random.Random) -> Network | None:
        """The front of one and the back of the other, cut where their maps are about as large."""
        cuts = [
            (abs(_scale(a) - _scale(b)) + rng.random(), a.path[0], b.path[0])
            for a in _cuts(Draft.of(front, self._problem.input_shape, rng, 0.0))
            for b in _cuts(Draft.of(back, self._problem.input_shape, rng, 0.0))
            if len(a.before) == len(b.before)
            and _weighted(front[: a.path[0]])
            and _weighted(back[b.path[0] : -1])
        ]
        for _, i, j in sorted(cuts)[:ATTEMPTS]:
            child = self._fit((*front[:i], *back[j:]))
            if child not in (front, back):
                return child
        return None


def _cuts(draft: Draft) -> list[Site]:
    return [*draft.gaps(3, nested=False), *draft.gaps(1, nested=False)]


def _scale(site: Site) -> float:
    """Logarithm to base 2 of the map's height; a vector has none."""
    return float(site.before[1].bit_length()) if len(site.before) == 3 else 0.0


def _weighted(layers: Network) -> bool:
    return any(isinstance(layer, (*WEIGHTED, Residual)) for layer in layers)

"""A network about to be edited: where layers can go, and what people put around them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile
from math import prod
from typing import Any, TypeVar

from .layers import (
    Act,
    AdaptivePool,
    Conv,
    Layer,
    MisfitError,
    Network,
    Norm,
    Path,
    Shape,
    Site,
    cost_of,
    sites_of,
    splice,
)

ACTS = ("relu", "gelu", "silu", "leaky_relu", "elu")

T = TypeVar("T")


class Draft:
    """A network about to be edited, and the random numbers for that.

    Raises MisfitError where the layers do not fit together.
    """

    def __init__(self, network: Network, shape: Shape, rng: random.Random, strength: float) -> None:
        self.network = network
        self.shape = shape
        self.rng = rng
        self.strength = strength
        self.sites = sites_of(network, shape)

    def after(self, network: Network) -> Draft:
        """Return a draft of another network; raises MisfitError where that does not fit."""
        return Draft(network, self.shape, self.rng, self.strength)

    def maps(self, *, nested: bool = True) -> list[Site]:
        """List the sites with a map before which a layer can go: none between a layer and its
        activation."""
        return self._gaps(nested, of_maps=True)

    def vectors(self, *, nested: bool = True) -> list[Site]:
        """List the sites with a vector before which a layer can go; see :meth:`maps`."""
        return self._gaps(nested, of_maps=False)

    def _gaps(self, nested: bool, *, of_maps: bool) -> list[Site]:
        return [
            site
            for site in self.sites
            if (len(site.before) > 1) == of_maps
            and not isinstance(site.layer, Norm | Act)
            and (nested or len(site.path) == 1)
            and site.path != (len(self.network),)
        ]

    def hidden(self, *kinds: type[Any]) -> list[Site]:
        """List the layers of some kinds, without the last one of the network."""
        head = (len(self.network) - 1,)
        return [s for s in self.sites if isinstance(s.layer, kinds) and s.path != head]

    def insert(self, site: Site, *layers: Layer) -> Network:
        """Return the network with layers before a site."""
        return splice(self.network, site.path, 0, layers)

    def replace(self, site: Site, *layers: Layer) -> Network:
        """Return the network with layers in place of the one at a site."""
        return splice(self.network, site.path, 1, layers)

    def choose(self, options: Sequence[T]) -> T:
        """Draw one; raises MisfitError where there is none."""
        if not options:
            raise MisfitError("the edit does not apply")
        return self.rng.choice(options)

    def chance(self, probability: float) -> bool:
        """Return True with that probability."""
        return self.rng.random() < probability

    def up_to(self, most: int) -> int:
        """Draw a whole number from 0; the largest possible grows with the strength."""
        return self.rng.randint(0, round(most * self.strength))


Edit = Callable[[Draft], Network]
"""Gives the edited network; raises MisfitError where it does not apply."""


def count(sites: Sequence[Site], *kinds: type[Any]) -> int:
    """Count the layers of some kinds; a recurrent one as many times as it is stacked."""
    return sum(getattr(site.layer, "layers", 1) for site in sites if isinstance(site.layer, kinds))


# --- what people put around a layer -------------------------------------------------------------


def activation(draft: Draft) -> Act:
    """Choose the activation that the network uses most, or now and then another."""
    used = Counter(s.layer for s in draft.sites if isinstance(s.layer, Act))
    if not used or draft.chance(0.25 * draft.strength):
        return Act(draft.rng.choice(ACTS) if draft.chance(draft.strength) else "relu")
    return used.most_common(1)[0][0]


def normalization(draft: Draft, shape: Shape) -> Norm:
    """Choose a normalization that suits the shape."""
    if len(shape) == 1:
        return Norm("batch" if draft.chance(0.6) or shape[0] < 2 else "layer")
    used = [s.layer for s in draft.sites if isinstance(s.layer, Norm) and len(s.before) > 1]
    kind = draft.rng.choice(used).kind if used else "batch" if draft.chance(0.8) else "group"
    groups = next((g for g in (8, 4, 2) if shape[0] % g == 0 and shape[0] >= 2 * g), 1)
    if kind == "batch" or prod(shape) // groups < 2:
        return Norm("batch")
    return Norm("group", groups)


def unit(draft: Draft, layer: Layer, shape: Shape, *, activated: bool = True) -> Network:
    """Dress a layer: mostly normalized where the network normalizes, and activated."""
    norm: Network = ()
    if draft.chance(0.9 if count(draft.sites, Norm) else 0.4):
        norm = (normalization(draft, cost_of(layer, shape).after),)
    return (layer, *norm, *((activation(draft),) if activated else ()))


def same_conv(draft: Draft, width: int, shape: Shape) -> Conv:
    """Choose a convolution that keeps the size of the map."""
    if max(shape[1:]) == 1:
        return Conv(width, 1, padding=0)
    kernel = draft.rng.choice((3, 3, 3, 3, 1, 5, 5, 7)) if draft.chance(draft.strength) else 3
    return Conv(width, kernel, padding=kernel // 2)


# --- places -----------------------------------------------------------------------------------


def dressing(layers: Any, path: Path) -> Network:
    """Return the normalizations and activations that follow the layer at a path."""
    *outer, last = path
    for index in outer:
        layers = layers[index].body
    return tuple(takewhile(lambda layer: isinstance(layer, Norm | Act), layers[last + 1 :]))


def bridge_of(draft: Draft) -> Site:
    """Find where the map becomes a vector; raises MisfitError where there never was a map."""
    for site in draft.sites:
        if len(site.before) > 1 and len(site.after) == 1:
            return site
    raise MisfitError("there is no map")


def rebridged(draft: Draft, *layers: Layer) -> Network:
    """Return the network with other layers in place of the bridge and of a pooling before it."""
    start = index = bridge_of(draft).path[0]
    if index > 0 and isinstance(draft.network[index - 1], AdaptivePool):
        start -= 1
    return splice(draft.network, (start,), index + 1 - start, layers)

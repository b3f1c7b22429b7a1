"""A network about to be edited: where layers can go, and what people put around them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .layers import (
    Act,
    AdaptivePool,
    Conv,
    Layer,
    Network,
    Norm,
    Path,
    Residual,
    Shape,
    Site,
    shape_after,
    sites_of,
    splice,
)

ACTS = ("relu", "gelu", "silu", "leaky_relu", "elu")


@dataclass(frozen=True)
class Draft:
    """A network about to be edited."""

    network: Network
    shape: Shape
    rng: random.Random
    strength: float
    sites: tuple[Site, ...]

    @classmethod
    def of(cls, network: Network, shape: Shape, rng: random.Random, strength: float) -> Draft:
        """With its sites looked up."""
        return cls(network, shape, rng, strength, sites_of(network, shape))

    def gaps(self, rank: int, *, nested: bool = True) -> list[Site]:
        """Where a layer can go in: before the site, not between a layer and its activation."""
        return [
            site
            for site in self.sites
            if len(site.before) == rank
            and not isinstance(site.layer, Norm | Act)
            and (nested or len(site.path) == 1)
            and site.path != (len(self.network),)
        ]

    def hidden(self, *kinds: type[Layer]) -> list[Site]:
        """The layers of some kinds, without the last one of the network."""
        head = (len(self.network) - 1,)
        return [s for s in self.sites if isinstance(s.layer, kinds) and s.path != head]

    def chance(self, probability: float) -> bool:
        """True so often."""
        return self.rng.random() < probability

    def up_to(self, most: int) -> int:
        """A whole number from 0; the largest possible grows with the strength."""
        return self.rng.randint(0, round(most * self.strength))


Edit = Callable[[Draft], Network | None]


def count(sites: Sequence[Site], *kinds: type[Layer]) -> int:
    """How many layers of some kinds there are."""
    return sum(isinstance(site.layer, kinds) for site in sites)


# --- what people put around a layer -------------------------------------------------------------


def activation(draft: Draft) -> Act:
    """The one that the network uses most, or now and then another."""
    used = Counter(s.layer for s in draft.sites if isinstance(s.layer, Act))
    if not used or draft.chance(0.25 * draft.strength):
        return Act(draft.rng.choice(ACTS) if draft.chance(draft.strength) else "relu")
    return used.most_common(1)[0][0]


def normalization(draft: Draft, shape: Shape) -> Norm:
    """One that suits the shape."""
    if len(shape) != 3:
        return Norm("batch" if draft.chance(0.6) or shape[0] < 2 else "layer")
    used = [s.layer for s in draft.sites if isinstance(s.layer, Norm) and len(s.before) == 3]
    kind = draft.rng.choice(used).kind if used else "batch" if draft.chance(0.8) else "group"
    groups = next(g for g in (8, 4, 2, 1) if (shape[0] % g == 0 and shape[0] >= 2 * g) or g == 1)
    if kind == "batch" or shape[0] * shape[1] * shape[2] // groups < 2:
        return Norm("batch")
    return Norm("group", groups)


def unit(draft: Draft, layer: Layer, shape: Shape, *, activated: bool = True) -> Network:
    """A layer with weights, mostly normalized where the network normalizes, and activated."""
    norm: Network = ()
    if draft.chance(0.9 if count(draft.sites, Norm) else 0.4):
        norm = (normalization(draft, shape_after(layer, shape)),)
    return (layer, *norm, *((activation(draft),) if activated else ()))


def same_conv(draft: Draft, width: int, shape: Shape) -> Conv:
    """A convolution that keeps the size of the map."""
    if max(shape[1:]) == 1:
        return Conv(width, 1, padding=0)
    kernel = draft.rng.choice((3, 3, 3, 3, 1, 5, 5, 7)) if draft.chance(draft.strength) else 3
    return Conv(width, kernel, padding=kernel // 2)


# --- places -----------------------------------------------------------------------------------


def next_to(path: Path) -> Path:
    return (*path[:-1], path[-1] + 1)


def around(network: Network, path: Path) -> Network:
    """The list of layers in which a path ends."""
    for index in path[:-1]:
        layer = network[index]
        assert isinstance(layer, Residual)
        network = layer.body
    return network


def dressing(network: Network, path: Path) -> int:
    """How many normalizations and activations follow a layer."""
    following = around(network, path)[path[-1] + 1 :]
    return next(
        (i for i, layer in enumerate(following) if not isinstance(layer, Norm | Act)),
        len(following),
    )


def bridge_of(draft: Draft) -> Site:
    """Where the map becomes a vector; the last layer where there never was a map."""
    return next(
        (s for s in draft.sites if len(s.before) == 3 and len(s.after) == 1), draft.sites[-2]
    )


def rebridged(draft: Draft, bridge: Site, layers: Network) -> Network | None:
    """The network with other layers in place of the bridge and of a pooling to its size."""
    if len(bridge.before) != 3:
        return None
    index = bridge.path[0]
    pooled = index > 0 and isinstance(draft.network[index - 1], AdaptivePool)
    start = index - 1 if pooled else index
    return splice(draft.network, (start,), index + 1 - start, layers)

"""Single edits of a network, each drawn at random where it makes sense.

An edit takes a :class:`Draft` and gives a list of layers, not yet fitted to the problem; it
raises MisfitError where it does not apply. ``strength`` in [0, 1] is how far it may go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

from .draft import (
    ACTS,
    Draft,
    Edit,
    activation,
    bridge_of,
    count,
    dressing,
    normalization,
    rebridged,
    same_conv,
    unit,
)
from .fit import LADDER, MAX_STEPS, climb, rescaled
from .layers import (
    WEIGHTED,
    Act,
    AdaptivePool,
    Conv,
    Depthwise,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MisfitError,
    Network,
    Norm,
    Pool,
    Recurrent,
    Residual,
    Site,
    size_of,
    splice,
)


def _either(draft: Draft, edit: Edit, otherwise: Edit) -> Network:
    """Edit one way, or the other where that does not apply."""
    try:
        return edit(draft)
    except MisfitError:
        return otherwise(draft)


# --- adding -------------------------------------------------------------------------------------


def add_conv(draft: Draft) -> Network:
    """Add a convolution, of about the width around it."""
    gaps = draft.maps()
    gap = draft.choose([g for g in gaps if max(g.before[1:]) > 1] or gaps)
    width, outside = gap.before[0], len(gap.path) == 1
    if outside:
        width = climb(max(width, 12), draft.rng.randint(0, 1) + draft.up_to(3))
    conv = same_conv(draft, width, gap.before)
    if outside and min(gap.before[1:]) >= 8 and draft.chance(0.15):
        conv = replace(conv, stride=2)
    return draft.insert(gap, *unit(draft, conv, gap.before))


def add_linear(draft: Draft) -> Network:
    """Add a fully connected layer before the last."""
    gap = draft.choose(draft.vectors(nested=False))
    width = draft.rng.choice((32, 64, 64, 128, 128, 256, 512)[: 5 + draft.up_to(2)])
    more: Network = (Dropout(0.5),) if draft.chance(0.3 * draft.strength) else ()
    return draft.insert(gap, *unit(draft, Linear(width), gap.before), *more)


def add_narrow(draft: Draft) -> Network:
    """Add a fully connected layer of few features before the last."""
    gap = draft.choose(draft.vectors(nested=False))
    return draft.insert(gap, *unit(draft, Linear(draft.rng.choice((4, 8, 8, 16))), gap.before))


def add_pool(draft: Draft) -> Network:
    """Add a pooling that halves the map, or smooths one that is too small for that."""
    gaps = draft.maps(nested=False)
    gaps = [g for g in gaps if g.path > (0,)] or gaps
    kind = draft.rng.choice(("max", "max", "avg"))
    if large := [g for g in gaps if min(g.before[1:]) > 1]:
        gap, pool = draft.choose(large), Pool(kind)
        if draft.chance(0.3 * draft.strength) and min(gap.before[1:]) > 2:
            pool = Pool(kind, 3, 2, 1)
    else:
        gap, pool = draft.choose([g for g in gaps if max(g.before[1:]) > 1]), Pool(kind, 3, 1, 1)
    return draft.insert(gap, pool)


def add_dropout(draft: Draft) -> Network:
    """Add dropout, rather late than early."""
    gaps = draft.vectors() + draft.maps(nested=False)[-3:]
    gap = draft.choose([g for g in gaps if g.path > (0,)] or gaps)
    rate = draft.rng.choice((0.1, 0.2, 0.25, 0.3, 0.5)[: 3 + draft.up_to(2)])
    return draft.insert(gap, Dropout(rate, len(gap.before) > 1 and draft.chance(0.4)))


def add_norm(draft: Draft) -> Network:
    """Add normalization after a layer that has none yet, if there is one; else anywhere."""
    bare = [
        site
        for previous, site in pairwise(draft.sites)
        if isinstance(previous.layer, WEIGHTED)
        and not isinstance(site.layer, Norm)
        and len(site.path) == len(previous.path)
        and site.path != (len(draft.network),)
    ]
    spot = draft.choose(bare or draft.maps() + draft.vectors())
    return draft.insert(spot, normalization(draft, spot.before))


def add_recurrent(draft: Draft) -> Network:
    """Add a recurrent layer over the map: in place of flattening it, or in front of that."""
    present = draft.hidden(Recurrent)
    if present and draft.chance(0.5):
        site = draft.choose(present)
        if site.layer.layers < 3:
            return draft.replace(site, replace(site.layer, layers=site.layer.layers + 1))
    bridge = bridge_of(draft)
    width = draft.rng.choice((32, 48, 64, 64, 96, 128)[: 4 + draft.up_to(2)])
    layer = Recurrent(
        draft.rng.choice(("GRU", "GRU", "LSTM", "RNN")),
        width,
        steps=draft.rng.choice(("pixels", "pixels", "rows")),
        output=draft.rng.choice(("mean", "last")),
        bidirectional=draft.chance(0.3 * draft.strength),
    )
    if isinstance(bridge.layer, Recurrent) or draft.chance(0.25):
        gaps = draft.maps(nested=False)
        few = [g for g in gaps if 1 < prod(g.before[1:]) <= MAX_STEPS] or [bridge]
        return draft.insert(draft.choose(few), replace(layer, steps="pixels", output="map"))
    return rebridged(draft, layer)


def add_residual(draft: Draft) -> Network:
    """Add a connection around layers that are there, or a new block with one."""
    return _wrap(draft) if draft.chance(0.5) else _new_block(draft)


def add_residuals(draft: Draft) -> Network:
    """Add two residual connections or more."""
    for _ in range(2 + draft.up_to(2)):
        draft = draft.after(_either(draft, add_residual, _new_block))
    return draft.network


def _wrap(draft: Draft) -> Network:
    """Add a connection around one to three consecutive units."""
    layers = draft.network
    gaps = draft.vectors(nested=False) + draft.maps(nested=False)
    runs = []
    for start, before in ((gap.path[0], gap.before) for gap in gaps):
        for stop, after in ((gap.path[0], gap.before) for gap in gaps):
            run = layers[start:stop]
            if (
                1 <= sum(isinstance(layer, WEIGHTED) for layer in run) <= 3
                and not any(isinstance(layer, Residual) for layer in run)
                and len(before) == len(after)
                # A projection from an image to as few channels would add nothing.
                and after[0] >= 8
            ):
                runs.append((start, stop))
    start, stop = draft.choose(runs)
    inner = stop - 1 if isinstance(layers[stop - 1], Act) and stop - start > 1 else stop
    return (*layers[:start], Residual(layers[start:inner]), *layers[inner:])


def _new_block(draft: Draft) -> Network:
    """Add a basic block of a ResNet on a map, or one fully connected layer on a vector."""
    gaps = [g for g in draft.maps(nested=False) if max(g.before[1:]) > 1]
    if not gaps or draft.chance(0.15):
        gaps = [g for g in draft.vectors(nested=False) if 8 <= g.before[0] <= 512] or gaps
    gap = draft.choose(gaps)
    channels = gap.before[0]
    if len(gap.before) == 1:
        return draft.insert(gap, Residual(unit(draft, Linear(channels), gap.before)))
    width = climb(max(channels, 12), draft.up_to(1) if channels >= 12 else 1)
    shape = (width, *gap.before[1:])
    first = unit(draft, same_conv(draft, width, gap.before), gap.before)
    second = unit(draft, same_conv(draft, width, shape), shape, activated=False)
    return draft.insert(gap, Residual((*first, *second)), activation(draft))


# --- taking away --------------------------------------------------------------------------------


def delete_layer(draft: Draft) -> Network:
    """Delete one layer with its normalization and activation, or a residual connection."""
    site = draft.choose(draft.hidden(*WEIGHTED, Norm, Pool, AdaptivePool, Dropout, Residual))
    if isinstance(site.layer, Residual) and draft.chance(0.5):
        return draft.replace(site, *site.layer.body)
    remove = 1
    if isinstance(site.layer, (*WEIGHTED, Residual)):
        remove += len(dressing(draft.network, site.path))
    return splice(draft.network, site.path, remove, ())


def reduce_size(draft: Draft) -> Network:
    """Make it much smaller: narrower, shallower, or with a smaller map to flatten."""
    edits: list[Edit] = [
        lambda d: rescaled(d.network, -2 - d.up_to(2)),
        lambda d: rescaled(d.network, -1),
        delete_layer,
        add_pool,
        lambda d: rebridged(d, AdaptivePool(), Flatten()),
    ]
    return _repeated(draft, edits, lambda before, now: now <= before * (0.5 - 0.3 * draft.strength))


def increase_size(draft: Draft) -> Network:
    """Make it much larger: wider, deeper."""
    edits: list[Edit] = [
        lambda d: rescaled(d.network, 2 + d.up_to(2)),
        deepen,
        add_conv,
        lambda d: _either(d, _new_block, add_linear),
    ]
    return _repeated(draft, edits, lambda before, now: now >= before * (2 + 2 * draft.strength))


def _repeated(draft: Draft, edits: Sequence[Edit], enough: Callable[[int, int], bool]) -> Network:
    """Edit until the number of parameters is right, at most eight times."""
    before = size_of(draft.sites).parameters
    for _ in range(8):
        try:
            draft = draft.after(draft.rng.choice(edits)(draft))
        except MisfitError:  # leave that one out
            continue
        if enough(before, size_of(draft.sites).parameters):
            break
    return draft.network


# --- changing -----------------------------------------------------------------------------------


def deepen(draft: Draft) -> Network:
    """Put in a convolution or a residual block a second time."""
    site = draft.choose(draft.hidden(Conv, Residual))
    layer = replace(site.layer, stride=1) if isinstance(site.layer, Conv) else site.layer
    dressed = dressing(draft.network, site.path)
    path = (*site.path[:-1], site.path[-1] + 1 + len(dressed))
    return splice(draft.network, path, 0, (layer, *dressed))


def widen(draft: Draft) -> Network:
    """Widen one layer, all of its width, or all."""
    return _resize(draft, 1 + draft.up_to(3))


def narrow(draft: Draft) -> Network:
    """Narrow one layer, all of its width, or all."""
    return _resize(draft, -1 - draft.up_to(2))


def _resize(draft: Draft, rungs: int) -> Network:
    site = draft.choose(draft.hidden(Conv, Linear, Recurrent))
    width = site.layer.width
    if rungs > 0 and width < LADDER[1]:
        rungs += 1
    if draft.chance(0.2 + 0.2 * draft.strength):
        return rescaled(draft.network, rungs)
    if len(site.path) > 1 or draft.chance(0.5):
        return rescaled(draft.network, rungs, only=width)
    return draft.replace(site, replace(site.layer, width=climb(width, rungs)))


def change_window(draft: Draft) -> Network:
    """Change the kernel or stride of a convolution, the map keeping its size for stride 1."""
    site = draft.choose(draft.hidden(Conv, Depthwise))
    if len(site.path) == 1 and draft.chance(0.25):
        return draft.replace(site, replace(site.layer, stride=3 - site.layer.stride))
    kernel = draft.rng.choice([k for k in (1, 3, 3, 5, 7) if k != site.layer.kernel])
    return draft.replace(site, replace(site.layer, kernel=kernel, padding=kernel // 2))


def separate(draft: Draft) -> Network:
    """Write a convolution as a depthwise and a pointwise one."""
    sites = [s for s in draft.hidden(Conv) if s.layer.kernel > 1 and s.before[0] > 1]
    layer = (site := draft.choose(sites)).layer
    depthwise = Depthwise(layer.kernel, layer.stride, layer.padding)
    return draft.replace(site, depthwise, Conv(layer.width, 1, padding=0))


def change_activation(draft: Draft) -> Network:
    """Change an activation, here or everywhere."""
    sites = draft.hidden(Act)
    site = draft.choose(sites)
    new = Act(draft.rng.choice([a for a in ACTS if Act(a) != site.layer]))
    network = draft.network
    for changed in [site] if draft.chance(0.4) else sites:
        network = splice(network, changed.path, 1, (new,))
    return network


def change_constant(draft: Draft) -> Network:
    """Change the kind of a pooling, the rate of a dropout, or the kind of a normalization."""
    site = draft.choose(draft.hidden(Pool, AdaptivePool, Dropout, Norm))
    layer: Layer
    match site.layer:
        case Pool(kind) | AdaptivePool(kind):
            layer = replace(site.layer, kind="avg" if kind == "max" else "max")
        case Dropout(rate):
            factor = draft.rng.choice((0.5, 0.8, 1.25, 1.5))
            layer = replace(site.layer, rate=round(min(0.6, max(0.05, rate * factor)), 2))
        case _:
            layer = normalization(draft, site.before)
    return draft.replace(site, layer)


def change_bridge(draft: Draft) -> Network:
    """Change the way from the map to the vector."""
    smallest = min(bridge_of(draft).before[1:])
    sizes = [size for size in (1, 1, 1, 2, 3, 4) if size < smallest]
    pools: list[Network] = [(AdaptivePool("avg", size), Flatten()) for size in sizes]
    return rebridged(draft, *draft.rng.choice([*pools, (Flatten(),)]))


def move(draft: Draft) -> Network:
    """Move a pooling or dropout to another place."""
    site = draft.choose([s for s in draft.hidden(Pool, Dropout) if len(s.path) == 1])
    rest = draft.after(draft.replace(site))
    gaps = rest.maps if len(site.before) > 1 else rest.vectors
    return rest.insert(rest.choose(gaps(nested=False)), site.layer)


ANY: dict[Edit, float] = {
    add_conv: 3.0,
    add_norm: 2.0,
    widen: 2.5,
    add_residual: 1.5,
    add_pool: 1.5,
    deepen: 1.5,
    delete_layer: 1.5,
    narrow: 1.0,
    change_window: 1.0,
    change_bridge: 1.0,
    add_linear: 0.7,
    change_activation: 0.7,
    change_constant: 0.7,
    move: 0.7,
    add_dropout: 0.5,
    separate: 0.3,
    add_recurrent: 0.15,
}
"""Edits that improve a network now and then, with the weights that they are drawn with."""

LAYER: dict[Edit, float] = {
    add_conv: 4,
    add_linear: 2,
    add_pool: 1.5,
    add_norm: 1.5,
    add_dropout: 1,
    deepen: 1.5,
}
"""Those that add one more layer, of the kinds that a person would think of."""


def any_edit(draft: Draft) -> Network:
    """Edit in one of all ways."""
    return draft.rng.choices(list(ANY), list(ANY.values()))[0](draft)


def add_layer(draft: Draft) -> Network:
    """Add one more layer."""
    return draft.rng.choices(list(LAYER), list(LAYER.values()))[0](draft)


# --- what a prompt asks for ---------------------------------------------------------------------

Sites = Sequence[Site]
Goal = Callable[[Sites, Sites], bool]
"""True where an edit did what was asked, from the sites before and after."""


def always(before: Sites, after: Sites) -> bool:
    """Accept any edit."""
    return True


def _more(*kinds: type[Any], by: int = 1) -> Goal:
    return lambda before, after: count(after, *kinds) >= count(before, *kinds) + by


def _smaller(before: Sites, after: Sites) -> bool:
    old, new = size_of(before), size_of(after)
    return new.parameters < 0.8 * old.parameters and new.macs <= old.macs


def _larger(before: Sites, after: Sites) -> bool:
    return size_of(after).parameters > 1.2 * size_of(before).parameters


def _wider(before: Sites, after: Sites) -> bool:
    return size_of(after).parameters > size_of(before).parameters


PROMPTED: tuple[tuple[Edit, Goal], ...] = (
    (add_layer, lambda before, after: len(after) > len(before)),
    (delete_layer, lambda before, after: len(after) < len(before)),
    (any_edit, always),
    (reduce_size, _smaller),
    (increase_size, _larger),
    (add_linear, _more(Linear)),
    (add_conv, _more(Conv, Depthwise)),
    (add_pool, _more(Pool, AdaptivePool)),
    (add_residual, _more(Residual)),
    (add_residuals, _more(Residual, by=2)),
    (add_dropout, _more(Dropout)),
    (add_norm, _more(Norm)),
    (add_recurrent, _more(Recurrent)),
)
"""By the number of the prompt, in the order of the paper's thirteen."""

_OF_TABLES = {6: (widen, _wider), 7: (add_narrow, _more(Linear)), 12: (change_activation, always)}
PROMPTED_OF_TABLES = tuple(_OF_TABLES.get(number, known) for number, known in enumerate(PROMPTED))
"""The same for tables, which are not convolved, pooled or read by steps."""

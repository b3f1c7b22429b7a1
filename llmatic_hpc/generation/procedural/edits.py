"""Single edits of a network, each drawn at random where it makes sense.

An edit takes a :class:`Draft` and gives a list of layers, not yet fitted to the problem, or
None where it does not apply. ``strength`` in [0, 1] is how far it may go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .draft import (
    ACTS,
    Draft,
    Edit,
    activation,
    around,
    bridge_of,
    dressing,
    next_to,
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
    Network,
    Norm,
    Pool,
    Recurrent,
    Residual,
    Site,
    splice,
)

# --- adding -------------------------------------------------------------------------------------


def add_conv(draft: Draft) -> Network | None:
    """A convolution, of about the width around it."""
    gaps = draft.gaps(3)
    gaps = [g for g in gaps if max(g.before[1:]) > 1] or gaps
    if not gaps:
        return None
    gap = draft.rng.choice(gaps)
    width = gap.before[0]
    if len(gap.path) == 1:
        width = climb(max(width, 12), draft.rng.randint(0, 1) + draft.up_to(3))
    conv = same_conv(draft, width, gap.before)
    if len(gap.path) == 1 and min(gap.before[1:]) >= 8 and draft.chance(0.15):
        conv = replace(conv, stride=2)
    return splice(draft.network, gap.path, 0, unit(draft, conv, gap.before))


def add_linear(draft: Draft) -> Network | None:
    """A fully connected layer before the last."""
    gaps = draft.gaps(1, nested=False)
    if not gaps:
        return None
    gap = draft.rng.choice(gaps)
    width = draft.rng.choice((32, 64, 64, 128, 128, 256, 512)[: 5 + draft.up_to(2)])
    more: Network = (Dropout(0.5),) if draft.chance(0.3 * draft.strength) else ()
    return splice(draft.network, gap.path, 0, (*unit(draft, Linear(width), gap.before), *more))


def add_pool(draft: Draft) -> Network | None:
    """A pooling that halves the map, or smooths one that is too small for that."""
    gaps = draft.gaps(3, nested=False)
    gaps = [g for g in gaps if g.path > (0,)] or gaps
    kind = draft.rng.choice(("max", "max", "avg"))
    large = [g for g in gaps if min(g.before[1:]) > 1]
    if large:
        gap, pool = draft.rng.choice(large), Pool(kind)
        if draft.chance(0.3 * draft.strength) and min(gap.before[1:]) > 2:
            pool = Pool(kind, 3, 2, 1)
    elif thin := [g for g in gaps if max(g.before[1:]) > 1]:
        gap, pool = draft.rng.choice(thin), Pool(kind, 3, 1, 1)
    else:
        return None
    return splice(draft.network, gap.path, 0, (pool,))


def add_dropout(draft: Draft) -> Network | None:
    """Dropout, rather late than early."""
    gaps = draft.gaps(1) + draft.gaps(3, nested=False)[-3:]
    gaps = [g for g in gaps if g.path > (0,)] or gaps
    if not gaps:
        return None
    gap = draft.rng.choice(gaps)
    rate = draft.rng.choice((0.1, 0.2, 0.25, 0.3, 0.5)[: 3 + draft.up_to(2)])
    channels = len(gap.before) == 3 and draft.chance(0.4)
    return splice(draft.network, gap.path, 0, (Dropout(rate, channels),))


def add_norm(draft: Draft) -> Network | None:
    """Normalization after a layer that has none yet, if there is one; else anywhere."""
    bare: list[Site] = []
    previous: Site | None = None
    for site in draft.sites:
        if previous and not isinstance(site.layer, Norm) and site.path == next_to(previous.path):
            bare.append(site)
        previous = site if isinstance(site.layer, WEIGHTED) else None
    spots = [s for s in bare if s.path != (len(draft.network),)]
    spots = spots or draft.gaps(3) + draft.gaps(1)
    if not spots:
        return None
    spot = draft.rng.choice(spots)
    return splice(draft.network, spot.path, 0, (normalization(draft, spot.before),))


def add_recurrent(draft: Draft) -> Network | None:
    """A recurrent layer over the map: in place of flattening it, or in front of that."""
    present = draft.hidden(Recurrent)
    if present and draft.chance(0.5):
        site = draft.rng.choice(present)
        layer = site.layer
        if isinstance(layer, Recurrent) and layer.layers < 3:
            return splice(draft.network, site.path, 1, (replace(layer, layers=layer.layers + 1),))
    gaps = draft.gaps(3, nested=False)
    if not gaps:
        return None
    width = draft.rng.choice((32, 48, 64, 64, 96, 128)[: 4 + draft.up_to(2)])
    layer = Recurrent(
        draft.rng.choice(("GRU", "GRU", "LSTM", "RNN")),
        width,
        steps=draft.rng.choice(("pixels", "pixels", "rows")),
        output=draft.rng.choice(("mean", "last")),
        bidirectional=draft.chance(0.3 * draft.strength),
    )
    bridge = bridge_of(draft)
    if isinstance(bridge.layer, Recurrent) or draft.chance(0.25):
        few = [g for g in gaps if 1 < g.before[1] * g.before[2] <= MAX_STEPS] or [bridge]
        layer = replace(layer, steps="pixels", output="map")
        return splice(draft.network, draft.rng.choice(few).path, 0, (layer,))
    return rebridged(draft, bridge, (layer,))


def add_residual(draft: Draft) -> Network | None:
    """A connection around layers that are there, or a new block with one."""
    return _wrap(draft) if draft.chance(0.5) else _new_block(draft)


def add_residuals(draft: Draft) -> Network | None:
    """Two residual connections or more."""
    network: Network | None = None
    for _ in range(2 + draft.up_to(2)):
        network = add_residual(draft) or _new_block(draft)
        if network is None:
            return None
        draft = Draft.of(network, draft.shape, draft.rng, draft.strength)
    return network


def _wrap(draft: Draft) -> Network | None:
    """A connection around one to three consecutive units."""
    layers, runs = draft.network, []
    starts = [g.path[0] for rank in (1, 3) for g in draft.gaps(rank, nested=False)]
    before = {s.path[0]: s.before for s in draft.sites if len(s.path) == 1}
    for start in starts:
        for stop in starts:
            run = layers[start:stop]
            weights = sum(isinstance(layer, WEIGHTED) for layer in run)
            if (
                1 <= weights <= 3
                and not any(isinstance(layer, Residual) for layer in run)
                and len(before[start]) == len(before[stop])
                # A projection from an image to as few channels would add nothing.
                and before[stop][0] >= 8
            ):
                runs.append((start, stop))
    if not runs:
        return None
    start, stop = draft.rng.choice(runs)
    inner = stop - 1 if isinstance(layers[stop - 1], Act) and stop - start > 1 else stop
    return (*layers[:start], Residual(layers[start:inner]), *layers[inner:])


def _new_block(draft: Draft) -> Network | None:
    """A basic block of a ResNet on a map, or one fully connected layer on a vector."""
    gaps = [g for g in draft.gaps(3, nested=False) if max(g.before[1:]) > 1]
    if not gaps or draft.chance(0.15):
        gaps = [g for g in draft.gaps(1, nested=False) if 8 <= g.before[0] <= 512] or gaps
    if not gaps:
        return None
    gap = draft.rng.choice(gaps)
    if len(gap.before) == 1:
        block: Network = (Residual(unit(draft, Linear(gap.before[0]), gap.before)),)
        return splice(draft.network, gap.path, 0, block)
    width = climb(max(gap.before[0], 12), draft.up_to(1) if gap.before[0] >= 12 else 1)
    shape = (width, *gap.before[1:])
    first = unit(draft, same_conv(draft, width, gap.before), gap.before)
    second = unit(draft, same_conv(draft, width, shape), shape, activated=False)
    block = (Residual((*first, *second)), activation(draft))
    return splice(draft.network, gap.path, 0, block)


# --- taking away --------------------------------------------------------------------------------


def delete_layer(draft: Draft) -> Network | None:
    """One layer with its normalization and activation, or a residual connection."""
    sites = draft.hidden(*WEIGHTED, Norm, Pool, AdaptivePool, Dropout, Residual)
    if not sites:
        return None
    site = draft.rng.choice(sites)
    if isinstance(site.layer, Residual) and draft.chance(0.5):
        return splice(draft.network, site.path, 1, site.layer.body)
    remove = 1
    if isinstance(site.layer, (*WEIGHTED, Residual)):
        remove += dressing(draft.network, site.path)
    return splice(draft.network, site.path, remove, ())


def reduce_size(draft: Draft) -> Network | None:
    """Much smaller: narrower, shallower, or with a smaller map to flatten."""
    edits: list[Edit] = [
        lambda d: rescaled(d.network, -2 - d.up_to(2)),
        lambda d: rescaled(d.network, -1),
        delete_layer,
        add_pool,
        lambda d: rebridged(d, bridge_of(d), (AdaptivePool(), Flatten())),
    ]
    return _repeated(draft, edits, lambda before, now: now <= before * (0.5 - 0.3 * draft.strength))


def increase_size(draft: Draft) -> Network | None:
    """Much larger: wider, deeper."""
    edits: list[Edit] = [
        lambda d: rescaled(d.network, 2 + d.up_to(2)),
        deepen,
        add_conv,
        lambda d: _new_block(d) or add_linear(d),
    ]
    return _repeated(draft, edits, lambda before, now: now >= before * (2 + 2 * draft.strength))


def _repeated(
    draft: Draft, edits: Sequence[Edit], enough: Callable[[int, int], bool]
) -> Network | None:
    """Edits until the number of parameters is right, at most eight."""
    before = sum(s.parameters for s in draft.sites)
    network: Network | None = None
    for _ in range(8):
        made = draft.rng.choice(edits)(draft)
        if made is None:
            continue
        try:
            draft = Draft.of(made, draft.shape, draft.rng, draft.strength)
        except ValueError:  # leave that one out
            continue
        network = made
        if enough(before, sum(s.parameters for s in draft.sites)):
            break
    return network


# --- changing -----------------------------------------------------------------------------------


def deepen(draft: Draft) -> Network | None:
    """A convolution or a residual block a second time."""
    sites = draft.hidden(Conv, Residual)
    if not sites:
        return None
    site = draft.rng.choice(sites)
    layer = replace(site.layer, stride=1) if isinstance(site.layer, Conv) else site.layer
    length = 1 + dressing(draft.network, site.path)
    dressed = around(draft.network, site.path)[site.path[-1] + 1 :][: length - 1]
    assert layer is not None
    path = (*site.path[:-1], site.path[-1] + length)
    return splice(draft.network, path, 0, (layer, *dressed))


def widen(draft: Draft) -> Network | None:
    """One layer wider, all of its width, or all."""
    return _resize(draft, 1 + draft.up_to(3))


def narrow(draft: Draft) -> Network | None:
    """One layer narrower, all of its width, or all."""
    return _resize(draft, -1 - draft.up_to(2))


def _resize(draft: Draft, rungs: int) -> Network | None:
    sites = draft.hidden(Conv, Linear, Recurrent)
    if not sites:
        return None
    layer, path = (site := draft.rng.choice(sites)).layer, site.path
    assert isinstance(layer, Conv | Linear | Recurrent)
    if rungs > 0 and layer.width < LADDER[1]:
        rungs += 1
    if draft.chance(0.2 + 0.2 * draft.strength):
        return rescaled(draft.network, rungs)
    if len(path) > 1 or draft.chance(0.5):
        return rescaled(draft.network, rungs, only=layer.width)
    wider = replace(layer, width=climb(layer.width, rungs))
    return splice(draft.network, path, 1, (wider,))


def change_window(draft: Draft) -> Network | None:
    """Another kernel or stride of a convolution, the map keeping its size for stride 1."""
    sites = draft.hidden(Conv, Depthwise)
    if not sites:
        return None
    site = draft.rng.choice(sites)
    layer = site.layer
    assert isinstance(layer, Conv | Depthwise)
    if len(site.path) == 1 and draft.chance(0.25):
        return splice(draft.network, site.path, 1, (replace(layer, stride=3 - layer.stride),))
    kernel = draft.rng.choice([k for k in (1, 3, 3, 5, 7) if k != layer.kernel])
    changed = replace(layer, kernel=kernel, padding=kernel // 2)
    return splice(draft.network, site.path, 1, (changed,))


def separate(draft: Draft) -> Network | None:
    """A convolution as a depthwise and a pointwise one."""
    sites = [s for s in draft.hidden(Conv) if isinstance(s.layer, Conv) and s.layer.kernel > 1]
    sites = [s for s in sites if s.before[0] > 1]
    if not sites:
        return None
    layer = (site := draft.rng.choice(sites)).layer
    assert isinstance(layer, Conv)
    both = (
        Depthwise(layer.kernel, layer.stride, layer.padding),
        Conv(layer.width, 1, padding=0),
    )
    return splice(draft.network, site.path, 1, both)


def change_activation(draft: Draft) -> Network | None:
    """Another activation, here or everywhere."""
    sites = draft.hidden(Act)
    if not sites:
        return None
    site = draft.rng.choice(sites)
    new = Act(draft.rng.choice([a for a in ACTS if Act(a) != site.layer]))
    if draft.chance(0.4):
        return splice(draft.network, site.path, 1, (new,))
    network = draft.network
    for other in sites:
        network = splice(network, other.path, 1, (new,))
    return network


def change_constant(draft: Draft) -> Network | None:
    """Another kind of pooling, rate of dropout, or kind of normalization."""
    sites = draft.hidden(Pool, AdaptivePool, Dropout, Norm)
    if not sites:
        return None
    site = draft.rng.choice(sites)
    layer: Layer
    match site.layer:
        case Pool(kind) | AdaptivePool(kind):
            layer = replace(site.layer, kind="avg" if kind == "max" else "max")
        case Dropout(rate):
            factor = draft.rng.choice((0.5, 0.8, 1.25, 1.5))
            layer = replace(site.layer, rate=round(min(0.6, max(0.05, rate * factor)), 2))
        case _:
            layer = normalization(draft, site.before)
    return splice(draft.network, site.path, 1, (layer,))


def change_bridge(draft: Draft) -> Network | None:
    """Another way from the map to the vector."""
    bridge = bridge_of(draft)
    if len(bridge.before) != 3:
        return None
    sizes = [s for s in (1, 1, 1, 2, 3, 4) if s < min(bridge.before[1:])]
    pools: list[Network] = [(AdaptivePool("avg", size), Flatten()) for size in sizes]
    return rebridged(draft, bridge, draft.rng.choice([*pools, (Flatten(),)]))


def move(draft: Draft) -> Network | None:
    """A pooling or dropout to another place."""
    sites = [s for s in draft.hidden(Pool, Dropout) if len(s.path) == 1]
    if not sites:
        return None
    site = draft.rng.choice(sites)
    assert site.layer is not None
    without = splice(draft.network, site.path, 1, ())
    rest = Draft.of(without, draft.shape, draft.rng, draft.strength)
    gaps = rest.gaps(len(site.before), nested=False)
    return splice(without, rest.rng.choice(gaps).path, 0, (site.layer,)) if gaps else None


ANY: tuple[tuple[Edit, float], ...] = (
    (add_conv, 3.0),
    (add_norm, 2.0),
    (widen, 2.5),
    (add_residual, 1.5),
    (add_pool, 1.5),
    (deepen, 1.5),
    (delete_layer, 1.5),
    (narrow, 1.0),
    (change_window, 1.0),
    (change_bridge, 1.0),
    (add_linear, 0.7),
    (change_activation, 0.7),
    (change_constant, 0.7),
    (move, 0.7),
    (add_dropout, 0.5),
    (separate, 0.3),
    (add_recurrent, 0.15),
)
"""Edits that improve a network now and then, with the weights that they are drawn with."""


def any_edit(draft: Draft) -> Network | None:
    """One of all edits."""
    edits, weights = zip(*ANY, strict=True)
    edit: Edit = draft.rng.choices(edits, weights)[0]
    return edit(draft)


def add_layer(draft: Draft) -> Network | None:
    """One more layer, of the kinds that a person would think of."""
    edits: tuple[Edit, ...] = (add_conv, add_linear, add_pool, add_norm, add_dropout, deepen)
    return draft.rng.choices(edits, (4, 2, 1.5, 1.5, 1, 1.5))[0](draft)

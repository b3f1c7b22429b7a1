"""Figure 3 of the paper: both archives illuminated, of the run with the median number of cells.

    python analysis/figure3.py [RUN...] [--output figure3]

RUN is a run directory, a folder of these, or a pattern; without any, runs/*. A row for each method:
its archive of networks, and its archive of prompts where it keeps one. Of several seeds the run is
shown whose network archive has the median number of filled cells, of an even number the fuller of
the two in the middle. The lighter a cell, the better: by the fitness of its network, or by the
collective fitness of its prompt, by which that archive chooses. Empty cells are grey. Striped: the
network was measured beyond the bounds of the axes and clipped to them. Of more than two axes the
first two are shown, and the fittest of the cells that lie there.
"""

from __future__ import annotations

import textwrap

import _draw
import _networks
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import EngFormatter, MaxNLocator

EMPTY = "#d9d9d9"


def regions(places: np.ndarray) -> list[np.ndarray]:
    """Return the corners (C, 2) of each place's Voronoi region, cut off at the unit square.

    The square is cut along the line midway to every other place (P, 2), the nearest first, until
    the rest is too far away to cut anything.
    """
    found = []
    for place in places:
        shape = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        distance = np.hypot(*(places - place).T)
        for other in np.argsort(distance)[1:]:
            if distance[other] > 2 * np.hypot(*(shape - place).T).max():
                break
            away = places[other] - place
            beyond = (shape - (places[other] + place) / 2) @ away
            corners = []
            for here, there, a, b in zip(shape, np.roll(shape, -1, 0), beyond, np.roll(beyond, -1),
                                         strict=True):  # fmt: skip
                if a <= 0:
                    corners.append(here)
                if a * b < 0:
                    corners.append(here + (there - here) * a / (a - b))
            shape = np.array(corners)
        found.append(shape)
    return found


def median_search(searches: list[_networks.Search]) -> _networks.Search:
    """Return the search whose network archive has the median number of filled cells."""
    ordered = sorted(searches, key=lambda one: (one.network.filled, -one.seed))
    return ordered[len(ordered) // 2]


def illuminate(panel: Axes, archive: _networks.Archive, values: np.ndarray, label: str,
               clipped: np.ndarray | None = None) -> None:  # fmt: skip
    """Draw an archive with the values (K,) of its elites, NaN where a cell is empty."""
    places, of_cell = np.unique(archive.centroids[:, :2].round(9), axis=0, return_inverse=True)
    best = np.full(len(places), -1)
    for cell in np.flatnonzero(np.isfinite(values)):
        place = of_cell.reshape(-1)[cell]
        if best[place] < 0 or values[cell] > values[best[place]]:
            best[place] = cell
    shapes, lit = regions(places), best >= 0
    low, high = values[best[lit]].min(), values[best[lit]].max()
    norm = Normalize(low, high if high > low else low + 1)
    colours = plt.get_cmap(_draw.MAP)
    panel.add_collection(PolyCollection(
        shapes, edgecolors="white", linewidths=0.6,
        facecolors=[colours(norm(values[cell])) if cell >= 0 else EMPTY for cell in best],
    ))  # fmt: skip
    striped = [] if clipped is None else [
        shape for shape, cell in zip(shapes, best, strict=True) if cell >= 0 and clipped[cell]
    ]  # fmt: skip
    if striped:
        panel.add_collection(PolyCollection(striped, facecolors="none", edgecolors="0.75",
                                            linewidths=0.3, hatch="////"))  # fmt: skip
    panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for axis, at in ((panel.xaxis, 0), (panel.yaxis, 1)):
        axis.set_ticks(*ticks(archive.lower[at], archive.upper[at], archive.log[at]))
        axis.set_label_text(archive.axes[at] + (", logarithmic" if archive.log[at] else ""))
    panel.figure.colorbar(plt.cm.ScalarMappable(norm, colours), ax=panel, label=label, shrink=0.8)


def ticks(lower: float, upper: float, log: bool) -> tuple[np.ndarray, list[str]]:
    """Return places of round numbers on an axis from 0 to 1, and their texts."""
    if log:
        powers = 10.0 ** np.arange(np.floor(np.log10(lower)), np.ceil(np.log10(upper)) + 1)
        values = powers if upper / lower > 1000 else np.outer(powers, (1, 3)).reshape(-1)
    else:
        values = MaxNLocator(5).tick_values(lower, upper)
    values = values[(values >= lower) & (values <= upper)]
    places = np.log(values / lower) / np.log(upper / lower) if log else (
        (values - lower) / (upper - lower))  # fmt: skip
    return places, [EngFormatter(sep="")(value) if value >= 1000 else f"{value:g}"
                    for value in values]  # fmt: skip


def main() -> None:
    """Print which runs are shown, and draw."""
    arguments = _networks.parser(__doc__, "figure3").parse_args()
    tasks = _networks.tasks(arguments.runs)
    shown = [(task, group, median_search(group.searches))
             for task, groups in tasks.items() for group in groups]  # fmt: skip
    for task, group, one in [rest for rest in shown if not rest[2].network.filled]:
        print(f"{task}, {group.label}: no network in the archive of {one.path}, left out")
    shown = [rest for rest in shown if rest[2].network.filled]
    if not shown:
        raise SystemExit("no archive has a network")
    columns = 2 if any(one.prompt.filled for *_, one in shown) else 1
    figure, panels = plt.subplots(len(shown), columns, squeeze=False, layout="constrained",
                                  figsize=(5.2 * columns, 4.4 * len(shown)))  # fmt: skip
    for row, (task, group, one) in zip(panels, shown, strict=True):
        counts = [other.network.filled for other in group.searches]
        print(f"{task}, {group.label}: {one.path}, {one.network.filled} of {len(one.network.elite)}"
              f" cells (of {group.seeds}: {min(counts)} to {max(counts)})")  # fmt: skip
        about = "\n".join(textwrap.wrap(f"{group.label}; {task.rpartition(', ')[0]}", 55))
        networks, elite = row[0], one.network.elite
        illuminate(networks, one.network, one.network.fitness * (100 if one.percent else 1),
                   _networks.axis_label(one), one.clipped[elite])  # fmt: skip
        networks.set_title(f"{about}\nnetworks: {one.network.filled} of {len(elite)} cells")
        if columns == 2 and one.prompt.filled:
            illuminate(row[1], one.prompt, one.prompt.fitness,
                       "collective fitness of the prompt")  # fmt: skip
            row[1].set_title(f"{about}\nprompts: {one.prompt.filled} of "
                             f"{len(one.prompt.elite)} cells")  # fmt: skip
        elif columns == 2:
            row[1].set_axis_off()
    _draw.save(figure, arguments.output)


if __name__ == "__main__":
    main()

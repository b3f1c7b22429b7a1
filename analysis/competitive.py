"""Networks that are as good as the best but for a margin: the paper's "more than 20".

    python analysis/competitive.py [RUN...] [--margin 1] [--than 95] [--output competitive]

RUN is a run directory, a folder of these, or a pattern; without any, runs/*. Counts the networks
whose fitness is at most a margin, in percentage points, below that of the fittest of their run
(--than: below so many percent, the same for all runs): all that were trained, and those that are
elites of the network archive at the end, which differ in their axes as well. Draws the elites by
margin, mean and sample standard deviation (n - 1) over seeds, beside the paper's 20. What the
paper calls competitive it does not say.
"""

from __future__ import annotations

import _draw
import _networks
import _runs
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

MARGINS = np.linspace(0.0, 10.0, 201)
PAPER = 20


def below(search: _networks.Search, than: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the networks (N,) and the elites (E,) lie below the best, or ``than``.

    An elite that was not trained to the end, as with rungs, has no fitness and is left out.
    """
    rows = search.networks
    elites = search.network.elite[search.network.elite >= 0]
    elites = elites[np.isin(elites, rows)]
    top = float(search.fitness[rows].max(initial=-np.inf)) if than is None else than
    return top - search.fitness[rows], top - search.fitness[elites]


def within(distances: np.ndarray, margin: float) -> int:
    """Count those within a margin; rounding may put one that lies on it just outside."""
    return int((distances <= margin + 1e-9).sum())


def main() -> None:
    """Print the numbers, and draw."""
    parser = _networks.parser(__doc__, "competitive")
    parser.add_argument("--margin", type=float, default=1.0, help="in percentage points (1)")
    parser.add_argument("--than", type=float, metavar="PERCENT", help="in place of each run's best")
    arguments = parser.parse_args()
    tasks = _networks.tasks(arguments.runs)
    figure, panels = plt.subplots(len(tasks), 1, squeeze=False, layout="constrained",
                                  figsize=(8.5, 3.6 * len(tasks)))  # fmt: skip
    for panel, (task, groups) in zip(panels[:, 0], tasks.items(), strict=True):
        lines, percent = [], groups[0].searches[0].percent
        margins = MARGINS if percent else MARGINS / 100
        for number, group in enumerate(groups):
            found = [below(one, arguments.than) for one in group.searches]
            best = [float(one.fitness[one.best]) for one in group.searches if one.best is not None]
            counts = [
                _runs.measured([within(one[i], arguments.margin) for one in found], 1)
                for i in (0, 1)
            ]
            cells = [_runs.measured([one.network.filled for one in group.searches], 1)]
            lines.append([group.label, group.seeds, _runs.measured(best), *counts, *cells])
            curves = np.array([[within(one[1], margin) for margin in margins] for one in found])
            mean, style = curves.mean(axis=0), _draw.line(number)
            panel.step(
                margins, mean, where="post", **style, label=_draw.entry(group.label, group.seeds)
            )
            if len(curves) > 1:
                spread = curves.std(axis=0, ddof=1)
                panel.fill_between(margins, mean - spread, mean + spread, step="post",
                                   color=style["color"], alpha=0.15, linewidth=0)  # fmt: skip
        _runs.show(
            f"{task}: within {arguments.margin:g} of "
            + ("the best of its run" if arguments.than is None else f"{arguments.than:g}"),
            ("method", "", "best", "networks", "elites", "of all elites"), lines,
        )  # fmt: skip
        panel.axhline(PAPER, color="0.3", linestyle=":", label='the paper\'s "more than 20"')
        panel.axvline(arguments.margin, color="0.8", linewidth=1, zorder=0)
        than = "the run's best" if arguments.than is None else f"{arguments.than:g}"
        unit = ", percentage points" if percent else ""
        panel.set(title=task, xlabel=f"margin below {than}{unit}", xlim=(0, margins[-1]),
                  ylabel="elites within the margin")  # fmt: skip
        panel.set_ylim(bottom=0)
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
        _draw.legend_beside(panel, "mean ± standard deviation over seeds")
    _draw.save(figure, arguments.output)


if __name__ == "__main__":
    main()

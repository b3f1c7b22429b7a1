"""Figure 2 of the paper: trainable networks per generation, by the operators' probabilities.

    python analysis/figure2.py [RUN...] [--output figure2]

RUN is a run directory, a folder of these, or a pattern; without any, runs/*. A panel for each data
set, a line for each pair of probabilities: the mean over seeds of the share of a generation's
candidates that could be trained, with the sample standard deviation (n - 1) as a shade; of a
generation of 100, as the paper's are, the share is the number. Where runs differ in length, a line
goes as far as all of them. Variants without either operator have a line of their name.
"""

from __future__ import annotations

import _draw
import _networks
import figure1
import matplotlib.pyplot as plt
import numpy as np

MUTATION = "search.mutation_probability"
ALONE = {"mutation-only": 1.0, "crossover-only": 0.0}
WITHOUT = ("random", "regularized-evolution", "local-search")
"""Variants that draw no operator."""


def mutation_probability(group: _networks.Group) -> float | None:
    """Return with what probability an operator is mutation, else it is crossover."""
    variant = group.settings["search.variant"]
    return None if variant in WITHOUT else ALONE.get(variant, group.settings[MUTATION])


def name(group: _networks.Group) -> str:
    """Name the probabilities, and the method."""
    chance = mutation_probability(group)
    operators = "" if chance is None else f"mutation {chance:g}, crossover {1 - chance:g}: "
    return operators + group.label


def percent(search: _networks.Search) -> np.ndarray:
    """Return the share of each generation (G,) that could be trained; NaN of an empty one."""
    could, of = search.trainable()
    return 100.0 * np.where(of > 0, could / np.maximum(of, 1), np.nan)


def main() -> None:
    """Print the numbers over all generations, and draw."""
    arguments = _networks.parser(__doc__, "figure2").parse_args()
    tasks = _networks.tasks(arguments.runs, told=(MUTATION,))
    figure, panels = plt.subplots(len(tasks), 1, squeeze=False, layout="constrained",
                                  figsize=(8.5, 3.6 * len(tasks)))  # fmt: skip
    for panel, (task, groups) in zip(panels[:, 0], tasks.items(), strict=True):
        print(f"{task}: candidates that could be trained, of all")
        last = 0
        chances = [mutation_probability(group) for group in groups]
        order = sorted(zip(chances, groups, strict=True), key=lambda pair: -(pair[0] or 0))
        for number, (_, group) in enumerate(order):
            mean, deviation = figure1.over_seeds([percent(one) for one in group.searches])
            last = max(last, len(mean) - 1)
            x, style = np.arange(len(mean)), _draw.line(number)
            panel.plot(x, mean, **style, **_draw.marker(len(x)),
                       label=_draw.entry(name(group), group.seeds))  # fmt: skip
            panel.fill_between(x, mean - deviation, mean + deviation, color=style["color"],
                               alpha=0.15, linewidth=0)  # fmt: skip
            could, of = np.sum([[c.sum() for c in one.trainable()] for one in group.searches], 0)
            print(f"  {name(group)}: {could:,} of {of:,} ({could / max(of, 1):.0%}; {group.seeds})")
        panel.set(title=task.rpartition(", ")[0], ylim=(0, 103),
                  ylabel="trainable networks,\n% of the generation's candidates")  # fmt: skip
        _draw.generations(panel, last)
        _draw.legend_beside(panel, "mean ± standard deviation over seeds")
    _draw.save(figure, arguments.output)


if __name__ == "__main__":
    main()

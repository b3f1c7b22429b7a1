"""Accuracy against size: all networks of a search, and the front that nothing smaller beats.

    python analysis/pareto.py [RUN...] [--output pareto]

RUN is a run directory, a folder of these, or a pattern; without any, runs/*. A row for each data
set, over FLOPs and over parameters; a dot for each network, a line for the front of each method,
its seeds taken together. Prints the front over FLOPs, with the test accuracy beside the fitness:
where fitness is the validation accuracy, nothing was chosen by the test accuracy.
"""

from __future__ import annotations

import _draw
import _networks
import _runs
import matplotlib.pyplot as plt
import numpy as np

SIZES = {"flops": "multiply-adds for one example (FLOP)", "params": "parameters"}


def front(size: np.ndarray, fitness: np.ndarray) -> np.ndarray:
    """Return the places of those that none of their size or smaller equals, the smallest first."""
    order = np.lexsort((np.arange(len(size)), -fitness, size))
    highest = np.maximum.accumulate(fitness[order])
    return order[np.concatenate([[True], highest[1:] > highest[:-1]])[: len(order)]]


def networks(group: _networks.Group, name: str) -> tuple[list[tuple[_networks.Search, int]],
                                                        np.ndarray, np.ndarray]:  # fmt: skip
    """Return who the networks of all seeds are, their size and their fitness, where measured."""
    who = [(one, int(row)) for one in group.searches for row in one.networks
           if one.candidates[name][row] > 0 and np.isfinite(one.fitness[row])]  # fmt: skip
    size = np.array([one.candidates[name][row] for one, row in who], dtype=float)
    return who, size, np.array([one.fitness[row] for one, row in who])


def main() -> None:
    """Print the fronts, and draw."""
    arguments = _networks.parser(__doc__, "pareto").parse_args()
    tasks = _networks.tasks(arguments.runs)
    figure, rows = plt.subplots(len(tasks), len(SIZES), squeeze=False, layout="constrained",
                                sharey="row", figsize=(11, 3.8 * len(tasks)))  # fmt: skip
    for panels, (task, groups) in zip(rows, tasks.items(), strict=True):
        for panel, (name, label) in zip(panels, SIZES.items(), strict=True):
            every, fronts = [], []
            for number, group in enumerate(groups):
                who, size, fitness = networks(group, name)
                if not who:
                    continue
                style, best = _draw.line(number), front(size, fitness)
                panel.scatter(size, fitness, s=6, color=style["color"], alpha=0.3, linewidths=0,
                              rasterized=True)  # fmt: skip
                panel.step(size[best], fitness[best], where="post", **style, marker="o",
                           markersize=4, label=_draw.entry(group.label, group.seeds))  # fmt: skip
                every.append(fitness)
                fronts.append(fitness[best])
                if name == "flops":
                    _print(f"{task}, {group.label}", [who[at] for at in best])
            panel.set(xscale="log", xlabel=label, title=task)
            if every:
                _draw.zoom(panel, np.concatenate(every), np.concatenate(fronts))
        panels[0].set_ylabel(_networks.axis_label(groups[0].searches[0]))
        _draw.legend_beside(panels[-1], "front; dots: all networks")
    _draw.save(figure, arguments.output)


def _print(title: str, best: list[tuple[_networks.Search, int]]) -> None:
    lines = [
        [str(one.path), str(row), f"{one.candidates['flops'][row]:,.0f}",
         f"{one.candidates['params'][row]:,}", f"{one.fitness[row]:.2f}",
         f"{one.test[row]:.2f}" if np.isfinite(one.test[row]) else _runs.UNKNOWN]
        for one, row in best
    ]  # fmt: skip
    header = ("run", "candidate", "FLOPs", "parameters", "fitness", "test accuracy, %")
    _runs.show(f"{title}: front over FLOPs", header, lines)


if __name__ == "__main__":
    main()

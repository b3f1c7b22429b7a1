"""Figure 1 of the paper: best accuracy per generation, mean and deviation over seeds.

    python analysis/figure1.py [RUN...] [--so-far] [--line 98.1] [--output figure1]

RUN is a run directory, a folder of these, or a pattern; without any, runs/*. A panel for each data
set, a line for each variant: the mean, over seeds, of the fitness of each generation's fittest
network (--so-far: of the fittest until then), with the sample standard deviation (n - 1) as a
shade. Where runs of a variant differ in length, it is shown as far as all of them go; a generation
without a network counts for none of its seeds. With --test it is the test accuracy of that network.

--line draws a network to compare with. The paper's is EfficientNet-B0, for which Tan & Le (2019)
report 98.1 % on CIFAR-10: trained on ImageNet first, on larger images, for much longer.
"""

from __future__ import annotations

import warnings

import _draw
import _networks
import matplotlib.pyplot as plt
import numpy as np


def best_of_generations(search: _networks.Search, so_far: bool, test: bool) -> np.ndarray:
    """Return the best of each generation (G,); NaN where it has no network."""
    rows = [search.of_generation(number) for number in range(search.generations)]
    if so_far:
        rows = [np.concatenate(rows[: number + 1]) for number in range(len(rows))]
    values = search.test if test else search.fitness
    return np.array([values[own[np.argmax(search.fitness[own])]] if len(own) else np.nan
                     for own in rows])  # fmt: skip


def over_seeds(curves: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sample standard deviation as far as all ``curves`` go; NaN of one seed."""
    length = min(map(len, curves))
    values = np.array([curve[:length] for curve in curves])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a generation without any network
        mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0, ddof=1)
    return mean, deviation


def main() -> None:
    """Print the last generation, and draw."""
    parser = _networks.parser(__doc__, "figure1")
    parser.add_argument("--so-far", action="store_true", help="the best until each generation")
    parser.add_argument("--test", action="store_true", help="the test accuracy of the fittest")
    parser.add_argument("--line", type=float, metavar="PERCENT", help="a horizontal line")
    parser.add_argument("--line-name", default="EfficientNet-B0", help="what it is")
    arguments = parser.parse_args()
    tasks = _networks.tasks(arguments.runs)
    figure, panels = plt.subplots(len(tasks), 1, squeeze=False, layout="constrained",
                                  figsize=(8.5, 3.6 * len(tasks)))  # fmt: skip
    for panel, (task, groups) in zip(panels[:, 0], tasks.items(), strict=True):
        first = groups[0].searches[0]
        print(f"{task}: best of the last generation shown")
        last = 0
        for number, group in enumerate(groups):
            mean, deviation = over_seeds([
                best_of_generations(one, arguments.so_far, arguments.test)
                for one in group.searches
            ])  # fmt: skip
            last = max(last, len(mean) - 1)
            x, style = np.arange(len(mean)), _draw.line(number)
            label = _draw.entry(group.label, group.seeds)
            panel.plot(x, mean, **style, **_draw.marker(len(x)), label=label)
            panel.fill_between(x, mean - deviation, mean + deviation, color=style["color"],
                               alpha=0.15, linewidth=0)  # fmt: skip
            spread = f" ± {deviation[-1]:.2f}" if np.isfinite(deviation[-1]) else ""
            print(f"  {group.label}: generation {x[-1]}, {mean[-1]:.2f}{spread} ({group.seeds})")
        if arguments.line is not None:
            panel.axhline(arguments.line, color="0.3", linestyle=":", label=arguments.line_name)
        which = "so far" if arguments.so_far else "of the generation"
        what = "test accuracy of the fittest" if arguments.test else f"best {first.measure}"
        unit = ", %" if arguments.test or first.percent else ""
        panel.set(title=task, ylabel=f"{what}\n{which}{unit}")
        _draw.generations(panel, last)
        _draw.legend_beside(panel, "mean ± standard deviation over seeds")
    _draw.save(figure, arguments.output)


if __name__ == "__main__":
    main()

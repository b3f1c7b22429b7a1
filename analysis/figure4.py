"""Figure 4 of the paper: every cell that a search looked at, and the best of each generation.

    python analysis/figure4.py [RUN...] [--output figure4] [--queries N]

RUN is a run directory, a folder of these, or a pattern; without any, runs/nasbench201/*. A row of
panels for each method, a column for each data set that was searched. Batches differ in size, so a
generation is 100 queries, as the paper's are. Dots are the cells of the run with the median result,
dark marks its best per generation, faint lines those of the other seeds, and the dashed line is the
best cell of the table. The vertical axis begins where the best and most cells do; how many lie
below is said.
"""

from __future__ import annotations

import _draw
import _runs
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

GENERATION = 100
BLUE, RED = _draw.COLOURS[:2]


def best_of_generations(run: _runs.Run) -> tuple[np.ndarray, np.ndarray]:
    """Return when, in generations, each had its best test accuracy, and that in percent."""
    starts = range(0, len(run.test), GENERATION)
    rows = np.array([start + np.argmax(run.test[start : start + GENERATION]) for start in starts])
    return (rows + 1) / GENERATION, 100 * run.test[rows]


def median_run(runs: list[_runs.Run]) -> _runs.Run:
    """The run with the median result; of an even number the better of the two."""
    ordered = sorted(runs, key=lambda run: (float(run.test[run.result]), -run.seed))
    return ordered[len(ordered) // 2]


def draw(panel: Axes, runs: list[_runs.Run]) -> None:
    """All runs of a method on one data set."""
    shown = median_run(runs)
    for run in runs:
        if run is not shown:
            panel.plot(*best_of_generations(run), color=BLUE, alpha=0.35, linewidth=0.8,
                       label="the same, other seeds")  # fmt: skip
    queries = np.arange(1, len(shown.test) + 1) / GENERATION
    panel.scatter(queries, 100 * shown.test, s=3, color="0.7", linewidths=0, label="all cells",
                  rasterized=True)  # fmt: skip
    panel.plot(*best_of_generations(shown), "o", color=BLUE, markersize=4,
               label="best of the generation")  # fmt: skip
    panel.axhline(100 * shown.best_test, color=RED, linestyle="--", linewidth=1,
                  label="best cell of the table")  # fmt: skip
    best = [best_of_generations(run)[1] for run in runs]
    _draw.zoom(panel, 100 * shown.test, np.append(np.concatenate(best), 100 * shown.best_test))


def main() -> None:
    """Write the figure."""
    parser = _runs.parser(__doc__)
    _runs.add_output(parser, "figure4")
    arguments = parser.parse_args()
    found = _runs.methods(arguments.runs, arguments.queries)
    found = [method for method in found if any(len(run.test) for run in method.runs)]
    seen = {run.dataset for method in found for run in method.runs if len(run.test)}
    datasets = {key: title for key, title in _runs.DATASETS.items() if key in seen}
    if not datasets:
        raise SystemExit("none of these runs has looked at a cell yet")
    figure, panels = plt.subplots(
        len(found), len(datasets), squeeze=False, layout="constrained",
        figsize=(1.8 + 4 * len(datasets), 3 * len(found)),
    )  # fmt: skip
    entries = {}
    for method, row in zip(found, panels, strict=True):
        for panel, (dataset, title) in zip(row, datasets.items(), strict=True):
            panel.set_title(f"{title}\n{method.title}, {method.protocol}")
            panel.set(xlabel=f"generations of {GENERATION} queries", ylabel="test accuracy, %")
            if runs := [run for run in method.by_dataset.get(dataset, []) if len(run.test)]:
                draw(panel, runs)
                entries |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
            else:
                panel.set_visible(False)
    figure.legend(entries.values(), entries, loc="outside right upper")
    _draw.save(figure, arguments.output)
    _runs.show_notes(found)


if __name__ == "__main__":
    main()

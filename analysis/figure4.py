"""Figure 4 of the paper: every cell that a search looked at, and the best of each generation.

    python analysis/figure4.py [RUN...] --output figure4.pdf [--queries N]

RUN is a run directory, a folder of these, or a pattern; without any, runs/nasbench201/*. A row of
panels for each method, a panel for each data set. Batches differ in size, so a generation is 100
queries, as the paper's are. Dots are the cells of the run with the median result, dark marks its
best per generation, faint lines those of the other seeds, and the dashed line is the best cell
of the table.
"""

from __future__ import annotations

import _runs
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

GENERATION = 100


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
            panel.plot(*best_of_generations(run), color="tab:blue", alpha=0.2, linewidth=0.8)
    queries = np.arange(1, len(shown.test) + 1) / GENERATION
    panel.scatter(queries, 100 * shown.test, s=3, color="0.7", linewidths=0, label="all cells",
                  rasterized=True)  # fmt: skip
    panel.plot(*best_of_generations(shown), "o", color="tab:blue", markersize=4,
               label="best of the generation")  # fmt: skip
    panel.axhline(100 * shown.best_test, color="tab:red", linestyle="--", linewidth=1,
                  label="best cell of the table")  # fmt: skip


def main() -> None:
    """Write the figure."""
    parser = _runs.parser(__doc__)
    parser.add_argument("--output", required=True, help="a .pdf, .png or .svg file")
    arguments = parser.parse_args()
    found = _runs.methods(arguments.runs, arguments.queries)
    figure, panels = plt.subplots(
        len(found), len(_runs.DATASETS), squeeze=False, layout="constrained",
        figsize=(4 * len(_runs.DATASETS), 3 * len(found)),
    )  # fmt: skip
    for method, row in zip(found, panels, strict=True):
        row[0].set_ylabel("test accuracy, %")
        for panel, (dataset, title) in zip(row, _runs.DATASETS.items(), strict=True):
            panel.set_title(f"{title}\n{method.title}, {method.protocol}", fontsize=8)
            panel.set_xlabel("generations of 100 queries")
            if runs := [run for run in method.by_dataset.get(dataset, []) if len(run.test)]:
                draw(panel, runs)
                panel.legend(loc="lower right", fontsize=7)
            else:
                panel.set_axis_off()
    figure.savefig(arguments.output, dpi=150)
    _runs.show_notes(found)


if __name__ == "__main__":
    main()

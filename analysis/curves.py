"""Best accuracy so far over unique queries or simulated hours, for NAS-Bench-201.

    python analysis/curves.py [RUN...] [--queries N] [--at 50,500] [--cost] [--output curves.pdf]

RUN is a run directory, a folder of these, or a pattern; without any, runs/nasbench201/*. Prints
median and quartiles over seeds after some numbers of queries, with the median of the simulated
hours of training so far. With --output draws them, over hours where --cost says so. Where a
method's runs differ in length, it is shown as far as all of them go.
"""

from __future__ import annotations

import _runs
import numpy as np

QUARTILES = (25, 50, 75)


def over_queries(runs: list[_runs.Run]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of queries, and the quartiles of the accuracies in percent after each."""
    length = min(len(run.test) for run in runs)
    values = np.array([run.best_so_far[:length] for run in runs])
    return np.arange(1, length + 1), 100 * np.percentile(values, QUARTILES, axis=0)


def over_hours(runs: list[_runs.Run]) -> tuple[np.ndarray, np.ndarray]:
    """Simulated hours, and the quartiles of the accuracies in percent after each."""
    first, last = max(run.hours[0] for run in runs), min(run.hours[-1] for run in runs)
    if not last >= first:  # times unknown, or a run that ends before another's first cell
        return np.empty(0), np.empty((len(QUARTILES), 0))
    grid = np.geomspace(first, last, 300)
    grid[[0, -1]] = first, last  # rounding may put them outside
    values = np.array(
        [run.best_so_far[np.searchsorted(run.hours, grid, side="right") - 1] for run in runs]
    )
    return grid, 100 * np.percentile(values, QUARTILES, axis=0)


def print_tables(found: list[_runs.Method], at: list[int]) -> None:
    """A table for each data set."""
    for dataset, title in _runs.DATASETS.items():
        lines = []
        for method in found:
            runs = method.by_dataset.get(dataset)
            if not runs:
                continue
            counts, (low, middle, high) = over_queries(runs)
            cells = []
            for n in at:
                if n > len(counts):
                    cells.append(_runs.UNKNOWN)
                    continue
                hours = float(np.median([run.hours[n - 1] for run in runs]))
                i = n - 1
                cells.append(f"{middle[i]:.2f} ({low[i]:.2f}–{high[i]:.2f}), {hours:,.0f} h")
            lines.append([method.title, method.protocol, str(len(runs)), *cells])
        if lines:
            header = ("method", "protocol", "seeds", *(f"{n:,} queries" for n in at))
            _runs.show(f"{title}: test accuracy in percent, median (quartiles)", header, lines)


def draw(found: list[_runs.Method], is_cost: bool, output: str) -> None:
    """A panel for each data set, a line for each method."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, len(_runs.DATASETS), figsize=(4.5 * len(_runs.DATASETS), 4), layout="constrained"
    )
    for panel, (dataset, title) in zip(panels, _runs.DATASETS.items(), strict=True):
        floor = 100.0
        for number, method in enumerate(found):
            runs = method.by_dataset.get(dataset)
            if not runs or not all(len(run.test) for run in runs):
                continue
            x, (low, middle, high) = over_hours(runs) if is_cost else over_queries(runs)
            if not len(x):
                continue
            colour = f"C{number}"
            panel.plot(x, middle, color=colour, label=f"{method.title}, {method.protocol}")
            panel.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            panel.axhline(100 * runs[0].best_test, color="0.4", linestyle=":", linewidth=1)
            floor = min(floor, middle[len(x) // 20])
        if panel.lines:
            panel.set(xscale="log")
            panel.set_ylim(bottom=floor - 0.5)  # the first cells would flatten all that follows
            panel.legend(loc="lower right", fontsize=7)
        else:
            panel.set_axis_off()
        panel.set_title(title)
        panel.set_xlabel("simulated hours of training" if is_cost else "unique queries")
        panel.set_ylabel("best test accuracy so far, %")
    figure.savefig(output, dpi=150)


def main() -> None:
    """Print the tables, and draw."""
    parser = _runs.parser(__doc__)
    parser.add_argument("--at", default="50,100,192,500,2000", help="numbers of queries")
    parser.add_argument("--cost", action="store_true", help="draw over simulated hours")
    parser.add_argument("--output", help="a .pdf, .png or .svg file")
    arguments = parser.parse_args()
    found = _runs.methods(arguments.runs, arguments.queries)
    print_tables(found, [int(n) for n in arguments.at.split(",")])
    _runs.show_notes(found)
    if arguments.output:
        draw(found, arguments.cost, arguments.output)


if __name__ == "__main__":
    main()

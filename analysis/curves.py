"""Best accuracy so far over unique queries or simulated hours, for NAS-Bench-201.

    python analysis/curves.py [RUN...] [--queries N] [--at 50,500] [--cost] [--output curves]

RUN is a run directory, a folder of these, or a pattern; without any, runs/nasbench201/*. Prints
median and quartiles over seeds after some numbers of queries, with the median of the simulated
hours of training so far. With --output draws them, over hours where --cost says so: the median as a
line, the quartiles as a shade. Under the protocol "paper" the accuracy is the best seen so far;
under "sound" it is the test accuracy of the cell with the best validation accuracy so far, which
falls where the validation accuracy errs. Where a method's runs differ in length, it is shown as far
as all of them go.
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
    import _draw
    import matplotlib.pyplot as plt

    over = over_hours if is_cost else over_queries
    curves = {
        dataset: [(method, *over(runs)) for method in found
                  if (runs := method.by_dataset.get(dataset)) and all(len(r.test) for r in runs)]
        for dataset in _runs.DATASETS
    }  # fmt: skip
    curves = {dataset: [one for one in known if len(one[1])] for dataset, known in curves.items()}
    curves = {dataset: known for dataset, known in curves.items() if known}
    if not curves:
        raise SystemExit("nothing to draw: these runs have no cells in common lengths of time")
    figure, panels = plt.subplots(len(curves), 1, squeeze=False, layout="constrained",
                                  figsize=(8.5, 3.6 * len(curves)))  # fmt: skip
    for panel, (dataset, known) in zip(panels[:, 0], curves.items(), strict=True):
        floor = 100.0
        for number, (method, x, (low, middle, high)) in enumerate(known):
            runs, style = method.by_dataset[dataset], _draw.line(number)
            seeds = f"{len(runs)} seed" + ("s" if len(runs) > 1 else "")
            name = f"{method.title}, {method.protocol}"
            panel.step(x, middle, where="post", **style, label=_draw.entry(name, seeds))
            panel.fill_between(x, low, high, step="post", color=style["color"], alpha=0.2,
                               linewidth=0)  # fmt: skip
            # The first twentieth would flatten all that follows; of the rest nothing is cut off.
            floor = min(floor, float(low[len(x) // 20 :].min()))
        best = 100 * known[0][0].by_dataset[dataset][0].best_test
        panel.axhline(best, color="0.4", linestyle=":", linewidth=1, label="best cell of the table")
        panel.set_xscale("log")
        panel.set_ylim(bottom=floor - 0.05 * (best - floor))
        panel.set_title(_runs.DATASETS[dataset])
        panel.set_xlabel("simulated hours of training" if is_cost else "unique queries")
        # Of "sound" it is that of the cell with the best validation accuracy, which may fall.
        protocols = {run.protocol for one in known for run in one[0].by_dataset[dataset]}
        panel.set_ylabel({
            ("paper",): "best test accuracy so far, %",
            ("sound",): "test accuracy of the cell with the best\nvalidation accuracy so far, %",
        }.get(tuple(protocols), "test accuracy of the result so far, %"))  # fmt: skip
        _draw.legend_beside(panel, "median and quartiles over seeds")
    _draw.save(figure, output)


def main() -> None:
    """Print the tables, and draw."""
    parser = _runs.parser(__doc__)
    parser.add_argument("--at", default="50,100,192,500,2000", help="numbers of queries")
    parser.add_argument("--cost", action="store_true", help="draw over simulated hours")
    _runs.add_output(parser, None)
    arguments = parser.parse_args()
    found = _runs.methods(arguments.runs, arguments.queries)
    print_tables(found, [int(n) for n in arguments.at.split(",")])
    _runs.show_notes(found)
    if arguments.output:
        draw(found, arguments.cost, arguments.output)


if __name__ == "__main__":
    main()

"""Compare runs of NAS-Bench-201 with each other, with the table and with published results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from rich.table import Table

from ...report import compare
from ...report.compare import UNKNOWN, Comparison, Lines, Row, column, measured, spread
from ...report.methods import Method, Run
from . import published

_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16_120": "ImageNet16-120"}


class BenchmarkComparison(Comparison):
    """Comparison with the data sets of the benchmark side by side.

    The result of a run is by its protocol: ``paper`` the best test accuracy seen, ``sound`` the
    test accuracy of the fittest candidate, the first of equals.
    """

    aside = ("problem.dataset", "problem.table")
    told = ("problem.protocol", "problem.table_epochs")
    notes = (
        "Protocol paper: the best test accuracy seen; sound: the test accuracy of the cell with "
        "the best validation accuracy.",
    )

    def same(self, run: Run) -> str:
        """Return the SHA-256 of the table's numbers, wherever it lies."""
        return str(run.record.environment.get("benchmark", {}).get("table_sha256", ""))

    def row(self, method: Method) -> Row:
        """See :meth:`.Comparison.row`."""
        by_dataset = {
            name: [run for run in method.runs if run.settings["problem.dataset"] == name]
            for name in _TITLES
        }
        return {
            "protocol": method.settings["problem.protocol"],
            "epochs": method.settings["problem.table_epochs"],
            "table_sha256": self.same(method.runs[0]),
            "datasets": {name: _dataset(runs) for name, runs in by_dataset.items() if runs},
        }

    def tables(self, rows: Sequence[Row]) -> list[Table]:
        """See :meth:`.Comparison.tables`."""
        names = ("protocol", "seeds", *_TITLES.values())
        spent = ("protocol", "queries", *_TITLES.values())
        accuracies = {
            name: [_accuracy(*found[dataset]) for dataset in _TITLES]
            for name, found in published.TEST_ACCURACY.items()
        }
        ranks = {
            name: [str(found[dataset]) for dataset in _TITLES]
            for name, found in published.BEST_RANK.items()
        }
        return [
            compare.table(
                "Table 1: test accuracy, %", names,
                _lines(rows, lambda found: measured(found["test_accuracy"], 100.0)),
                _theirs(accuracies), _best_cells(rows),
            ),
            compare.table(
                "Table 2: best rank by test accuracy among all cells (median over seeds)", names,
                _lines(rows, _rank), _theirs(ranks),
            ),
            compare.table(
                "Median queries until the fittest cell of all (found in so many runs)", spent,
                _lines(rows, _needed, "queries"),
            ),
            compare.table(
                "Simulated hours of training", spent,
                _lines(rows, lambda found: measured(found["simulated_hours"], digits=0), "queries"),
            ),
        ]  # fmt: skip


# --- numbers ----------------------------------------------------------------------------------


def _dataset(runs: Sequence[Run]) -> Row:
    results = [(run, row) for run in runs if (row := _result(run)) is not None]
    ranks = [int(run.record.candidates["rank"][row]) for run, row in results]
    needed = [_queries_to_best(run) for run in runs]
    median = float(np.median(needed))
    return {
        **compare.counts(runs),
        "test_accuracy": spread(column(run, "test_accuracy", [row]).item() for run, row in results),
        "best_rank": min(ranks, default=None),
        "median_rank": float(np.median(ranks)) if ranks else None,
        "median_queries_to_best": median if math.isfinite(median) else None,
        "found_best": sum(map(math.isfinite, needed)),
        "simulated_hours": spread(column(run, "train_seconds").sum() / 3600 for run in runs),
        "best_test_accuracy": runs[0].record.environment["benchmark"]["best_test_accuracy"],
    }


def _result(run: Run) -> int | None:
    is_paper = run.settings["problem.protocol"] == "paper"
    return compare.fittest(run, "test_accuracy" if is_paper else "fitness")


def _queries_to_best(run: Run) -> float:
    """Count the queries until the fittest cell of all was met; infinite where it was not."""
    best = run.record.environment["benchmark"]["best_fitness"]
    met = np.flatnonzero(column(run, "fitness") >= best)
    return 1.0 + met[0] if len(met) else math.inf


# --- lines of the tables ----------------------------------------------------------------------


def _lines(rows: Sequence[Row], cell: Callable[[Row], str], counted: str = "seeds") -> Lines:
    """Make lines of method, protocol, number of seeds or queries, and a cell for every data set."""
    lines: Lines = []
    for row in rows:
        found = row["datasets"]
        if counted == "seeds":
            numbers = [len(values["runs"]) for values in found.values()]
        else:
            numbers = [count for values in found.values() for count in values["queries"]]
        epochs = "" if row["epochs"] == 200 else f", {row['epochs']} epochs"
        cells = [cell(found[name]) if name in found else UNKNOWN for name in _TITLES]
        lines.append((row["title"], row["protocol"] + epochs, compare.span(numbers), *cells))
    return lines


def _theirs(cells: dict[str, list[str]]) -> Lines:
    return [(f"{name} (paper)", "as published", "", *found) for name, found in cells.items()]


def _best_cells(rows: Sequence[Row]) -> Lines:
    """Make a line for each table that the runs looked up."""
    best: dict[str, dict[str, float]] = {}
    for row in rows:
        for dataset, found in row["datasets"].items():
            best.setdefault(row["table_sha256"], {})[dataset] = found["best_test_accuracy"]
    return [
        (
            "best cell of the table", "", "",
            *(f"{found[name] * 100:.2f}" if name in found else UNKNOWN for name in _TITLES),
        )
        for found in best.values()
    ]  # fmt: skip


def _accuracy(mean: float, std: float | None) -> str:
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def _rank(found: Row) -> str:
    if found["best_rank"] is None:
        return UNKNOWN
    return f"{found['best_rank']:,} ({found['median_rank']:,.10g})"


def _needed(found: Row) -> str:
    median, total = found["median_queries_to_best"], len(found["runs"])
    text = f"> {max(found['queries']):,}" if median is None else f"{median:,.10g}"
    return text if found["found_best"] == total else f"{text} ({found['found_best']}/{total})"

"""Compare runs of NAS-Bench-201 with each other, with the table and with published results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from ...report import compare
from ...report.compare import UNKNOWN, Comparison, Lines, Row, column, measured, spread
from ...report.methods import Method, Run
from .cells import DATASETS

TEST_ACCURACY: dict[str, dict[str, tuple[float, float | None]]] = {
    "Random Search": {
        "cifar10": (93.70, 0.36), "cifar100": (71.04, 1.07), "imagenet16_120": (44.57, 1.25),
    },
    "GENIUS": {
        "cifar10": (93.79, 0.09), "cifar100": (70.91, 0.72), "imagenet16_120": (44.96, 1.02),
    },
    "Lambda-DARTS": {
        "cifar10": (94.36, 0.00), "cifar100": (73.51, 0.00), "imagenet16_120": (46.34, 0.00),
    },
    "LLMatic": {
        "cifar10": (94.26, 0.13), "cifar100": (71.62, 1.73), "imagenet16_120": (45.87, 0.96),
    },
    "Optimal": {
        "cifar10": (94.47, None), "cifar100": (74.17, None), "imagenet16_120": (47.33, None),
    },
}  # fmt: skip
"""Table 1 of the LLMatic paper: mean and what follows its ± (which it does not define), percent.

"Optimal" is not the best cell by the mean over its trainings, which is what a run looks up: that
one is recorded in every run."""

BEST_RANK = {"LLMatic": {"cifar10": 2, "cifar100": 2, "imagenet16_120": 11}}
"""Table 2 of the LLMatic paper."""

_TITLES = {name: dataset.title for name, dataset in DATASETS.items()}


class BenchmarkComparison(Comparison):
    """Comparison with the data sets of the benchmark side by side.

    The result of a run is by its protocol: ``paper`` the best test accuracy seen, ``sound`` the
    test accuracy of the fittest candidate, the first of equals.
    """

    aside = ("problem.dataset", "problem.table")
    told = ("problem.protocol", "problem.table_epochs")
    measures: Mapping[str, str] = {}
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
        return [
            compare.table(
                "Table 1: test accuracy, %", names,
                _lines(rows, lambda found: measured(found["test_accuracy"], 100.0)),
                _theirs(TEST_ACCURACY, _published), _best_cells(rows),
            ),
            compare.table(
                "Table 2: best rank by test accuracy among all cells (median over seeds)", names,
                _lines(rows, _rank), _theirs(BEST_RANK, str),
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
    found = [(run, _result(run)) for run in runs]
    results = [(run, row) for run, row in found if row is not None]
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
        numbers = [len(values["runs"]) for values in found.values()]
        if counted == "queries":
            numbers = [count for values in found.values() for count in values["queries"]]
        epochs = "" if row["epochs"] == 200 else f", {row['epochs']} epochs"
        cells = [cell(found[name]) if name in found else UNKNOWN for name in _TITLES]
        lines.append((row["title"], row["protocol"] + epochs, compare.span(numbers), *cells))
    return lines


def _theirs(results: dict[str, dict[str, Any]], cell: Callable[[Any], str]) -> Lines:
    """Make lines of published results, a cell for every data set."""
    return [
        (f"{name} (paper)", "as published", "", *(cell(found[dataset]) for dataset in _TITLES))
        for name, found in results.items()
    ]


def _best_cells(rows: Sequence[Row]) -> Lines:
    """Make a line for each table that the runs looked up."""
    best: dict[str, dict[str, float]] = {}
    for row in rows:
        for dataset, found in row["datasets"].items():
            best.setdefault(row["table_sha256"], {})[dataset] = found["best_test_accuracy"]
    return [
        ("best cell of the table", "", "", *(_percent(found.get(name)) for name in _TITLES))
        for found in best.values()
    ]


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share * 100:.2f}"


def _published(accuracy: tuple[float, float | None]) -> str:
    return measured({"mean": accuracy[0], "std": accuracy[1]})


def _rank(found: Row) -> str:
    if found["best_rank"] is None:
        return UNKNOWN
    return f"{found['best_rank']:,} ({found['median_rank']:,.10g})"


def _needed(found: Row) -> str:
    median, total = found["median_queries_to_best"], len(found["runs"])
    text = f"> {max(found['queries']):,}" if median is None else f"{median:,.10g}"
    return text if found["found_best"] == total else f"{text} ({found['found_best']}/{total})"

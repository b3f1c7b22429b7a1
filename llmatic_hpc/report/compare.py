"""Methods side by side: mean and sample standard deviation over the seeds of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..problems.nasbench201.cells import DATASETS
from .methods import Method, Run, methods

BENCHMARK = "nasbench201"


def compare(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A plain row for every method; None where there is nothing to say.

    Rows of NAS-Bench-201 have the data sets side by side. A run's result is by its protocol:
    ``paper`` the best test accuracy seen, ``sound`` the test accuracy of the fittest candidate,
    the first of equals.
    """
    tabulated = [run for run in runs if run.settings["problem.kind"] == BENCHMARK]
    trained = [run for run in runs if run.settings["problem.kind"] != BENCHMARK]
    return [
        *(_tabulated(method) for method in methods(
            tabulated, aside=("problem.dataset", "problem.table"),
            told=("problem.protocol", "problem.table_epochs"), same=_table,
        )),
        *(_trained(method) for method in methods(
            trained, aside=(), told=("problem.data", "training.fitness_split"),
            same=lambda run: None,
        )),
    ]  # fmt: skip


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (n - 1) of those that are known."""
    known = [float(value) for value in values if math.isfinite(value)]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": known,
    }


def _table(run: Run) -> str:
    """The numbers of the table, wherever it lies."""
    return str(run.record.environment.get("benchmark", {}).get("table_sha256", ""))


def _row(method: Method, problem: str) -> dict[str, Any]:
    return {
        "problem": problem,
        "method": method.name,
        "title": method.title,
        "differs": method.differs,
        "note": method.note,
        "unfinished": [str(run.path) for run in method.runs if not run.finished],
    }


def _tabulated(method: Method) -> dict[str, Any]:
    by_dataset = {
        name: runs
        for name in DATASETS
        if (runs := [run for run in method.runs if run.settings["problem.dataset"] == name])
    }
    return {
        **_row(method, BENCHMARK),
        "protocol": method.settings["problem.protocol"],
        "epochs": method.settings["problem.table_epochs"],
        "table_sha256": _table(method.runs[0]),
        "datasets": {name: _dataset(runs) for name, runs in by_dataset.items()},
    }


def _dataset(runs: Sequence[Run]) -> dict[str, Any]:
    results = [(run, row) for run in runs if (row := _result(run)) is not None]
    ranks = [int(run.record.candidates["rank"][row]) for run, row in results]
    needed = [_queries_to_best(run) for run in runs]
    seconds = [_column(run, "train_seconds").sum() for run in runs]
    median = float(np.median(needed))
    return {
        **_counts(runs),
        "test_accuracy": spread(_column(run, "test_accuracy", [row]).item()
                                for run, row in results),
        "best_rank": min(ranks, default=None),
        "median_rank": float(np.median(ranks)) if ranks else None,
        "median_queries_to_best": median if math.isfinite(median) else None,
        "found_best": sum(map(math.isfinite, needed)),
        "simulated_hours": spread(value / 3600 for value in seconds),
        "best_test_accuracy": runs[0].record.environment["benchmark"]["best_test_accuracy"],
    }  # fmt: skip


def _trained(method: Method) -> dict[str, Any]:
    found = [(run, row) for run in method.runs if (row := _fittest(run)) is not None]
    return {
        **_row(method, method.settings["problem.kind"]),
        "data": method.settings["problem.data"],
        "fitness_split": method.settings["training.fitness_split"],
        **_counts(method.runs),
        **{
            name: spread(_column(run, name, [row]).item() for run, row in found)
            for name in ("fitness", "test_accuracy")
        },
        "elites": spread(_archive(run, "network_elites") for run in method.runs),
        "qd_score": spread(_archive(run, "network_qd_score") for run in method.runs),
    }


def _counts(runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "runs": [str(run.path) for run in runs],
        "seeds": [run.seed for run in runs],
        "queries": [len(run.queries) for run in runs],
    }


def _column(run: Run, name: str, rows: Any = None) -> Any:
    return run.record.candidates[name][run.queries if rows is None else rows]


def _result(run: Run) -> int | None:
    """The candidate that is a run's result by its protocol."""
    if run.settings["problem.protocol"] == "paper":
        return _highest(run, "test_accuracy")
    return _fittest(run)


def _fittest(run: Run) -> int | None:
    return _highest(run, "fitness")


def _highest(run: Run, name: str) -> int | None:
    if not len(run.queries):
        return None
    return int(run.queries[np.argmax(_column(run, name))])


def _queries_to_best(run: Run) -> float:
    """Count the queries until the fittest cell of all was met; infinite where it was not."""
    best = run.record.environment["benchmark"]["best_fitness"]
    met = np.flatnonzero(_column(run, "fitness") >= best)
    return 1.0 + met[0] if len(met) else math.inf


def _archive(run: Run, name: str) -> float:
    """The archive after the last generation whose evaluations lie within the budget."""
    history, told = run.record.history[name], run.record.candidates["told"]
    scored = told[run.record.candidates["status"] == b"scored"]
    known = np.cumsum(np.bincount(scored[scored >= 0], minlength=len(history)))
    within = np.flatnonzero(known[: len(history)] <= len(run.queries))
    return float(history[within[-1]]) if len(within) else math.nan

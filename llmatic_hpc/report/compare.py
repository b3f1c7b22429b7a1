"""Compare methods: mean and sample standard deviation over the seeds of each, and their tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..config import PROBLEMS
from ..store import repeats
from .methods import Method, Run, methods

UNKNOWN = "–"

Row = dict[str, Any]
Lines = list[Sequence[str]]


class Comparison:
    """Comparison of runs that train networks, the common case.

    A kind of problem that has more to say returns a subclass of its own
    (:meth:`.ProblemKind.comparison`).
    """

    aside: tuple[str, ...] = ()
    """Settings in which the runs of one row may differ."""
    told: tuple[str, ...] = ("problem.data", "training.fitness_split")
    """Settings that the row of every method says, so that no number need stand for them."""
    notes: tuple[str, ...] = ()
    """Explanations below the tables."""

    def same(self, run: Run) -> str:
        """Return what must be equal, beside the settings, in runs of one row."""
        return ""

    def row(self, method: Method) -> Row:
        """Return what the runs of a method came to; None where there is nothing to say."""
        found = [(run, row) for run in method.runs if (row := fittest(run)) is not None]
        return {
            "data": method.settings["problem.data"],
            "fitness_split": method.settings["training.fitness_split"],
            **counts(method.runs),
            **{
                name: spread(column(run, name, [row]).item() for run, row in found)
                for name in ("fitness", "test_accuracy")
            },
            "elites": spread(_archive(run, "network_elites") for run in method.runs),
            "qd_score": spread(_archive(run, "network_qd_score") for run in method.runs),
        }

    def tables(self, rows: Sequence[Row]) -> list[Table]:
        """Lay out the rows of all methods for a terminal."""
        lines: Lines = [
            (
                row["title"], f"{row['data']}, {row['fitness_split']}", str(len(row["runs"])),
                span(row["queries"]), measured(row["fitness"], digits=4),
                measured(row["test_accuracy"], digits=4), measured(row["elites"], digits=1),
                measured(row["qd_score"], digits=3),
            )
            for row in rows
        ]  # fmt: skip
        names = ("seeds", "queries", "best fitness", "its test accuracy", "elites", "QD score")
        return [table("Networks", ("data, fitness", *names), lines)]


def compare(runs: Sequence[Run]) -> list[Row]:
    """Return a plain row for every method, the kinds of problem in the order of ``runs``."""
    rows = []
    for kind in dict.fromkeys(run.settings["problem.kind"] for run in runs):
        comparison = comparison_of(kind)
        chosen = [run for run in runs if run.settings["problem.kind"] == kind]
        for method in methods(chosen, comparison):
            unfinished = [str(run.path) for run in method.runs if not run.finished]
            about = {"problem": kind, "method": method.name, "title": method.title}
            about |= {"differs": method.differs, "note": method.note, "unfinished": unfinished}
            about["warnings"] = list(_doubts(method))
            rows.append(about | comparison.row(method))
    return rows


def render(rows: Sequence[Row]) -> RenderableType:
    """Lay out all tables, and below them what numbers and stars in them stand for."""
    parts: list[RenderableType] = []
    notes = ["± is the sample standard deviation (n - 1) over seeds."]
    numbered = {row["title"].rstrip(" *"): row["note"] for row in rows if row["note"]}
    notes += [f"{title}: {note}" for title, note in numbered.items()]
    for kind in dict.fromkeys(row["problem"] for row in rows):
        comparison = comparison_of(kind)
        parts += comparison.tables([row for row in rows if row["problem"] == kind])
        notes += comparison.notes
    notes += [f"WARNING, {row['title']}: {text}" for row in rows for text in row["warnings"]]
    if unfinished := [path for row in rows for path in row["unfinished"]]:
        notes.append(f"* not finished: {', '.join(unfinished)}")
    return Group(*parts, Text("\n".join(notes)))


def _doubts(method: Method) -> Iterator[str]:
    """Say why runs of one row may not be seeds of one experiment."""
    for seed, count in Counter(run.seed for run in method.runs).items():
        if count > 1:
            paths = ", ".join(str(run.path) for run in method.runs if run.seed == seed)
            yield f"seed {seed} counts {count} times ({paths})"
    searches = [run.record.config["search"] for run in method.runs]
    for name in ("queries", "generations"):
        budgets = sorted({int(search.get(name, 0)) for search in searches})
        if len(budgets) > 1 and len({len(run.queries) for run in method.runs}) > 1:
            yield f"runs of different budgets: search.{name} is {', '.join(map(str, budgets))}"


def comparison_of(kind: str) -> Comparison:
    comparison: Comparison = PROBLEMS.get(kind)().comparison()
    return comparison


# --- numbers ----------------------------------------------------------------------------------


def spread(values: Iterable[float]) -> Row:
    """Return mean and sample standard deviation (n - 1) of those values that are known."""
    known = [float(value) for value in values if math.isfinite(value)]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": known,
    }


def counts(runs: Sequence[Run]) -> Row:
    """Return paths, seeds and numbers of queries."""
    return {
        "runs": [str(run.path) for run in runs],
        "seeds": [run.seed for run in runs],
        "queries": [len(run.queries) for run in runs],
    }


def column(run: Run, name: str, rows: Any = None) -> Any:
    """Return a column of the record, at its queries or at other ``rows``.

    Of a network that was trained several times a score is the mean.
    """
    at = run.queries if rows is None else rows
    if name in ("fitness", "valid_accuracy", "test_accuracy") and run.record.has_challenges:
        return repeats.scored(run.record, name).mean[at]
    return run.record.candidates[name][at]


def fittest(run: Run, name: str = "fitness") -> int | None:
    """Return the query with the highest fitness (or other column), the first of equals."""
    return int(run.queries[np.argmax(column(run, name))]) if len(run.queries) else None


def _archive(run: Run, name: str) -> float:
    """Return a number of the last generation whose evaluations lie within the budget, or NaN."""
    history, told = run.record.history[name], run.record.candidates["told"]
    own = (run.record.candidates["status"] == b"scored") & ~run.record.are_repeats
    scored = told[own]
    known = np.cumsum(np.bincount(scored[scored >= 0], minlength=len(history)))
    within = np.flatnonzero(known[: len(history)] <= len(run.queries))
    return float(history[within[-1]]) if len(within) else math.nan


# --- texts ------------------------------------------------------------------------------------


def measured(values: Row, scale: float = 1.0, digits: int = 2) -> str:
    """Return ``94.37 ± 0.05``, or the mean alone where there is one value only."""
    mean, std = values["mean"], values["std"]
    if mean is None:
        return UNKNOWN
    text = f"{mean * scale:,.{digits}f}"
    return text if std is None else f"{text} ± {std * scale:.{digits}f}"


def span(numbers: Sequence[int]) -> str:
    """Return ``1,000``, or ``10–1,000`` where the numbers differ."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def table(title: str, names: Sequence[str], *parts: Lines) -> Table:
    """Lay out lines in sections; the columns are the method and ``names``."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False,
                 header_style="bold", title_style="bold")  # fmt: skip
    made.add_column("method", overflow="fold")
    made.add_column(names[0])
    for name in names[1:]:
        made.add_column(name, justify="right", no_wrap=len(names) < 7)
    for part in parts:
        for line in part:
            made.add_row(*map(Text, line))
        made.add_section()
    made.add_row()
    return made

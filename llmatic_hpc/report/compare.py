"""Compare methods: mean and sample standard deviation over the seeds of each, and their tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..config import PROBLEMS
from ..store import Record, promotion, repeats
from ..store.hours import device_unit, part
from .difference import difference, holm
from .methods import Method, Run, methods

UNKNOWN = "–"

SAME = ("data", "fitness_split")
"""Values of a row without which its numbers are of another kind."""

ABOUT_DIFFERENCES = (
    "Differences: mean minus mean; A is the chance that a seed of this method is higher than one "
    "of the other, equal ones by half (Vargha-Delaney); p is of the exact Mann-Whitney U test, "
    "two-sided, adjusted over the methods by Holm; least p is the smallest that these seeds, "
    "shared out otherwise, could give: where it is above 0.05 nothing can be significant."
)

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
    notes: tuple[str, ...] = (
        "Best of all: the fittest network of any seed. Trainable: of the candidates that were "
        "judged, those that could be trained.",
    )
    """Explanations below the tables."""
    measures: Mapping[str, str] = {
        "fitness": "best fitness", "test_accuracy": "its test accuracy", "qd_score": "QD score",
        "coverage": "coverage",
    }  # fmt: skip
    """Values of a row, one of each seed, whose differences are tested, and their names."""

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
            "budget": _budget(method.runs[0]),
            **{
                name: spread(column(run, name, [row]).item() for run, row in found)
                for name in ("fitness", "test_accuracy")
            },
            "best_fitness": max((column(run, "fitness", [row]).item() for run, row in found),
                                default=None),
            "elites": spread(_archive(run, "network_elites") for run in method.runs),
            "coverage": spread(_archive(run, "network_coverage") for run in method.runs),
            "qd_score": spread(_archive(run, "network_qd_score") for run in method.runs),
            "trainable": spread(map(_trainable, method.runs)),
            "hours": spread(map(_hours, method.runs)),
            "hours_unit": " and ".join(sorted({device_unit(run.record) for run in method.runs})),
        }  # fmt: skip

    def tables(self, rows: Sequence[Row]) -> list[Table]:
        """Lay out the rows of all methods for a terminal."""
        networks: Lines = [
            (
                row["title"], f"{row['data']}, {row['fitness_split']}", str(len(row["runs"])),
                span(row["queries"]), measured(row["fitness"], digits=4),
                UNKNOWN if row["best_fitness"] is None else f"{row['best_fitness']:.4f}",
                measured(row["test_accuracy"], digits=4),
            )
            for row in rows
        ]  # fmt: skip
        maps: Lines = [
            (
                row["title"], measured(row["coverage"], 100.0, 1),
                measured(row["qd_score"], digits=3), measured(row["trainable"], 100.0, 1),
                measured(row["hours"]),
            )
            for row in rows
        ]  # fmt: skip
        units = {row["hours_unit"] for row in rows}
        unit = units.pop() if len(units) == 1 else "device-hours"
        results = ("seeds", "queries", "best fitness", "best of all", "its test accuracy")
        return [
            table("Networks", ("data, fitness", *results), networks),
            table("Maps and cost", ("coverage, %", "QD score", "trainable, %", unit), maps),
        ]


def compare(runs: Sequence[Run]) -> list[Row]:
    """Return a plain row for every method, the kinds of problem in the order of ``runs``."""
    rows: list[Row] = []
    for kind in dict.fromkeys(run.settings["problem.kind"] for run in runs):
        comparison = comparison_of(kind)
        chosen = [run for run in runs if run.settings["problem.kind"] == kind]
        before = len(rows)
        for method in methods(chosen, comparison):
            unfinished = [str(run.path) for run in method.runs if not run.finished]
            about = {"problem": kind, "method": method.name, "title": method.title}
            about |= {"differs": method.differs, "note": method.note, "unfinished": unfinished}
            about["warnings"] = list(_doubts(method))
            rows.append(about | comparison.row(method))
        _set_against(rows[before:], comparison, str(chosen[0].path))
    return rows


def _set_against(rows: Sequence[Row], comparison: Comparison, first: str) -> None:
    """Say of every row how it differs from that of the run named ``first``, on the same data.

    Adjusted over the rows for each measure, as all of them are one question.
    """
    for row in rows:
        row |= {"versus": None, "differences": {}}
    if not comparison.measures:
        return
    reference = next((row for row in rows if first in row["runs"]), rows[0])
    same = [row for row in rows if all(row[key] == reference[key] for key in SAME)]
    others = [row for row in same if row is not reference]
    for measure in comparison.measures:
        found = [difference(row[measure]["values"], reference[measure]["values"]) for row in others]
        adjusted = holm([one["p"] for one in found])
        for row, one, p in zip(others, found, adjusted, strict=True):
            row["versus"] = reference["title"]
            row["differences"][measure] = one | {"p_holm": p}
    for row in others:
        budgets = [", ".join(one["budget"]) for one in (row, reference)]
        if len(set(budgets)) > 1 and set(row["queries"]) != set(reference["queries"]):
            row["warnings"].append(
                f"another budget than {reference['title']}: {budgets[0]} against {budgets[1]}"
            )


def render(rows: Sequence[Row]) -> RenderableType:
    """Lay out all tables, and below them what numbers and stars in them stand for."""
    tables, notes = laid_out(rows)
    return Group(*tables, Text("\n".join(notes)))


def laid_out(rows: Sequence[Row]) -> tuple[list[Table], list[str]]:
    """Return the tables of all kinds of problem, and the notes below them."""
    tables: list[Table] = []
    notes = ["± is the sample standard deviation (n - 1) over seeds."]
    numbered = {row["title"].rstrip(" *"): row["note"] for row in rows if row["note"]}
    notes += [f"{title}: {note}" for title, note in numbered.items()]
    for kind in dict.fromkeys(row["problem"] for row in rows):
        comparison = comparison_of(kind)
        own = [row for row in rows if row["problem"] == kind]
        tables += comparison.tables(own)
        notes += comparison.notes
        if any(row["differences"] for row in own):
            tables.append(_differences(own, comparison))
            notes.append(ABOUT_DIFFERENCES)
    notes += [f"WARNING, {row['title']}: {text}" for row in rows for text in row["warnings"]]
    if unfinished := [path for row in rows for path in row["unfinished"]]:
        notes.append(f"* not finished: {', '.join(unfinished)}")
    return tables, notes


def _differences(rows: Sequence[Row], comparison: Comparison) -> Table:
    lines: Lines = [
        (
            row["title"], comparison.measures[measure], f"{one['n'][0]}, {one['n'][1]}",
            _number(one["difference"], "+.4f"), _number(one["effect"], ".2f"),
            *(_number(one[name], ".3g") for name in ("p", "p_holm", "least_p")),
        )
        for row in rows for measure, one in row["differences"].items()
    ]  # fmt: skip
    versus = next(row["versus"] for row in rows if row["versus"])
    names = ("measure", "seeds", "difference", "A", "p", "p adjusted", "least p")
    return table(f"Differences to {versus}", names, lines)


def _number(value: float | None, how: str) -> str:
    return UNKNOWN if value is None else format(value, how)


def _doubts(method: Method) -> Iterator[str]:
    """Say why runs of one row may not be seeds of one experiment."""
    for seed, count in Counter(run.seed for run in method.runs).items():
        if count > 1:
            paths = ", ".join(str(run.path) for run in method.runs if run.seed == seed)
            yield f"seed {seed} counts {count} times ({paths})"
    searches = [run.record.config["search"] for run in method.runs]
    for name in ("queries", "generations", "budget", "max_gpu_hours", "max_hours"):
        budgets = sorted({search.get(name, 0) for search in searches})
        if len(budgets) > 1 and len({len(run.queries) for run in method.runs}) > 1:
            yield f"runs of different budgets: search.{name} is {', '.join(map(str, budgets))}"

    for run in method.runs:
        if run.unspent:
            yield f"{run.path} ended with {run.unspent}"


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
    """Return a number of the last generation whose evaluations lie within the budget, or NaN.

    Where elites alone were trained in full, at the end, it is that of the archive as it is then.
    """
    history, told = run.record.history[name], run.record.candidates["told"]
    own = (run.record.candidates["status"] == b"scored") & ~run.record.are_repeats
    if promotion.is_deferred(run.record):
        return _of_archive(run.record, name) if own.sum() <= len(run.queries) else math.nan
    scored = told[own]
    known = np.cumsum(np.bincount(scored[scored >= 0], minlength=len(history)))
    within = np.flatnonzero(known[: len(history)] <= len(run.queries))
    return float(history[within[-1]]) if len(within) else math.nan


def _of_archive(record: Record, name: str) -> float:
    """Return a number of the network archive as it stands."""
    state = record.archives["network"]
    filled = float((state.elite >= 0).sum())
    return {
        "network_elites": filled,
        "network_coverage": filled / len(state.elite),
        "network_qd_score": float(np.nansum(state.fitness)),
    }[name]


def _so_far(run: Run) -> Any:
    """Return which candidates (N,) count: of a run that is cut short those up to its last query."""
    last = run.record.rows - 1
    own = (run.record.candidates["status"] == b"scored") & ~run.record.are_repeats
    if own.sum() > len(run.queries):
        last = int(run.queries[-1]) if len(run.queries) else -1
    return np.arange(run.record.rows) <= last


def _trainable(run: Run) -> float:
    """Return the share of the judged candidates that could be trained, or NaN.

    A duplicate counts as what it duplicates; what no machine finished was not judged, and neither
    was a completion whose place went to another.
    """
    table = run.record.candidates
    could = np.isin(table["status"], (b"scored", b"stopped"))
    could |= (table["status"] == b"duplicate") & could[table["duplicate_of"]]
    judged = ~np.isin(table["status"], (b"passed_over", b"infrastructure", b"pending"))
    rows = judged & ~run.record.are_repeats & _so_far(run)
    return float(could[rows].mean()) if rows.any() else math.nan


def _hours(run: Run) -> float:
    """Return the hours of training, of several that share a device each with its part."""
    table = run.record.candidates
    own = (table["duplicate_of"] < 0) & _so_far(run)
    return float(np.nansum(table["train_seconds"][own])) * part(run.record) / 3600


def _budget(run: Run) -> list[str]:
    """Name what ends a run: generations and candidates, queries, full trainings."""
    search = run.record.config["search"]
    found = [f"{search['generations']} generations of {search['batch']}"]
    found += [f"{search['queries']} queries"] if search.get("queries") else []
    found += [f"{search['budget']:g} trainings"] if search.get("budget") else []
    for name, unit in (("max_gpu_hours", "device-hours"), ("max_hours", "hours")):
        found += [f"{search[name]:g} {unit}"] if search.get(name) else []
    return found


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
        made.add_column(name, justify="right", no_wrap=len(names) < 6)
    for group in parts:
        for line in group:
            made.add_row(*map(Text, line))
        made.add_section()
    made.add_row()
    return made

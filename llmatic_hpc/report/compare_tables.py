"""Tables for a terminal of what :mod:`.compare` found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..problems.nasbench201.cells import DATASETS
from . import published
from .compare import BENCHMARK

UNKNOWN = "–"

Row = dict[str, Any]
Lines = list[Sequence[str]]


def render(rows: Sequence[Row]) -> RenderableType:
    """All tables, and what numbers and stars in them stand for."""
    tabulated = [row for row in rows if row["problem"] == BENCHMARK]
    trained = [row for row in rows if row["problem"] != BENCHMARK]
    parts: list[RenderableType] = []
    if tabulated:
        parts += [_accuracies(tabulated), _ranks(tabulated), _needed(tabulated), _hours(tabulated)]
    if trained:
        parts.append(_networks(trained))
    notes = ["± is the sample standard deviation (n - 1) over seeds.", *_notes(rows)]
    return Group(*parts, Text("\n".join(notes)))


def measured(values: Row, scale: float = 1.0, digits: int = 2) -> str:
    """``94.37 ± 0.00``; without what a single run cannot say."""
    mean, std = values["mean"], values["std"]
    if mean is None:
        return UNKNOWN
    text = f"{mean * scale:,.{digits}f}"
    return text if std is None else f"{text} ± {std * scale:.{digits}f}"


def _accuracies(rows: Sequence[Row]) -> Table:
    ours: Lines = [
        _line(row, lambda found: measured(found["test_accuracy"], 100.0)) for row in rows
    ]
    theirs: Lines = [
        (f"{name} (paper)", "as published", "", *(_published(*values[d]) for d in DATASETS))
        for name, values in published.TEST_ACCURACY.items()
    ]
    best: Lines = []
    for digest in dict.fromkeys(row["table_sha256"] for row in rows):
        accuracy = {
            dataset: found["best_test_accuracy"]
            for row in rows if row["table_sha256"] == digest
            for dataset, found in row["datasets"].items()
        }  # fmt: skip
        cells = (f"{accuracy[d] * 100:.2f}" if d in accuracy else UNKNOWN for d in DATASETS)
        best.append(("best cell of the table", "", "", *cells))
    return _table("Table 1: test accuracy, %", ("seeds", *_datasets()), ours, theirs, best)


def _ranks(rows: Sequence[Row]) -> Table:
    def rank(found: Row) -> str:
        if found["best_rank"] is None:
            return UNKNOWN
        return f"{found['best_rank']:,} ({found['median_rank']:,.10g})"

    theirs: Lines = [
        (f"{name} (paper)", "as published", "", *(str(ranks[dataset]) for dataset in DATASETS))
        for name, ranks in published.BEST_RANK.items()
    ]
    title = "Table 2: best rank by test accuracy among all cells (median over seeds)"
    return _table(title, ("seeds", *_datasets()), [_line(row, rank) for row in rows], theirs)


def _needed(rows: Sequence[Row]) -> Table:
    def needed(found: Row) -> str:
        median, total = found["median_queries_to_best"], len(found["runs"])
        text = f"> {max(found['queries']):,}" if median is None else f"{median:,.10g}"
        return text if found["found_best"] == total else f"{text} ({found['found_best']}/{total})"

    title = "Median queries until the fittest cell of all (found in so many runs)"
    return _table(title, ("queries", *_datasets()), [_spent(row, needed) for row in rows])


def _hours(rows: Sequence[Row]) -> Table:
    def hours(found: Row) -> str:
        return measured(found["simulated_hours"], digits=0)

    lines: Lines = [_spent(row, hours) for row in rows]
    return _table("Simulated hours of training", ("queries", *_datasets()), lines)


def _networks(rows: Sequence[Row]) -> Table:
    lines: Lines = [
        (
            row["title"], f"{row['data']}, {row['fitness_split']}", str(len(row["runs"])),
            _range(row["queries"]), measured(row["fitness"], digits=4),
            measured(row["test_accuracy"], digits=4), measured(row["elites"], digits=1),
            measured(row["qd_score"], digits=3),
        )
        for row in rows
    ]  # fmt: skip
    names = ("seeds", "queries", "best fitness", "its test accuracy", "elites", "QD score")
    return _table("Networks", names, lines, second="data, fitness")


def _line(row: Row, cell: Callable[[Row], str]) -> tuple[str, ...]:
    """Method, protocol, seeds, and a cell for every data set."""
    found = row["datasets"]
    epochs = "" if row["epochs"] == 200 else f", {row['epochs']} epochs"
    return (
        row["title"],
        row["protocol"] + epochs,
        _range([len(values["runs"]) for values in found.values()]),
        *(cell(found[name]) if name in found else UNKNOWN for name in DATASETS),
    )


def _spent(row: Row, cell: Callable[[Row], str]) -> tuple[str, ...]:
    """The same with the queries of a run instead of the seeds."""
    title, protocol, _, *cells = _line(row, cell)
    queries = [n for found in row["datasets"].values() for n in found["queries"]]
    return (title, protocol, _range(queries), *cells)


def _table(title: str, names: Sequence[str], *parts: Lines, second: str = "protocol") -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False,
                  header_style="bold", title_style="bold")  # fmt: skip
    table.add_column("method", overflow="fold")
    table.add_column(second)
    for name in names:
        table.add_column(name, justify="right", no_wrap=len(names) < 6)
    for part in parts:
        for line in part:
            table.add_row(*map(Text, line))
        table.add_section()
    table.add_row()
    return table


def _notes(rows: Sequence[Row]) -> list[str]:
    numbered = {row["title"].rstrip(" *"): row["note"] for row in rows if row["note"]}
    unfinished = [path for row in rows for path in row["unfinished"]]
    notes = [f"{title}: {note}" for title, note in numbered.items()]
    if any(row["problem"] == BENCHMARK for row in rows):
        notes.append(
            "Protocol paper: the best test accuracy seen; sound: the test accuracy of the cell "
            "with the best validation accuracy."
        )
    return notes + ([f"* not finished: {', '.join(unfinished)}"] if unfinished else [])


def _datasets() -> tuple[str, ...]:
    titles = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16_120": "ImageNet16-120"}
    return tuple(titles[name] for name in DATASETS)


def _published(mean: float, std: float | None) -> str:
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"

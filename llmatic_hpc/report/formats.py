"""Tables of a comparison as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

_ESCAPED = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "–": "--", "<": r"$<$", ">": r"$>$", "−": "$-$",
}  # fmt: skip


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line for each row of a comparison, spreads as mean, std and n; numbers unrounded."""
    flat = [dict(_flat(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        name = prefix + key
        if isinstance(value, dict) and value.keys() == {"mean", "std", "values"}:
            yield from ((f"{name}_{part}", value[part]) for part in ("mean", "std"))
            yield f"{name}_n", len(value["values"])
        elif isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list):
            yield name, ";".join(map(str, value))
        else:
            yield name, "" if value is None else value


def as_latex(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Return ``tabular`` environments that need no package, notes as comments above them."""
    return "\n".join([*(f"% {note}" for note in notes), *map(_tabular, tables)])


def _tabular(table: Table) -> str:
    columns = table.columns
    layout = "".join("r" if column.justify == "right" else "l" for column in columns)
    cells = [[_plain(cell) for cell in column.cells] for column in columns]
    body = [" & ".join(line) + r" \\" for line in zip(*cells, strict=True) if any(line)]
    head = " & ".join(_plain(column.header) for column in columns) + r" \\"
    return "\n".join([
        f"% {table.title}", rf"\begin{{tabular}}{{{layout}}}", r"\hline", head, r"\hline", *body,
        r"\hline", r"\end{tabular}", "",
    ])  # fmt: skip


def _plain(cell: Any) -> str:
    text = cell.plain if isinstance(cell, Text) else str(cell)
    return "".join(_ESCAPED.get(letter, letter) for letter in text)

"""The benchmark's official files, made into the small table that a run looks up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ....errors import DataError
from .. import table
from . import files


def convert(
    source: Path,
    target: Path,
    tell: Callable[[str], None],
    progress: Callable[[float], None] = lambda fraction: None,
) -> table.BenchmarkTable:
    """Read the official file or folder ``source`` (:func:`.files.read` says which there are),
    write the table ``target``, and ``tell`` in a few lines what it holds.

    ``progress`` is told how much is done, 0 to 1. A table that is in ``target`` already is
    replaced, once the new one is whole; any other file there is left alone.

    Raises :class:`DataError` for a ``source`` or a ``target`` that will not do.
    """
    _check_writable(target)  # before the minutes that reading may take
    found = files.read(source, progress)
    tell(f"official: {source}: {found.count:,} of {found.total:,} cells")
    if found.count < found.total and target.exists() and table.read(target).complete:
        raise DataError(
            f"{target}: left as it is: {source} has {found.count:,} of {found.total:,} cells only. "
            "Let problem.table name a file that is not there yet, or fetch the rest"
        )
    made = table.write(target, found.cells, found.name)
    lacking = [
        name
        for name, accuracies in made.datasets.items()
        if np.isnan(accuracies.valid_12).any() or np.isnan(accuracies.test_12).any()
    ]
    if lacking:
        tell(f"official: no 12-epoch accuracies of all cells for {', '.join(lacking)}")
    tell(f"table: {target}: {len(made.rows):,} cells, SHA-256 {made.digest[:12]}")
    return made


def _check_writable(target: Path) -> None:
    if target.exists():
        try:
            table.read(target)
        except DataError as error:
            raise DataError(
                f"{target}: it is there and is no whole table, so it was left as it is: move it "
                "away, or let problem.table name another file"
            ) from error
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DataError(
            f"{target}: cannot be written, since {folder} is not a folder that you may write to: "
            "let problem.table name another file"
        )

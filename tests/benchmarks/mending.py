"""Count of completions that become cells of NAS-Bench-201: as written, and by each rule of mending.

    python -m tests.benchmarks.mending FILE_OR_RUN...

Reads run directories and records (run.h5), of which every completion counts with the parents that
it was asked with, and JSON Lines with the keys ``form`` and ``completion``. Prints for each file
the number of cells (and of different ones) as written; with the general rules of repair, as far as
they look at the text alone; with all rules of mending; and with all but one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from llmatic_hpc import store
from llmatic_hpc.config import Config, ProblemSettings
from llmatic_hpc.evaluation import repair
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.generation.prompts import PREFIX
from llmatic_hpc.problems.nasbench201.cells import Cell
from llmatic_hpc.problems.nasbench201.kind import nasbench201
from llmatic_hpc.problems.nasbench201.reader.layers import NotACell
from llmatic_hpc.problems.nasbench201.reader.mend import RULES, mend
from llmatic_hpc.problems.nasbench201.reader.read import CellReader
from llmatic_hpc.rundir.paths import RunPaths


def sources_of(file: Path) -> Iterator[str]:
    """The source in each completion of a file; empty where there is none."""
    problem = nasbench201(ProblemSettings(kind="nasbench201"))
    if file.suffix == ".jsonl":
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            prefix = PREFIX if entry["form"] == "completion" else ""
            yield extract(
                entry["completion"],
                form=entry["form"],
                prefix=prefix,
                context=(problem.helpers, problem.initial_source),
            ).source
        return
    record = store.load(file if file.suffix == ".h5" else RunPaths(file).record)
    rows = record.candidates
    for row in range(record.rows):
        parents = [rows["source"][p] for p in rows["parents"][row] if p >= 0]
        shown = "\n\n".join(parents or [problem.initial_source])
        completion = rows["completion"][row] or rows["source"][row]
        form = rows["form"][row].decode()
        yield extract(completion, form=form, context=(problem.helpers, shown)).source


def mended(sources: Sequence[str], written: Sequence[Cell | None], without: str) -> list[Cell]:
    """The cells with every rule but one."""
    found = []
    for source, cell in zip(sources, written, strict=True):
        try:
            found.append(cell or mend(source, without=(without,))[0])
        except NotACell:
            continue
    return found


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE_OR_RUN")
    options = parser.parse_args()
    totals: dict[str, list[Cell]] = {}
    count = 0
    with CellReader(Config().containment) as reader:
        for file in options.files:
            sources = [source for source in sources_of(file) if source]
            count += len(sources)
            written = [reading.cell for reading in reader.read(sources)]
            general = [repair.by_names(s, channels=3, classes=10)[0] for s in sources]
            repaired = [reading.cell for reading in reader.read(general)]
            ways = {
                "as written": [cell for cell in written if cell],
                "general rules": [a or b for a, b in zip(written, repaired, strict=True) if a or b],
                "mended": mended(sources, written, ""),
                **{f"without {rule}": mended(sources, written, rule) for rule in RULES},
            }
            for way, cells in ways.items():
                totals[way] = [*totals.get(way, []), *cells]
                print(f"{file} | {len(sources)} | {way} | {len(cells)} ({len(set(cells))})")
    for way, cells in totals.items():
        print(f"all | {count} | {way} | {len(cells)} ({len(set(cells))})")


if __name__ == "__main__":
    main()

"""Gain of repair on real completions: fit as written, fit afterwards, distinct.

    python -m tests.benchmarks.repair FOLDER_OR_FILE... [--failures]

Reads JSON Lines with the keys ``form`` and ``completion``, as ``llmatic generate --json`` writes
them, and ``model`` and ``temperature`` where they are there; folders of such files; and records
(run.h5), of which the completions of the first generation count. For pictures of 3 x 32 x 32 and
ten classes. Completions that contain no class count for nothing.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from llmatic_hpc import store
from llmatic_hpc.config import Config
from llmatic_hpc.evaluation.screen import Screener
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.generation.prompts import PREFIX
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.types import PENDING, Examined

SHAPE, CLASSES = (3, 32, 32), 10


def examined(entries: Iterable[dict[str, Any]], screener: Screener) -> list[Examined]:
    """Verdicts of the screen and the rules on completions; without those that have no class."""
    initial = image_classification(
        input_shape=SHAPE, classes=CLASSES, settings=Config().problem
    ).initial_source
    sources = [
        extract(
            entry["completion"],
            form=entry["form"],
            prefix=PREFIX if entry["form"] == "completion" else "",
            context=(initial,),
        ).source
        for entry in entries
    ]
    return screener.examine([source for source in sources if source], repair=True)


def entries_of(file: Path) -> list[dict[str, Any]]:
    """The completions of a file."""
    if file.suffix != ".h5":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    record = store.load(file)
    table = record.candidates
    return [
        {
            "model": Path(record.environment["generator"]).name,
            "form": table["form"][row].decode(),
            "completion": table["completion"][row] or table["source"][row],
        }
        for row in np.flatnonzero(table["generation"] == 0)
    ]


def main() -> None:
    """Print a row for every model, form and temperature."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FOLDER_OR_FILE")
    parser.add_argument("--failures", action="store_true", help="say what stayed beyond repair")
    options = parser.parse_args()
    files = [f for p in options.files for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p])]
    if missing := [str(f) for f in files if not f.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for file in files:
        for entry in entries_of(file):
            key = (entry.get("model", file.stem), entry["form"], entry.get("temperature", "-"))
            groups[key[0], key[1], str(key[2])].append(entry)
    print("| model | form | temperature | completions | with a class | fit as written (distinct) "
          "| fit with repair (distinct) | share |")  # fmt: skip
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    left: list[str] = []
    with Screener(input_shape=SHAPE, classes=CLASSES, containment=Config().containment) as screener:
        for (model, form, temperature), entries in sorted(groups.items()):
            found = examined(entries, screener)
            before = {m.written.canonical_sha256 for m in found if m.written.status == PENDING}
            after = {m.screened.canonical_sha256 for m in found if m.screened.status == PENDING}
            fit = sum(m.written.status == PENDING for m in found)
            repaired = sum(m.screened.status == PENDING for m in found)
            assert len(after) >= len(before)
            print(f"| {model} | {form} | {temperature} | {len(entries)} | {len(found)} "
                  f"| {fit} ({len(before)}) | {repaired} ({len(after)}) "
                  f"| {repaired / max(len(found), 1):.2f} |")  # fmt: skip
            left += [m.screened.failure for m in found if m.screened.status != PENDING]
    if options.failures:
        print("\n".join(left))


if __name__ == "__main__":
    main()

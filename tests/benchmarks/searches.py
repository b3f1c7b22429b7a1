"""Whole searches of images side by side: what models wrote, and what came of it.

    python -m tests.benchmarks.searches FOLDER          # FOLDER/<variant>/seed<N>, as of a study
    python -m tests.benchmarks.searches FOLDER --seeds  # a row for every seed
    python -m tests.benchmarks.searches FOLDER --after 112  # elites and QD after so many trainings

Runs are made by ``llmatic study configs/studies/quick_cifar10.toml`` or by hand; those that are
not finished are named and left out. Columns, all of the record, mean and (least to most) over the
seeds:

answers      completions that were sampled, those that were not kept included
tokens       and seconds of the sampling
written      of the candidates, those that fit as they were written; fit: with repair
= parent     of the candidates, those whose network is a parent's; in brackets of first answers
known        of the candidates, those whose network was there before; in brackets, as above
new          of the candidates, those that are trained for the first time
niches       different cells of the first 32 candidates of each generation (rarefied to 32)
hits         of answers with a target; in brackets by chance
elites       filled cells of the map; QD: the sum of their fitness; best: the fittest network's
after N      elites and QD score when so many networks had a score of their own
trainings    and the seconds that they took
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from llmatic_hpc import config as configuration
from llmatic_hpc import store
from llmatic_hpc.problems import kind_of
from llmatic_hpc.report.lines import best_candidate
from llmatic_hpc.report.targets import targets
from llmatic_hpc.source.canonical import canonical_sha256
from llmatic_hpc.store import Record
from llmatic_hpc.store.rows import queries

from .operators import DRAWN, rarefied

COLUMNS = ("answers", "tokens", "seconds", "written", "fit", "= parent", "known", "new", "niches",
           "hits", "elites", "QD", "best", "its test", "trainings", "training s")  # fmt: skip
SHARES = {"written", "fit", "= parent", "known", "new"}


def after(record: Record, count: int) -> str:
    """Return elites and QD score after the first ``count`` networks with a score of their own."""
    table = record.candidates
    rows = np.flatnonzero(table["status"] == b"scored")[:count]
    if len(rows) < count:
        return f"only {len(rows)}"
    entered = [row for row in rows.tolist() if table["network_added"][row] in (1, 2)]
    elites = {int(table["network_cell"][row]): float(table["fitness"][row]) for row in entered}
    return f"{len(elites)}, {sum(elites.values()):.2f}"


def facts(record: Record) -> dict[str, Any]:
    """Return a run's columns; shares as numbers from 0 to 1."""
    table = record.candidates
    n, status = record.rows, table["status"]
    keys, parents = table["canonical_sha256"], table["parents"]
    config = configuration.from_tables(record.config, "run.h5")
    initial = canonical_sha256(kind_of(config).describe(config).initial_source).encode()
    of_parents = [{keys[p] for p in row if p >= 0} or {initial} for row in parents]
    repeats_parent = np.array([bool(k) and k in of
                               for k, of in zip(keys, of_parents, strict=True)])  # fmt: skip
    known = (status == b"duplicate") | (keys == initial)
    earlier = [json.loads(text) if text else [] for text in table["earlier"]]
    first = [tries[0]["why"] if tries else "" for tries in earlier]
    of_parent = np.array([said == "repeats its parent" for said in first])
    repeated = np.array([said.startswith("repeats") for said in first])
    cells = [int(cell) for cell in table["network_cell"] if cell >= 0]
    aims = targets(record)
    best, last = best_candidate(record), record.committed_generations - 1
    scored = status == b"scored"
    return {
        "answers": n + sum(map(len, earlier)),
        "tokens": int(table["tokens"].sum()) + sum(t["tokens"] for ts in earlier for t in ts),
        "seconds": float(np.nansum(table["generate_seconds"])),
        "written": float((table["written"] == b"fits").mean()),
        "fit": float(np.isin(status, (b"scored", b"duplicate", b"diverged", b"too_slow")).mean()),
        "= parent": float(repeats_parent.mean()),
        "= parent, first": float((repeats_parent | of_parent).mean()),
        "known": float(known.mean()),
        "known, first": float((known | repeated).mean()),
        "new": float((scored & ~known).mean()),
        "niches": rarefied(cells, n, DRAWN),
        "hits": aims["hits"] / aims["fit"] if aims["fit"] else math.nan,
        "chance": aims["chance"] / aims["fit"] if aims["fit"] else math.nan,
        "elites": int(record.history["network_elites"][last]),
        "QD": float(record.history["network_qd_score"][last]),
        "best": float(table["fitness"][best]) if best is not None else math.nan,
        "its test": float(table["test_accuracy"][best]) if best is not None else math.nan,
        "trainings": int(((table["epochs"] > 0) & (status != b"duplicate")).sum()),
        "training s": float(np.nansum(table["train_seconds"])),
    }  # fmt: skip


def row(name: str, found: list[dict[str, Any]]) -> str:
    """Return a row of the table: means, and their range where there are several seeds."""

    def one(column: str) -> str:
        values = [run[column] for run in found]
        if any(map(math.isnan, values)):
            return ""
        mean, low, high = sum(values) / len(values), min(values), max(values)
        if column in SHARES:
            first = column + ", first"
            before = [run.get(first, math.nan) for run in found]
            said = sum(before) / len(before)
            return f"{mean:.0%}" + ("" if math.isnan(said) else f" ({said:.0%})")
        if column == "hits":
            return f"{mean:.0%} ({sum(run['chance'] for run in found) / len(found):.0%})"
        digits = {"QD": 2, "best": 3, "its test": 3, "niches": 1}.get(column, 0)
        between = f" ({low:,.{digits}f}–{high:,.{digits}f})" if len(found) > 1 else ""
        wide = column in ("QD", "best", "elites")
        return f"{mean:,.{digits}f}{between if wide else ''}"

    return f"| {name} | {len(found)} | {' | '.join(map(one, COLUMNS))} |"


def is_finished(record: Record) -> bool:
    """Return whether a run came to its last generation, or spent its queries."""
    search = record.config["search"]
    spent = 0 < search.get("queries", 0) <= queries(record)
    return bool(spent or record.committed_generations >= search["generations"])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", action="store_true")
    parser.add_argument("--after", type=int, default=0)
    options = parser.parse_args()
    print(f"| variant | n | {' | '.join(COLUMNS)} |\n| --- |" + " ---: |" * (len(COLUMNS) + 1))
    for variant in sorted(path for path in options.folder.iterdir() if path.is_dir()):
        found, unfinished = {}, []
        for folder in sorted(path for path in variant.glob("seed*") if path.is_dir()):
            record = store.load(folder / "run.h5") if (folder / "run.h5").exists() else None
            if record is None or not is_finished(record):
                unfinished.append(folder.name)
                continue
            found[folder.name] = facts(record)
            if options.after:
                said = after(record, options.after)
                print(f"{variant.name}, {folder.name}, after {options.after}: {said}")
        if unfinished:
            print(f"{variant.name}: {', '.join(unfinished)} not finished")
        if found:
            print(row(variant.name, list(found.values())))
        for seed, values in found.items() if options.seeds else ():
            print(row(f"{variant.name}, {seed}", [values]))


if __name__ == "__main__":
    main()

"""The best network and the map at equal cost: trained in full at once, or earned rung by rung.

    python -m tests.benchmarks.budget TABLE.h5 --results FILE.jsonl            # NAS-Bench-201
    python -m tests.benchmarks.budget TABLE.h5 --ranks         # what 12 epochs tell about 200
    python -m tests.benchmarks.budget cifar10.h5 --images --results FILE.jsonl # real trainings

Every line of the results is a run of ``llmatic`` that ended for its ``search.budget``; what is in
the file already is not run again. (Of ``elites`` a table's lines of lower costs are read off the
longest run, whose search is the same: its elites at that cost, looked up in full.) The search is
the paper's, with plain MAP-Elites' uniform parents and the procedural control, in batches of five;
fitness is the validation accuracy, and the test accuracy that of the fittest. The modes:

full      every candidate is trained in full
niche     12 epochs first, and 200 for what is as good there as the elite of its niche
halving   of a generation's candidates in a niche the best alone
elites    12 epochs for all, and 200 for the elites when the run ends

A cost is in full trainings: 12 epochs are 0.06, a promotion is another 1.

With ``--images`` a full training has 6 epochs of 400 real images, and 1 and 2 are the rungs before
(elites: 1); the networks have at most 2 MFLOPs and the map 25 cells, so that a run of minutes meets
a niche more than once. A run ends after the generation in which its trainings have taken
``--train-seconds``, by the clock, one at a time on one thread. What ``elites`` is going to need for
its elites is set aside, by the seconds that they took for their first rung. ``--seconds`` ends
between two runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from llmatic_hpc import config as configuration
from llmatic_hpc.config import Config
from llmatic_hpc.coordinator.loop import Silent, run
from llmatic_hpc.errors import Interrupted
from llmatic_hpc.problems.nasbench201.cells import DATASETS, architecture, cells, describe
from llmatic_hpc.problems.nasbench201.table import BenchmarkTable, read
from llmatic_hpc.report.lines import best_candidate
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, load, promotion

CONFIGS = Path(__file__).parents[2] / "configs"
MODES = ("full", "niche", "halving", "elites")
COSTS = (25.0, 50.0, 60.0, 100.0, 200.0)
COMMON = ("search.queries=0", "search.generations=1000000", "archive.samples=5000")


class Quiet(Silent):
    """Observer that says nothing: every run ends for its budget."""

    def notice(self, text: str) -> None:
        """Do nothing."""


def of_table(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the settings of all runs on NAS-Bench-201, and in whose folder each goes on."""
    base = (*COMMON, f"problem.table={options.data}", "search.batch=5", "problem.protocol=sound")
    for dataset in options.datasets:
        for mode in options.modes:
            rungs = ("problem.table_epochs=[12,200]", f"training.promotion={mode}")
            for seed in range(options.seeds):
                for cost in options.costs if mode != "elites" else (max(options.costs),):
                    yield {
                        "key": {"dataset": dataset, "mode": mode, "seed": seed, "cost": cost},
                        "folder": f"{dataset}-{mode}-{seed}",
                        "below": sorted({*options.costs} - {cost}) if mode == "elites" else (),
                        "config": CONFIGS / "nasbench201" / "paper.toml",
                        "settings": (
                            *base, f"problem.dataset={dataset}", f"run.seed={seed}",
                            f"search.budget={cost}", *(rungs if mode != "full" else ()),
                        ),
                    }  # fmt: skip


def of_images(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the settings of all runs on images, likewise."""
    base = (
        *COMMON, f"problem.data={options.data}", "problem.train_images=400",
        "problem.test_images=1000", "search.batch=5", "training.epochs=6", "training.threads=1",
        "containment.max_flops=2e6", "cluster.kind=inline", "archive.network.cells=25",
    )  # fmt: skip
    for seed in range(options.seeds):
        for mode in options.modes:
            below = "[1,'niche']" if mode == "elites" else "[1,'niche'],[2,'niche']"
            rungs = (f"training.rungs=[{below},[6]]", f"training.promotion={mode}")
            seconds = options.train_seconds
            yield {
                "key": {"dataset": "images", "mode": mode, "seed": seed, "cost": seconds},
                "folder": f"images-{mode}-{seed}",
                "config": CONFIGS / "smoke.toml",
                "train_seconds": seconds,
                "settings": (*base, f"run.seed={seed}", *(rungs if mode != "full" else ())),
            }


class Until(Quiet):
    """Stops a run after the generation in which its trainings have taken so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.stop = threading.Event()
        self._seconds = seconds

    def generation_done(self, record: Record) -> None:
        """See the class; what elites that are due will take is set aside."""
        table, archive = record.candidates, record.archives["network"]
        spent = float(np.nansum(table["train_seconds"]))
        if promotion.is_deferred(record):
            due = archive.elite[archive.rung == 0]
            short, full = record.rungs
            spent += float(table["train_seconds"][due].sum()) * full / short
        if spent >= self._seconds:
            self.stop.set()


def trained_for(config: Config, folder: Path, seconds: float) -> Record:
    """Run until trainings have taken so many seconds, and with ``elites`` train these in full."""
    watch = Until(seconds)
    with contextlib.suppress(Interrupted):
        run(config, folder, observer=watch, stop=watch.stop)
    done = load(RunPaths(folder).record).committed_generations
    return run(config, folder, generations=done, observer=Quiet())


def measured(record: Record) -> dict[str, float]:
    """Return what a run came to: its cost, and what it found."""
    best, archive = best_candidate(record), record.archives["network"]
    return {
        "spent": promotion.cost(record),
        "trained": int(np.sum(record.candidates["status"] == b"scored")),
        "stopped": int(np.sum(record.candidates["status"] == b"stopped")),
        "elites": int(np.sum(archive.elite >= 0)),
        "networks": int(
            np.sum((record.candidates["duplicate_of"] < 0) & (record.candidates["attempts"] > 0))
        ),
        "qd_score": float(np.nansum(archive.fitness)),
        "test_accuracy": math.nan
        if best is None
        else float(record.candidates["test_accuracy"][best]),
        "train_seconds": float(np.nansum(record.candidates["train_seconds"])),
    }


def promoted_at(record: Record, cost: float, config: Config) -> dict[str, float]:
    """Return what a run of ``elites`` had come to if it had ended at a lower cost."""
    columns = record.candidates
    (short, full), told = record.rungs, columns["told"]
    for generation in range(record.committed_generations):
        own = (told <= generation) & (columns["duplicate_of"] < 0)
        entered = np.flatnonzero((told <= generation) & (columns["network_added"] > 0))
        # The last to enter a cell is its elite.
        elites = dict(zip(columns["network_cell"][entered].tolist(), entered.tolist(), strict=True))
        spent = own.sum() * short / full + len(elites)
        if spent >= cost:
            break
    table = whole_table(config.problem.table)
    scores = table.datasets[config.problem.dataset].scores(config.problem, full)
    rows = [table.row(columns["architecture"][row]) for row in sorted(elites.values())]
    return {
        "spent": float(spent),
        "trained": len(elites),
        "stopped": int(own.sum()) - len(elites),
        "elites": len(elites),
        "qd_score": float(scores["fitness"][rows].astype(float).sum()),
        "test_accuracy": float(scores["test_accuracy"][rows[np.argmax(scores["fitness"][rows])]]),
    }


@cache
def whole_table(path: str) -> BenchmarkTable:
    """Read the table once."""
    return read(Path(path))


def known(file: Path) -> dict[str, dict[str, Any]]:
    """Read the results so far, by their key as JSON."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else ()
    return {json.dumps(line["key"], sort_keys=True): line for line in map(json.loads, lines)}


def run_all(jobs: Iterator[dict[str, Any]], results: Path, most_seconds: float = 0.0) -> None:
    """Run what has no result yet; runs of one folder go on from each other.

    ``most_seconds``: begin no run after so many; 0: run all.
    """
    done, start = known(results), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="llmatic-budget-") as place:
        for job in jobs:
            if json.dumps(job["key"], sort_keys=True) in done:
                continue
            began = time.perf_counter()
            if most_seconds and began - start > most_seconds:
                print("not all: the same line goes on")
                return
            config = configuration.load(job["config"], job["settings"])
            folder = Path(place) / job["folder"]
            if seconds_of_training := job.get("train_seconds"):
                record = trained_for(config, folder, seconds_of_training)
            else:
                record = run(config, folder, observer=Quiet())
            seconds = time.perf_counter() - began
            lines = [{"key": job["key"], **measured(record), "seconds": seconds}]
            for cost in job.get("below", ()):
                at = promoted_at(record, cost, config)
                lines.append({"key": {**job["key"], "cost": cost}, **at})
            with open(results, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)


def tables(results: Path) -> Iterator[str]:
    """Yield the lines of a table for each data set: mean and standard error over the seeds."""
    rows = list(known(results).values())
    for dataset in dict.fromkeys(row["key"]["dataset"] for row in rows):
        of_dataset = [row for row in rows if row["key"]["dataset"] == dataset]
        seeds = len({row["key"]["seed"] for row in of_dataset})
        modes = [mode for mode in MODES if any(r["key"]["mode"] == mode for r in of_dataset)]
        yield f"\n{dataset}, n = {seeds}: test accuracy of the fittest in %; QD score (elites)\n"
        yield f"| cost | {' | '.join(modes)} |"
        yield f"| ---: |{' ---: |' * len(modes)}"
        costs = sorted({row["key"]["cost"] for row in of_dataset})
        at = {
            (mode, cost): [
                r for r in of_dataset if (r["key"]["mode"], r["key"]["cost"]) == (mode, cost)
            ]
            for mode in modes
            for cost in costs
        }
        for cost in costs:
            cells = (_cell(at[mode, cost], at["full", cost]) for mode in modes)
            yield f"| {cost:g} | {' | '.join(cells)} |"
        full, most = at["full", costs[-1]], costs[-1]
        for mode in modes[1:]:
            reached = [
                c for c in costs if _mean(at[mode, c], "qd_score") >= _mean(full, "qd_score")
            ]
            yield (
                f"\n{mode}: the QD score of full training at {most:g} is reached at "
                f"{f'{reached[0]:g}' if reached else 'none of these costs'}."
            )


def _cell(rows: list[dict[str, Any]], full: list[dict[str, Any]]) -> str:
    """Say what a mode came to; a star where it is worse than ``full`` by more than its error."""
    if not rows:
        return "–"
    test, error = _mean(rows, "test_accuracy"), _error(rows, "test_accuracy")
    bar = _mean(full, "test_accuracy") - _error(full, "test_accuracy")
    return (
        f"{100 * test:.2f} ± {100 * error:.2f}{' *' if test < bar else ''}; "
        f"{_mean(rows, 'qd_score'):.2f} ± {_error(rows, 'qd_score'):.2f} "
        f"({_mean(rows, 'elites'):.1f})"
        + (
            f"; {_mean(rows, 'networks'):.0f} networks, {_mean(rows, 'train_seconds'):.0f} s"
            if rows[0]["key"]["dataset"] == "images"
            else ""
        )
    )


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows])) if rows else math.nan


def _error(rows: list[dict[str, Any]], name: str) -> float:
    """Return the standard error of the mean."""
    return (
        float(np.std([row[name] for row in rows], ddof=1)) / math.sqrt(len(rows))
        if len(rows) > 1
        else 0.0
    )


def ranks(path: Path) -> Iterator[str]:
    """Yield the lines of a table: Spearman's correlation of validation accuracies, 12 and 200."""
    flops = np.array([describe(cell, DATASETS["cifar10"]).flops for cell in cells()])
    row = [whole_table(str(path)).rows[architecture(cell)] for cell in cells()]
    yield "| data set | all cells | of equal FLOPs (median) | best tenth |"
    yield "| --- | ---: | ---: | ---: |"
    for name, found in whole_table(str(path)).datasets.items():
        short, full = found.valid_12[row], found.valid[row]
        groups = [flops == size for size in np.unique(flops)]
        alike = [spearmanr(short[g], full[g])[0] for g in groups if g.sum() >= 20]
        best = full >= np.quantile(full, 0.9)
        of_best = spearmanr(short[best], full[best])[0]
        numbers = (spearmanr(short, full)[0], float(np.median(alike)), of_best)
        yield f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="table of NAS-Bench-201, or images")
    parser.add_argument("--images", action="store_true", help="train for real")
    parser.add_argument("--results", type=Path, help="JSON Lines, gone on with")
    parser.add_argument("--ranks", action="store_true", help="only what 12 epochs tell about 200")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--train-seconds", type=float, default=120.0, help="of a run on images")
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no run after so many")
    parser.add_argument("--costs", type=float, nargs="*", default=COSTS)
    parser.add_argument("--modes", nargs="*", default=MODES, choices=MODES)
    parser.add_argument("--datasets", nargs="*", default=tuple(DATASETS), choices=tuple(DATASETS))
    options = parser.parse_args()
    if options.ranks:
        print("\n".join(ranks(options.data)))
        return
    if options.results is None:
        parser.error("--results FILE.jsonl: where the results go")
    if options.images:
        run_all(of_images(options), options.results, options.seconds)
    else:
        run_all(of_table(options), options.results, options.seconds)
    print("\n".join(tables(options.results)))


if __name__ == "__main__":
    main()

"""Lucky draws in the map: how good elites are by other trainings, with challenges and without.

    python -m tests.benchmarks.noise nasbench201.h5 --results FILE.jsonl         # the table's seeds
    python -m tests.benchmarks.noise cifar10.h5 --images --results FILE.jsonl    # real trainings

Every line of the results is a run that ended for its ``search.budget``, repeats counted as any
other training; what is in the file already is not run again. On NAS-Bench-201 a training is one of
the two or three of the table (``problem.table_trainings = "single"``; CIFAR-10: the validation
accuracy, else that on all test images), and the true quality of a cell is their mean. The search is
the paper's with plain MAP-Elites' uniform parents and the procedural control, in batches of five.

With ``--images`` a training has 3 epochs of 400 real images, of networks of at most 2 MFLOPs, the
map 25 cells, and the true quality of an elite is the mean over three trainings with seeds that the
run has not seen; ``--seconds`` ends between runs.

recorded, true   QD score by the archive, and by the true quality of the same elites
surplus          mean of recorded minus true quality over the elites, in points of accuracy
wrong            share of the niches that hold another network than the truly best one that the run
                 trained there (of images unknown)
best             true quality of the elite of the highest recorded fitness, in %
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llmatic_hpc import config as configuration
from llmatic_hpc.coordinator.loop import run
from llmatic_hpc.coordinator.single import evaluate_source
from llmatic_hpc.problems.nasbench201.cells import DATASETS
from llmatic_hpc.store import Record, promotion

from .budget import COMMON, CONFIGS, Quiet, known, whole_table

CHALLENGES = ("0", "1", "2", "2 from 30")
"""``search.challenge``, and ``search.challenge_from`` where it is not the first generation."""
COSTS = {"table": (50.0, 100.0, 200.0), "images": (40.0,)}
NEW_SEEDS = (1_000_001, 1_000_002, 1_000_003)
COLUMNS = ("networks", "repeats", "elites", "recorded", "true", "surplus", "wrong", "best")


def of_table(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the settings of all runs on NAS-Bench-201."""
    for dataset in options.datasets:
        protocol = "sound" if dataset == "cifar10" else "paper"
        for seed in range(options.seeds):
            for challenge in options.challenges:
                for cost in options.costs or COSTS["table"]:
                    yield {
                        "key": {"data": dataset, "challenge": challenge, "noise": options.noise,
                                "seed": seed, "cost": cost},
                        "config": CONFIGS / "nasbench201" / "paper.toml",
                        "settings": (
                            *COMMON, f"problem.table={options.data}", "search.batch=5",
                            f"problem.protocol={protocol}", f"problem.dataset={dataset}",
                            "problem.table_trainings=single",
                        ),
                    }  # fmt: skip


def of_images(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the settings of all runs on images."""
    for seed in range(options.seeds):
        for challenge in options.challenges:
            for cost in options.costs or COSTS["images"]:
                yield {
                    "key": {"data": "images", "challenge": challenge, "noise": options.noise,
                            "seed": seed, "cost": cost},
                    "config": CONFIGS / "smoke.toml",
                    "settings": (
                        *COMMON, f"problem.data={options.data}", "problem.train_images=400",
                        "problem.test_images=500", "search.batch=8", "training.epochs=3",
                        "containment.max_flops=2e6", "training.threads=1", "cluster.kind=inline",
                        "archive.network.cells=25",
                    ),
                }  # fmt: skip


def true_of_table(record: Record, path: str) -> np.ndarray:
    """Return the mean (N,) over the table's trainings of every candidate's cell; NaN: no cell."""
    table, found = whole_table(path), np.full(record.rows, math.nan)
    accuracies = table.datasets[record.config["problem"]["dataset"]]
    for row, name in enumerate(record.candidates["architecture"]):
        if name:
            at = table.row(name)
            trainings = [accuracies.training(at, seed) for seed in range(accuracies.count(at))]
            found[row] = math.fsum(trainings) / len(trainings)
    return found


def true_of_images(record: Record, config: configuration.Config) -> np.ndarray:
    """Return the mean (N,) over trainings with new seeds of every elite; NaN of all others."""
    found = np.full(record.rows, math.nan)
    elites = record.archives["network"].elite
    for row in elites[elites >= 0].tolist():
        source = str(record.candidates["source"][row])
        outcomes = [evaluate_source(config, source, seed)[1] for seed in NEW_SEEDS]
        found[row] = np.mean([outcome.fitness for outcome in outcomes])
    return found


def measured(record: Record, true: np.ndarray) -> dict[str, float]:
    """Return what a run came to."""
    archive, table = record.archives["network"], record.candidates
    held = np.flatnonzero(archive.elite >= 0)
    elite, fitness = archive.elite[held], archive.fitness[held]
    again, scored = record.are_repeats, table["status"] == b"scored"
    best_there = [
        np.nanmax(np.where(scored & ~again & (table["network_cell"] == cell), true, np.nan))
        for cell in held.tolist()
    ]
    return {
        "spent": promotion.cost(record),
        "networks": int((scored & ~again).sum()),
        "repeats": int((scored & again).sum()),
        "elites": len(elite),
        "recorded": float(fitness.sum()),
        "true": float(true[elite].sum()),
        "surplus": 100 * float((fitness - true[elite]).mean()),
        "wrong": float(np.mean(true[elite] < best_there)),
        "best": 100 * float(true[elite[np.argmax(fitness)]]),
    }


def run_all(jobs: Iterator[dict[str, Any]], options: argparse.Namespace) -> None:
    """Run what has no result yet; runs of one seed go on from each other's lower costs."""
    done, began = known(options.results), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmatic-noise-") as place:
        for job in jobs:
            key = job["key"]
            if json.dumps(key, sort_keys=True) in done:
                continue
            if options.seconds and time.monotonic() - began > options.seconds:
                print("not all: the same line goes on")
                return
            further, _, first = key["challenge"].partition(" from ")
            config = configuration.load(
                job["config"],
                (
                    *job["settings"], f"run.seed={key['seed']}", f"search.noise={key['noise']}",
                    f"search.challenge={further}", f"search.challenge_from={first or 0}",
                    f"search.budget={key['cost']}",
                ),
            )  # fmt: skip
            folder = "-".join(str(key[name]) for name in ("data", "challenge", "noise", "seed"))
            record = run(config, Path(place) / folder, observer=Quiet())
            true = (
                true_of_images(record, config)
                if key["data"] == "images"
                else true_of_table(record, config.problem.table)
            )
            line = {"key": key, **measured(record, true)}
            with open(options.results, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def tables(results: Path) -> Iterator[str]:
    """Yield the lines of a table for each data set: mean and standard error over the seeds."""
    rows = list(known(results).values())
    for data in dict.fromkeys(row["key"]["data"] for row in rows):
        seeds = len({row["key"]["seed"] for row in rows if row["key"]["data"] == data})
        yield f"\n{data}, n = {seeds}\n"
        yield f"| cost | challenge | {' | '.join(COLUMNS)} |"
        yield f"| ---: |{' ---: |' * (1 + len(COLUMNS))}"
        groups = sorted(
            {
                (row["key"]["cost"], row["key"]["challenge"], row["key"]["noise"])
                for row in rows
                if row["key"]["data"] == data
            }
        )
        for cost, challenge, noise in groups:
            wanted = {"data": data, "cost": cost, "challenge": challenge, "noise": noise}
            own = [row for row in rows if wanted.items() <= row["key"].items()]
            at = f", noise {noise:g}" if noise and challenge != "0" else ""
            cells = " | ".join(_cell([row[name] for row in own], name) for name in COLUMNS)
            yield f"| {cost:g} | {challenge}{at} | {cells} |"


def _cell(values: list[float], name: str) -> str:
    digits = {"recorded": 3, "true": 3, "surplus": 3, "wrong": 2, "best": 2}.get(name, 1)
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    plain = f"{np.mean(values):.{digits}f}"
    return plain if digits == 1 else f"{plain} ± {error:.{digits}f}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="table of NAS-Bench-201, or images")
    parser.add_argument("--images", action="store_true", help="train for real")
    parser.add_argument("--results", type=Path, required=True, help="JSON Lines, gone on with")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--costs", type=float, nargs="*")
    parser.add_argument("--challenges", nargs="*", default=CHALLENGES)
    parser.add_argument("--noise", type=float, default=0.0, help="search.noise; 0: estimated")
    parser.add_argument("--datasets", nargs="*", default=tuple(DATASETS), choices=tuple(DATASETS))
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="end after so many; 0: when done"
    )
    options = parser.parse_args()
    run_all((of_images if options.images else of_table)(options), options)
    print("\n".join(tables(options.results)))


if __name__ == "__main__":
    main()

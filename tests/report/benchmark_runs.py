"""Small runs on the benchmark's real table, and what they come to by a computation of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from llmatic_hpc import config as configuration
from llmatic_hpc.coordinator.loop import Coordinator, Observer
from llmatic_hpc.rundir.paths import RunPaths

CONFIGS = Path(__file__).parents[2] / "configs"
QUERIES = 40
PROTOCOL = {"llmatic": "paper", "random-search": "sound"}
DATASETS = ("cifar10", "imagenet16_120")
SEEDS = (0, 1)


class Unseen(Observer):
    """Nobody watches."""


def make(folder: Path, table: Path, method: str, dataset: str, seed: int, *more: str) -> Path:
    """A run by the real coordinator; it takes well under a second."""
    name = "nasbench201" if method == "llmatic" else f"nasbench201/{method}"
    settings = configuration.load(CONFIGS / f"{name}.toml", (
        f"problem.table={table}", f"problem.dataset={dataset}", f"run.seed={seed}",
        f"problem.protocol={PROTOCOL[method]}", f"search.queries={QUERIES}", "search.batch=20",
        *more,
    ))  # fmt: skip
    root = folder / f"{method}-{dataset}-seed{seed}"
    Coordinator(settings, RunPaths(root), Unseen(), threading.Event()).run()
    return root


def make_all(folder: Path, table: Path) -> dict[tuple[str, str, int], Path]:
    """Every method, data set and seed; by these."""
    return {
        (method, dataset, seed): make(folder, table, method, dataset, seed)
        for method in PROTOCOL for dataset in DATASETS for seed in SEEDS
    }  # fmt: skip


@dataclass
class Facts:
    """Facts of one run."""

    accuracy: float
    """Percent."""
    rank: int
    hours: float
    needed: float
    """Queries until the fittest cell."""
    so_far: list[float]
    """The result after each query, percent."""


def facts(run: Path, table: Path, method: str, dataset: str, queries: int | None = None) -> Facts:
    """Find the facts from the cells named in the record, in a plain loop over the table."""
    with h5py.File(table) as file:
        names = [name.decode() for name in file["arch_str"][:]]
        group = file[dataset]
        valid, test, seconds = (
            group[name][:] for name in ("valid_acc", "test_acc", "train_time_200ep_s")
        )
    with h5py.File(run / "run.h5") as file:
        cells = file["candidates/architecture"].asstr()[:]
        states = file["candidates/status"].asstr()[:]
    rows = list(dict.fromkeys(
        names.index(cell) for cell, state in zip(cells, states, strict=True)
        if state in ("scored", "duplicate")
    ))[:queries]  # fmt: skip
    fitness = test if PROTOCOL[method] == "paper" else valid
    best, so_far = rows[0], []
    for row in rows:
        best = row if fitness[row] > fitness[best] else best
        so_far.append(float(test[best]))
    needed = [n for n, row in enumerate(rows, 1) if fitness[row] == fitness.max()]
    return Facts(
        accuracy=float(test[best]),
        rank=1 + int(np.sum(test > test[best])),
        hours=sum(float(seconds[row]) for row in rows) / 3600,
        needed=min(needed, default=float("inf")),
        so_far=so_far,
    )

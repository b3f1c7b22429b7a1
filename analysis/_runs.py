"""Shared parts of the scripts here: runs of NAS-Bench-201, read with h5py alone.

A query is a cell with a score of its own: one that is met or trained again costs none. Under the
protocol "paper" a run's result is the best test accuracy seen; under "sound" it is the test
accuracy of the cell with the best fitness (validation accuracy), the first of equals.
"""

from __future__ import annotations

import argparse
import glob
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

DEFAULT = "runs/nasbench201/*"
"""Patterns by which runs are found if none are named."""

DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16_120": "ImageNet16-120"}

PAPER_TABLE_1 = {
    "Random Search": ("93.70 ± 0.36", "71.04 ± 1.07", "44.57 ± 1.25"),
    "GENIUS": ("93.79 ± 0.09", "70.91 ± 0.72", "44.96 ± 1.02"),
    "Lambda-DARTS": ("94.36 ± 0.00", "73.51 ± 0.00", "46.34 ± 0.00"),
    "LLMatic": ("94.26 ± 0.13", "71.62 ± 1.73", "45.87 ± 0.96"),
    "Optimal": ("94.47", "74.17", "47.33"),
}
"""Test accuracies in percent; the paper does not say what its ± is."""

PAPER_TABLE_2 = {"LLMatic": ("2", "2", "11")}
"""Rank by test accuracy of the best cell found."""

UNKNOWN = "–"

IGNORED = (
    "run.directory", "run.seed", "run.trackers", "search.generations", "search.queries",
    "search.budget", "search.max_gpu_hours", "search.max_hours",
    "problem.dataset", "problem.table",
    "generator.batch", "generator.dtype", "generator.device", "generator.threads",
    "generator.url", "generator.key_variable", "generator.concurrency",
    "generator.request_seconds", "generator.retries", "generator.idle",
    "training.device", "training.threads", "training.checkpoint_seconds", "training.graph",
    "training.rung_disk_bytes",
    "containment.require",
    "cluster.kind", "cluster.partition", "cluster.account", "cluster.qos", "cluster.gres",
    "cluster.array_parallelism", "cluster.candidates_per_task", "cluster.workers_per_task",
    "cluster.target_task_minutes", "cluster.time_minutes", "cluster.max_attempts",
    "cluster.poll_seconds", "cluster.absence_seconds", "cluster.exclude_minutes",
    "cluster.quorum", "cluster.chain",
)  # fmt: skip
"""Settings in which two runs of one method may differ: the seed, the data set, and what changes
where, how fast or how long a run goes."""

_NAMES = {
    "llmatic": "LLMatic",
    "random": "random search",
    "regularized-evolution": "regularized evolution",
    "local-search": "local search",
}


@dataclass(eq=False)
class Run:
    """A run, its queries in order."""

    path: Path
    run_id: str
    seed: int
    dataset: str
    protocol: str
    epochs: int
    settings: dict[str, Any]
    """Settings by full name without :data:`IGNORED`, the cells' writer, the table's digest."""
    best_fitness: float
    """Fitness of the fittest cell of the table."""
    best_test: float
    """The highest test accuracy of the table."""
    finished: bool
    budget: tuple[int, int]
    """Queries and generations that its settings allow; 0 queries: any number."""
    fitness: np.ndarray
    test: np.ndarray
    rank: np.ndarray
    seconds: np.ndarray

    @property
    def result(self) -> int | None:
        """Query that is the run's result; None while there is none."""
        if not len(self.test):
            return None
        return int(np.argmax(self.test if self.protocol == "paper" else self.fitness))

    @property
    def best_so_far(self) -> np.ndarray:
        """The result after each query, a test accuracy."""
        objective = self.test if self.protocol == "paper" else self.fitness
        highest = np.maximum.accumulate(objective)
        is_new = np.concatenate([[True], highest[1:] > highest[:-1]])[: len(objective)]
        latest = np.maximum.accumulate(np.where(is_new, np.arange(len(objective)), 0))
        return self.test[latest]

    @property
    def hours(self) -> np.ndarray:
        """Simulated time of training after each query."""
        return np.cumsum(self.seconds) / 3600


@dataclass(eq=False)
class Method:
    """Runs that differ in seed and data set only."""

    name: str
    settings: dict[str, Any]
    runs: list[Run]
    note: str = ""
    """The settings that tell it from others of its name."""
    number: int = 0
    by_dataset: dict[str, list[Run]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name, a number if there are others of that name, a star for unfinished runs."""
        number = f" [{self.number}]" if self.number else ""
        return self.name + number + ("" if all(run.finished for run in self.runs) else " *")

    @property
    def protocol(self) -> str:
        """Protocol in the words of the tables."""
        first = self.runs[0]
        return first.protocol + ("" if first.epochs == 200 else f", {first.epochs} epochs")

    @property
    def seeds(self) -> str:
        """Number of seeds, or the least and the most."""
        counts = [len(runs) for runs in self.by_dataset.values()]
        return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}–{max(counts)}"

    def cells(self, cell: Callable[[list[Run]], str]) -> list[str]:
        """A text for every data set."""
        return [cell(self.by_dataset[d]) if d in self.by_dataset else UNKNOWN for d in DATASETS]


def parser(description: str) -> argparse.ArgumentParser:
    """Make a parser of the arguments that the scripts about NAS-Bench-201 have."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("runs", nargs="*", default=[DEFAULT], metavar="RUN",
                       help="run directories, folders of these, or patterns")  # fmt: skip
    found.add_argument("--queries", type=int, default=0, metavar="N",
                       help="as if each run had ended after so many")  # fmt: skip
    return found


def add_output(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add the option for a figure's file to the arguments of a script."""
    what = f"without an ending both .pdf and .png ({default or 'none'})"
    parser.add_argument("--output", default=default, metavar="FILE", help=what)


def methods(names: Iterable[str], queries: int = 0) -> list[Method]:
    """All runs of NAS-Bench-201 that are named, by method; each counts once."""
    runs = [read(path, queries) for path in records(names)]
    groups: dict[str, list[Run]] = {}
    for run in {run.run_id: run for run in runs if run is not None}.values():
        groups.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    if not groups:
        sys.exit(f"no runs of NAS-Bench-201 in {' '.join(names)}")
    found = [
        Method(name_of(runs[0].settings), runs[0].settings, sorted(runs, key=lambda run: run.seed))
        for runs in groups.values()
    ]
    for method in found:
        for dataset in DATASETS:
            if runs := [run for run in method.runs if run.dataset == dataset]:
                method.by_dataset[dataset] = runs
        _tell_apart([other for other in found if other.name == method.name])
    return sorted(found, key=lambda m: (m.name.lower(), m.number, m.protocol))


def read(path: Path, queries: int = 0) -> Run | None:
    """A record's first queries (0: all); None for a run of another problem."""
    with h5py.File(path, "r", locking=False) as file:
        config = json.loads(file["config"][()])
        environment = json.loads(file["environment"][()])
        if config["problem"]["kind"] != "nasbench201":
            return None
        benchmark, search, table = environment["benchmark"], config["search"], file["candidates"]
        scored, again = table["status"][:] == b"scored", table["operator"][:] == b"repeat"
        fitness = table["fitness"][:]
        for cell in np.unique(table["parents"][:][again & scored, 0]):
            # Trained again (search.challenge): its fitness is the mean over its trainings.
            own = scored & ((table["parents"][:, 0] == cell) & again)
            own[cell] = True
            fitness[cell] = fitness[own].mean()
        rows = np.flatnonzero(scored & ~again)
        enough = [n for n in (queries, search["queries"]) if n]
        spent = file.attrs["committed_generations"] >= search["generations"]
        finished = any(len(rows) >= n for n in enough) or (
            bool(spent) and file.attrs["phase"] == "evaluated"
        )
        rows = rows[: queries or None]
        return Run(
            path=path.parent,
            run_id=file.attrs["run_id"],
            seed=config["run"]["seed"],
            dataset=config["problem"]["dataset"],
            protocol=config["problem"]["protocol"],
            epochs=config["problem"]["table_epochs"],
            settings={
                **{k: v for k, v in flat(config, "") if k not in IGNORED},
                "generator": environment.get("generator"),
                "table": benchmark["table_sha256"],
            },
            best_fitness=benchmark["best_fitness"],
            best_test=benchmark["best_test_accuracy"],
            finished=finished,
            budget=(search["queries"], search["generations"]),
            fitness=fitness[rows],
            test=table["test_accuracy"][:][rows],
            rank=table["rank"][:][rows],
            seconds=table["train_seconds"][:][rows],
        )


def measured(values: Sequence[float], digits: int = 2) -> str:
    """Mean and sample standard deviation: ``94.37 ± 0.00``."""
    if not values:
        return UNKNOWN
    mean = f"{statistics.fmean(values):,.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def show(title: str, header: Sequence[str], *parts: Sequence[Sequence[str]]) -> None:
    """Print a table: the first two columns to the left, numbers to the right."""
    lines = [list(header), *(list(line) for part in parts for line in part)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)

    def row(line: Sequence[str]) -> str:
        cells = [text.ljust(width) if i < 2 else text.rjust(width)
                 for i, (text, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        return "  ".join(cells).rstrip()

    print(title, row(header), sep="\n")
    for part in parts:
        print(rule, *map(row, part), sep="\n")
    print()


def show_notes(found: Sequence[Method]) -> None:
    """Print what numbers and stars stand for, and why runs may not be seeds of one experiment."""
    notes = dict.fromkeys(f"{m.name} [{m.number}]: {m.note}" for m in found if m.number)
    unfinished = [str(run.path) for m in found for run in m.runs if not run.finished]
    for note in notes:
        print(note)
    for method in found:
        for dataset, runs in method.by_dataset.items():
            for warning in _doubts(runs):
                print(f"WARNING, {method.title} on {DATASETS[dataset]}: {warning}")
    if unfinished:
        print(f"* not finished: {', '.join(unfinished)}")


def _doubts(runs: Sequence[Run]) -> Iterable[str]:
    """Say why the runs of a method on one data set may not be seeds of one experiment."""
    seeds = [run.seed for run in runs]
    for seed in sorted({one for one in seeds if seeds.count(one) > 1}):
        paths = ", ".join(str(run.path) for run in runs if run.seed == seed)
        yield f"seed {seed} counts {seeds.count(seed)} times ({paths})"
    if len({len(run.test) for run in runs}) > 1:
        for i, name in enumerate(("queries", "generations")):
            if len(allowed := sorted({run.budget[i] for run in runs})) > 1:
                yield f"different budgets: search.{name} is {', '.join(map(str, allowed))}"


def records(names: Iterable[str]) -> list[Path]:
    """The run.h5 of every run directory, or folder of run directories, that matches."""
    found: list[Path] = []
    for name in names:
        paths = [Path(path) for path in sorted(glob.glob(name))]
        if not paths:
            sys.exit(f"{name}: no such run")
        for path in paths:
            own = path if path.is_file() else path / "run.h5"
            found += [own] if own.is_file() else sorted(path.glob("*/run.h5"))
    return [path for path in found if path.name == "run.h5"]


def flat(table: dict[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    """Yield every setting by its full name."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif key == "writers" and isinstance(value, list):  # several, each with such settings
            yield (
                prefix + key,
                [{k: v for k, v in one.items() if f"{prefix}{k}" not in IGNORED} for one in value],
            )
        else:
            yield prefix + key, value


def name_of(settings: dict[str, Any]) -> str:
    """An algorithm, and who writes the cells for it."""
    variant, writer = settings["search.variant"], str(settings["generator"])
    name = _NAMES.get(variant, f"LLMatic, {variant}")
    if writer.startswith("procedural"):
        return f"{name} (procedural control)" if name.startswith("LLMatic") else name
    kind, _, model = writer.partition(":")
    if kind == "replay" or not model:
        return f"{name} ({writer})"
    return f"{name} ({Path(model).name if Path(model).is_absolute() else model})"


def _tell_apart(same: Sequence[Method]) -> None:
    """Number methods of one name that differ in more than what a table says of each."""
    told = ("problem.protocol", "problem.table_epochs")
    keys = dict.fromkeys(key for method in same for key in method.settings)
    differing = [key for key in keys if key not in told and
                 any(m.settings.get(key) != same[0].settings.get(key) for m in same)]  # fmt: skip
    texts = [{key: m.settings.get(key) for key in differing} for m in same]
    kinds = sorted({json.dumps(text, sort_keys=True) for text in texts})
    for method, text in zip(same, texts, strict=True):
        method.note = ", ".join(f"{key} = {json.dumps(value)}" for key, value in text.items())
        method.number = 1 + kinds.index(json.dumps(text, sort_keys=True)) if differing else 0

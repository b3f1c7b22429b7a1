"""Shared parts of the scripts about networks: runs of any problem, read with h5py alone.

A network is a candidate with a score of its own. A duplicate is none, nor is a repeat, which is
another training of the network that is its parent (search.challenge): of a network that was
trained several times the score is the mean. A completion that was passed over
(search.oversample) was never a candidate. Generations that are under way are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import _runs
import h5py
import numpy as np

DEFAULT = "runs/*"
"""Pattern by which runs are found if none are named."""

LONG = 110
"""Most characters of a label; a longer one does not fit beside a figure."""

_COLUMNS = (
    "generation", "operator", "parents", "status", "fitness", "test_accuracy", "flops",
    "params", "duplicate_of",
)  # fmt: skip


@dataclass(eq=False)
class Archive:
    """An archive as it is at the end, K cells over D axes."""

    axes: list[str]
    """Name with unit, for people."""
    log: list[bool]
    lower: np.ndarray
    upper: np.ndarray
    centroids: np.ndarray
    """(K, D), in the unit cube."""
    elite: np.ndarray
    """Candidate, -1 where the cell is empty."""
    fitness: np.ndarray
    """By which it chooses: of a network its fitness, of a prompt its collective fitness."""

    @property
    def filled(self) -> int:
        """Number of cells with an elite."""
        return int((self.elite >= 0).sum())


@dataclass(eq=False)
class Search:
    """A run, as far as its generations are finished."""

    path: Path
    run_id: str
    seed: int
    generations: int
    task: str
    """Data, and what fitness is there: only what is of one task can be compared."""
    percent: bool
    """True where fitness is an accuracy."""
    measure: str
    """Name of the fitness."""
    settings: dict[str, Any]
    candidates: dict[str, np.ndarray]
    """Columns of the record, of all candidates."""
    network: Archive
    prompt: Archive
    prompts: list[str]
    collective: np.ndarray
    """Fitness of each prompt."""
    clipped: np.ndarray
    """True where a candidate was measured beyond the bounds of the network archive."""

    @cached_property
    def _repeats(self) -> np.ndarray:
        return np.asarray(self.candidates["operator"] == b"repeat")

    @cached_property
    def networks(self) -> np.ndarray:
        """Candidates that are networks, in order."""
        known = self.candidates["generation"] < self.generations
        scored = self.candidates["status"] == b"scored"
        return np.flatnonzero(known & scored & ~self._repeats)

    @cached_property
    def fitness(self) -> np.ndarray:
        """Fitness of every candidate (N,), in percent if it is an accuracy; NaN: none."""
        return self._mean("fitness") * (100.0 if self.percent else 1.0)

    @cached_property
    def test(self) -> np.ndarray:
        """Test accuracy of every candidate (N,) in percent; NaN: none."""
        return 100.0 * self._mean("test_accuracy")

    def _mean(self, name: str) -> np.ndarray:
        """Return a score of the networks, the mean over the trainings of each."""
        scored = self.candidates["status"] == b"scored"
        values = np.where(scored, self.candidates[name], np.nan)
        parents = self.candidates["parents"][:, 0]
        for network in np.unique(parents[self._repeats & scored]):
            own = self._repeats & (parents == network)
            own[network] = True
            values[network] = np.nanmean(values[own])
        return np.asarray(np.where(self._repeats, np.nan, values))

    @cached_property
    def best(self) -> int | None:
        """The fittest network, the first of equals."""
        rows = self.networks
        return int(rows[np.argmax(self.fitness[rows])]) if len(rows) else None

    def of_generation(self, generation: int) -> np.ndarray:
        """Networks that a generation proposed."""
        return self.networks[self.candidates["generation"][self.networks] == generation]

    def trainable(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how many candidates of each generation could be trained, and of how many.

        A duplicate counts as what it duplicates; what stopped at a rung could be trained. What no
        machine finished says nothing and is not counted.
        """
        status, table = self.candidates["status"], self.candidates
        could = np.isin(status, (b"scored", b"stopped"))
        could |= (status == b"duplicate") & could[table["duplicate_of"]]
        judged = ~np.isin(status, (b"passed_over", b"infrastructure", b"pending")) & ~self._repeats
        inside = judged & (table["generation"] >= 0) & (table["generation"] < self.generations)
        counts = [
            np.bincount(table["generation"][rows], minlength=self.generations)
            for rows in (inside & could, inside)
        ]
        return counts[0], counts[1]


@dataclass(eq=False)
class Group:
    """Searches that differ in seed only."""

    label: str
    """Name, and the settings in which it differs from others of its name."""
    searches: list[Search]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> str:
        """Number of seeds: ``3 seeds``."""
        count = len(self.searches)
        return f"{count} seed" + ("s" if count > 1 else "")


def parser(description: str, output: str) -> argparse.ArgumentParser:
    """Make a parser of the arguments that all scripts about networks have."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = f"run directories, folders of these, or patterns ({DEFAULT})"
    found.add_argument("runs", nargs="*", default=[DEFAULT], metavar="RUN", help=what)
    _runs.add_output(found, output)
    return found


def tasks(names: Iterable[str], told: Sequence[str] = ()) -> dict[str, list[Group]]:
    """Read all runs that are named, by task and then by method; each counts once.

    ``told``: settings that tell methods apart but which the figure itself says. Warns, on standard
    error, of seeds that count twice and of runs without a finished generation.
    """
    found: dict[str, Search] = {}
    for path in _runs.records(names):
        search = read(path)
        if search.generations:
            found.setdefault(search.run_id, search)
        else:
            print(f"{search.path}: no generation is finished", file=sys.stderr)
    if not found:
        sys.exit(f"no runs with a finished generation in {' '.join(names)}")
    by_task: dict[str, dict[str, list[Search]]] = {}
    for search in found.values():
        key = json.dumps(search.settings, sort_keys=True)
        by_task.setdefault(search.task, {}).setdefault(key, []).append(search)
    return {task: _groups(list(sets.values()), told) for task, sets in sorted(by_task.items())}


def _groups(sets: list[list[Search]], told: Sequence[str]) -> list[Group]:
    names = [_runs.name_of(searches[0].settings) for searches in sets]
    groups = []
    for name, searches in zip(names, sets, strict=True):
        searches.sort(key=lambda one: (one.seed, str(one.path)))
        settings = searches[0].settings
        same = [other[0].settings for its, other in zip(names, sets, strict=True) if its == name]
        keys = sorted({key for one in same for key in one} - set(told))
        differing = [key for key in keys if any(one.get(key) != settings.get(key) for one in same)]
        values = [
            f"{key.rpartition('.')[2]} = {json.dumps(settings.get(key))}" for key in differing
        ]
        label = ", ".join([name, *values])
        if len(label) > LONG:  # a number in its place, told beside
            label = f"{name} [{1 + sum(other.label.startswith(name) for other in groups)}]"
            print(f"{label}: {', '.join(values)}")
        groups.append(Group(label, searches, settings))
        seeds = [one.seed for one in searches]
        for seed in sorted({one for one in seeds if seeds.count(one) > 1}):
            paths = ", ".join(str(one.path) for one in searches if one.seed == seed)
            print(f"{name}: seed {seed} counts {seeds.count(seed)} times ({paths})",
                  file=sys.stderr)  # fmt: skip
    return sorted(groups, key=lambda one: (one.label != "LLMatic", one.label.lower()))


def read(path: Path) -> Search:
    """Read a record, of whatever problem."""
    with h5py.File(path, "r", locking=False) as file:
        config = json.loads(file["config"][()])
        environment = json.loads(file["environment"][()])
        problem, table = config["problem"], file["candidates"]
        columns = {name: table[name][:] for name in _COLUMNS}
        is_images = problem["kind"] == "image_classification"
        is_benchmark = problem["kind"] == "nasbench201"
        split = config["training"]["fitness_split"]
        data = Path(str(problem.get("data", ""))).name if is_images else problem["kind"]
        if is_benchmark:
            split = "test" if problem["protocol"] == "paper" else "validation"
            data = f"NAS-Bench-201, {_runs.DATASETS[problem['dataset']]}"
        measure = f"{split} accuracy" if is_images or is_benchmark else "fitness"
        settings = {k: v for k, v in _runs.flat(config, "") if k not in _runs.IGNORED}
        settings["generator"] = environment.get("generator")
        return Search(
            path=path.parent,
            run_id=str(file.attrs["run_id"]),
            seed=config["run"]["seed"],
            generations=int(file.attrs["committed_generations"]),
            task=f"{data}, {measure}",
            percent=is_images or is_benchmark,
            measure=measure,
            settings=settings,
            candidates=columns,
            network=_archive(file, "network", config),
            prompt=_archive(file, "prompt", config),
            prompts=[text.decode() for text in file["prompts/text"][:]],
            collective=file["prompts/fitness"][:],
            clipped=table["network_clipped"][:] != 0,
        )


def _archive(file: h5py.File, kind: str, config: dict[str, Any]) -> Archive:
    group, table = file["archives"][kind], file["candidates"]
    axes = [str(axis) for axis in group.attrs["axes"]]
    names = [str(name) for name in group.attrs.get("names", axes)]
    old = config["archive"][kind].get("log_flops", False)  # records of 0.1 say no scales
    scales = group.attrs.get("scales", ["log" if old and axis == "FLOPs" else "" for axis in axes])
    labels = []
    for axis, name in zip(axes, names, strict=True):
        column = name if name in table else axis.lower()
        unit = str(table[column].attrs.get("units", "")) if column in table else ""
        labels.append(axis if unit in ("", "1") else f"{axis} ({unit})")
    return Archive(
        axes=labels,
        log=[str(scale) == "log" for scale in scales],
        lower=group["lower"][:],
        upper=group["upper"][:],
        centroids=group["centroids"][:],
        elite=group["elite"][:],
        fitness=group["fitness"][:],
    )


def axis_label(search: Search) -> str:
    """Name the fitness with its unit."""
    return search.measure + (", %" if search.percent else "")

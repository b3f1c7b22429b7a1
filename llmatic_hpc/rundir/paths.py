"""Name every file and folder of a run directory; nothing else computes such paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class _Below:
    """A path below the run directory, as a property."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, paths: RunPaths, _owner: type) -> Path:
        return paths.root / self._name


@dataclass(frozen=True)
class RunPaths:
    """The files and folders of one run directory."""

    root: Path

    config = _Below("config.toml")  # settings as resolved at the first start
    record = _Below("run.h5")  # the record; always whole
    previous_record = _Below("run.prev.h5")  # the record one commit earlier
    lock = _Below("coordinator.lock")  # held by the one coordinator; says who that is
    logs = _Below("logs")  # coordinator.log, and the output of workers that failed
    log = _Below("logs/coordinator.log")  # what the coordinator did and when
    checkpoints = _Below("checkpoints")  # one folder per candidate in training

    # The generation in flight; folded into the record and removed.
    generation = _Below("generation")
    plan = _Below("generation/plan.json")  # its number, and the token of its submissions
    completions = _Below("generation/completions.jsonl")  # a line each, as they were written
    times = _Below("generation/times.json")  # seconds that generating and screening it took
    journal = _Below("generation/submissions.jsonl")  # submissions, written ahead of the act
    results = _Below("generation/results")  # one small file per finished evaluation
    tasks = _Below("generation/tasks")  # one folder per submitted task
    # One folder per job array: submitit's pickles and the elements' output.
    submissions = _Below("generation/submissions")
    # What the machine spoiled as a whole, a folder each time.
    forgotten = _Below("generation/forgotten")
    # Id of the job that continues a chained coordinator.
    successor = _Below("generation/successor")

    def result(self, candidate: int, attempt: int) -> Path:
        """Return the file of a candidate's result at its ``attempt``."""
        return self.results / f"{candidate:05d}.{attempt}.json"

    def checkpoint(self, candidate: int) -> Path:
        """Return the folder that a candidate may write to."""
        return self.checkpoints / f"{candidate:05d}"

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

    config = _Below("config.toml")
    """Settings as resolved at the first start."""
    record = _Below("run.h5")
    """The record; always whole."""
    previous_record = _Below("run.prev.h5")
    """The record one commit earlier."""
    lock = _Below("coordinator.lock")
    """Held by the one coordinator; says who that is."""
    logs = _Below("logs")
    """coordinator.log, and the output of workers that failed."""
    log = _Below("logs/coordinator.log")
    """The coordinator's log: what it did and when."""
    checkpoints = _Below("checkpoints")
    """One folder per candidate in training."""

    generation = _Below("generation")
    """The generation in flight; folded into the record and removed."""
    plan = _Below("generation/plan.json")
    """Which generation is in flight, and the token of its submissions."""
    completions = _Below("generation/completions.jsonl")
    """Completions of the generation in flight, a line each, as they were written."""
    times = _Below("generation/times.json")
    """How long generating and screening the generation in flight took."""
    journal = _Below("generation/submissions.jsonl")
    """Submissions of the generation in flight, written ahead of the act."""
    results = _Below("generation/results")
    """One small file per finished evaluation."""
    tasks = _Below("generation/tasks")
    """One folder per submitted task."""
    submissions = _Below("generation/submissions")
    """One folder per job array: submitit's pickles and the elements' output."""
    successor = _Below("generation/successor")
    """Id of the job that continues a chained coordinator."""

    def result(self, candidate: int, attempt: int) -> Path:
        """Return the file of a candidate's result at its ``attempt``."""
        return self.results / f"{candidate:05d}.{attempt}.json"

    def checkpoint(self, candidate: int) -> Path:
        """Return the folder that a candidate may write to."""
        return self.checkpoints / f"{candidate:05d}"

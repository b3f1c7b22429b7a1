"""Where everything of a run lies. The only place that computes paths of a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """The files and folders of one run directory."""

    root: Path

    @property
    def config(self) -> Path:
        """Settings as resolved at the first start."""
        return self.root / "config.toml"

    @property
    def record(self) -> Path:
        """The record; always whole."""
        return self.root / "run.h5"

    @property
    def previous_record(self) -> Path:
        """The record one commit earlier."""
        return self.root / "run.prev.h5"

    @property
    def lock(self) -> Path:
        """Held by the one coordinator; says who that is."""
        return self.root / "coordinator.lock"

    @property
    def logs(self) -> Path:
        """coordinator.log, and the output of workers that failed."""
        return self.root / "logs"

    @property
    def log(self) -> Path:
        """What the coordinator did and when."""
        return self.logs / "coordinator.log"

    @property
    def generation(self) -> Path:
        """The generation in flight; folded into the record and removed."""
        return self.root / "generation"

    @property
    def plan(self) -> Path:
        """Which generation is in flight, and the token of its submissions."""
        return self.generation / "plan.json"

    @property
    def completions(self) -> Path:
        """Completions of the generation in flight, a line each, as they were written."""
        return self.generation / "completions.jsonl"

    @property
    def times(self) -> Path:
        """How long generating and screening the generation in flight took."""
        return self.generation / "times.json"

    @property
    def journal(self) -> Path:
        """Submissions of the generation in flight, written ahead of the act."""
        return self.generation / "submissions.jsonl"

    @property
    def results(self) -> Path:
        """One small file per finished evaluation."""
        return self.generation / "results"

    @property
    def tasks(self) -> Path:
        """One folder per submitted task."""
        return self.generation / "tasks"

    @property
    def submissions(self) -> Path:
        """One folder per job array: submitit's pickles and the elements' output."""
        return self.generation / "submissions"

    @property
    def successor(self) -> Path:
        """Id of the job that continues a chained coordinator."""
        return self.generation / "successor"

    @property
    def checkpoints(self) -> Path:
        """One folder per candidate in training."""
        return self.root / "checkpoints"

    def result(self, candidate: int, attempt: int) -> Path:
        """The result of a candidate at its ``attempt``."""
        return self.results / f"{candidate:05d}.{attempt}.json"

    def checkpoint(self, candidate: int) -> Path:
        """The folder that a candidate may write to."""
        return self.checkpoints / f"{candidate:05d}"

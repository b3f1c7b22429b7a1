"""Name every file and folder of a run directory; nothing else computes such paths."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TRAINING_STATE = "training.safetensors"
"""File of a candidate's folder of checkpoints with the state of its training."""


class _Below:
    """A path below the directory of a run or a study, as a property."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, paths: Any, _owner: type) -> Path:
        root: Path = paths.root
        return root / self._name


class _OfRung(_Below):
    """A path below the folder of the generation in flight, or of one of its rungs from 1 on."""

    def __get__(self, paths: Any, _owner: type) -> Path:
        folder = f"rung-{paths.rung}/" if paths.rung else ""
        generation: Path = paths.generation
        return generation / f"{folder}{self._name}"


@dataclass(frozen=True)
class RunPaths:
    """The files and folders of one run directory, at one ``rung`` of the generation in flight."""

    root: Path
    rung: int = 0

    config = _Below("config.toml")  # settings as resolved at the first start
    record = _Below("run.h5")  # the record; always whole
    previous_record = _Below("run.prev.h5")  # the record one commit earlier
    server = _Below("serve.json")  # where the server of `llmatic submit --serve` is
    estimate = _Below("plan.json")  # what `llmatic plan --run-dir` thought it would take
    lock = _Below("coordinator.lock")  # held by the one coordinator; says who that is
    logs = _Below("logs")  # coordinator.log, and the output of workers that failed
    log = _Below("logs/coordinator.log")  # what the coordinator did and when
    console = _Below("logs/console.log")  # what its process printed, where a study started it
    report = _Below("report")  # what `llmatic report` wrote
    trackers = _Below("trackers")  # a folder for each of run.trackers: its mirror of the history
    checkpoints = _Below("checkpoints")  # one folder per candidate in training

    # The generation in flight; folded into the record and removed.
    generation = _Below("generation")
    plan = _Below("generation/plan.json")  # its number, and the token of its submissions
    completions = _Below("generation/completions.jsonl")  # a line each, as they were written
    times = _Below("generation/times.json")  # seconds that generating and screening it took
    journal = _OfRung("submissions.jsonl")  # submissions, written ahead of the act
    results = _OfRung("results")  # one small file per finished evaluation
    tasks = _OfRung("tasks")  # one folder per submitted task
    # One folder per job array: submitit's pickles and the elements' output.
    submissions = _OfRung("submissions")
    # What the machine spoiled as a whole, a folder each time.
    forgotten = _Below("generation/forgotten")
    # Id of the job that continues a chained coordinator.
    successor = _Below("generation/successor")

    def at_rungs(self) -> list[RunPaths]:
        """Return the paths at the first rung and at each that the generation has come to since."""
        names = list[str]()
        with suppress(FileNotFoundError):  # the generation may end at any moment
            names = os.listdir(self.generation)
        numbers = sorted(int(n.removeprefix("rung-")) for n in names if n.startswith("rung-"))
        return [replace(self, rung=rung) for rung in (0, *numbers)]

    @staticmethod
    def submission(task: Path, token: str) -> Path:
        """Return where submitit keeps its files of a submission with this ``task``'s folder."""
        return task.parents[1] / RunPaths(Path()).submissions.name / token

    def tracker_log(self, kind: str) -> Path:
        """Return the file with what a tracker's process printed."""
        return self.logs / f"tracker-{kind}.log"

    def result(self, candidate: int, attempt: int) -> Path:
        """Return the file of a candidate's result at its ``attempt``."""
        return self.results / f"{candidate:05d}.{attempt}.json"

    def checkpoint(self, candidate: int) -> Path:
        """Return the folder that a candidate may write to."""
        return self.checkpoints / f"{candidate:05d}"


@dataclass(frozen=True)
class StudyPaths:
    """The files and folders of one study: its runs, a folder for each variant, and its results."""

    root: Path

    lock = _Below("study.lock")  # held by the one command that runs it
    comparison = _Below("compare.txt")  # methods over their seeds
    summary = _Below("summary.csv")  # a line for each variant
    report = _Below("report")  # the page of all runs
    figures = _Below("figures")  # the paper's figures of all runs
    server = _Below("serve.json")  # where the server of `llmatic study --serve` is
    server_config = _Below("serve.toml")  # its settings, and what it printed
    server_log = _Below("serve.log")

    def run(self, name: str, seed: int) -> RunPaths:
        """Return the run of a variant (with its problem and writer: ``name``) and a seed."""
        return RunPaths(self.root / name / f"seed{seed}")

    def config(self, name: str, seed: int) -> Path:
        """Return the configuration of that run, resolved, beside its directory."""
        return self.root / name / f"seed{seed}.toml"


@dataclass(frozen=True)
class ExportPaths:
    """Files of an exported network: its source, where a user wants it, and others beside that."""

    source: Path

    @property
    def weights(self) -> Path:
        """Parameters and buffers."""
        return self.source.with_suffix(".safetensors")

    @property
    def card(self) -> Path:
        """Words for who uses it."""
        return self.source.with_suffix(".md")

    @property
    def onnx(self) -> Path:
        """Network and weights as ONNX."""
        return self.source.with_suffix(".onnx")

    @property
    def training(self) -> Path:
        """Folder of a training that is under way."""
        return self.source.with_suffix(".training")

    @property
    def state(self) -> Path:
        """Checkpoint of that training."""
        return self.training / TRAINING_STATE

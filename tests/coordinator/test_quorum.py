"""Runs in which a generation does not wait for everybody: finished, repeatable, nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from llmatic_hpc import config, store
from llmatic_hpc.cluster import LocalBackend, stop_orphans
from llmatic_hpc.config import Config
from llmatic_hpc.coordinator.loop import Coordinator, Observer, Silent
from llmatic_hpc.errors import Interrupted
from llmatic_hpc.problems.images.evaluator import Trained
from llmatic_hpc.rundir import lock
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record

from ..cluster.tasks import HELD_BACK, run_held_back

ROOT = Path(__file__).parents[2]


NETWORK = """\
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3072, {width})
        self.out = nn.Linear({width}, 10)

    def forward(self, x):
        return self.out(self.fc(x.flatten(1)))
"""
WIDTHS = (4, 5, 6, 7, 7), (7, 4, 5, 6, 8)
"""Widths of the networks of both generations; the same width is the same network."""


def settings(root: Path, quorum: float) -> Config:
    base = config.load(ROOT / "configs" / "smoke.toml")
    replay = root / "replay.jsonl"
    lines = [
        {"completion": NETWORK.format(width=width), "form": "chat"}
        for widths in WIDTHS
        for width in widths
    ]
    replay.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return replace(
        base,
        search=replace(base.search, generations=2, batch=5, start_elites=1),
        generator=replace(base.generator, kind="replay", replay=str(replay)),
        problem=replace(base.problem, train_images=200, test_images=100),
        training=replace(base.training, epochs=1, threads=1),
        cluster=replace(
            base.cluster, kind="local", poll_seconds=0.1, quorum=quorum, candidates_per_task=1
        ),
    )


def held(paths: RunPaths, config: Config, watch: Observer, stop: threading.Event) -> Coordinator:
    """One candidate of the first generation begins only when it is allowed to."""
    backend = LocalBackend(run_held_back, parallelism=3, time_minutes=5, pause_seconds=0.1)
    return Coordinator(config, paths, watch, stop, backend=backend)


class Watch(Silent):
    """Lets the candidate go, or stops the run, after the first generation."""

    def __init__(self, paths: RunPaths, stop: threading.Event | None = None) -> None:
        self.after_first: Record | None = None
        self._paths, self._stop = paths, stop

    def generation_done(self, record: Record) -> None:
        """See the class."""
        if self.after_first is None:
            self.after_first = store.load(self._paths.record)
            if self._stop is not None:
                self._stop.set()
            else:
                (self._paths.root / "go").touch()


def run(paths: RunPaths, *, stopped: bool = False) -> Record:
    """A run in this process; returns the record after its first generation."""
    stop = threading.Event()
    watch = Watch(paths, stop if stopped else None)
    coordinator = held(paths, settings(paths.root, 0.7), watch, stop)
    with pytest.raises(Interrupted) if stopped else contextlib.nullcontext():
        coordinator.run()
    assert watch.after_first is not None
    return watch.after_first


def check(paths: RunPaths, attempts: int) -> None:
    """Everybody is told once; who was held back, and its duplicates, in the next generation."""
    record = store.load(paths.record)
    table = record.candidates
    assert HELD_BACK == 3
    assert table["told"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert table["duplicate_of"].tolist() == [-1, -1, -1, -1, 3, 3, 0, 1, 2, -1]
    assert table["attempts"].tolist() == [1, 1, 1, attempts, 0, 0, 0, 0, 0, 1]
    assert [s.decode() for s in table["status"]] == [
        *["scored"] * 4, *["duplicate"] * 5, "scored",
    ]  # fmt: skip
    assert next(iter(store.verify(record)), None) is None
    assert not paths.generation.exists()
    assert not paths.checkpoints.exists()


def test_a_generation_ends_without_a_slow_candidate(tmp_path: Path) -> None:
    """Its result enters the next one; the record in between is sound, too."""
    paths = RunPaths(tmp_path)
    between = run(paths)
    assert between.committed_generations == 1
    assert between.out() == [3, 4]
    assert between.candidates["told"].tolist() == [0, 0, 0, -1, -1]
    assert next(iter(store.verify(between)), None) is None
    check(paths, attempts=1)


# The coordinator leaves without waiting for the exit status of a worker that it has stopped.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stopped_while_a_candidate_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker is left behind, and the next coordinator goes on with it.

    Workers are ended while the run is held: those of a next coordinator cannot be among them.
    """
    paths, held_by = RunPaths(tmp_path), []
    end_workers = Trained.interrupted

    def interrupted(evaluator: Trained) -> None:
        held_by.append(lock.holder(paths.lock))
        end_workers(evaluator)

    monkeypatch.setattr(Trained, "interrupted", interrupted)
    run(paths, stopped=True)
    assert [who and who["pid"] for who in held_by] == [os.getpid()]
    assert stop_orphans(paths.tasks) == 0
    assert [path.name for path in paths.results.iterdir()] == []
    (tmp_path / "go").touch()
    run(paths)
    check(paths, attempts=2)  # the first was stopped unfinished

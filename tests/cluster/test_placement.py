"""The back end and the packing of candidates follow from the settings."""

from __future__ import annotations

import numpy as np
import pytest

from llmatic_hpc.cluster import InlineBackend, LocalBackend, SlurmBackend, placement
from llmatic_hpc.config import Config, override
from llmatic_hpc.store import Record

from ..store.conftest import made_up


def config(*settings: str) -> Config:
    return override(Config(), [f"cluster.{setting}" for setting in settings])


def test_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto is arrays inside of a job, and local workers elsewhere."""
    for name in ("SLURM_JOB_ID", "LLMATIC_SITE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(placement.back_end(config()), LocalBackend)
    assert isinstance(placement.back_end(config("kind=inline")), InlineBackend)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert isinstance(placement.back_end(config()), SlurmBackend)
    assert isinstance(placement.back_end(config("kind=local")), LocalBackend)


def trained() -> Record:
    """30 seconds a candidate at first, 60 in the last generation that trained any."""
    record = made_up()
    table = record.candidates
    table["epochs"][:] = table["generation"] < 2
    table["train_seconds"][:] = np.where(table["generation"] == 1, 60.0, 30.0)
    return record


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["kind=slurm"], 1),
        (["kind=slurm", "workers_per_task=4"], 4),
        (["kind=slurm", "candidates_per_task=7", "target_task_minutes=30"], 7),
        (["kind=slurm", "target_task_minutes=30"], 30),
        (["kind=slurm", "target_task_minutes=30", "workers_per_task=2"], 60),
        (["kind=slurm", "target_task_minutes=0.5"], 1),
        (["kind=local"], 0),
    ],
)
def test_packing(settings: list[str], expected: int) -> None:
    """An element for each candidate, unless told otherwise; minutes go by the last generation."""
    assert placement.packing(config(*settings), trained()).candidates_per_task == expected


def test_packing_before_anything_was_trained() -> None:
    """There is no time to go by yet."""
    settings = config("kind=slurm", "target_task_minutes=30")
    assert placement.packing(settings, made_up(0)).candidates_per_task == 1


def test_threads() -> None:
    """Local tasks share the cores; an element takes what it was given."""
    assert placement.threads_per_task(config("kind=slurm")) == 0
    cores = placement.available_cores()
    assert placement.threads_per_task(config("kind=local", f"array_parallelism={cores}")) == 1
    assert placement.threads_per_task(config("kind=inline")) == cores

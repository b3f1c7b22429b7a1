"""Recipes of trainings where a person sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc.config import TrainingSettings
from llmatic_hpc.report.export import exported_source
from llmatic_hpc.report.status import status
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record

from ..store.conftest import made_up, small_config

TRAINING = TrainingSettings(epochs=4, optimizer="adamw", augmentation=("flip",))
WORDS = "adamw, batch 32, learning rate 0.001, augmented by flip"


@pytest.fixture
def record() -> Record:
    """Candidate 0 was trained for four epochs, and no other was."""
    record = made_up(settings=replace(small_config(), training=TRAINING))
    record.candidates["train_loss"][:] = np.nan
    record.candidates["train_loss"][0] = 1.5
    record.candidates["epochs"][0] = 4
    return record


def test_status_and_export_tell_it(record: Record, tmp_path: Path) -> None:
    """An exported source that of its own training, where there was one."""
    assert status(record, RunPaths(tmp_path))["training"] == f"4 epochs, {WORDS}"
    assert f": {WORDS}; llmatic-hpc" in exported_source(record, 0)
    record.config["training"]["rungs"] = [[1, "niche"], [9]]
    assert status(record, RunPaths(tmp_path))["training"] == f"9 epochs, {WORDS}"
    assert "adamw" not in exported_source(record, 1)


def test_what_is_not_known_is_not_told(record: Record, tmp_path: Path) -> None:
    """An old record tells the defaults; a newer one, or one without trainings, nothing."""
    for name in ("optimizer", "augmentation"):
        del record.config["training"][name]
    told = "4 epochs, sgd, batch 32, learning rate 0.001, momentum 0.9"
    assert status(record, RunPaths(tmp_path))["training"] == told
    record.config["training"]["from_the_future"] = 1
    assert status(record, RunPaths(tmp_path))["training"] is None
    del record.config["training"]["from_the_future"]
    record.candidates["train_loss"][:] = np.nan
    assert status(record, RunPaths(tmp_path))["training"] is None

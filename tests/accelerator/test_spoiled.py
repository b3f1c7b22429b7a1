"""A run on a machine without the device that is due: it ends with 1, and nothing is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from llmatic_hpc import store
from llmatic_hpc.config import Config, load, override
from llmatic_hpc.coordinator.loop import Coordinator
from llmatic_hpc.errors import ContainmentError, LLMaticError
from llmatic_hpc.evaluation import selftest
from llmatic_hpc.rundir.paths import RunPaths

ROOT = Path(__file__).parents[2]
SMALL = (
    "search.generations=1", "search.batch=2", "search.start_elites=1", "training.epochs=1",
    "problem.train_images=64", "problem.test_images=32", "cluster.kind=inline",
    "cluster.max_attempts=1", "generator.kind=procedural",
)  # fmt: skip

pytestmark = pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a device here")


class Nobody:
    """Hears nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_args, **_options: None


def start(root: Path, *settings: str) -> Config:
    config = override(load(ROOT / "configs" / "smoke.toml"), [*SMALL, *settings])
    Coordinator(config, RunPaths(root), Nobody(), threading.Event()).run()
    return config


def test_it_is_refused_at_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's own words, and before anything is written or sampled."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ContainmentError, match="CUDA_VISIBLE_DEVICES=0, but ") as refusal:
        start(tmp_path / "run")
    assert "training.device = 'cpu'" in str(refusal.value)
    assert not RunPaths(tmp_path / "run").record.exists()


def test_a_generation_that_is_spoiled_as_a_whole_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the commonest reason; the same generation is evaluated when that is mended."""
    monkeypatch.setattr(selftest, "require", lambda _wanted: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(LLMaticError, match="spoiled every candidate of generation 0") as stop:
        start(tmp_path / "run")
    assert "CUDA_VISIBLE_DEVICES=0, but " in str(stop.value)
    record = store.load(RunPaths(tmp_path / "run").record)
    assert record.committed_generations == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    start(tmp_path / "run")
    table = store.load(RunPaths(tmp_path / "run").record).candidates
    assert set(table["status"]) <= {b"scored", b"duplicate"}
    assert set(table["device"][table["status"] == b"scored"]) == {b"cpu"}


def test_a_single_candidate_stops_the_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be its own doing; the second time it is on the record, and the run goes on."""
    monkeypatch.setattr(selftest, "require", lambda _wanted: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(LLMaticError, match="spoiled every candidate of generation 0"):
        start(tmp_path / "run", "search.batch=1")
    start(tmp_path / "run", "search.batch=1")
    record = store.load(RunPaths(tmp_path / "run").record)
    assert record.committed_generations == 1
    assert list(record.candidates["status"]) == [b"infrastructure"]
    assert not RunPaths(tmp_path / "run").generation.exists()

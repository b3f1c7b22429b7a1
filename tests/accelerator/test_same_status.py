"""Every device gives a candidate the same status: whatever people and models wrote."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from llmatic_hpc.evaluation import build, training
from llmatic_hpc.evaluation.build import CandidateError
from llmatic_hpc.evaluation.training import Images, Recipe
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.source import gate

from ..source.networks import NETWORKS
from . import simulated
from .apart import apart

MODELS = Path(__file__).parents[1] / "honest" / "models"
HONEST = {path.stem: path.read_text() for path in sorted(MODELS.glob("*.py"))}
SAMPLE = ("attention", "buffers", "gru_patches", "lstm_rows", "paper_initial", "spectral")
RECIPE = Recipe(
    epochs=1, batch=8, learning_rate=0.01, momentum=0.9, seed=2,
    checkpoint_seconds=1e9, evaluation_batch=8,
)  # fmt: skip


def trained(source: str, device: str) -> tuple[str, str, float]:
    """Status and failure as a contained child would tell them, and the loss."""
    drawn = torch.Generator().manual_seed(1)

    def some(count: int) -> torch.Tensor:
        shape = (count, 3, 32, 32)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=drawn).to(device)

    images = Images(some(20), (torch.arange(20) % 10).to(device), some(4), some(4))
    random.seed(2)
    np.random.seed(2)
    try:
        found = training.train(
            lambda: build.build(source), images, RECIPE, classes=10, source=source
        )
    except CandidateError as error:
        return error.status, error.message, 0.0
    except build.CANDIDATE_EXCEPTIONS as raised:
        error = build.candidate_error(raised)
        return error.status, error.message, 0.0
    assert found.train_loss is not None
    return "trained", "", found.train_loss


def compare(source: str) -> str:
    """Say how the devices differ; empty: not at all. Losses within what rounding makes of it."""
    here, there = (trained(source, device) for device in ("cpu", "sim"))
    close = abs(here[2] - there[2]) <= 1e-3 * max(1.0, abs(here[2]))
    return "" if here[0] == there[0] and close else f"cpu {here}, sim {there}"


def _written(folder: Path) -> list[str]:
    """Sources in the recorded completions of models that the gate lets in."""
    found = []
    for path in sorted((folder / "completions").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            prefix = record["prompt_tail"].lstrip("\n")
            source = extract(record["completion"], form=record["form"], prefix=prefix).source
            if source and gate.check(source, max_bytes=100_000).status == "pending":
                found.append(source)
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("name", SAMPLE)
@apart
def test_networks_that_people_write(name: str) -> None:
    """Status and loss."""
    simulated.start()
    assert compare(HONEST[name]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(n for n in HONEST if n not in SAMPLE), *NETWORKS])
@apart
def test_all_networks_that_people_write(name: str) -> None:
    """Status and loss."""
    simulated.start()
    assert compare(HONEST.get(name) or NETWORKS[name]) == ""


@apart
def test_networks_that_models_wrote(test_data: Path) -> None:
    """A sample of them, fit and unfit."""
    _compare_written(_written(test_data)[::8])


@pytest.mark.slow
@apart
def test_all_networks_that_models_wrote(test_data: Path) -> None:
    """Fit and unfit."""
    _compare_written(_written(test_data))


def _compare_written(sources: list[str]) -> None:
    simulated.start()
    found = [compare(source) for source in sources]
    assert [f"{n}: {text}" for n, text in enumerate(found) if text] == []
    statuses = {trained(source, "cpu")[0] for source in sources}
    assert statuses == {"trained", "invalid"}

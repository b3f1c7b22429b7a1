"""A limit on time that follows the speed of the device."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from llmatic_hpc.config import ContainmentSettings, TrainingSettings
from llmatic_hpc.errors import ContainmentError
from llmatic_hpc.evaluation import calibration, trainer
from llmatic_hpc.evaluation.data import Dataset, Split
from llmatic_hpc.sandbox.container import Reply


def test_the_warm_pass_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one, in which a GPU's libraries load, is not."""
    monkeypatch.setattr(calibration, "_STEPS", 2)
    times = itertools.accumulate([0.0, 60.0, 1.0, 2.5])
    assert calibration.calibrate(torch.device("cpu"), clock=lambda: next(times)) == 2.5


class Answers:
    """A container whose device takes as long as it is told."""

    def __init__(self, reply: Reply) -> None:
        self.reply, self.asked = reply, 0

    def run(self, job: object) -> Reply:
        """Answer."""
        self.asked += 1
        return self.reply


def _evaluator(reply: Reply, reference: float) -> tuple[trainer.Trainer, Answers]:
    split = Split(np.zeros((2, 32, 32, 3), np.uint8), np.arange(2))
    container = Answers(reply)
    settings = ContainmentSettings(wall_seconds=100.0, reference_seconds=reference)
    dataset = Dataset(split, split, split, 2)
    return trainer.Trainer(container, dataset, TrainingSettings(), settings, 1), container  # type: ignore[arg-type]


@pytest.mark.parametrize(("reference", "limit", "asked"), [(0.0, 100, 0), (2.0, 250, 1)])
def test_the_limit_scales(reference: float, limit: float, asked: int, tmp_path: Path) -> None:
    """A device that takes 2.5 times as long gets 2.5 times the time; nothing is asked without."""
    evaluator, container = _evaluator(Reply("calibrated", values={"seconds": 5.0}), reference)
    job = evaluator.job("", seed=0, epochs=1, folder=tmp_path)
    assert (job.seconds, container.asked) == (limit, asked)
    assert ("250 on this device" in job.limit) == bool(asked)
    assert evaluator.outcome(job, None).train_seconds == 0


def test_a_device_that_cannot_be_calibrated_is_the_machines_fault() -> None:
    """It is no candidate's, and not a limit of zero."""
    with pytest.raises(ContainmentError, match="could not be calibrated: no device"):
        _evaluator(Reply("infrastructure", "no device"), 2.0)

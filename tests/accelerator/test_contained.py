"""Contained children on the simulated accelerator: screened on the CPU, trained on the device."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmatic_hpc.config import Config, ContainmentSettings, TrainingSettings
from llmatic_hpc.errors import ContainmentError
from llmatic_hpc.evaluation import worker
from llmatic_hpc.evaluation.screen import Screener

from ..evaluation.helpers import INITIAL
from . import simulated


@pytest.fixture(autouse=True)
def no_other_torch() -> None:
    """Skip where torch cannot have the device."""
    if missing := simulated.missing():
        pytest.skip(missing)


def _screen() -> str:
    with Screener(
        input_shape=(3, 32, 32), classes=10, containment=ContainmentSettings(), slots=1
    ) as screener:
        (found,) = screener.screen([INITIAL])
    return f"{found.status}{found.failure}"


def test_devices_are_hidden_where_candidates_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a backward step there starts a thread for each, and no fork of it can take one."""
    simulated.plugin(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert _screen() == "pending"


def test_a_network_is_repaired_beside_a_device_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rules to the same text; repaired, it trains on the device."""
    pytest.importorskip("sklearn")
    wrong = INITIAL.replace("1024", "1000")
    assert wrong != INITIAL

    def repaired() -> tuple[str, str]:
        with Screener(
            input_shape=(3, 32, 32), classes=10, containment=ContainmentSettings(), slots=1
        ) as screener:
            (found,) = screener.examine([wrong], repair=True)
        return found.source, found.screened.status

    here = repaired()
    simulated.plugin(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert repaired() == here
    assert here[1] == "pending"
    _, there = worker.evaluate_source(here[0], Config(training=TrainingSettings(epochs=1)))
    assert (there.status, there.device) == ("scored", "sim Simulated")


def test_one_that_cannot_be_hidden_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said so at once, not of every candidate that its network is invalid."""
    simulated.plugin(tmp_path, "start")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ContainmentError, match=r"2 threads .* where only one can be forked"):
        _screen()


def test_a_score_is_the_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From source to outcome, with the device that ``auto`` finds, which the outcome names."""
    pytest.importorskip("sklearn")
    training = TrainingSettings(epochs=1, learning_rate=0.01, threads=1)
    config = Config(training=training)
    _, here = worker.evaluate_source(INITIAL, config)
    simulated.plugin(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    _, there = worker.evaluate_source(INITIAL, config)
    assert (here.device, there.device) == ("cpu", "sim Simulated")
    assert (there.status, there.failure) == ("scored", "")
    assert there.fitness == here.fitness
    assert there.train_loss == here.train_loss

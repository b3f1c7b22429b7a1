"""llmatic doctor: what a run would trip over, told before it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmatic_hpc.cluster import scheduler
from llmatic_hpc.commands import doctor
from llmatic_hpc.config import Config, ContainmentSettings
from llmatic_hpc.sandbox import landlock, seccomp

from ..coordinator.command import llmatic


@pytest.fixture
def without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide Slurm's commands: where a test bed was stopped they are there and nobody answers."""
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin")


@pytest.mark.usefixtures("without_slurm")
def test_a_machine_that_is_fine(tmp_path: Path) -> None:
    """Every part is looked at, nothing is a fault, and the exit code says so."""
    done = llmatic("doctor", "configs/smoke.toml", "--json", "--run-dir", tmp_path)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    looked = {finding["what"] for finding in findings}
    assert looked >= {"packages", "landlock", "seccomp", "a contained child", "data", "model",
                      "GPU", "file system", "Slurm"}  # fmt: skip
    assert {finding["state"] for finding in findings} <= {"ok", "warning"}
    assert all(f["advice"] for f in findings if f["state"] == "warning" and f["what"] != "Slurm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_slurm")
def test_what_a_run_would_fail_over(tmp_path: Path) -> None:
    """Missing data and a device that is not there: exit 1, and every line has its advice."""
    done = llmatic(
        "doctor", "configs/smoke.toml", "--set", f"problem.data={tmp_path / 'none.h5'}",
        "--set", "training.device=cuda:7", check=False,
    )  # fmt: skip
    assert done.returncode == 1
    faults = [line for line in done.stdout.splitlines() if line.startswith("  fault")]
    assert [line.split()[1].rstrip(":") for line in faults] == ["data", "GPU"]
    assert "none.h5" in faults[0]


def test_a_kernel_without_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning with what to do; a fault where the layer is required."""
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    monkeypatch.setattr(seccomp, "library", lambda: None)
    config = Config(containment=ContainmentSettings(require=("landlock",)))
    found = {f.what: f for f in doctor._layers(config)}
    assert found["landlock"].state == doctor.FAULT
    assert found["seccomp"].state == doctor.WARNING
    assert "lsm=" in found["landlock"].advice
    monkeypatch.setattr(landlock, "abi", lambda: 3)
    older = [f for f in doctor._layers(config) if f.what == "landlock"]
    assert [f.state for f in older] == [doctor.OK, doctor.WARNING]
    assert "TCP" in older[1].found


def test_a_controller_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands without a controller are a fault; without commands Slurm is just not here."""
    monkeypatch.setattr(scheduler, "queue", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert [f.state for f in doctor._slurm()] == [doctor.FAULT]
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert [f.state for f in doctor._slurm()] == [doctor.WARNING]

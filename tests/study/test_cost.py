"""The cost of a study is that of its runs.

Run: pytest tests/study/test_cost.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

from llmatic_hpc.config import Config
from llmatic_hpc.coordinator import planning
from llmatic_hpc.report import plan as plans
from llmatic_hpc.rundir.paths import StudyPaths

from ..coordinator.command import llmatic
from ..coordinator.test_planning import ONE

STUDY = """
config = "{smoke}"
seeds = [0, 1, 2]
at_once = 2
[variants.small]
[variants.large]
search.generations = 4
"""


def estimate(config: Config, **_options: object) -> plans.Estimate:
    """A generation costs an hour of the clock, and two of a device."""
    hours = float(config.search.generations)
    assert config.generator.threads  # its part of the machine
    return replace(ONE, device_hours={"training": 2 * hours}, wall_hours={"evaluating": hours})


def test_a_study_costs_what_its_runs_cost(tmp_path: Path) -> None:
    """Every seed counts, one of each variant is planned, and two at once take half the time."""
    file = tmp_path / "study.toml"
    smoke = Path("configs/smoke.toml").resolve()
    file.write_text(STUDY.format(smoke=smoke), encoding="utf-8")
    output = tmp_path / "output"
    with mock.patch.object(planning, "estimate", side_effect=estimate) as made:
        done = llmatic("plan", file, "--json", "--run-dir", output)
        told = llmatic("plan", file).stdout
    assert made.call_count == 4
    said = json.loads(done.stdout)
    assert said["runs"] == 6
    assert said["hours"] == 2 * 3 * (3 + 4)
    assert said["wall"] == 3 * (3 + 4) / 2
    assert set(said["variants"]) == {"small", "large"}
    assert "6 runs" in told
    assert "2 runs at once" in told
    assert "a seed:" in told
    kept = plans.planned(StudyPaths(output).run("large", 2))
    assert kept is not None
    assert kept.hours == 8
    assert llmatic("plan", file, "--set", "search.x=1", check=False).returncode == 2

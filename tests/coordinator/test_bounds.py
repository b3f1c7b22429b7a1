"""Bounds of a run that was begun before its configuration had axes of its own."""

from __future__ import annotations

from pathlib import Path

from llmatic_hpc.config import Config, load, override
from llmatic_hpc.coordinator import bounds

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"


def test_other_axes_are_a_difference_and_no_fault_of_the_bounds() -> None:
    """Automatic bounds take the run's; under other axes these may be none, which is not said."""
    before = override(Config(), ["archive.network.lower=[0,0]", "archive.network.upper=[200,1e7]"])
    changed = bounds.changed(before, bounds.of_run(before, load(SMOKE)))
    assert any(line.startswith("archive.network.axes") for line in changed)
    assert bounds.changed(before, before) == []

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


def test_what_a_continued_run_has_not_is_said_in_a_sentence() -> None:
    """The problem's own bounds stay; a further axis cannot be settled any more."""
    own = override(Config(), ["archive.network.lower=auto"])
    assert bounds.of_run(Config(), own).archive.network.lower == ()
    assert bounds.changed(Config(), bounds.of_run(Config(), own)) == []
    asked = override(
        Config(), ["archive.network.axes=['ratio', 'flops', 'params']",
                   "archive.network.lower=['auto', 1e4, 'auto']",
                   "archive.network.upper=['auto', 1e9, 'auto']"],
    )  # fmt: skip
    assert bounds.changed(Config(), bounds.of_run(Config(), asked))


def test_a_continued_run_keeps_the_bound_that_was_settled_for_one_axis() -> None:
    """The number of the other axis is compared as it is."""
    before = override(Config(), ["archive.network.lower=[1,7]", "archive.network.upper=[200,1e7]"])
    asked = override(
        Config(), ["archive.network.lower=[1,'auto']", "archive.network.upper=[300,'auto']"]
    )
    found = bounds.of_run(before, asked)
    assert found.archive.network.lower == (1.0, 7.0)
    assert found.archive.network.upper == (300.0, 1e7)
    assert len(bounds.changed(before, found)) == 1

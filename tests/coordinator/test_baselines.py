"""The baselines search networks for images, by the control's edits, and stand on the record.

Run: pytest tests/coordinator/test_baselines.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc.config.search_settings import BASELINES
from llmatic_hpc.errors import ConfigError

from .command import ROOT, llmatic, load, run

SHORT = (
    "search.generations=3", "search.batch=4", "search.population=4", "search.tournament=3",
    "problem.train_images=50",
)  # fmt: skip


@pytest.mark.parametrize("variant", BASELINES)
def test_a_baseline_searches_images(tmp_path: Path, variant: str) -> None:
    """It begins with random networks, edits what it trained itself, and verifies."""
    folder = tmp_path / "run"
    run(folder, f"search.variant={variant}", *SHORT)
    candidates = load(folder).candidates
    operators = [name.decode() for name in candidates["operator"]]
    assert operators[:4] == ["random"] * 4
    assert set(operators[4:]) <= {"neighbour", "random"}
    assert operators.count("neighbour") >= 2
    edited = candidates["operator"] == b"neighbour"
    assert (candidates["parents"][edited][:, 0] >= 0).all()
    assert (candidates["status"] == b"scored").any()
    assert "sound" in llmatic("verify", folder).stdout


def test_a_baseline_needs_the_control() -> None:
    """A model does not edit by number, and the message says what does."""
    with pytest.raises(ConfigError, match=r"generator.kind = 'procedural' alone"):
        configuration.load(
            ROOT / "configs/smoke.toml",
            ["search.variant=local-search", "generator.kind=replay", "generator.replay=a.jsonl"],
        )

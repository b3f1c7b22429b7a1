"""Slurm's commands for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from .commands import Commands


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Stand-ins in front of the search path."""
    found = Commands(tmp_path / "slurm")
    monkeypatch.setenv("PATH", found.search_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return found

"""The end of a run that nobody holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmatic_hpc.coordinator.cancel import cancel
from llmatic_hpc.errors import LLMaticError
from llmatic_hpc.rundir.paths import RunPaths

from ..cluster.commands import Commands


def test_a_silent_queue_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that waits for its first start has left nothing in the run's directory yet."""
    slurm = Commands(tmp_path / "slurm")
    monkeypatch.setenv("PATH", slurm.search_path)
    paths = RunPaths(tmp_path / "run")
    paths.root.mkdir()
    slurm.queue()
    assert "nothing was running" in cancel(paths, wait_seconds=1)
    slurm.fails("squeue")
    with pytest.raises(LLMaticError, match="squeue does not answer"):
        cancel(paths, wait_seconds=1)

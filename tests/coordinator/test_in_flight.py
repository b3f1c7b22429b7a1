"""The generation in flight: what the machine spoiled is due again, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmatic_hpc.coordinator.in_flight import InFlight
from llmatic_hpc.rundir.paths import RunPaths


def spoiled(root: Path) -> tuple[RunPaths, InFlight]:
    paths = RunPaths(root)
    in_flight = InFlight(paths)
    in_flight.begin("run", 0)
    paths.results.mkdir()
    paths.result(0, 1).write_text("spoiled")
    paths.journal.write_text("{}\n")
    return paths, in_flight


def test_forgotten_once_unless_again(tmp_path: Path) -> None:
    """No result and no journal are left; completions stay; a second time has to be meant."""
    paths, in_flight = spoiled(tmp_path)
    paths.completions.write_text("kept")
    assert in_flight.forget(again=False)
    assert not paths.results.exists()
    assert not paths.journal.exists()
    assert paths.completions.read_text() == "kept"
    assert not in_flight.forget(again=False)
    assert in_flight.forget(again=True)


def test_a_kill_leaves_no_result_without_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else attempts would begin anew beside results of attempts that nobody knows of."""
    paths, in_flight = spoiled(tmp_path)
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path == paths.journal:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        in_flight.forget(again=False)
    assert not paths.results.exists()
    assert paths.journal.exists()

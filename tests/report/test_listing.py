"""Runs below a folder, while they go on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmatic_hpc import store
from llmatic_hpc.report import listing
from llmatic_hpc.rundir.paths import RunPaths

from ..store.conftest import made_up


def test_what_a_run_removes_meanwhile_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation's folders go while the list is made."""
    paths = RunPaths(tmp_path / "run")
    (paths.generation / "results" / "0").mkdir(parents=True)
    store.commit(paths, made_up())
    scan = os.scandir

    def and_then_gone(path: Any) -> Iterator[Any]:
        found = scan(path)
        if path == str(paths.root):
            shutil.rmtree(paths.generation)
        return found

    monkeypatch.setattr(os, "scandir", and_then_gone)
    assert [row["run"] for row in listing.runs(tmp_path)] == [str(paths.root)]
    assert [one.rung for one in paths.at_rungs()] == [0]

"""A record for reading: data frames and pyribs, which is asked what it makes of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import llmatic_hpc as lm
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, commit
from llmatic_hpc.store.view import Run

from .conftest import made_up, small_config

RECORDS = Path(__file__).parents[1] / "golden" / "records"


def read(folder: Path, record: Record) -> Run:
    commit(RunPaths(folder), record)
    return lm.read(folder)


def logarithmic() -> lm.Config:
    base = small_config()
    network = replace(base.archive.network, scale=("linear", "log"), lower=(0.0, 1e6))
    return replace(base, archive=replace(base.archive, network=network))


@pytest.mark.parametrize("settings", [small_config(), logarithmic()], ids=["linear", "log"])
def test_pyribs_has_the_same_archive(tmp_path: Path, settings: lm.Config) -> None:
    """Every cell, QD score and coverage, also of what was clipped; and the record's arrays back."""
    record = made_up(settings=settings)
    run = read(tmp_path, record)
    theirs, ours = run.to_ribs(), record.archives["network"]
    table, history = record.candidates, record.history
    elites = ours.elite[ours.elite >= 0]
    assert (table["descriptors"][elites, 0] > 200).any()  # clipped
    assert (theirs.centroids == ours.centroids).all()
    assert theirs.cells == len(ours.elite)
    assert (theirs.lower_bounds == 0).all()
    assert (theirs.upper_bounds == 1).all()
    data = theirs.data()
    back = {"elite": np.full(theirs.cells, -1), "fitness": np.full(theirs.cells, np.nan)}
    back["elite"][data["index"]] = data["candidate"]
    back["fitness"][data["index"]] = data["objective"]
    assert (back["elite"] == ours.elite).all()
    np.testing.assert_array_equal(back["fitness"], ours.fitness)
    assert (data["solution"] == table["source"][data["candidate"]]).all()
    assert (data["descriptors"] == table["descriptors"][data["candidate"]]).all()
    assert (theirs.index_of(data["measures"]) == data["index"]).all()
    assert theirs.stats.num_elites == history["network_elites"][-1]
    assert float(theirs.stats.coverage) == history["network_coverage"][-1]
    assert theirs.stats.qd_score == pytest.approx(history["network_qd_score"][-1], rel=1e-12)
    assert theirs.stats.obj_max == np.nanmax(ours.fitness)
    shifted = run.to_ribs(qd_score_offset=-1.0).stats
    assert shifted.qd_score == pytest.approx(theirs.stats.qd_score + len(elites), rel=1e-12)


def test_old_records_and_empty_ones(tmp_path: Path) -> None:
    """A record of the first version has archives, too; one without elites an empty one."""
    old = lm.read(RECORDS / "old-table")
    assert old.to_ribs().stats.num_elites == old.history["network_elites"][-1] > 0
    assert read(tmp_path, made_up(0)).to_ribs().stats.num_elites == 0


def test_an_elite_in_a_wrong_cell_is_said(tmp_path: Path) -> None:
    """Two that changed places are no archive of pyribs."""
    record = made_up()
    state = record.archives["network"]
    first, second = np.flatnonzero(state.elite >= 0)[:2]
    elite = state.elite.copy()
    elite[[first, second]] = elite[[second, first]]
    record.archives["network"] = replace(state, elite=elite)
    with pytest.raises(lm.RecordError, match="'llmatic verify' says more"):
        read(tmp_path, record).to_ribs()


class Lacking:
    """An environment without a package."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.mark.parametrize("package", ["pandas", "ribs"])
def test_a_package_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """The message says how to get it."""
    run = read(tmp_path, made_up())
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Lacking(package), *sys.meta_path])
    with pytest.raises(ImportError, match=rf"pip install 'llmatic-hpc\[{package}\]'"):
        run.to_ribs() if package == "ribs" else run.candidates.to_pandas()


def test_a_data_frame_has_every_column(tmp_path: Path) -> None:
    """A row per candidate, texts as text, several values a row as lists."""
    record = made_up()
    frame = read(tmp_path, record).candidates.to_pandas()
    assert list(frame.columns) == list(record.candidates)
    assert len(frame) == record.rows
    assert frame["status"][0] == record.candidates["status"][0].decode()
    assert frame["parents"][0] == record.candidates["parents"][0].tolist()
    np.testing.assert_array_equal(frame["fitness"], record.candidates["fitness"])

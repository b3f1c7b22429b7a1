"""Networks that are trained again: whole runs on a made-up table of single trainings."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rich.console import Console

from llmatic_hpc import config, store
from llmatic_hpc.coordinator import single
from llmatic_hpc.coordinator.loop import Silent, run
from llmatic_hpc.errors import ConfigError
from llmatic_hpc.problems.nasbench201 import cells, evaluator
from llmatic_hpc.problems.nasbench201.table import Accuracies, BenchmarkTable
from llmatic_hpc.report import listing, methods, rates, signals
from llmatic_hpc.report.compare import column, fittest
from llmatic_hpc.report.export import exported_source
from llmatic_hpc.report.lines import best_candidate
from llmatic_hpc.report.page import anytime, maps, paid
from llmatic_hpc.report.status import render, status
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, promotion, schema, verify

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> Accuracies:
    """Two or three trainings of all cells, as noisy as cells are different."""
    rng = np.random.default_rng(3)
    full = rng.uniform(40, 60, 15625).astype("f4")
    one = (full[:, None] + rng.uniform(-10, 10, (15625, 3))).astype("f4")
    one[rng.random(15625) < 0.5, 2] = np.nan
    made = Accuracies(full, full, full, full, np.full(15625, 1000, "f4"), one)
    rows = {cells.architecture(cell): row for row, cell in enumerate(cells.cells())}
    whole = BenchmarkTable(Path("made-up"), "0" * 64, rows, dict.fromkeys(cells.DATASETS, made))
    monkeypatch.setattr(evaluator, "load_table", lambda settings: whole)
    return made


def settings(*changes: str) -> config.Config:
    """Batches of four, up to two further trainings."""
    base = (
        "problem.table=made-up", "search.queries=0", "search.generations=40", "search.batch=4",
        "archive.samples=2000", "archive.network.cells=30", "search.challenge=2",
        "problem.protocol=sound", "problem.table_trainings=single", "generator.kind=procedural",
    )  # fmt: skip
    return config.load(ROOT / "configs" / "nasbench201" / "paper.toml", (*base, *changes))


def made(folder: Path, *changes: str) -> Record:
    """A run as it stands on disk."""
    run(settings(*changes), folder, observer=Silent())
    record = store.load(RunPaths(folder).record)
    assert [str(found) for found in verify(record)] == []
    return record


def scores(record: Record) -> dict[int, list[float]]:
    """Fitness of every training, by network, in a plain loop."""
    found: dict[int, list[float]] = {}
    for row in range(record.rows):
        if record.status(row) == "scored":
            again = record.candidates["operator"][row] == b"repeat"
            network = int(record.candidates["parents"][row, 0]) if again else row
            found.setdefault(network, []).append(float(record.candidates["fitness"][row]))
    return found


@pytest.mark.parametrize("several", [1, 3])
def test_a_run_with_challenges(several: int, table: Accuracies, tmp_path: Path) -> None:
    """Rows, seeds of the table, archive, cost and what is said of it; the table agrees."""
    record = made(tmp_path, f"search.oversample={several}")
    columns, archive = record.candidates, record.archives["network"]
    repeats = np.flatnonzero(record.are_repeats & (columns["status"] == b"scored"))
    assert len(repeats) > 15
    assert len(repeats) < 40 * 2
    for row in repeats.tolist():
        network = int(columns["parents"][row, 0])
        assert columns["source_sha256"][row] == columns["source_sha256"][network]
        assert columns["duplicate_of"][row] == -1
        assert columns["told"][row] == columns["generation"][row] > columns["told"][network]
    known = scores(record)
    row_of = {cells.architecture(cell): row for row, cell in enumerate(cells.cells())}
    for network, found in known.items():
        of_cell = table.single[row_of[columns["architecture"][network]]] / 100.0
        assert set(found) <= {float(value) for value in of_cell[np.isfinite(of_cell)]}
        assert len(set(found)) == len(found)  # another of the table's trainings each time
    elites = archive.elite[archive.elite >= 0].tolist()
    assert archive.trainings is not None
    for cell, elite in enumerate(archive.elite.tolist()):
        if elite >= 0:
            assert archive.fitness[cell] == math.fsum(known[elite]) / len(known[elite])
            assert archive.trainings[cell] == len(known[elite])
        else:
            assert archive.trainings[cell] == 0
    assert max(archive.trainings) > 1
    assert promotion.cost(record) == (columns["status"] == b"scored").sum()
    whole = evaluator.load_table(settings().problem)
    assert list(evaluator.against(record, whole)) == []

    best = max(known, key=lambda network: math.fsum(known[network]) / len(known[network]))
    assert best_candidate(record) == best
    values = status(record, RunPaths(tmp_path))
    assert values["queries"] == len(known)
    assert values["repeats"]["trainings"] == len(repeats)
    assert values["repeats"]["networks"] == sum(len(found) > 1 for found in known.values())
    assert values["status"]["scored"] == len(known)
    assert values["best"]["trainings"] == len(known[best])
    assert values["best"]["fitness"] == pytest.approx(np.mean(known[best]))
    if len(known[best]) > 1:
        assert values["best"]["deviation"] == pytest.approx(np.std(known[best], ddof=1))
    console = Console(file=io.StringIO(), width=200)
    console.print(render(values))
    assert f"{len(repeats)} trainings: " in console.file.getvalue()
    assert rates.rates(record)["completions"] == record.rows - record.are_repeats.sum()
    assert rates.rates(record)["distinct"] == len(known)
    assert signals.signals(record)[0]["count"] == len(known)
    console.print(listing.render_elites(listing.elites(record)))
    assert "deviation" in console.file.getvalue()
    rows = {row["candidate"]: row for row in listing.elites(record)}
    assert set(rows) == set(elites)
    for elite in elites:
        assert rows[elite]["trainings"] == len(known[elite])
        assert rows[elite]["fitness"] == pytest.approx(np.mean(known[elite]))
    looked = methods.look(tmp_path / "run.h5", record, 0)
    assert len(looked.queries) == len(known)
    assert fittest(looked) == best
    assert column(looked, "fitness", [best]).item() == pytest.approx(np.mean(known[best]))
    several_of = next(network for network, found in known.items() if len(found) > 1)
    assert f"mean fitness of {len(known[several_of])} trainings" in exported_source(
        record, several_of
    )


def test_the_page_shows_the_map_of_means(tmp_path: Path) -> None:
    """Changes of the map and curves end where the archive does; repeats are no networks."""
    record = made(tmp_path)
    archive = record.archives["network"]
    shown = maps.maps(record)["network"]
    last = {cell: (elite, fitness) for _, cell, elite, fitness in shown["events"]}
    held = np.flatnonzero(archive.elite >= 0)
    assert {cell: elite for cell, (elite, _) in last.items()} == {
        cell: int(archive.elite[cell]) for cell in held.tolist()
    }
    curve = anytime.progress(record)
    assert curve["qd_score"][-1] == pytest.approx(np.nansum(archive.fitness))
    assert curve["best"][-1] == np.nanmax(archive.fitness)
    assert curve["coverage"][-1] == len(held) / len(archive.elite)
    counted = paid.paid(record)
    assert counted["total"]["written"] == (~record.are_repeats).sum()
    (again,) = [one for one in counted["groups"]["operator"] if one["name"] == "repeat"]
    assert again["written"] == 0 < again["hours"]


def test_not_before_its_generation(tmp_path: Path) -> None:
    """``search.challenge_from`` leaves the rest of the run to the search alone."""
    record = made(tmp_path, "search.challenge_from=30")
    assert record.candidates["generation"][record.are_repeats].min() == 30


def test_a_run_in_two_parts_is_the_same_run(tmp_path: Path) -> None:
    """A replay of the record alone asks again for what was asked for again."""
    at_once = made(tmp_path / "at-once", "search.generations=20")
    made(tmp_path / "parts", "search.generations=9")
    parts = made(tmp_path / "parts", "search.generations=20")
    for one in schema.CANDIDATES:
        if one.name not in schema.TIMINGS:
            here, there = (record.candidates[one.name] for record in (at_once, parts))
            assert np.array_equal(here, there, equal_nan=here.dtype.kind == "f"), one.name
    for name in ("elite", "fitness", "trainings"):
        here, there = (getattr(r.archives["network"], name) for r in (at_once, parts))
        assert np.array_equal(here, there, equal_nan=here.dtype.kind == "f"), name


@pytest.mark.parametrize("mode", ["niche", "halving"])
def test_with_rungs_a_repeat_is_trained_in_full_at_once(mode: str, tmp_path: Path) -> None:
    """It costs one training, and has no score at the rung below."""
    record = made(tmp_path, "problem.table_epochs=[12,200]", f"training.promotion={mode}")
    columns = record.candidates
    repeats = record.are_repeats
    assert repeats.sum() > 5
    assert np.isnan(columns["rung_scores"][repeats, 0]).all()
    assert np.array_equal(columns["rung_scores"][repeats, 1], columns["fitness"][repeats])
    assert set(columns["epochs"][repeats].tolist()) == {200}


def test_tampering_is_found(tmp_path: Path) -> None:
    """Another parent, seed, source, verdict or number of trainings."""
    record = made(tmp_path, "search.generations=12")
    columns, archive = record.candidates, record.archives["network"]
    row = int(np.flatnonzero(record.are_repeats)[0])

    def first(**changes: Any) -> str:
        before = {name: np.copy(columns[name][row]) for name in changes}
        record.update(row, changes)
        found = " ".join(str(one) for one in verify(record))
        record.update(row, before)
        return found

    assert f"candidate {row}: repeats candidate {row}" in first(parents=(row,))
    assert f"candidate {row}: parents is" in first(parents=(int(columns["parents"][row, 0]) + 1,))
    assert f"candidate {row}: seed is" in first(seed=5)
    assert f"candidate {row}: canonical_sha256 is not that" in first(canonical_sha256="0" * 64)
    assert f"candidate {row}: repeats a network and is a duplicate" in first(duplicate_of=0)
    assert "a replay gives" in first(fitness=0.99)
    assert f"candidate {row}: operator is mutation" in first(operator="mutation")
    assert archive.trainings is not None
    cell = int(np.argmax(archive.trainings))
    archive.trainings[cell] += 1
    assert f"archives/network cell {cell}: trainings is" in " ".join(map(str, verify(record)))


def test_a_repeat_comes_again(tmp_path: Path) -> None:
    """``llmatic evaluate RUN --candidate`` looks the very training up, and another by its seed."""
    record = made(tmp_path)
    row = int(np.flatnonzero(record.are_repeats)[-1])
    known = single.recorded(record, row)
    _, outcome = single.evaluate_source(known.config, known.source, known.seed)
    assert known.differences(outcome) == []
    _, other = single.evaluate_source(known.config, known.source, known.seed + 1)
    assert known.differences(other)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("problem.table_trainings=mean",), "search.challenge asks for further trainings"),
        (("problem.dataset=cifar100",), "set problem.protocol = 'paper'"),
        (("problem.protocol=paper",), "set problem.protocol = 'sound'"),
        (("problem.table_epochs=12",), "of 12 epochs the table has the mean alone"),
        (("problem.table_epochs=[12,200]", "training.promotion=elites"), "of 12 epochs"),
        (("search.variant=local-search",), "search.challenge must be 0 with the baseline"),
    ],
)
def test_settings_that_do_not_fit(changes: tuple[str, ...], says: str) -> None:
    """One line, before anything runs."""
    with pytest.raises(ConfigError, match=says):
        settings(*changes)


def test_without_challenges_a_record_has_none_of_it(tmp_path: Path) -> None:
    """No column, no data set, nothing said."""
    record = made(tmp_path, "search.challenge=0", "search.generations=5")
    assert record.archives["network"].trainings is None
    assert not record.are_repeats.any()
    assert status(record, RunPaths(tmp_path))["repeats"] is None
    with h5py.File(tmp_path / "run.h5") as file:
        assert "possible" not in file["candidates"]
        assert "trainings" not in file["archives/network"]

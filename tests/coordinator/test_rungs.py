"""Candidates that earn their training: whole runs on a made-up table of all cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmatic_hpc import config, store
from llmatic_hpc.coordinator.loop import Silent, run
from llmatic_hpc.problems.nasbench201 import cells, evaluator
from llmatic_hpc.problems.nasbench201.table import Accuracies, BenchmarkTable
from llmatic_hpc.report.status import render, status
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, promotion, schema, verify

ROOT = Path(__file__).parents[2]
MODES = ("niche", "halving", "elites")


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> Accuracies:
    """Scores of all cells after 12 and 200 epochs that agree about as well as real ones do."""
    rng = np.random.default_rng(3)
    full = rng.uniform(10, 90, 15625).astype("f4")
    short = (0.7 * full + rng.uniform(0, 15, 15625)).astype("f4")
    made = Accuracies(full, full, short, short, np.full(15625, 1000, "f4"))
    rows = {cells.architecture(cell): row for row, cell in enumerate(cells.cells())}
    whole = BenchmarkTable(Path("made-up"), "0" * 64, rows, dict.fromkeys(cells.DATASETS, made))
    monkeypatch.setattr(evaluator, "load_table", lambda settings: whole)
    return made


def settings(mode: str, *changes: str) -> config.Config:
    """Mode ``full`` has no rungs."""
    rungs = (
        () if mode == "full" else ("problem.table_epochs=[12,200]", f"training.promotion={mode}")
    )
    base = (
        "problem.table=made-up", "search.queries=0", "search.generations=1000", "search.batch=4",
        "search.budget=20", "archive.samples=2000", "archive.network.cells=30",
    )  # fmt: skip
    path = ROOT / "configs" / "nasbench201" / "paper.toml"
    return config.load(path, (*base, *rungs, *changes))


class Heard(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        """See the class."""
        self.said.append(text)


def made(mode: str, folder: Path, *changes: str) -> Record:
    """A run as it stands on disk."""
    run(settings(mode, *changes), folder, observer=Heard())
    record = store.load(RunPaths(folder).record)
    assert [str(found) for found in verify(record)] == []
    return record


def niche(record: Record, row: int) -> int:
    """The nearest centroid, by brute force."""
    state = record.archives["network"]
    unit = (record.candidates["descriptors"][row] - state.lower) / (state.upper - state.lower)
    distances = ((state.centroids - np.clip(unit, 0, 1)) ** 2).sum(axis=1)
    return int(np.argmin(distances))


@pytest.mark.parametrize("mode", ["niche", "halving"])
@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_who_was_trained_in_full(mode: str, margin: float, tmp_path: Path) -> None:
    """Equals a plain loop over the candidate table that knows nothing of archives."""
    record = made(mode, tmp_path, f"training.rung_margin={margin}")
    table, elites = record.candidates, dict[int, int]()
    expected = []
    for generation in range(record.committed_generations):
        rows = np.flatnonzero((table["generation"] == generation) & (table["duplicate_of"] < 0))
        rivals: dict[int, list[int]] = {}
        for row in rows.tolist():
            cell, short = niche(record, row), float(table["rung_scores"][row, 0])
            bar = float(table["rung_scores"][elites[cell], 0]) if cell in elites else -1.0
            if short >= bar - margin:
                rivals.setdefault(cell, []).append(row)
        for group in rivals.values():
            best = max(group, key=lambda row: (table["rung_scores"][row, 0], -row))
            expected += group if mode == "niche" else [best]
        for row in rows[table["status"][rows] == b"scored"].tolist():
            cell = niche(record, row)
            if cell not in elites or table["fitness"][row] > table["fitness"][elites[cell]]:
                elites[cell] = row
    assert np.flatnonzero(table["status"] == b"scored").tolist() == sorted(expected)
    assert set(record.archives["network"].elite.tolist()) - {-1} == set(elites.values())
    assert (table["status"] == b"stopped").sum() > 5
    assert np.isnan(table["fitness"][table["status"] == b"stopped"]).all()


def test_elites_are_trained_in_full_at_the_end(tmp_path: Path) -> None:
    """Those with the best first rung of their niches, and nobody else."""
    record = made("elites", tmp_path)
    table, state = record.candidates, record.archives["network"]
    best: dict[int, int] = {}
    for row in np.flatnonzero(table["duplicate_of"] < 0).tolist():
        cell, short = niche(record, row), table["rung_scores"][:, 0]
        if cell not in best or short[row] > short[best[cell]]:
            best[cell] = row
    assert {c: e for c, e in enumerate(state.elite.tolist()) if e >= 0} == best
    assert np.flatnonzero(table["status"] == b"scored").tolist() == sorted(best.values())
    assert state.rung is not None
    assert set(state.rung[state.elite >= 0].tolist()) == {1}
    assert np.array_equal(state.fitness[list(best)], table["fitness"][list(best.values())])


@pytest.mark.parametrize("mode", ["full", *MODES])
def test_cost_is_counted_and_ends_the_run(mode: str, tmp_path: Path) -> None:
    """0.06 for 12 epochs, 1 for 200; nothing for duplicates. Status and the last words say it."""
    heard = Heard()
    run(settings(mode), tmp_path, observer=heard)
    record = store.load(RunPaths(tmp_path).record)
    table = record.candidates
    scored, stopped = ((table["status"] == name).sum() for name in (b"scored", b"stopped"))
    expected = scored if mode == "full" else 1.06 * scored + 0.06 * stopped
    assert promotion.cost(record) == pytest.approx(expected)
    assert 20 <= expected < 20 + 4 * 1.06 + 1
    assert record.committed_generations < 1000
    assert f"search.budget is spent: {expected:.2f} of 20 full trainings" in heard.said[-1]
    values = status(record, RunPaths(tmp_path))
    assert values["state"] == "finished"
    assert values["cost"] == pytest.approx(expected)
    assert values["status"].get("stopped", 0) == stopped
    assert values["elites_due"] == 0
    assert render(values) is not None
    assert float(np.nansum(table["train_seconds"][table["duplicate_of"] < 0])) == pytest.approx(
        1000 * expected
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_run_in_two_parts_is_the_same_run(mode: str, tmp_path: Path) -> None:
    """A budget that is raised goes on; what elites were trained for changes no search."""
    at_once = made(mode, tmp_path / "at-once", "search.generations=25", "search.budget=0")
    made(mode, tmp_path / "parts", "search.generations=10", "search.budget=0")
    parts = made(mode, tmp_path / "parts", "search.generations=25", "search.budget=0")
    late = {"status", "failure", "fitness", "valid_accuracy", "test_accuracy", "rank", "epochs",
            "rung_scores", "promoted"} if mode == "elites" else set()  # fmt: skip
    for column in schema.CANDIDATES:
        if column.name in schema.TIMINGS | late:
            continue
        here, there = (record.candidates[column.name] for record in (at_once, parts))
        assert np.array_equal(here, there, equal_nan=here.dtype.kind == "f"), column.name
    if mode != "elites":
        return
    first = [record.candidates["rung_scores"][:, 0] for record in (at_once, parts)]
    assert np.array_equal(*first, equal_nan=True)
    # An elite of the first part, trained in full, is only ever replaced by a better one.
    known = at_once.archives["network"], parts.archives["network"]
    assert (known[1].elite >= 0).tolist() == (known[0].elite >= 0).tolist()
    occupied = known[0].elite >= 0
    assert (known[1].fitness >= known[0].fitness)[occupied].all()


@pytest.mark.parametrize("mode", MODES)
def test_tampering_with_a_promotion_is_found(mode: str, tmp_path: Path) -> None:
    """Each decision is taken again from the recorded scores."""
    record = made(mode, tmp_path)
    table = record.candidates

    def first(row: int, **changes: Any) -> str:
        before = {name: np.copy(table[name][row]) for name in changes}
        record.update(row, changes)
        found = str(next(iter(verify(record)), ""))
        record.update(row, before)
        return found

    stopped = np.flatnonzero((table["status"] == b"stopped") & (table["duplicate_of"] < 0))
    # One whose niche had an elite before its generation.
    full_rows = np.flatnonzero((table["status"] == b"scored") & (table["network_cell"] >= 0))
    scored = next(
        int(row)
        for row in full_rows[::-1]
        if any(
            niche(record, other) == niche(record, row)
            and table["generation"][other] < table["generation"][row]
            for other in full_rows
        )
        or mode == "elites"
    )
    if mode == "elites":
        full = int(np.flatnonzero(table["promoted"] >= 0)[0])
        copied = set(table["duplicate_of"].tolist())
        losers = set(stopped[table["network_added"][stopped] == 0].tolist()) - copied
        low = min(losers)
        assert f"candidate {low}: trained in full after generation" in first(
            low, status="scored", fitness=0.5, rung_scores=(table["rung_scores"][low, 0], 0.5),
            promoted=record.committed_generations,
        )  # fmt: skip
        assert f"candidate {full}: trained in full, and not at the end" in first(full, promoted=-1)
        assert "rung is 1, a replay gives 0" in _rung_of(record)
    else:
        again = first(int(stopped[0]), rung_scores=(0.99, np.nan))
        assert f"candidate {stopped[0]}: stopped after 12 epochs, a replay trains it on" in again
        score = table["fitness"][scored]
        found = first(scored, rung_scores=(0.0, score))
        assert f"candidate {scored}: trained on from 12 epochs, a replay stops it" in found
    row = int(stopped[0])
    assert f"candidate {row}: stopped, and its scores" in first(row, rung_scores=(np.nan, np.nan))
    assert f"candidate {scored}: fitness is" in first(
        scored, rung_scores=(table["rung_scores"][scored, 0], 0.1)
    )
    assert next(iter(verify(record)), None) is None


def _rung_of(record: Record) -> str:
    """The difference where an elite on the record has not been trained in full."""
    state = record.archives["network"]
    cell = int(np.flatnonzero(state.elite >= 0)[0])
    row = int(state.elite[cell])
    kept = {n: np.copy(record.candidates[n][row]) for n in ("promoted", "status", "fitness",
                                                            "rung_scores")}  # fmt: skip
    score = record.candidates["rung_scores"][row, 0]
    record.update(row, {"promoted": -1, "status": "stopped", "fitness": np.nan,
                        "rung_scores": (score, np.nan)})  # fmt: skip
    found = " ".join(str(one) for one in verify(record))
    record.update(row, kept)
    return found


def test_what_was_stopped_earns_as_rejected(tmp_path: Path) -> None:
    """Its individual's curiosity falls by half, its own temperature by a step: no comparison."""
    record = made("niche", tmp_path)
    table = record.candidates
    rows = np.flatnonzero((table["status"] == b"stopped") & (table["prompt"] >= 0))
    assert rows.size
    assert set(table["curiosity_delta"][rows].tolist()) == {-0.5}
    assert (table["network_cell"][rows] == -1).all()
    step = np.maximum(table["temperature"][rows] - 0.05, 0.05)
    assert np.allclose(table["new_temperature"][rows], step)


def test_a_duplicate_of_what_was_stopped_is_not_trained(tmp_path: Path) -> None:
    """It takes over the scores at the rungs, and earns as its original did."""
    record = made("niche", tmp_path)
    table = record.candidates
    originals = table["duplicate_of"]
    copies = np.flatnonzero((originals >= 0) & (table["status"][originals] == b"stopped"))
    assert copies.size
    scores = table["rung_scores"]
    assert np.array_equal(scores[copies], scores[originals[copies]], equal_nan=True)
    mutated = copies[table["prompt"][copies] >= 0]
    assert set(table["curiosity_delta"][mutated].tolist()) == {-0.5}


def test_the_table_is_compared_at_every_rung(tmp_path: Path, table: Accuracies) -> None:
    """``llmatic verify --table`` covers the scores of what was stopped, too."""
    record = made("niche", tmp_path)
    whole = evaluator.load_table(settings("niche").problem)
    assert list(evaluator.against(record, whole)) == []
    row = int(np.flatnonzero(record.candidates["status"] == b"stopped")[0])
    changed = replace(table, test_12=table.test_12 + np.float32(0.5))
    other = replace(whole, datasets=dict.fromkeys(cells.DATASETS, changed))
    differences = [str(one) for one in evaluator.against(record, other)]
    assert any(text.startswith(f"candidate {row}: rung 0 is") for text in differences)

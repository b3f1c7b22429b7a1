"""Rungs where candidates are trained by workers: one round of tasks for each, killed anywhere."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc import config, store
from llmatic_hpc.cluster import InlineBackend
from llmatic_hpc.config import Config
from llmatic_hpc.coordinator.loop import Coordinator, Silent
from llmatic_hpc.evaluation.tasks import TaskSpec, write_result
from llmatic_hpc.problems.images.evaluator import Trained
from llmatic_hpc.report.compare import compare
from llmatic_hpc.report.methods import look
from llmatic_hpc.report.status import render, status
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, schema, verify
from llmatic_hpc.types import Examined, Outcome, Result

from ..crash.kill_anywhere import RUNGS, disturbed, finish

ROOT = Path(__file__).parents[2]
pytest.importorskip("sklearn")


CHALLENGES = "search.challenge=2", "search.oversample=2", "search.generations=3"


def settings(mode: str, *changes: str) -> Config:
    """Two generations of six; three rungs where the mode can have them."""
    rungs = "[[3,'niche'],[9]]" if mode == "elites" else "[[3,'niche'],[6,'niche'],[9]]"
    return config.load(
        ROOT / "configs" / "smoke.toml",
        (
            "search.generations=2", "search.batch=6", "search.start_elites=2",
            "archive.network.cells=5", "cluster.candidates_per_task=2", "problem.test_images=50",
            "problem.train_images=100", f"training.rungs={rungs}", f"training.promotion={mode}",
            "archive.samples=500", "cluster.kind=inline", *changes,
        ),
    )  # fmt: skip


SCREENED: dict[str, Examined] = {}


@pytest.fixture(autouse=True)
def screened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures of a source are found out once, for the sources of all runs are the same."""
    known, examine = SCREENED, Trained.examine

    def examined(self: Trained, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        new = [source for source in dict.fromkeys(sources) if source not in known]
        if new:
            known.update(zip(new, examine(self, new, repair=repair), strict=True))
        return [known[source] for source in sources]

    monkeypatch.setattr(Trained, "examine", examined)


class Killed(BaseException):
    """Takes the place of SIGKILL."""


class Made:
    """A worker that trains nothing: a score is a function of source, seed and epochs.

    Every candidate that it is given is noted; with ``dies_at`` it dies at that one, before or
    after the result is written.
    """

    def __init__(self, dies_at: int = -1, *, after: bool = False) -> None:
        self.seen: list[tuple[int, int]] = []
        self._dies_at, self._after = dies_at, after

    def run(self, folder: Path) -> int:
        """Write the results of a task."""
        spec = TaskSpec.from_json((folder / "task.json").read_text(), origin="task")
        for one in spec.candidates:
            assert one.epochs == 9  # what schedules span, at every rung
            epochs = one.until or one.epochs
            self.seen.append((one.candidate, epochs))
            dies = len(self.seen) - 1 == self._dies_at
            if dies and not self._after:
                raise Killed
            told = f"{one.source_sha256} {one.training_seed} {epochs // 6}"
            digest = hashlib.sha256(told.encode()).digest()
            fitness = epochs / 20 + digest[0] / 512
            outcome = Outcome("scored", fitness=fitness, valid_accuracy=fitness,
                              test_accuracy=fitness, epochs=epochs, train_seconds=1.0)  # fmt: skip
            if digest[1] < 20:
                outcome = Outcome("diverged", "made up", train_seconds=1.0)
            result = Result(spec.run_id, one.candidate, one.attempt, one.source_sha256, outcome)
            write_result(Path(spec.results) / f"{one.candidate:05d}.{one.attempt}.json", result)
            if dies:
                raise Killed
        return 0


def run(folder: Path, mode: str, worker: Made, *changes: str) -> Record:
    """Start or continue a run, and verify its record."""
    backend = InlineBackend(worker.run)
    made = Coordinator(
        settings(mode, *changes), RunPaths(folder), Silent(), threading.Event(), backend=backend
    )
    made.run()
    record = store.load(RunPaths(folder).record)
    assert [str(difference) for difference in verify(record)] == []
    return record


def columns(record: Record) -> Iterator[tuple[str, np.ndarray]]:
    """All that two runs must have in common."""
    for column in schema.CANDIDATES:
        if column.name not in schema.TIMINGS:
            yield column.name, record.candidates[column.name]
    for name in ("elite", "fitness", "rung"):
        yield f"elites' {name}", getattr(record.archives["network"], name)


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("niche", ()),
        ("elites", ()),
        pytest.param("halving", (), marks=pytest.mark.slow),
        ("niche", CHALLENGES),
        pytest.param("elites", CHALLENGES, marks=pytest.mark.slow),
    ],
)
def test_invariant_1_killed_at_every_rung(
    mode: str, changes: tuple[str, ...], tmp_path: Path
) -> None:
    """Wherever the worker dies: the same record, and of no candidate a rung is trained twice.

    One that died without its result is begun again, by the one that comes after.
    """
    worker = Made()
    record = run(tmp_path / "undisturbed", mode, worker, *changes)
    table = record.candidates
    repeats = np.flatnonzero(record.are_repeats & (table["attempts"] > 0)).tolist()
    assert bool(repeats) == bool(changes)
    at = {epochs for row, epochs in worker.seen if row in repeats}
    assert at <= ({3} if mode == "elites" else {9})  # as what they repeat was, and at once
    assert max(Counter(worker.seen).values()) == 1
    epochs = Counter(epochs for _, epochs in worker.seen)
    own = (table["duplicate_of"] < 0) & (table["attempts"] > 0)
    assert epochs[3] == (own if mode == "elites" else own & ~record.are_repeats).sum()
    assert 0 < epochs[9] < epochs[3]
    assert epochs[9] >= (table["status"] == b"scored").sum()
    assert set(table["status"].tolist()) >= {b"scored", b"stopped"}
    (row,) = compare([look(tmp_path / "undisturbed", record, 0)])
    of_archive = np.nansum(record.archives["network"].fitness)
    assert row["qd_score"]["values"] == pytest.approx([of_archive])
    assert (of_archive == pytest.approx(record.history["network_qd_score"][-1])) == (
        mode != "elites"
    )
    for dies_at in range(4, len(worker.seen), 23 if changes else 7):
        folder, after = tmp_path / f"{dies_at}", dies_at % 2 == 0
        killed, second = Made(dies_at, after=after), Made()
        with pytest.raises(Killed):
            run(folder, mode, killed, *changes)
        assert render(status(store.load(RunPaths(folder).record), RunPaths(folder))) is not None
        again = run(folder, mode, second, *changes)
        trained = Counter(killed.seen + second.seen)
        assert trained.keys() == set(worker.seen)
        assert [one for one, times in trained.items() if times > 1] == (
            [] if after else [killed.seen[-1]]
        )
        for (name, mine), (_, theirs) in zip(columns(record), columns(again), strict=True):
            assert np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f"), name


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(RUNGS))
def test_invariant_1_killed_at_any_instant_with_rungs(mode: str, tmp_path: Path) -> None:
    """Real trainings, kills at random."""
    folder = tmp_path / mode
    finish(folder / "reference")
    rng, kills = random.Random(0), 0
    while kills < 17:
        found = disturbed(folder / f"run{kills}", min(9, 17 - kills), 20.0, rng)
        assert found["failed"] == 0
        kills += found["kills"]

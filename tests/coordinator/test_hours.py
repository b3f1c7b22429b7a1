"""Hours that end a run: of devices and of the run itself, after a generation and not for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmatic_hpc import store
from llmatic_hpc.coordinator.loop import run
from llmatic_hpc.report.lines import generation_line
from llmatic_hpc.report.live import Look, line
from llmatic_hpc.report.status import status
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, hours, schema

from ..store.conftest import made_up
from .test_rungs import Heard, settings
from .test_rungs import table as made_up_scores  # noqa: F401 (a fixture)

ENDLESS = ("search.budget=0", "search.generations=40")


def made(folder: Path, *changes: str, mode: str = "full") -> tuple[Record, list[str]]:
    """A run as it stands on disk, and what it said."""
    heard = Heard()
    run(settings(mode, *ENDLESS, *changes), folder, observer=heard)
    record = store.load(RunPaths(folder).record)
    assert [str(found) for found in store.verify(record)] == []
    return record, heard.said


def same(one: Record, other: Record) -> None:
    """Candidates, timings aside, and both archives are equal."""
    for column in schema.CANDIDATES:
        if column.name not in schema.TIMINGS:
            here, there = (record.candidates[column.name] for record in (one, other))
            assert np.array_equal(here, there, equal_nan=here.dtype.kind == "f"), column.name
    for name, archive in one.archives.items():
        assert np.array_equal(archive.elite, other.archives[name].elite)
        assert np.array_equal(archive.fitness, other.archives[name].fitness, equal_nan=True)


def test_device_hours_end_a_run_and_more_of_them_continue_it(tmp_path: Path) -> None:
    """After the first generation that spends them; the archives are those of a run so long."""
    record, said = made(tmp_path / "run", "search.max_gpu_hours=5")
    done, table = record.committed_generations, record.candidates
    seconds = np.where(table["duplicate_of"] < 0, np.nan_to_num(table["train_seconds"]), 0.0)
    by_generation = np.cumsum(np.bincount(table["told"], seconds)) / 3600
    assert by_generation[-1] >= 5 > by_generation[-2]
    assert 1 < done < 40
    words = f"search.max_gpu_hours is spent: {by_generation[-1]:.2f} of 5 hours of the benchmark"
    assert words in said[-1]
    values = status(record, RunPaths(tmp_path / "run"))
    assert values["state"] == "finished"
    assert "of 5 hours of the benchmark: spent" in line(Look(record, values, ""))
    same(record, made(tmp_path / "cut", f"search.generations={done}")[0])

    again, said = made(tmp_path / "run", "search.max_gpu_hours=5")  # the same line: at once
    assert again.committed_generations == done
    assert words in said[-1]
    further, said = made(tmp_path / "run", "search.max_gpu_hours=9", "search.generations=100")
    assert further.committed_generations > done
    assert "of 9 hours" in said[-1]
    cut = made(tmp_path / "long", f"search.generations={further.committed_generations}")[0]
    same(further, cut)


def test_what_is_left_is_said(tmp_path: Path) -> None:
    """In the line of a generation, by status and by its estimate of the time."""
    record, _ = made(
        tmp_path, "search.max_gpu_hours=100", "search.max_hours=50", "search.generations=5"
    )
    spent = hours.device_seconds(record) / 3600
    said = generation_line(record)
    left = f"{spent:.2f} of 100 hours of the benchmark, {100 - spent:.2f} left"
    assert f"search.max_gpu_hours: {left}" in said
    assert "search.max_hours: 0.00 of 50 hours, 50.00 left" in said
    values = status(record, RunPaths(tmp_path))
    assert [one["setting"] for one in values["limits"]] == [
        "search.max_gpu_hours", "search.max_hours",
    ]  # fmt: skip
    assert values["alive_hours"] == pytest.approx(record.alive_seconds / 3600)


def test_elites_that_are_due_count_beforehand(tmp_path: Path) -> None:
    """Trained in full at the end, they take about what was left for them."""
    record, _ = made(tmp_path, "search.max_gpu_hours=3", mode="elites")
    assert record.committed_generations < 40
    spent = hours.device_seconds(record) / 3600
    assert 3 <= spent < 3 + 4 * 1060 / 3600
    assert hours.limits(record, record.archives["network"].elite)[0].spent == pytest.approx(spent)


class KilledError(Exception):
    pass


def test_time_alive_is_that_of_all_coordinators(tmp_path: Path) -> None:
    """One that was killed leaves what it had committed; pauses between them do not count."""

    class Kills(Heard):
        def stage(self, generation: int, name: str, total: int) -> None:
            if generation == 3:
                raise KilledError

    def at_each(_: Any, record: Record) -> None:
        alive.append(record.alive_seconds)

    config = settings("full", *ENDLESS, "search.generations=6")
    alive: list[float] = []
    told = type("Told", (Kills,), {"generation_done": at_each})()
    # Look-ups are committed together: every one at once, as trainings are.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmatic_hpc.problems.evaluator.Immediate.repeatable", False)
        with pytest.raises(KilledError):
            run(config, tmp_path, observer=told)
        before = store.load(RunPaths(tmp_path).record)
        assert before.committed_generations == 3
        assert alive == sorted(alive)
        assert before.alive_seconds >= alive[-1] > 0
        run(config, tmp_path, observer=Heard())
    after = store.load(RunPaths(tmp_path).record)
    assert after.committed_generations == 6
    assert after.alive_seconds > before.alive_seconds
    took = float((after.history["finished"] - after.history["started"]).sum())
    assert after.alive_seconds > 0.5 * took


def test_hours_of_a_run_end_it_after_a_generation(tmp_path: Path) -> None:
    """One is made however little there is; started again it makes none until there is more."""
    few = "search.max_hours=1e-9"
    first, said = made(tmp_path, few)
    assert first.committed_generations == 1
    assert "search.max_hours is spent" in said[-1]
    assert made(tmp_path, few)[0].committed_generations == 1
    assert made(tmp_path, "search.max_hours=1", "search.generations=3")[0].alive_seconds > (
        first.alive_seconds
    )


def test_attempts_without_a_result_take_hours() -> None:
    """Candidates of one task are lost at the same time; two accounts of it are not added up."""
    record = made_up()
    record.candidates["train_seconds"][:] = 10.0
    trained = 10.0 * record.rows
    assert hours.device_seconds(record) == trained
    record.attempts.append(
        [
            {"candidate": n, "job": job, "start": start, "end": end, "ending": ending}
            for n, (job, start, end, ending) in enumerate(
                [("1", 0.0, 100.0, "node failed"), ("1", 50.0, 130.0, "node failed"),
                 ("2", 0.0, 7.0, "infrastructure"), ("3", 0.0, 500.0, "result"),
                 ("4", np.nan, 500.0, "cancelled")]
            )
        ]
    )  # fmt: skip
    assert hours.device_seconds(record) == trained + 137.0
    record.history["lost_machine_seconds"][0] = 90.0
    assert hours.device_seconds(record) == trained + 137.0
    record.history["lost_limit_seconds"][0] = 110.0
    assert hours.device_seconds(record) == trained + 200.0
    record.config["cluster"] |= {"gres": "gpu:a100:4(S:0-1)", "workers_per_task": 4}
    assert hours.device_seconds(record) == trained + 4 * 200.0
    record.config["cluster"]["workers_per_task"] = 8
    assert hours.device_seconds(record) == trained / 2 + 4 * 200.0


def test_an_older_record_knows_how_long_its_generations_took(tmp_path: Path) -> None:
    """It has no such attribute; what it says of its stages stands in for it."""
    import h5py

    record, paths = made_up(), RunPaths(tmp_path)
    record.history["evaluate_seconds"][:] = 5.0
    record.history["generate_seconds"][:] = 1.0
    record.history["screen_seconds"][:] = np.nan
    store.commit(paths, record)
    with h5py.File(paths.record, "r+") as file:
        del file.attrs["alive_seconds"]
    assert store.load(paths.record).alive_seconds == 6.0 * record.committed_generations

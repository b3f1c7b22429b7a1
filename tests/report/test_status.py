"""Counts of llmatic status."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from llmatic_hpc.cluster import submission_prefix
from llmatic_hpc.cluster.journal import Journal
from llmatic_hpc.cluster.launch import job_name
from llmatic_hpc.commands import doctor
from llmatic_hpc.coordinator.in_flight import InFlight
from llmatic_hpc.report.status import render, status
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import promotion
from llmatic_hpc.types import Completion

from ..cluster.commands import Commands
from ..store.conftest import made_up


def text(values: dict[str, object]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render(values))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_where_the_hours_went(tmp_path: Path) -> None:
    """A device's hours, useful and not; two candidates that share one have half of it each."""
    record = made_up()
    table, history = record.candidates, record.history
    table["train_seconds"][:] = 3600.0
    table["queue_seconds"][:] = 1800.0
    history["lost_machine_seconds"][:] = [3600.0, 0.0, 1800.0]
    history["lost_preempted_seconds"][0] = 360.0
    history["evaluate_seconds"][:] = 7200.0
    history["generate_seconds"][:] = 720.0
    record.config["cluster"]["workers_per_task"] = 2
    scored = int((table["status"] == b"scored").sum())
    values = status(record, RunPaths(tmp_path))
    assert values["hours"] == pytest.approx(
        {
            "useful": scored / 2,
            "untrainable": (record.rows - scored) / 2,
            "lost_machine": 1.5,
            "lost_preempted": 0.1,
            "lost_limit": 0.0,
            "queueing": record.rows / 2,
            "coordinator_generating": 0.6,
            "coordinator_idle": 6.0,
        }
    )
    assert values["array"] is None
    assert "lost 1.50 by failures, 0.10 by preemption" in text(values)


def test_what_of_the_map_was_reached(tmp_path: Path) -> None:
    """Cells of anything measured, candidates clipped; a spread on every axis is no warning."""
    record = made_up()
    values = status(record, RunPaths(tmp_path))
    found = record.candidates["descriptors"]
    clipped = (found[:, 0] > 200) | (found[:, 1] < 2e8) | (found[:, 1] > 5e9)
    scored = record.candidates["status"] == b"scored"
    assert values["network_clipped"] == (clipped & scored).sum() > 0
    assert values["network_elites"] < values["network_reached"] <= record.rows
    assert values["network_collapsed"] == []
    said = text(values)
    assert f"{values['network_reached']} of them reached, " in said
    assert f"{values['network_clipped']} candidates clipped" in said


@pytest.mark.parametrize(
    ("flops", "setting", "ends"),
    [(1e4, "lower", (2e8, 6.8e8)), (9e9, "upper", (4.52e9, 5e9)), (3e8, "scale", (2e8, 6.8e8))],
)
def test_an_axis_that_tells_nothing_apart(
    tmp_path: Path, flops: float, setting: str, ends: tuple[float, float]
) -> None:
    """Nearly all scored candidates in a tenth of it: which, and the setting to change."""
    record = made_up()
    record.candidates["descriptors"][:, 1] = flops
    values = status(record, RunPaths(tmp_path))
    (one,) = values["network_collapsed"]
    assert (one["axis"], one["setting"]) == ("flops", f"archive.network.{setting}")
    assert (one["from"], one["to"]) == pytest.approx(ends)
    assert f"choose another archive.network.{setting} in a new run" in text(values)
    record.candidates["descriptors"][:4, 1] = 2e9  # less than nine tenths are left
    assert status(record, RunPaths(tmp_path))["network_collapsed"] == []


def test_a_coordinator_that_slurm_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job starts no more by itself: status names what lets it; others' jobs are not its own."""
    commands = Commands(tmp_path / "slurm")
    monkeypatch.setenv("PATH", commands.search_path)
    record, paths = made_up(2), RunPaths(tmp_path / "run")
    name, held = job_name(paths.root.resolve()), "launch failed requeued held"
    commands.queue(f"7|PENDING||{name}|{held}", f"8|PENDING||another|{held}",
                   f"9|PENDING||{name}|Priority")  # fmt: skip
    assert status(record, paths)["held_jobs"] == []  # never submitted
    paths.logs.mkdir(parents=True)
    (paths.logs / "slurm-7.log").touch()
    values = status(record, paths)
    assert values["held_jobs"] == [{"job": "7", "reason": held}]
    assert "'scontrol release 7'" in text(values)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
        found = [f.advice for f in doctor._slurm() if "held" in f.found]
    assert len(found) == 1
    assert found[0].startswith("'scontrol release 7'")


def test_what_is_being_written(tmp_path: Path) -> None:
    """Before the first completion a model is loaded; then they are counted."""
    record, paths = made_up(), RunPaths(tmp_path)
    assert status(record, paths)["writing"] is None
    in_flight = InFlight(paths)
    in_flight.begin(record.run_id, 3)
    assert "0 of 12 completions; a model is loaded" in text(status(record, paths))
    in_flight.keep_completion(Completion(36, "", "chat"))
    assert status(record, paths)["writing"] == {"completions": 1, "candidates": 12}
    assert status(made_up(in_flight=True), paths)["writing"] is None


def test_a_best_network_without_sizes(tmp_path: Path) -> None:
    """A problem may measure neither FLOPs nor parameters."""
    record = made_up()
    record.candidates["flops"][:], record.candidates["params"][:] = np.nan, -1
    said = text(status(record, RunPaths(tmp_path)))
    assert "test accuracy" in said
    assert "FLOPs" not in said
    assert " parameters" not in said


def test_time_left_of_full_trainings(tmp_path: Path) -> None:
    """With half of them spent as long as it took."""
    record = made_up()
    record.candidates["attempts"][:] = 1
    record.history["evaluate_seconds"][:] = 60.0
    budget = 2 * promotion.cost(record)
    assert budget > 0
    record.config["search"] |= {"generations": 1000, "budget": budget}
    took = 60.0 * record.committed_generations
    assert status(record, RunPaths(tmp_path))["seconds_left"] == pytest.approx(took, rel=0.1)


def test_one_is_not_plural(tmp_path: Path) -> None:
    """1 elite, 1 minute."""
    values = status(made_up(2), RunPaths(tmp_path))
    said = text(values | {"network_elites": 1, "seconds_left": 60})
    assert "1 elite in 100 cells" in said
    assert "about 1 minute at this pace" in said
    assert "waiting for a worker, summed over candidates" in said


def test_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements by what the queue says of them, others' left out; and without an answer."""
    commands = Commands(tmp_path / "slurm")
    monkeypatch.setenv("PATH", commands.search_path)
    record, paths = made_up(in_flight=True), RunPaths(tmp_path / "run")
    name = f"{submission_prefix(record.run_id)}00003-0"
    paths.submissions.mkdir(parents=True)
    journal = Journal(paths.journal)
    journal.write("submitting", token=name, tasks={f"t{n}": [(36 + n, 1)] for n in range(4)})
    journal.write("submitting", token=f"{name[:-1]}1", tasks={"t4": [(36, 2)]})
    commands.queue(
        f"9_1|PENDING||{name}|Priority", f"9_2|PENDING||{name}|Resources",
        f"9_3|RUNNING|gpu02|{name}|None", f"9_0|COMPLETING|gpu01|{name}|None",
        "8|RUNNING|gpu03|somebody-elses|None",
    )  # fmt: skip
    values = status(record, paths)
    assert values["array"] == {
        "answers": True, "elements": 5, "waiting": 2, "running": 1, "done": 2, "retried": 1,
        "reasons": {"Priority": 1, "Resources": 1}, "nodes": ["gpu02"],
    }  # fmt: skip
    said = text(values)
    assert "5 elements: 2 waiting (1 Priority, 1 Resources), 1 running on gpu02, 2 done" in said
    assert "1 of the candidates again" in said
    commands.fails("squeue")
    assert "squeue does not answer" in text(status(record, paths))

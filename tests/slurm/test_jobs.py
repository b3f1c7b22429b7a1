"""A run's jobs as its user sees them: chained coordinators, status, cancel."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmatic_hpc import store
from llmatic_hpc.cluster import submission_prefix
from llmatic_hpc.cluster.launch import job_name
from llmatic_hpc.commands.main import cli
from llmatic_hpc.rundir.paths import RunPaths

from .bed import Slurm

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
SITE = f"""
extends = "{ROOT}/configs/sites/testbed.toml"
[environment]
python = "{sys.executable}"
variables = ["OMP_NUM_THREADS=1", "PYTHONPATH={ROOT}"]
"""


BUSY = ("search.generations=1", "search.batch=12", "training.epochs=8")
"""A generation whose elements run for some seconds."""


def command(*words: str | Path) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def values(run: Path) -> dict[str, Any]:
    found = json.loads(command("status", run, "--json"))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def submitted(slurm: Slurm, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Submits a run of configs/smoke.toml with these settings; whatever is left of it ends."""
    (tmp_path / "site.toml").write_text(SITE)
    run = tmp_path / "run"

    def submit(*settings: str) -> Path:
        words = [w for s in ("training.threads=1", *settings) for w in ("--set", s)]
        site = ("--site", str(tmp_path / "site.toml"))
        job = command("submit", ROOT / "configs" / "smoke.toml", run, *site, *words).strip()
        slurm.submitted.append(job)
        return run

    yield submit
    slurm.cancel_named(job_name(run.resolve()))
    if RunPaths(run).record.exists():
        slurm.cancel_named(submission_prefix(store.load(RunPaths(run).record).run_id))


def test_chained_coordinators(slurm: Slurm, submitted: Callable[..., Path]) -> None:
    """No coordinator waits for its array: each leaves it to a successor that depends on it."""
    run = submitted("search.generations=2", "cluster.chain=true", "cluster.candidates_per_task=7")
    name = job_name(run.resolve())
    slurm.wait_until(lambda: RunPaths(run).successor.exists(), "a successor", seconds=60)
    first = RunPaths(run).successor.read_text()
    shown = slurm.show(first)
    assert shown["JobName"] == name
    assert "afterany:" in shown["Dependency"] or shown["JobState"] != "PENDING"
    slurm.wait_until(lambda: not slurm.queue(name), "the end of the chain", seconds=150)
    assert values(run)["state"] == "finished"
    command("verify", run)
    logs = sorted(RunPaths(run).logs.glob("slurm-*.log"))
    assert len(logs) == 3  # each of two generations left to another
    assert sum("continues the run when the array has ended" in f.read_text() for f in logs) == 2


def test_status_and_cancel(slurm: Slurm, submitted: Callable[..., Path]) -> None:
    """status tells what the array does; cancel leaves no job behind and nothing unsaved."""
    run = submitted(*BUSY, "cluster.candidates_per_task=3")
    slurm.wait_until(
        lambda: RunPaths(run).record.exists() and (values(run)["array"] or {}).get("running"),
        "a running element",
        seconds=60,
    )
    found = values(run)
    array = found["array"]
    assert found["state"] == "running"
    assert found["held_by"]["slurm_job"]
    assert array["elements"] == array["waiting"] + array["running"] + array["done"]
    assert array["nodes"][0].startswith("gpu")
    assert "array" in command("status", run)

    command("cancel", run)
    prefix = submission_prefix(store.load(RunPaths(run).record).run_id)
    assert slurm.queue(prefix) == slurm.queue(job_name(run.resolve())) == []
    assert values(run)["state"] == "stopped"
    log = next(RunPaths(run).logs.glob("slurm-*.log")).read_text()
    assert "every finished result is saved" in log
    assert "not requeued" in log

    # Another start evaluates what is missing, and only that.
    before = {path.name for path in RunPaths(run).results.glob("*.json")}
    words = [w for s in (*BUSY, "training.threads=1", "cluster.kind=local") for w in ("--set", s)]
    command("run", ROOT / "configs" / "smoke.toml", "--run-dir", run, *words)
    assert values(run)["state"] == "finished"
    table = store.load(RunPaths(run).record).candidates
    done = {int(name.split(".")[0]) for name in before}
    assert all(table["attempts"][candidate] == 1 for candidate in done)

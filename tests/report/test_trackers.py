"""Trackers: what each library itself reads back, and what a run has of one in trouble."""

from __future__ import annotations

import json
import logging
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llmatic_hpc as lm
from llmatic_hpc.coordinator import tracking
from llmatic_hpc.coordinator.tracking import Mirrors
from llmatic_hpc.report.trackers import history
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import commit

from ..crash.kill_anywhere import differences
from ..store.conftest import made_up

ROOT = Path(__file__).parents[2]
Written = dict[str, list[tuple[int, float]]]
"""Steps and values by name, in the order in which they were written."""


def test_what_is_mirrored() -> None:
    """The history's columns by their names, sums so far, and nothing that is not known."""
    record = made_up()
    record.candidates["train_seconds"][:] = 3600.0
    record.config["cluster"]["workers_per_task"] = 2
    rows = history(record)
    table, past = record.candidates, record.history
    assert len(rows) == 3
    for name in ("best_fitness", "network_qd_score", "network_coverage", "trainable", "added"):
        assert [row[name] for row in rows] == past[name].tolist()
    assert [row["best"] for row in rows] == np.maximum.accumulate(past["best_fitness"]).tolist()
    assert [row["device_hours"] for row in rows] == [6.0, 12.0, 18.0]  # two share a device
    assert rows[-1]["queries"] == (table["status"] == b"scored").sum()
    first = table["generation"] == 0
    spoiled = (table["status"][first] == b"infrastructure").sum()
    assert rows[0]["valid_share"] == past["trainable"][0] / (first.sum() - spoiled)
    assert "generate_seconds" not in rows[0]  # not measured here
    assert history(made_up(0)) == []


# --- libraries -----------------------------------------------------------------------------------


def of_tensorboard(folder: Path, run_id: str) -> Written:
    reader: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(one.step, one.value) for one in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def messages(data: bytes) -> Iterator[bytes]:
    """Messages of a log of LevelDB, which a .wandb file is after seven bytes of its own.

    In blocks of 32 KiB, each part after its checksum, length and kind: 1 whole, 2 first, 4 last.
    """
    place, parts = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts = (b"" if kind in (1, 2) else parts) + data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts


def of_wandb(folder: Path, run_id: str) -> Written:
    proto: Any = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    written: Written = {}
    for file in folder.glob(f"wandb/offline-run-*/run-{run_id}.wandb"):
        for data in messages(file.read_bytes()):
            line = proto.Record()
            line.ParseFromString(data)
            for item in line.history.item if line.HasField("history") else ():
                name = item.key or "/".join(item.nested_key)
                value = json.loads(item.value_json)
                if not name.startswith("_") and name != "finished":
                    written.setdefault(name, []).append((line.history.step.num, value))
    return written


def of_mlflow(folder: Path, run_id: str) -> Written:
    client = pytest.importorskip("mlflow").MlflowClient(tracking_uri=folder.resolve().as_uri())
    experiment = client.get_experiment_by_name("llmatic").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.data.tags["llmatic.run_id"] == run_id
    assert run.info.status == "FINISHED"
    return {
        name: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "read"), [("tensorboard", of_tensorboard), ("wandb", of_wandb), ("mlflow", of_mlflow)]
)
def test_each_library_reads_each_step_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, read: Callable[..., Written]
) -> None:
    """After a start, a kill, another start that finds more, and one that finds nothing new."""
    pytest.importorskip(kind)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    paths, folder = RunPaths(tmp_path), tmp_path / "trackers" / kind
    commit(paths, made_up(1))
    words = [sys.executable, "-m", "llmatic_hpc.report.trackers", kind, str(tmp_path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE)
    assert process.stdin is not None
    while not any(file.stat().st_size for file in folder.rglob("*[0-9.]*") if file.is_file()):
        assert process.poll() is None  # nothing tells when a library has written something
        time.sleep(0.1)
    process.kill()
    process.communicate()
    for generations in (2, 3, 3):
        commit(paths, made_up(generations))
        subprocess.run(words, stdin=subprocess.DEVNULL, check=True)
    written, wanted = read(folder, "0123"), history(made_up(3))
    names = {name for row in wanted for name in row}
    assert set(written) == names
    for name, values in written.items():
        steps = [(step, row[name]) for step, row in enumerate(wanted) if name in row]
        assert [step for step, _ in values] == [step for step, _ in steps]
        assert [v for _, v in values] == pytest.approx([v for _, v in steps], rel=1e-6)


# --- trouble -------------------------------------------------------------------------------------

TROUBLE = {
    "mlflow": "raise RuntimeError('no server to be had')",
    "wandb": "import time; time.sleep(1000)",
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that fails, and one that hangs, in place of what is installed."""
    for name, code in TROUBLE.items():
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    monkeypatch.syspath_prepend(tmp_path / "broken")
    monkeypatch.setattr(tracking, "LAST_SECONDS", 1.0)
    installed = tracking.importlib.util.find_spec
    monkeypatch.setattr(
        tracking.importlib.util, "find_spec",
        lambda name: None if name == "tensorboard" else installed(name),
    )  # fmt: skip


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_trouble_is_told_once_and_nothing_waits(tmp_path: Path, broken: None) -> None:
    """One that is not there, one that fails, one that hangs with its pipe full of bytes."""
    paths, told = RunPaths(tmp_path / "run"), list[str]()
    paths.root.mkdir()
    commit(paths, made_up())
    mirrors = Mirrors(paths, told.append)
    mirrors.start(["tensorboard", "mlflow", "wandb", "wandb"])
    failed, hung = mirrors._running["mlflow"], mirrors._running["wandb"]
    failed.wait()
    with at_most(5):
        for _ in range(70_000):
            mirrors.tell()
    with at_most(20):
        mirrors.finish()
    assert hung.poll() is not None
    mirrors.leave()
    assert len(told) == 3
    assert "tensorboard: it is not installed: pip install 'llmatic-hpc[tensorboard]'" in told[0]
    assert told[1].startswith("tracker mlflow: RuntimeError: no server to be had (all of it: ")
    assert "Traceback" in paths.tracker_log("mlflow").read_text()
    assert told[2].startswith("tracker wandb: it did not come to an end in 1 seconds. The run goes")


@pytest.mark.slow
def test_trouble_changes_no_run(
    tmp_path: Path, broken: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The record is the same as without any tracker, but for the setting and the times."""
    small = [
        "search.generations=2", "search.batch=4", "search.start_elites=2", "training.epochs=1",
        "problem.train_images=100", "problem.test_images=50", "cluster.kind=inline",
    ]  # fmt: skip
    file = ROOT / "configs" / "smoke.toml"
    lm.run(lm.load_config(file, small), tmp_path / "plain")
    asked = "run.trackers=['tensorboard', 'wandb', 'mlflow']"
    with caplog.at_level(logging.WARNING, "llmatic_hpc"):
        record = lm.run(lm.load_config(file, [*small, asked]), tmp_path / "tracked")
    assert differences(record, tmp_path / "plain", {}) == []
    assert sum(one.getMessage().startswith("tracker ") for one in caplog.records) == 3


def test_an_unknown_tracker_is_refused() -> None:
    """In one line, with those that there are."""
    with pytest.raises(lm.ConfigError, match=r"run\.trackers must be one of 'tensorboard'"):
        lm.override(lm.Config(), ["run.trackers=['tensorbord']"])

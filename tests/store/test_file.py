"""Invariant 8: run.h5 on disk is always whole, and the previous one is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from llmatic_hpc import store
from llmatic_hpc.errors import RecordError
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, schema

from .conftest import made_up


def test_round_trip(tmp_path: Path, record: Record) -> None:
    """A loaded record equals what was committed, every column of it."""
    paths = RunPaths(tmp_path)
    store.commit(paths, record)
    again = store.load(paths.record)
    assert again.run_id == record.run_id
    assert again.config == record.config
    assert again.prompts == record.prompts
    for table, loaded in (
        (record.candidates, again.candidates),
        (record.history, again.history),
    ):
        for name, values in table.items():
            np.testing.assert_array_equal(values, loaded[name], err_msg=name)
    for name, state in record.archives.items():
        for column in schema.ARCHIVE_COLUMNS:
            np.testing.assert_array_equal(
                getattr(state, column), getattr(again.archives[name], column)
            )


def test_contract_of_names(tmp_path: Path, record: Record) -> None:
    """Names, units and attributes that others' scripts rely on, read with plain h5py."""
    paths = RunPaths(tmp_path)
    store.commit(paths, record)
    columns = [
        "generation",
        "index",
        "operator",
        "parents",
        "prompt",
        "temperature",
        "source",
        "source_sha256",
        "canonical_sha256",
        "duplicate_of",
        "status",
        "failure",
        "width",
        "depth",
        "ratio",
        "flops",
        "params",
        "fitness",
        "valid_accuracy",
        "test_accuracy",
        "train_loss",
        "epochs",
        "network_cell",
        "network_added",
        "prompt_cell",
        "prompt_added",
        "curiosity_delta",
        "seed",
        "generate_seconds",
        "queue_seconds",
        "train_seconds",
        "attempts",
        "slurm_job",
        "node",
    ]
    with h5py.File(paths.record) as file:
        assert file.attrs["schema_version"] == 1
        for name in ("run_id", "phase", "committed_generations", "committed_candidates"):
            assert name in file.attrs
        assert set(columns) <= set(file["candidates"])
        assert file["candidates/parents"].shape == (record.rows, 3)
        for archive in ("network", "prompt"):
            for name in ("centroids", "lower", "upper", "elite", "fitness", "curiosity"):
                assert name in file[f"archives/{archive}"]
        assert {"text", "fitness"} <= set(file["prompts"])
        assert file["candidates/status"].asstr()[0] == "scored"

        def documented(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                assert item.attrs["long_name"], name
                assert "units" in item.attrs, name

        file.visititems(documented)


def test_the_previous_commit_is_kept(tmp_path: Path) -> None:
    """run.prev.h5 is the commit before, a record of its own."""
    paths = RunPaths(tmp_path)
    store.commit(paths, made_up(1))
    store.commit(paths, made_up(2))
    assert store.load(paths.previous_record).committed_generations == 1
    assert store.load(paths.record).committed_generations == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.h5", "run.prev.h5"]


def test_hostile_text(tmp_path: Path) -> None:
    """NUL bytes, lone surrogates and overlong values are stored, not raised from the save."""
    paths, record = RunPaths(tmp_path), made_up(1)
    record.update(0, {"completion": "a\x00b\ud800c", "failure": "\udfff", "node": "ü" * 100})
    store.commit(paths, record)
    again = store.load(paths.record)
    assert again.candidates["completion"][0] == "a\N{SYMBOL FOR NULL}b?c"
    assert again.candidates["node"][0].endswith(b"...")


@pytest.mark.parametrize("keep", [0, 10, 5000, -1])
def test_a_truncated_record_is_left_alone(tmp_path: Path, keep: int) -> None:
    """A damaged run.h5 is never overwritten; the previous one is offered by name."""
    paths = RunPaths(tmp_path)
    store.commit(paths, made_up(1))
    store.commit(paths, made_up(2))
    damaged = paths.record.read_bytes()[:keep]
    paths.record.write_bytes(damaged)
    with pytest.raises(RecordError) as caught:
        store.load(paths.record)
    assert str(paths.previous_record) in str(caught.value)
    assert "1 generations" in str(caught.value)
    assert paths.record.read_bytes() == damaged


def test_foreign_and_newer_files(tmp_path: Path) -> None:
    """An HDF5 file of another program, text, and a newer schema are each told apart."""
    paths = RunPaths(tmp_path)
    with h5py.File(paths.record, "w") as file:
        file["x"] = 1
    with pytest.raises(RecordError, match="not the record of a run"):
        store.load(paths.record)
    paths.record.write_text("hello")
    with pytest.raises(RecordError, match="damaged, truncated or no record"):
        store.load(paths.record)
    store.commit(paths, made_up(0))
    with h5py.File(paths.record, "a") as file:
        file.attrs["schema_version"] = 2
    with pytest.raises(RecordError, match="update llmatic-hpc"):
        store.load(paths.record)
    with pytest.raises(RecordError, match="no such record"):
        store.load(tmp_path / "nowhere.h5")


def test_a_short_column_is_noticed(tmp_path: Path) -> None:
    """A column with fewer rows than the record says is damage, by name."""
    paths = RunPaths(tmp_path)
    store.commit(paths, made_up(1))
    with h5py.File(paths.record, "a") as file:
        del file["candidates/fitness"]
        file["candidates/fitness"] = np.zeros(3)
    with pytest.raises(RecordError, match=r"/candidates/fitness has 3 rows"):
        store.load(paths.record)


def test_a_record_from_before_late_evaluations(tmp_path: Path) -> None:
    """Without the columns that came later: every evaluation was told in its own generation."""
    paths, record = RunPaths(tmp_path), made_up(2, in_flight=True)
    store.commit(paths, record)
    with h5py.File(paths.record, "a") as file:
        for table in ("candidates", "history"):
            for name in schema.LATER & set(file[table]):
                del file[table][name]
    again = store.load(paths.record)
    assert again.candidates["told"].tolist() == [0] * 12 + [1] * 12 + [-1] * 12
    assert next(iter(store.verify(again)), None) is None
    store.commit(paths, again)
    np.testing.assert_array_equal(
        store.load(paths.record).candidates["told"], record.candidates["told"]
    )


def test_a_reader_does_not_block_the_writer(tmp_path: Path) -> None:
    """A notebook that has run.h5 open neither stops a commit nor sees it change."""
    paths = RunPaths(tmp_path)
    store.commit(paths, made_up(1))
    with h5py.File(paths.record, "r") as reader:
        store.commit(paths, made_up(2))
        assert reader.attrs["committed_generations"] == 1
    assert store.load(paths.record).committed_generations == 2


WRITER = """
import sys
from pathlib import Path
from llmatic_hpc import store
from llmatic_hpc.rundir.paths import RunPaths
paths = RunPaths(Path(sys.argv[1]))
record = store.load(paths.record)
print("go", flush=True)
while True:
    record.environment["turn"] = record.environment.get("turn", 0) + 1
    store.commit(paths, record)
"""


def test_invariant_8_killed_while_committing(tmp_path: Path) -> None:
    """SIGKILL at any instant of a commit leaves a whole run.h5 and a whole run.prev.h5."""
    paths = RunPaths(tmp_path)
    store.commit(paths, made_up(2))
    rng = np.random.default_rng(1)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
        for path in (paths.record, paths.previous_record):
            if path.exists():
                assert next(iter(store.verify(store.load(path))), None) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    """A commit that does not fit says so, leaves run.h5 as it was and no rubbish behind."""
    paths, record = RunPaths(small_disk), made_up(1)
    store.commit(paths, record)
    before = paths.record.read_bytes()
    record.update(0, {"source": "x" * 2_000_000})
    with pytest.raises(RecordError, match="the disk is full"):
        store.commit(paths, record)
    assert paths.record.read_bytes() == before
    assert [p.name for p in small_disk.iterdir()] == ["run.h5"]
    assert store.load(paths.record).committed_generations == 1


def test_a_read_only_disk(small_disk: Path) -> None:
    """A read-only file system is named as such."""
    paths, record = RunPaths(small_disk), made_up(1)
    store.commit(paths, record)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RecordError, match="the file system is read-only"):
        store.commit(paths, record)
    assert store.load(paths.record).committed_generations == 1

"""run.h5 on disk: written whole, beside, fsynced, verified, renamed; the previous one kept.

A commit is a new file. There is no instant at which ``run.h5`` is missing, half written, or
open for writing, so a reader needs no lock and a kill costs at most the commit in progress.
The file image is built in memory, and plain system calls write it: HDF5 itself neither
recovers from a full disk nor says clearly that it met one.
"""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import RecordError
from ..rundir import files
from ..rundir.paths import RunPaths
from . import schema
from .record import EVALUATED, PROPOSED, ArchiveState, Record


def commit(paths: RunPaths, record: Record) -> None:
    """Replace run.h5 by ``record``; run.prev.h5 becomes what it was.

    Raises :class:`RecordError` when the disk is full, read-only or failing; run.h5 is then
    what it was before.
    """

    def check(written: Path) -> None:
        _verify_written(written, record)
        files.keep_previous(paths.record, paths.previous_record)

    try:
        files.write_atomically(paths.record, _image(record), check=check)
    except OSError as error:
        raise RecordError(explain_os_error(error, f"{paths.record} cannot be written")) from error


def load(path: Path) -> Record:
    """The record in ``path``. Reads only, and needs no lock.

    Raises :class:`RecordError` when the file is missing, damaged, of another program or of
    a newer schema; the message names the commit before, where there is one.
    """
    try:
        if not path.exists():
            raise RecordError(f"{path}: no such record{_offer_previous(path)}")
        with h5py.File(path, "r", locking=False) as file:
            return _read(file, path)
    except RecordError:
        raise
    except PermissionError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise RecordError(
            f"{path}: damaged, truncated or no record of a run ({_one_line(error)}); "
            f"it was left as it is{_offer_previous(path)}"
        ) from error


def explain_os_error(error: OSError, what: str) -> str:
    """Explain a failed system call: what, where and what next."""
    advice = {
        errno.ENOSPC: "the disk is full: free some space, then start the run again",
        errno.EDQUOT: "your quota is used up: free some space, then start the run again",
        errno.EROFS: "the file system is read-only: remount it, or choose another --run-dir",
        errno.EACCES: "permission denied: choose a --run-dir that you may write to",
        errno.EEXIST: "it is a file and no folder: choose another --run-dir",
        errno.ENOTDIR: "part of it is a file and no folder: choose another --run-dir",
        errno.EPERM: "permission denied: choose a --run-dir that you may write to",
    }.get(error.errno or 0, f"{_one_line(error)}; start the run again once that is mended")
    return f"{what}: {advice}. What was committed before is intact."


# --- writing --------------------------------------------------------------------------------


def _image(record: Record) -> bytes:
    with h5py.File("run.h5", "w", driver="core", backing_store=False, track_order=True) as file:
        _write(file, record)
        file.flush()
        image: bytes = file.id.get_file_image()
        return image


def _write(file: h5py.File, record: Record) -> None:
    file.attrs.update(
        {
            "format": schema.FORMAT,
            "schema_version": schema.VERSION,
            "software_version": __version__,
            "run_id": record.run_id,
            "phase": record.phase,
            "committed_generations": record.committed_generations,
            "committed_candidates": record.rows,
            "alive_seconds": record.alive_seconds,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    if record.data_sha256:
        file.attrs["data_sha256"] = record.data_sha256
    if record.rungs:
        file.attrs["rungs"] = record.rungs
    _dataset(file, "config", json.dumps(record.config), "settings as resolved, JSON")
    _dataset(file, "environment", json.dumps(record.environment), "versions and host, JSON")

    if record.task:
        _dataset(file, "task", json.dumps(record.task), "facts that requests are made of, JSON")

    group = file.create_group("prompts", track_order=True)
    _dataset(group, "text", np.array(record.prompts, dtype=object), "mutation prompts")
    _dataset(group, "fitness", record.prompt_fitness, "collective fitness of the prompt", "1")

    group = file.create_group("candidates", track_order=True)
    group.attrs["long_name"] = "one row per candidate; its number is its row"
    for column in _columns_of(record):
        values = record.candidates[column.name]
        _dataset(group, column.name, values, column.long_name, column.units)

    for name, archive in record.archives.items():
        group = file.create_group(f"archives/{name}", track_order=True)
        group.attrs.update({"axes": list(archive.axes), "objective": "fitness"})
        group.attrs.update({"names": list(archive.names), "scales": list(archive.scales)})
        for column_name, meaning in schema.ARCHIVE_COLUMNS.items():
            _dataset(group, column_name, getattr(archive, column_name), meaning, "1")
        if archive.rung is not None:
            _dataset(group, schema.RUNG, archive.rung, schema.RUNG_MEANING, "1")
        if archive.trainings is not None:
            meaning = schema.TRAININGS_MEANING
            _dataset(group, schema.TRAININGS, archive.trainings, meaning, "1")

    for name, meaning, table, columns in (
        ("history", "one row per generation", record.history, schema.HISTORY),
        ("attempts", "one row per attempt at a candidate", record.attempts, schema.ATTEMPTS),
        (
            "rewritings",
            "one row per prompt that was to be rewritten",
            record.rewritings,
            schema.REWRITINGS,
        ),
    ):
        if name == "rewritings" and not record.evolves:
            continue
        group = file.create_group(name, track_order=True)
        group.attrs["long_name"] = meaning
        for column in columns:
            _dataset(group, column.name, table[column.name], column.long_name, column.units)


def _columns_of(record: Record) -> list[schema.Column]:
    """Return the columns that the candidates of a run have on disk."""
    left_out = (schema.OF_RUNGS if not record.rungs else frozenset()) | (
        schema.OF_CHALLENGES if not record.has_challenges else frozenset()
    )
    return [column for column in schema.CANDIDATES if column.name not in left_out]


def _dataset(group: h5py.Group, name: str, values: Any, long_name: str, units: str = "") -> None:
    is_text = isinstance(values, str) or getattr(values, "dtype", None) == np.dtype(object)
    dtype = h5py.string_dtype("utf-8") if is_text else None
    dataset = group.create_dataset(name, data=values, dtype=dtype)
    dataset.attrs["long_name"] = long_name
    dataset.attrs["units"] = units


def _verify_written(path: Path, record: Record) -> None:
    """Read back what a commit stands on; the disk, not the page cache of this call, is asked
    when the folder is on another machine."""
    with h5py.File(path, "r", locking=False) as file:
        sizes = {len(file["candidates"][column.name]) for column in _columns_of(record)}
        digests = file["candidates/source_sha256"][:]
        whole = sizes == {record.rows} == {int(file.attrs["committed_candidates"])}
        whole = whole and np.array_equal(digests, record.candidates["source_sha256"])
    if not whole:
        raise OSError(errno.EIO, f"{path} does not read back as it was written")


# --- reading --------------------------------------------------------------------------------


def _read(file: h5py.File, path: Path) -> Record:
    if file.attrs.get("format") != schema.FORMAT:
        raise RecordError(f"{path}: an HDF5 file, but not the record of a run; left as it is")
    version = int(file.attrs["schema_version"])
    if version > schema.VERSION:
        raise RecordError(
            f"{path}: schema version {version}, this is llmatic {__version__} which reads up to "
            f"{schema.VERSION}: update llmatic-hpc"
        )
    rows = int(file.attrs["committed_candidates"])
    phase = str(file.attrs["phase"])
    if phase not in (PROPOSED, EVALUATED):
        raise RecordError(f"{path}: unknown phase {phase!r}")
    candidates = _columns(file["candidates"], schema.CANDIDATES, rows, path)
    generations = int(file.attrs["committed_generations"])
    history = _columns(file["history"], schema.HISTORY, generations, path)
    tried, rewritten = {}, {}
    if "attempts" in file:
        count = len(file["attempts/candidate"])
        tried = _columns(file["attempts"], schema.ATTEMPTS, count, path)
    if "rewritings" in file:
        count = len(file["rewritings/generation"])
        rewritten = _columns(file["rewritings"], schema.REWRITINGS, count, path)
    if "told" not in file["candidates"]:  # from before there were late evaluations
        own = candidates["generation"]
        candidates["told"] = np.where(own < generations, own, -1)
    if "descriptors" not in file["candidates"]:  # from before there were other axes
        candidates["descriptors"] = np.stack([candidates["ratio"], candidates["flops"]], axis=1)
    return Record(
        run_id=str(file.attrs["run_id"]),
        config=json.loads(file["config"].asstr()[()]),
        environment=json.loads(file["environment"].asstr()[()]),
        prompts=tuple(file["prompts/text"].asstr()[:]),
        archives={
            name: ArchiveState(
                axes=tuple(group.attrs["axes"]),
                names=tuple(group.attrs.get("names", ("ratio", "flops"))),
                scales=tuple(group.attrs.get("scales", ())),
                **{column: group[column][:] for column in schema.ARCHIVE_COLUMNS},
                rung=group[schema.RUNG][:] if schema.RUNG in group else None,
                trainings=group[schema.TRAININGS][:] if schema.TRAININGS in group else None,
            )
            for name, group in file["archives"].items()
        },
        phase=phase,
        committed_generations=generations,
        alive_seconds=float(file.attrs.get("alive_seconds", _worked(history))),
        updated=str(file.attrs.get("updated", "")),
        data_sha256=str(file.attrs.get("data_sha256", "")),
        task=json.loads(file["task"].asstr()[()]) if "task" in file else {},
        rungs=tuple(int(epochs) for epochs in file.attrs.get("rungs", ())),
        known=(candidates, history, tried, rewritten),
    )


def _columns(
    group: h5py.Group, columns: tuple[schema.Column, ...], rows: int, path: Path
) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for column in columns:
        if column.name in schema.LATER and column.name not in group:
            continue  # the record fills it up
        dataset = group[column.name]
        if len(dataset) != rows:
            raise RecordError(
                f"{path}: {group.name}/{column.name} has {len(dataset)} rows, the record says "
                f"{rows}: damaged; it was left as it is{_offer_previous(path)}"
            )
        found[column.name] = (dataset.asstr() if column.is_text else dataset)[:]
    return found


def _worked(history: dict[str, NDArray[Any]]) -> float:
    """Return how long generations took: what an older record knows of the time it was alive."""
    stages = ("generate_seconds", "screen_seconds", "evaluate_seconds")
    return float(sum(np.nansum(history[name]) for name in stages))


def _offer_previous(path: Path) -> str:
    previous = path.with_name("run.prev.h5")
    if path.name != "run.h5" or not previous.exists():
        return ""
    try:
        with h5py.File(previous, "r", locking=False) as file:
            generations = int(file.attrs["committed_generations"])
    except (OSError, KeyError):
        return ""
    aside = f"mv {path} {path}.damaged; " if path.exists() else ""
    return (
        f". The commit before it is {previous} ({generations} generations); to continue from "
        f"there: {aside}cp {previous} {path}"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

"""Read the benchmark's official files, reduced to the numbers that a search needs.

:func:`read` takes any of

- ``NATS-tss-v1_0-3ffb9-simple``, the folder of NATS-Bench: ``meta.pickle.pbz2`` and a file
  ``NNNNNN.pickle.pbz2`` for each cell;
- ``NATS-tss-v1_0-3ffb9.pickle.pbz2``, the same in one file;
- ``NAS-Bench-201-v1_0-e61699.pth`` and ``NAS-Bench-201-v1_1-096897.pth``, written by either
  format of ``torch.save``; torch itself is not needed;
- a plain pickle of what those hold, such as ``nasbench201.pkl`` of the package nasbenchapi.

The numbers are those of the official API (``nats_bench`` 1.8): means over runs as its
``get_more_info(cell, data set, hp=..., is_random=False)`` has them. FLOPs and parameters are not
read: for some cells they are wrong in the files, and a formula is exact
(:func:`~.cells.describe`).

A cell is 0.3 MB of learning curves and becomes some forty numbers while it is read, so the
memory does not grow with the file: ``python -m tests.benchmarks.converter`` measures how much
and how fast.
"""

from __future__ import annotations

import bz2
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from ....errors import DataError
from ..cells import cell_of
from . import META, SEEDS, WHERE, pickles
from .inert import Shorten

Progress = Callable[[float], None]
"""Function that is told how much is done, 0 to 1."""

_OWN = ("x-valid", "x-test", "ori-test")
_SPLITS = {
    # Validated by networks that were trained on one half of the training images, tested by
    # others that were trained on all of them.
    "cifar10": (("cifar10-valid", _OWN[0]), ("cifar10", _OWN[2]), ("cifar10-valid", _OWN[0])),
    "cifar100": tuple(("cifar100", split) for split in _OWN),
    "imagenet16_120": tuple(("ImageNet16-120", split) for split in _OWN),
}
"""Official data set and split of validation accuracy, test accuracy and that of single runs."""


@dataclass(frozen=True, slots=True)
class Trainings:
    """Results of training one cell on one data set. Accuracies in percent."""

    valid: float
    """Validation accuracy after 200 epochs, mean over the runs."""
    test: float
    """Test accuracy after 200 epochs, mean over the runs."""
    per_run: tuple[float, float, float]
    """Accuracy after 200 epochs for each of ``SEEDS``, NaN where not run: on the validation images
    of CIFAR-10, on validation and test images together of the others."""
    seconds: float
    """``train-all-time`` of one 200-epoch run; NaN where the file has none. For CIFAR-10 of the
    training on one half of the images."""
    valid_12: float = math.nan
    """Validation accuracy after the separate 12-epoch training; NaN where the file has none."""
    test_12: float = math.nan
    """Test accuracy after the separate 12-epoch training; NaN where the file has none."""


@dataclass(frozen=True, slots=True)
class OfficialCell:
    """A row of the table."""

    index: int
    """Official index, 0 to 15,624."""
    architecture: str
    runs: int
    """Number of 200-epoch runs that each mean is over (the fewest of any data set)."""
    datasets: Mapping[str, Trainings]
    """Results by the names of :data:`~.cells.DATASETS`."""


@dataclass(frozen=True)
class Official:
    """An official file or folder, open."""

    name: str
    """Last name of the path, by which a table says where it is from."""
    total: int
    """Number of cells that the benchmark has: 15,625."""
    count: int
    """Number of cells that are here."""
    cells: Iterator[OfficialCell]
    """Cells in the order of their indices. A folder is read while this goes on, and may raise
    :class:`DataError`."""


def read(source: Path, progress: Progress = lambda fraction: None) -> Official:
    """Read the cells of an official file or folder.

    Raises :class:`DataError` where ``source`` is missing, none of the official files, damaged,
    asks for anything beyond plain data (nothing of it is then run or imported), or has a cell
    that lacks a 200-epoch accuracy or contradicts itself.
    """
    if source.is_dir():
        return _read_folder(source, progress)
    with _open(source, lambda done: progress(done * 0.4)) as reader:
        counts = pickles.fetches(reader)
    with _open(source, lambda done: progress(0.4 + done * 0.6)) as reader:
        found = pickles.load(reader, _shorten(source), counts)
    progress(1.0)
    architectures = _architectures(source, found)
    infos = found["arch2infos"]
    if not isinstance(infos, dict) or not infos:
        why = "it lists the architectures but holds no results: give the folder it is in"
        _foreign(source, why)
    if strange := [key for key in infos if type(key) is not int]:
        _foreign(source, f"{strange[0]!r} is no index of a cell")
    cells = (_cell(source, index, infos[index], architectures) for index in sorted(infos))
    return Official(source.name, len(architectures), len(infos), cells)


# --- folders and files ------------------------------------------------------------------------


def _read_folder(folder: Path, progress: Progress) -> Official:
    meta = folder / META
    if not meta.is_file():
        raise DataError(
            f"{folder}: no {META} in this folder, so it is not the one of NATS-Bench's topology "
            f"search space. The official files are {WHERE}"
        )
    architectures = _architectures(meta, _read_whole(meta))
    files = {
        int(match[1]): path
        for path in sorted(folder.glob("*.pickle.pbz2"), reverse=True)  # 000011 wins over 11
        if (match := re.fullmatch(r"(\d{1,6})\.pickle\.pbz2", path.name))
    }
    if not files:
        raise DataError(f"{folder}: has {META} but no cell (000000.pickle.pbz2 and so on)")

    def cells() -> Iterator[OfficialCell]:
        for done, (index, path) in enumerate(sorted(files.items())):
            progress(done / len(files))
            yield _cell(path, index, _read_whole(path), architectures)
        progress(1.0)

    return Official(folder.name, len(architectures), len(files), cells())


def _read_whole(path: Path) -> Any:
    """Read a file of a folder in one pass, since its objects fit the memory."""
    with _open(path, lambda fraction: None) as reader:
        return pickles.load(reader, _shorten(path))


_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file by ``torch.save`` as it was before zip files."""

_UNREADABLE = (EOFError, NotImplementedError, OSError, RuntimeError, ValueError, zlib.error,
               zipfile.BadZipFile)  # fmt: skip

_MAX_RATIO = 100
"""Times that a file may grow as it is decompressed; the official ones grow four times."""


@contextmanager
def _open(path: Path, progress: Progress) -> Iterator[pickles.Reader]:
    """Open a file of any kind at the pickle of the results."""
    try:
        with open(path, "rb") as raw:
            start = raw.read(4)
            raw.seek(0)
            inner = _decompressed(path, raw, start)
            reader = pickles.Reader(_watched(path, raw, inner, progress), str(path))
            if inner is raw and start[2:3] == b"\x8a":  # begins with a long integer
                if pickles.load(reader, {}) != _TORCH_MAGIC:
                    _foreign(path, "it begins with a number, and not with that of torch.save")
                pickles.load(reader, {})  # the version of the format
                pickles.load(reader, {})  # sizes of C types where it was written
            yield reader
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder. The official files are {WHERE}") from None
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except _UNREADABLE as error:
        why = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"{path}: damaged or cut off ({why}): {_AGAIN}") from error


def _decompressed(path: Path, raw: IO[bytes], start: bytes) -> IO[bytes]:
    """Return what reads the pickle in a file: by bzip2, by ``torch.save`` (a zip file), or bare."""
    if start.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if start.startswith(b"PK\x03\x04"):
        archive = zipfile.ZipFile(raw)
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(names) != 1:
            _foreign(path, "it is a zip file, but not by torch.save: unpack it first")
        return archive.open(names[0])
    if not start.startswith(b"\x80"):
        is_hdf5 = start.startswith(b"\x89HDF")
        _foreign(path, f"it is {'an HDF5 file' if is_hdf5 else 'neither bzip2, zip nor pickle'}")
    return raw


def _watched(path: Path, raw: IO[bytes], inner: IO[bytes], progress: Progress) -> pickles.Read:
    """Read a decompressed file, tell how far it is, and refuse it when it grows without end."""
    size, done = path.stat().st_size, 0

    def read(wanted: int) -> bytes:
        nonlocal done
        found = inner.read(wanted)
        done += len(found)
        if done > max(_MAX_RATIO * size, 64 << 20):
            _foreign(path, f"it grows over {_MAX_RATIO} times when it is decompressed")
        progress(min(raw.tell() / size, 1.0))
        return found

    return read


_AGAIN = "copy or download it again"


def _foreign(path: Path, why: str) -> NoReturn:
    raise DataError(f"{path}: not an official file: {why}. Those are {WHERE}")


# --- what is kept of them ---------------------------------------------------------------------


class _Times(NamedTuple):
    epochs: int
    total: float


_DROPPED = ("arch_config", "eval_acc5es", "eval_losses", "eval_times", "flop", "latency",
            "net_state_dict", "params", "train_acc1es", "train_acc5es", "train_losses")  # fmt: skip

_MAX_SECONDS = 1e8
"""Most that a training may take: three years; the longest took a day."""

_EPOCHS = {"12": 12, "200": 200, "less": 12, "full": 200}
"""Lengths of training by the names of a cell's two entries in NATS-Bench and NAS-Bench-201."""


def _shorten(path: Path) -> Shorten:
    """Return what keeps of the values in a file no more than is needed, by their keys."""
    trained = {key: partial(_trained, path, epochs) for key, epochs in _EPOCHS.items()}
    kept = trained | {"eval_acc1es": _last_epochs, "train_times": _total}
    return {key: lambda value: None for key in _DROPPED} | kept


def _last_epochs(curve: Any) -> Any:
    """Keep, of ``{'x-valid@0': accuracy, ...}``, the epochs that a training may end with."""
    if not isinstance(curve, dict):
        return curve
    ends = tuple(f"@{epochs - 1}" for epochs in set(_EPOCHS.values()))
    return {key: value for key, value in curve.items() if type(key) is str and key.endswith(ends)}


def _total(times: Any) -> Any:
    """Add up ``{epoch: seconds}`` in the order in which the official API does."""
    if not isinstance(times, dict) or not all(map(_is_number, times.values())):
        return times
    if times.keys() != set(range(len(times))):
        return times
    return _Times(len(times), sum([times[epoch] for epoch in range(len(times))]))


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _trained(path: Path, epochs: int, results: Any) -> Any:
    """Take the official API's means over the runs of one length: an :class:`OfficialCell`."""
    if not isinstance(results, dict):
        return results
    index, architecture = results.get("arch_index"), results.get("arch_str")
    if type(index) is not int or type(architecture) is not str:
        raise DataError(f"{path}: a cell lacks arch_index or arch_str: {_AGAIN}")
    where = f"{path}: cell {index}"
    seeds, runs = results.get("dataset_seed"), results.get("all_results")
    if not isinstance(seeds, dict) or not isinstance(runs, dict):
        raise DataError(f"{where}: lacks dataset_seed or all_results: {_AGAIN}")
    if not all(type(seed) is int for listed in seeds.values() for seed in listed):
        raise DataError(f"{where}: a seed is no whole number: {_AGAIN}")

    def accuracies(dataset: str, split: str) -> dict[int, float]:
        """Return accuracies by seed; empty unless every run has one."""
        found = {}
        for seed in seeds.get(dataset) or ():
            run = runs.get((dataset, seed))
            if not isinstance(run, dict) or run.get("epochs") != epochs:
                raise DataError(f"{where}: lacks the run of {epochs} epochs on {dataset}, {seed=}")
            value = (run.get("eval_acc1es") or {}).get(f"{split}@{epochs - 1}")
            if value is None:
                return {}
            if not _is_number(value) or not 0 <= value <= 100:
                raise DataError(
                    f"{where}: {value!r} is no accuracy in percent ({dataset}, {split}, {seed=})"
                )
            found[seed] = value
        return found

    def seconds(dataset: str) -> float:
        times = [runs[dataset, seed].get("train_times") for seed in seeds.get(dataset) or ()]
        if not times or None in times:
            return math.nan
        if not all(isinstance(time, _Times) and time.epochs == epochs for time in times):
            raise DataError(f"{where}: not a time for each of {epochs} epochs on {dataset}")
        mean = _mean([time.total for time in times])
        if not 0 <= mean <= _MAX_SECONDS:
            raise DataError(f"{where}: {mean:.4g} is no time of a training in seconds ({dataset})")
        return mean

    datasets, fewest = {}, []
    for name, splits in _SPLITS.items():
        valid, test, single = (accuracies(dataset, split) for dataset, split in splits)
        if epochs == 200:
            for found, (dataset, split) in zip((valid, test), splits, strict=False):
                if not found:
                    raise DataError(f"{where}: no accuracy of {dataset}, {split}, after 200 epochs")
            if unknown := (valid.keys() | test.keys()) - set(SEEDS):
                raise DataError(f"{where}: a 200-epoch run of an unknown seed, {min(unknown)}")
        first, second, third = (single.get(seed, math.nan) for seed in SEEDS)
        means = _mean(valid.values()), _mean(test.values())
        datasets[name] = Trainings(*means, (first, second, third), seconds(splits[0][0]))
        fewest.append(min(len(valid), len(test)))
    return OfficialCell(index, architecture, min(fewest), datasets)


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _architectures(path: Path, found: Any) -> list[str]:
    """Return all strings of the benchmark, in its order."""
    if isinstance(found, dict) and found.keys() & _EPOCHS.keys():
        _foreign(path, "it is one cell: give the folder that it is in")
    if not isinstance(found, dict) or not {"meta_archs", "arch2infos"} <= found.keys():
        _foreign(path, "it has no meta_archs and arch2infos")
    strings = found["meta_archs"]
    if not isinstance(strings, list) or not strings or not all(type(s) is str for s in strings):
        _foreign(path, "its meta_archs is no list of architecture strings")
    for string in strings:
        try:
            cell_of(string)
        except ValueError as error:
            _foreign(path, f"{error} (NATS-Bench's size search space, sss, is another benchmark)")
    if len(set(strings)) != len(strings):
        _foreign(path, "its meta_archs names an architecture twice")
    return strings


def _cell(path: Path, index: int, entry: Any, architectures: list[str]) -> OfficialCell:
    where = f"{path}: cell {index}"
    if not 0 <= index < len(architectures):
        raise DataError(f"{where}: the benchmark has the cells 0 to {len(architectures) - 1}")
    parts = entry if isinstance(entry, dict) else {}
    long, short = parts.get("200", parts.get("full")), parts.get("12", parts.get("less"))
    if not isinstance(long, OfficialCell):
        raise DataError(f"{where}: has no results of 200 epochs: {_AGAIN}")
    for part in [part for part in (long, short) if isinstance(part, OfficialCell)]:
        if part.index != index:
            raise DataError(f"{where}: says that it is cell {part.index}: {_AGAIN}")
        if part.architecture != architectures[index]:
            raise DataError(
                f"{where}: is {part.architecture} here, but {architectures[index]} in the list of "
                "all architectures: the files are not of one release; download them again"
            )
    if not isinstance(short, OfficialCell):
        return long
    datasets = {
        name: replace(found, valid_12=brief.valid, test_12=brief.test)
        for (name, found), brief in zip(long.datasets.items(), short.datasets.values(), strict=True)
    }
    return replace(long, datasets=datasets)

"""The benchmark as a small table: what a cell's trainings came to, in one HDF5 file.

Row ``i`` of every array is a cell; a table of the whole benchmark has them in the official
order. ``arch_str`` (S95), ``arch_ops`` (uint8, N x 6) and ``n_seeds`` (uint8) stand at the top;
each of the groups ``cifar10``, ``cifar100`` and ``imagenet16_120`` has float32 arrays of
accuracies in percent, the time of a training in seconds, and size by formula. Every array says
its ``unit`` and its ``description``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...errors import DataError
from ...rundir.files import write_atomically
from .cells import DATASETS, EDGES, OPERATIONS, cell_of, describe
from .official import files as official
from .official.files import SEEDS, OfficialCell

Floats = NDArray[np.float32]

CELLS: int = len(OPERATIONS) ** len(EDGES)
"""Of the whole benchmark: 15,625."""


@dataclass(frozen=True, eq=False)
class Accuracies:
    """What training came to on one data set; each array is float32 of shape (N,)."""

    valid: Floats
    """Mean validation accuracy after 200 epochs, percent."""
    test: Floats
    """Mean test accuracy after 200 epochs, percent."""
    valid_12: Floats
    """Mean validation accuracy after the separate 12-epoch training, percent. NaN where the
    official file had none: the oldest has it for CIFAR-10 only."""
    test_12: Floats
    """Mean test accuracy after the separate 12-epoch training, percent, or NaN likewise."""
    seconds: Floats
    """Simulated time of one 200-epoch training, seconds, or NaN likewise."""


_READ = {
    "valid": "valid_acc",
    "test": "test_acc",
    "valid_12": "valid_acc_12ep",
    "test_12": "test_acc_12ep",
    "seconds": "train_time_200ep_s",
}
"""The arrays that are read, by what :class:`Accuracies` calls them."""

_REQUIRED = {"valid", "test"}
"""Those of them that have a number for every cell."""


@dataclass(frozen=True, eq=False)
class BenchmarkTable:
    """A table in memory."""

    path: Path
    digest: str
    """SHA-256, hexadecimal, over ``arch_str`` and the arrays of :class:`Accuracies`: of the
    numbers, whatever HDF5 made of them."""
    rows: dict[str, int]
    """Row by architecture string."""
    datasets: dict[str, Accuracies]
    """By the names of :data:`~llmatic_hpc.problems.nasbench201.cells.DATASETS`."""

    @property
    def complete(self) -> bool:
        """Whether every cell of the benchmark is there."""
        return len(self.rows) == CELLS  # strings of cells, and no two are equal

    def row(self, architecture: str) -> int:
        """Raises :class:`DataError` for a cell that is not in the table."""
        try:
            return self.rows[architecture]
        except KeyError:
            raise DataError(
                f"{self.path}: no row for {architecture}; it has {len(self.rows):,} of {CELLS:,} "
                f"cells. {HOW}"
            ) from None


HOW = (
    "To make one: llmatic prefetch CONFIG --from FILE_OR_FOLDER, which converts the benchmark's "
    f"official files: {official.WHERE}"
)
"""What every message about a missing table ends with."""


def read(path: Path) -> BenchmarkTable:
    """The table in ``path``.

    Raises :class:`DataError` where it is missing, an official file that is not converted yet, no
    HDF5 file, without an array or with one of another shape, or has a string that is no cell, a
    cell twice, an accuracy outside 0 to 100, or none where there must be one.
    """
    try:
        is_there, is_official = path.exists(), official.looks_official(path)
        is_odd = is_there and not path.is_file() and not path.is_dir()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if is_odd:
        raise DataError(f"{path}: neither a file nor a folder. {HOW}")
    if not is_there:
        raise DataError(
            f"{path}: no such file. problem.table names the table of NAS-Bench-201 that "
            f"accuracies are looked up in. {HOW}"
        )
    if is_official:
        raise DataError(
            f"{path}: an official file of the benchmark, not the table that is made of it. Let "
            f"problem.table name a file that is not there yet, then: llmatic prefetch CONFIG "
            f"--from {path}"
        )
    if path.is_dir():
        raise DataError(f"{path}: a folder; problem.table names one HDF5 file. {HOW}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _read(file, path)
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: damaged, or no HDF5 file ({why}). {HOW}") from error


def write(path: Path, cells: Iterable[OfficialCell], source: str) -> BenchmarkTable:
    """Make the table of ``cells``, in their order; what was in ``path`` before is replaced.

    ``source`` says where they are from. The file is written beside, verified, and renamed: a
    kill leaves ``path`` as it was. Raises :class:`DataError` where it cannot be written, and
    whatever ``cells`` raises.
    """
    arrays = _arrays(list(cells))
    tables: list[BenchmarkTable] = []

    def check(beside: Path) -> None:
        tables.append(read(beside))
        if tables[0].digest != _digest(arrays):
            raise DataError(f"{path}: does not read back as it was written: try another disk")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _image(arrays, source), check=check)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}; what was there before is "
            "intact. Mend that or name another file, and convert again"
        ) from error
    return replace(tables[0], path=path)


# --- the layout -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Array:
    dtype: str
    shape: tuple[int, ...]
    """Of one row."""
    unit: str
    description: str


def _layout() -> dict[str, _Array]:
    seeds = ", ".join(map(str, SEEDS))
    edges = ",".join(f"{origin}>{end}" for origin, end in EDGES)
    found = {
        "arch_ops": _Array(
            "u1", (6,), "", f"op index of each edge {edges} into attribute op_names"
        ),
        "arch_str": _Array("S95", (), "", "architecture string, ASCII bytes"),
        "n_seeds": _Array("u1", (), "runs", "number of 200-epoch training runs averaged"),
    }
    for name in DATASETS:
        half = name == "cifar10"
        valid = (
            "x-valid accuracy after 200 epochs of training on the 25,000-image train half "
            "(official data set name cifar10-valid), mean over runs"
            if half
            else "x-valid accuracy after 200 epochs of training on the training set, mean over runs"
        )
        test = (
            "ori-test accuracy after 200 epochs of training on all 50,000 training images "
            "(official data set name cifar10), mean over runs"
            if half
            else "x-test accuracy after 200 epochs, mean over runs"
        )
        per_run = "x-valid" if half else "ori-test (x-valid and x-test together)"
        images = " (cifar10-valid: 25,000 images an epoch)" if half else ""
        columns = {
            "valid_acc": ("percent", valid),
            "test_acc": ("percent", test),
            "valid_acc_12ep": ("percent", "as valid_acc, after 12 epochs (hp=12)"),
            "test_acc_12ep": ("percent", "as test_acc, after 12 epochs (hp=12)"),
            "train_time_200ep_s": (
                "seconds",
                "train-all-time of one 200-epoch run, simulated seconds on the authors GPU"
                + images,
            ),
            "flops_m": (
                "1e6 multiply-adds",
                "multiply-adds by formula from the op counts, exact for the architecture string",
            ),
            "params_m": (
                "1e6 parameters",
                "parameters by formula from the op counts, exact for the architecture string",
            ),
        }
        for column, (unit, description) in columns.items():
            found[f"{name}/{column}"] = _Array("f4", (), unit, description)
        found[f"{name}/{per_run_column(name)}"] = _Array(
            "f4",
            (len(SEEDS),),
            "percent",
            f"{per_run} accuracy of each run (seeds {seeds} in that order), NaN where not run",
        )
    return found


def per_run_column(dataset: str) -> str:
    """Single runs are validated on CIFAR-10, and on both halves of the test images elsewhere."""
    return "valid_acc_per_run" if dataset == "cifar10" else "valtest_acc_per_run"


_LAYOUT = _layout()


# --- reading ----------------------------------------------------------------------------------


def _read(file: h5py.File, path: Path) -> BenchmarkTable:
    if "arch_str" not in file or not isinstance(file["arch_str"], h5py.Dataset):
        raise DataError(f"{path}: an HDF5 file without arch_str, so no table. {HOW}")
    count = len(file["arch_str"])
    for name, array in _LAYOUT.items():
        if name not in file or not isinstance(file[name], h5py.Dataset):
            raise DataError(f"{path}: has no array {name}: damaged, or of another kind. {HOW}")
        found, expected = file[name], (count, *array.shape)
        if found.shape != expected or found.dtype != np.dtype(array.dtype):
            raise DataError(
                f"{path}: {name} is {found.dtype} of shape {found.shape}, not "
                f"{np.dtype(array.dtype)} of shape {expected}: damaged, or of another kind. {HOW}"
            )
    names = [_name(column, dataset) for dataset in DATASETS for column in _READ]
    arrays = {name: file[name][:] for name in ("arch_str", *names)}
    rows = _rows(arrays["arch_str"], path)
    datasets = {
        dataset: Accuracies(**{column: arrays[_name(column, dataset)] for column in _READ})
        for dataset in DATASETS
    }
    for dataset in DATASETS:
        for column in _READ:
            _check(arrays[_name(column, dataset)], column, f"{path}: {_name(column, dataset)}")
    return BenchmarkTable(path, _digest(arrays), rows, datasets)


def _name(column: str, dataset: str) -> str:
    return f"{dataset}/{_READ[column]}"


def _edge(origin: int) -> str:
    return rf"(?:{'|'.join(OPERATIONS)})~{origin}\|"


_NODES = [rf"\|{''.join(_edge(origin) for origin in range(node))}" for node in (1, 2, 3)]
_ARCHITECTURE = re.compile(r"\+".join(_NODES))
"""What :func:`cell_of` accepts, for many strings at once."""


def _rows(strings: NDArray[Any], path: Path) -> dict[str, int]:
    if not len(strings):
        raise DataError(f"{path}: has no rows. {HOW}")
    texts = [string.decode("latin-1") for string in strings.tolist()]
    for row, text in enumerate(texts):
        if not _ARCHITECTURE.fullmatch(text):
            raise DataError(f"{path}: row {row}: {text!r} is no architecture string. {HOW}")
    rows = {text: row for row, text in enumerate(texts)}
    if len(rows) != len(texts):
        twice = next(row for row, text in enumerate(texts) if rows[text] != row)
        raise DataError(f"{path}: {texts[twice]} is in row {twice} and again: damaged. {HOW}")
    return rows


def _check(values: Floats, column: str, where: str) -> None:
    known = np.isfinite(values)
    if column in _REQUIRED and not known.all():
        raise DataError(f"{where}: no accuracy in row {int(np.argmin(known))}: damaged. {HOW}")
    high = np.inf if column == "seconds" else 100.0
    outside = ~((values >= 0) & (values <= high)) & ~np.isnan(values) | np.isinf(values)
    if outside.any():
        row = int(np.argmax(outside))
        kind = "time in seconds" if column == "seconds" else "accuracy in percent"
        raise DataError(f"{where}: {values[row]} in row {row} is no {kind}: damaged. {HOW}")


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in ("arch_str", *(_name(column, dataset) for dataset in DATASETS for column in _READ)):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


# --- writing ----------------------------------------------------------------------------------


def _arrays(cells: list[OfficialCell]) -> dict[str, NDArray[Any]]:
    found = {
        "arch_ops": np.array([cell_of(cell.architecture) for cell in cells]),
        "arch_str": np.array([cell.architecture.encode() for cell in cells]),
        "n_seeds": np.array([cell.runs for cell in cells]),
    }
    for name, dataset in DATASETS.items():
        results = [cell.datasets[name] for cell in cells]
        sizes = [describe(cell_of(cell.architecture), dataset) for cell in cells]
        for field, column in _READ.items():
            found[f"{name}/{column}"] = np.array([getattr(result, field) for result in results])
        found[f"{name}/{per_run_column(name)}"] = np.array([result.per_run for result in results])
        found[f"{name}/flops_m"] = np.array([size.flops / 1e6 for size in sizes])
        found[f"{name}/params_m"] = np.array([size.params / 1e6 for size in sizes])
    return {
        name: found[name].astype(array.dtype).reshape(len(cells), *array.shape)
        for name, array in _LAYOUT.items()
    }


def _image(arrays: Mapping[str, NDArray[Any]], source: str) -> bytes:
    count = len(arrays["arch_str"])
    part = "" if count == CELLS else f"; {count} of {CELLS} cells are here"
    with h5py.File("table.h5", "w", driver="core", backing_store=False) as file:
        file.attrs["title"] = (
            "NAS-Bench-201 / NATS-Bench topology search space, compact accuracy table"
        )
        file.attrs["source"] = f"{source}, converted by llmatic-hpc {__version__}"
        file.attrs["rows"] = f"in the order of the official architecture index{part}"
        file.attrs["op_names"] = np.array([name.encode() for name in OPERATIONS])
        for name, array in _LAYOUT.items():
            dataset = file.create_dataset(
                name, data=arrays[name], chunks=True, compression="gzip", compression_opts=9
            )
            dataset.attrs.update({"unit": array.unit, "description": array.description})
        file.flush()
        image: bytes = file.id.get_file_image()
        return image

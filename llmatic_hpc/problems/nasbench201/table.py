"""Read and write the benchmark as a small table: the results of its trainings in one HDF5 file.

Row ``i`` of every array is a cell; a table of the whole benchmark has them in the official
order. ``arch_str`` (S95), ``arch_ops`` (uint8, N x 6) and ``n_seeds`` (uint8) stand at the top;
each of the groups ``cifar10``, ``cifar100`` and ``imagenet16_120`` has float32 arrays of
accuracies in percent, the time of a training in seconds, and size by formula. Every array says
its ``unit`` and its ``description``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import h5py
import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...config import ProblemSettings
from ...errors import DataError
from ...rundir.files import write_atomically
from .cells import DATASETS, EDGES, OPERATIONS, architecture, cell_of, cells, describe
from .official import SEEDS, WHERE, looks_official

if TYPE_CHECKING:
    from .official.files import OfficialCell

Floats = NDArray[np.float32]

EPOCHS = 200
"""Epochs of the trainings behind test accuracies and times."""

CELLS: int = len(OPERATIONS) ** len(EDGES)
"""Number of cells of the whole benchmark: 15,625."""


@dataclass(frozen=True, eq=False)
class Accuracies:
    """Results of training on one data set; each array is float32 of shape (N,)."""

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
    single: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """Accuracies (N, 3) of single 200-epoch trainings, percent; NaN where there was none. CIFAR-10:
    validation accuracy, which :attr:`valid` is the mean of; else on all test images, half of which
    are those of :attr:`test`."""

    @property
    def has_12_epochs(self) -> bool:
        """True where every cell has its accuracies after 12 epochs."""
        return bool(np.isfinite(self.valid_12 + self.test_12).all())

    def scores(self, settings: ProblemSettings, epochs: int) -> dict[str, Floats]:
        """Return fitness, validation and test accuracy, 0 to 1, by the columns of a record.

        The fitness is by ``problem.protocol`` after ``epochs``, 12 or 200, the test accuracy
        always after 200 epochs.
        """
        is_full = epochs == EPOCHS
        valid = self.valid if is_full else self.valid_12
        test = self.test if is_full else self.test_12
        fitness = test if settings.protocol == "paper" else valid
        return {
            "fitness": fitness / 100.0,
            "valid_accuracy": valid / 100.0,
            "test_accuracy": self.test / 100.0,
        }

    def count(self, row: int) -> int:
        """Count the single trainings of a cell."""
        return int(np.isfinite(self.single[row]).sum())

    def training(self, row: int, seed: int) -> float:
        """Return the accuracy, 0 to 1, of one of a cell's single trainings, by a training seed."""
        found = self.single[row][np.isfinite(self.single[row])]
        return float(found[seed % len(found)] / 100.0)

    def single_facts(self) -> dict[str, Any]:
        """Return the best mean of single trainings as the fitness to reach, and their digest."""
        return {
            "best_fitness": float(np.nanmax(np.nanmean(self.single, axis=1)) / 100.0),
            "single_sha256": hashlib.sha256(self.single.tobytes()).hexdigest(),
        }


_READ = {
    "valid": "valid_acc",
    "test": "test_acc",
    "valid_12": "valid_acc_12ep",
    "test_12": "test_acc_12ep",
    "seconds": "train_time_200ep_s",
}
"""Arrays that are read, by what :class:`Accuracies` calls them."""

_REQUIRED = {"valid", "test"}
"""Those of them that have a number for every cell."""

_NAMES = tuple(f"{dataset}/{column}" for dataset in DATASETS for column in _READ.values())


@dataclass(frozen=True, eq=False)
class BenchmarkTable:
    """A table in memory."""

    path: Path
    digest: str
    """SHA-256, hexadecimal, over ``arch_str`` and the arrays of :class:`Accuracies`: of the
    numbers, whatever HDF5 made of them."""
    rows: dict[str, int]
    """Rows by architecture string."""
    datasets: dict[str, Accuracies]
    """Results by the names of :data:`~llmatic_hpc.problems.nasbench201.cells.DATASETS`."""

    @property
    def complete(self) -> bool:
        """True where every cell of the benchmark is there."""
        return len(self.rows) == CELLS  # strings of cells, and no two are equal

    def row(self, architecture: str) -> int:
        """Return the row of a cell. Raises :class:`DataError` where it is not in the table."""
        if architecture not in self.rows:
            has = f"it has {len(self.rows):,} of {CELLS:,} cells"
            _refuse(self.path, f"no row for {architecture}; {has}")
        return self.rows[architecture]


HOW = (
    "To make one: llmatic prefetch CONFIG --from FILE_OR_FOLDER, which converts the benchmark's "
    f"official files: {WHERE}"
)
"""Advice that every message about a missing table ends with."""


def _refuse(path: Path, why: str) -> NoReturn:
    raise DataError(f"{path}: {why}. {HOW}") from None


def read(path: Path) -> BenchmarkTable:
    """Read the table in ``path``.

    Raises :class:`DataError` where it is missing, an official file that is not converted yet, no
    HDF5 file, without an array or with one of another shape, or has a string that is no cell, a
    cell twice, an accuracy outside 0 to 100, or none where there must be one.
    """
    try:
        if looks_official(path):
            raise DataError(
                f"{path}: an official file of the benchmark, not the table that is made of it. Let "
                "problem.table name a file that is not there yet, then: llmatic prefetch CONFIG "
                f"--from {path}"
            )
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "no table" if path.exists() else "no such file"
            _refuse(path, f"{kind}; problem.table names the HDF5 file with NAS-Bench-201's table")
        with h5py.File(path, "r", locking=False) as file:
            return _read(file, path)
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        _refuse(path, f"damaged, or no HDF5 file ({' '.join(str(error).split())[:200]})")


def write(path: Path, cells: Iterable[OfficialCell], source: str) -> BenchmarkTable:
    """Write the table of ``cells``, in their order; what was in ``path`` before is replaced.

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


def convert(
    source: Path,
    target: Path,
    tell: Callable[[str], None],
    progress: Callable[[float], None] = lambda fraction: None,
) -> BenchmarkTable:
    """Make the table ``target`` of ``source``, and ``tell`` in a few lines what it holds.

    ``source``, ``progress``: see :func:`.official.files.read`. A table that is in ``target``
    already is replaced once the new one is whole; any other file there is left alone.

    Raises :class:`DataError` for a ``source`` or a ``target`` that will not do.
    """
    from .official import files as official

    _check_writable(target)  # before the minutes that reading may take
    found = official.read(source, progress)
    tell(f"official: {source}: {found.count:,} of {found.total:,} cells")
    if found.count < found.total and target.exists() and read(target).complete:
        raise DataError(
            f"{target}: left as it is: {source} has {found.count:,} of {found.total:,} cells only. "
            "Let problem.table name a file that is not there yet, or fetch the rest"
        )
    made = write(target, found.cells, found.name)
    lacking = [name for name, accuracies in made.datasets.items() if not accuracies.has_12_epochs]
    if lacking:
        tell(f"official: no 12-epoch accuracies of all cells for {', '.join(lacking)}")
    tell(f"table: {target}: {len(made.rows):,} cells, SHA-256 {made.digest[:12]}")
    return made


def _check_writable(target: Path) -> None:
    if target.exists():
        try:
            read(target)
        except DataError as error:
            raise DataError(
                f"{target}: it is there and is no whole table, so it was left as it is: move it "
                "away, or let problem.table name another file"
            ) from error
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DataError(
            f"{target}: cannot be written, since {folder} is not a folder that you may write to: "
            "let problem.table name another file"
        )


# --- the layout -------------------------------------------------------------------------------


class _Array(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    """Shape of one row."""
    unit: str
    description: str


def _layout() -> dict[str, _Array]:
    edges = ",".join(f"{origin}>{end}" for origin, end in EDGES)
    found = {
        "arch_ops": _Array(
            "u1", (6,), "", f"op index of each edge {edges} into attribute op_names"
        ),
        "arch_str": _Array("S95", (), "", "architecture string, ASCII bytes"),
        "n_seeds": _Array("u1", (), "runs", "number of 200-epoch training runs averaged"),
    }
    seeds = f"(seeds {', '.join(map(str, SEEDS))} in that order), NaN where not run"
    by_formula = "by formula from the op counts, exact for the architecture string"
    for name in DATASETS:
        valid = "x-valid accuracy after 200 epochs of training on the training set"
        test = "x-test accuracy after 200 epochs"
        per_run, images = "ori-test (x-valid and x-test together)", ""
        if name == "cifar10":
            valid = (
                "x-valid accuracy after 200 epochs of training on the 25,000-image train half "
                "(official data set name cifar10-valid)"
            )
            test = (
                "ori-test accuracy after 200 epochs of training on all 50,000 training images "
                "(official data set name cifar10)"
            )
            per_run, images = "x-valid", " (cifar10-valid: 25,000 images an epoch)"
        time = "train-all-time of one 200-epoch run, simulated seconds on the authors GPU"
        runs = per_run_column(name)
        columns = {
            "valid_acc": ("percent", f"{valid}, mean over runs"),
            "test_acc": ("percent", f"{test}, mean over runs"),
            "valid_acc_12ep": ("percent", "as valid_acc, after 12 epochs (hp=12)"),
            "test_acc_12ep": ("percent", "as test_acc, after 12 epochs (hp=12)"),
            "train_time_200ep_s": ("seconds", time + images),
            "flops_m": ("1e6 multiply-adds", f"multiply-adds {by_formula}"),
            "params_m": ("1e6 parameters", f"parameters {by_formula}"),
            runs: ("percent", f"{per_run} accuracy of each run {seeds}"),
        }
        for column, (unit, description) in columns.items():
            shape = (len(SEEDS),) if column == runs else ()
            found[f"{name}/{column}"] = _Array("f4", shape, unit, description)
    return found


def per_run_column(dataset: str) -> str:
    """Return the column of single runs: validated on CIFAR-10, elsewhere on all test images."""
    return "valid_acc_per_run" if dataset == "cifar10" else "valtest_acc_per_run"


_LAYOUT = _layout()


# --- reading ----------------------------------------------------------------------------------


def _read(file: h5py.File, path: Path) -> BenchmarkTable:
    for name in ("arch_str", *_LAYOUT):
        if not isinstance(file.get(name), h5py.Dataset):
            _refuse(path, f"has no array {name}: damaged, or of another kind")
        found, dtype = file[name], np.dtype(_LAYOUT[name].dtype)
        expected = (len(file["arch_str"]), *_LAYOUT[name].shape)
        if found.shape != expected or found.dtype != dtype:
            is_not = f"{found.dtype} of shape {found.shape}, not {dtype} of shape {expected}"
            _refuse(path, f"{name} is {is_not}: damaged, or of another kind")
    arrays = {name: file[name][:] for name in ("arch_str", *_NAMES)}
    rows = _rows(arrays["arch_str"], path)
    datasets = {}
    for dataset in DATASETS:
        columns = {name: arrays[f"{dataset}/{column}"] for name, column in _READ.items()}
        for name, values in columns.items():
            _check(values, name, path, f"{dataset}/{_READ[name]}")
        runs = f"{dataset}/{per_run_column(dataset)}"
        single = file[runs][:]
        _check(single, "single", path, runs)
        datasets[dataset] = Accuracies(**columns, single=single)
    return BenchmarkTable(path, _digest(arrays), rows, datasets)


def _rows(strings: NDArray[Any], path: Path) -> dict[str, int]:
    texts = [string.decode("latin-1") for string in strings.tolist()]
    if not texts:
        _refuse(path, "has no rows")
    rows = {text: row for row, text in enumerate(texts)}
    if unknown := rows.keys() - set(map(architecture, cells())):
        text = min(unknown, key=texts.index)
        _refuse(path, f"row {rows[text]}: {text!r} is no architecture string")
    if len(rows) != len(texts):
        twice = next(row for row, text in enumerate(texts) if rows[text] != row)
        _refuse(path, f"{texts[twice]} is in row {twice} and again: damaged")
    return rows


def _check(values: Floats, field: str, path: Path, name: str) -> None:
    known = np.isfinite(values)
    if field in _REQUIRED and not known.all():
        _refuse(path, f"{name}: no accuracy in row {int(np.argmin(known))}: damaged")
    high = np.finfo(np.float32).max if field == "seconds" else 100.0
    outside = ~(np.isnan(values) | (values >= 0) & (values <= high))
    if outside.any():
        row = int(np.argmax(outside.reshape(len(values), -1).any(axis=1)))
        kind = "time in seconds" if field == "seconds" else "accuracy in percent"
        _refuse(path, f"{name}: {values[row]} in row {row} is no {kind}: damaged")


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in ("arch_str", *_NAMES):
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
        for key, column in _READ.items():
            found[f"{name}/{column}"] = np.array([getattr(result, key) for result in results])
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
        title = "NAS-Bench-201 / NATS-Bench topology search space, compact accuracy table"
        file.attrs["title"] = title
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

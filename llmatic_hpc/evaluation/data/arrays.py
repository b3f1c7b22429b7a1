"""Images, sequences or tables, and labels, in an .npz or .h5 file."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .named import FETCH, LAYOUTS, SUFFIXES
from .shaping import Raw, arranged, numbered, shaped
from .splits import Dataset, Split, count_classes

_Names = dict[str, tuple[str, str]]
_KEYS: tuple[tuple[_Names, _Names], ...] = (
    (
        {"train": ("train/images", "train/labels"), "test": ("test/images", "test/labels")},
        {"validation": ("val/images", "val/labels")},
    ),
    (
        {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")},
        {"validation": ("x_val", "y_val")},
    ),
    ({"train": ("images", "labels")}, {}),
    ({"train": ("x", "y")}, {}),
)
"""Arrays by the part that they are: those that are needed, and those that may be there, too."""


def read(path: Path, layout: str) -> Dataset:
    """Return all that the file holds, as ``problem.layout`` says."""
    with _open(path) as found:
        names = _names(found, path)
        parts = {
            part: Raw(found[images][:], found[labels][:], f"{path}: {images}", f"{path}: {labels}")
            for part, (images, labels) in names.items()
        }
    return shaped(parts, str(path), layout)


def describe(path: Path, layout: str) -> tuple[tuple[int, ...], int]:
    """Return :attr:`.Dataset.input_shape` and the number of classes; only labels are read."""
    with _open(path) as found:
        images, labels = _names(found, path)["train"]
        shape = _shape(found, path, images)
        where = f"{path}: {labels}"
        classes = count_classes(numbered({"train": (found[labels][:], where)})["train"], where)
    of_one_zero = arranged(np.broadcast_to(0, shape), f"{path}: {images}", layout)
    return Split(of_one_zero, np.empty(0, np.int64)).shape, classes


def class_names(path: Path) -> tuple[str, ...]:
    """Return the classes where labels are text, in their order."""
    with _open(path) as found:
        labels = np.asarray(found[_names(found, path)["train"][1]][:])
    if labels.dtype.kind not in "SUO":
        return ()
    texts = (one.decode() if isinstance(one, bytes) else str(one) for one in labels.flat)
    return tuple(sorted(set(texts)))


def remark(path: Path) -> str:
    """Say that an array which may hold sequences is read as gray images; else nothing."""
    with _open(path) as found:
        images = _names(found, path)["train"][0]
        if len(_shape(found, path, images)) != 3:
            return ""
    return (
        f"{images} has three dimensions and is read as gray images, (N, height, width); set "
        'problem.layout = "sequences" where they are (N, channels, length)'
    )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open an .npz or .h5 file as its arrays by name."""
    if path.suffix not in SUFFIXES:
        missing = f" (and there is no such file or folder; to have CIFAR-10 there, {FETCH})"
        raise DataError(
            f"problem.data = {str(path)!r}: expected digits, torchvision:NAME:FOLDER, {LAYOUTS}, "
            f"or a file that ends in .h5 or .npz{'' if path.exists() else missing}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file; problem.data names it")
    try:
        if path.suffix != ".npz":
            import h5py  # only where the data are such a file

            # Nobody writes to it, and parallel file systems often have no locks.
            with h5py.File(path, "r", locking=False) as arrays:
                yield arrays
            return
        with open(path, "rb") as file:  # numpy leaves it open where it is no archive
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise ValueError("it is one array, not an archive of several")
            yield arrays
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix}: {error}") from None


def _names(arrays: Mapping[str, Any], path: Path) -> _Names:
    """Return names of images and labels by the part that they are."""
    for needed, optional in _KEYS:
        if all(name in arrays for names in needed.values() for name in names):
            own = {
                part: names
                for part, names in optional.items()
                if any(name in arrays for name in names)
            }
            if missing := [name for names in own.values() for name in names if name not in arrays]:
                raise DataError(f"{path}: has no {missing[0]} for a validation split of its own")
            for name in (name for names in (needed | own).values() for name in names):
                if not getattr(arrays[name], "shape", ()):
                    raise DataError(
                        f"{path}: {name} is {type(arrays[name]).__name__} without a length; "
                        "expected an array with one entry for each example"
                    )
            return needed | own
    accepted = "; or ".join(
        ", ".join(name for names in needed.values() for name in names) for needed, _ in _KEYS
    )
    raise DataError(f"{path}: holds {', '.join(arrays) or 'nothing'}, but needs {accepted}")


def _shape(found: Mapping[str, Any], path: Path, name: str) -> tuple[int, ...]:
    """Read the shape of an array without the array."""
    if path.suffix != ".npz":
        shape: tuple[int, ...] = found[name].shape
        return shape
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0
        return (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(member)[0]

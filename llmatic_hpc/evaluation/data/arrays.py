"""Images and labels in an .npz or .h5 file."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from .named import FETCH, SUFFIXES
from .splits import Split, count_classes, divided

_KEYS = (
    ("train/images", "train/labels", "test/images", "test/labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("images", "labels"),
)


def read(path: Path) -> tuple[Split, Split, int]:
    """Return images for training and for testing, and the number of classes."""
    splits = []
    with _open(path) as found:
        names = _names(found, path)
        for images, labels in zip(names[::2], names[1::2], strict=True):
            split = Split(
                _images(found[images][:], f"{path}: {images}"),
                _labels(found[labels][:], f"{path}: {labels}"),
            )
            if len(split.images) != len(split):
                raise DataError(
                    f"{path}: {images} has {len(split.images)} images but {len(split)} labels"
                )
            splits.append(split)
    if len(splits) == 1:
        return divided(splits[0], str(path))
    train, test = splits
    classes = count_classes(train.labels, f"{path}: {names[1]}")
    if not len(test) or test.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"{path}: training images of shape {train.images.shape[1:]} and {len(test)} test "
            f"images of shape {test.images.shape[1:]}; there must be some, and of one shape"
        )
    if (last := int(test.labels.max())) >= classes:
        raise DataError(
            f"{path}: {names[3]} has label {last}, but the training labels end at {classes - 1}"
        )
    return train, test, classes


def describe(path: Path) -> tuple[tuple[int, int, int], int]:
    """Return the shape of an image (channels, height, width) and the number of classes.

    Images are not read.
    """
    with _open(path) as found:
        images, labels = _names(found, path)[:2]
        shape = _shape(path, images) if path.suffix == ".npz" else found[images].shape
        classes = int(_labels(found[labels][:], f"{path}: {labels}").max(initial=0)) + 1
    whole = _channels_last(np.broadcast_to(0, shape), f"{path}: {images}")  # of one zero
    _, height, width, channels = whole.shape
    return (channels, height, width), classes


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open an .npz or .h5 file as its arrays by name."""
    if path.suffix not in SUFFIXES:
        missing = f" (and there is no such file or folder; to have CIFAR-10 there, {FETCH})"
        raise DataError(
            f"problem.data = {str(path)!r}: expected digits, a folder with CIFAR-10, or a file "
            f"that ends in .h5 or .npz{'' if path.exists() else missing}"
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


def _names(arrays: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    for names in _KEYS:
        if all(name in arrays for name in names):
            return names
    accepted = "; or ".join(", ".join(names) for names in _KEYS)
    raise DataError(f"{path}: holds {', '.join(arrays) or 'nothing'}, but needs {accepted}")


def _shape(path: Path, name: str) -> tuple[int, ...]:
    """Read the shape of an array in an .npz file, without the array."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0
        return (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(member)[0]


def _channels_last(images: NDArray[Any], where: str) -> NDArray[Any]:
    """View images of any accepted layout as (N, height, width, channels)."""
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and 1 <= images.shape[3] <= 4:
        return images
    if images.ndim == 4 and 1 <= images.shape[1] <= 4:
        return images.transpose(0, 2, 3, 1)
    raise DataError(
        f"{where} has shape {images.shape}; expected (N, height, width), (N, height, width, "
        "channels) or (N, channels, height, width) with 1 to 4 channels"
    )


def _images(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    images = _channels_last(images, where)
    if images.dtype != np.uint8:
        low, high = (images.min(), images.max()) if images.size else (0, 0)
        is_fraction = np.issubdtype(images.dtype, np.floating)
        top = 1 if is_fraction else 255
        is_number = is_fraction or np.issubdtype(images.dtype, np.integer)
        if not (is_number and low >= 0 and high <= top):
            raise DataError(
                f"{where} holds {images.dtype} from {low} to {high}; expected uint8, other "
                f"integers from 0 to 255, or floating point from 0 to 1 (0 to {top} here)"
            )
        images = (np.rint(images * 255.0) if is_fraction else images).astype(np.uint8)
    return np.ascontiguousarray(images)


def _labels(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{where} holds {labels.dtype} of shape {labels.shape}; expected one integer per image"
        )
    if labels.size and (labels.min() < 0 or labels.max() >= 1 << 31):
        raise DataError(f"{where} ranges from {labels.min()} to {labels.max()}; expected 0 to K-1")
    return labels.astype(np.int64)

"""Read, check and split images and labels.

Accepted for ``problem.data``:

``digits``
    scikit-learn's 1,797 real 8x8 digits, each pixel repeated to 3x32x32, values to 0..255;
    a fixed stratified split into 1,437 for training and 360 for testing
a folder
    CIFAR-10 as torchvision keeps it (the folder that holds ``cifar-10-batches-py``)
an .h5 or .npz file
    with ``train/images``, ``train/labels``, ``test/images``, ``test/labels``; or ``x_train``,
    ``y_train``, ``x_test``, ``y_test``; or ``images``, ``labels``, of which a fixed stratified
    fifth becomes the test split

Images are (N, height, width), (N, height, width, channels) or (N, channels, height, width)
with 1 to 4 channels; integers from 0 to 255, or floating point from 0 to 1. Labels are the
integers 0 to K-1.
"""

from __future__ import annotations

import contextlib
import math
import socket
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ProblemSettings, TrainingSettings
from ..errors import DataError

_KEYS = (
    ("train/images", "train/labels", "test/images", "test/labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("images", "labels"),
)
_TEST_PART = 5
_CIFAR10 = "cifar-10-batches-py"
_SUFFIXES = (".npz", ".h5", ".hdf5")
_FETCH = "run `llmatic prefetch CONFIG` where the network is"
FETCH_SECONDS = 15.0
"""Longest silence of the server that CIFAR-10 comes from, seconds."""
_FIXED, _VALIDATION = 0, 1
"""Purposes of the random choices here. The first never depends on the seed of a run, so that
every run of a configuration is tested on the same images."""


@dataclass(frozen=True)
class Split:
    """Images, (N, height, width, channels) uint8, and their labels, (N,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[np.int64]) -> Split:
        """Return some of the images, in the order of ``chosen``."""
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Dataset:
    """Images to train, validate and test candidates on. ``validation`` may be empty."""

    train: Split
    validation: Split
    test: Split
    classes: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, height, width, channels = self.train.images.shape
        return channels, height, width


def load(problem: ProblemSettings, training: TrainingSettings, *, seed: int) -> Dataset:
    """Load the data that the settings name. Raises :class:`~llmatic_hpc.errors.DataError`.

    With ``training.fitness_split = "validation"`` a stratified part of the training images,
    drawn with ``seed`` (that of the run), becomes the validation split. ``train_images`` and
    ``test_images`` choose stratified and always the same images.
    """
    train, test, classes = _read(problem.data)
    train = _at_most(train, problem.train_images)
    test = _at_most(test, problem.test_images)
    validation = train.take(np.empty(0, np.int64))
    if training.fitness_split == "validation":
        count = round(training.validation_fraction * len(train))
        if not 0 < count < len(train):
            raise DataError(
                f"{problem.data}: {len(train)} training images are too few for "
                f"training.validation_fraction = {training.validation_fraction:g}"
            )
        validation, train = _drawn(train, count, _VALIDATION, seed)
    return Dataset(train, validation, test, classes)


def describe(problem: ProblemSettings) -> tuple[tuple[int, int, int], int]:
    """Return the shape of an image (channels, height, width) and the number of classes.

    Images are not read. Raises :class:`~llmatic_hpc.errors.DataError` where the data are missing
    or unreadable.
    """
    path = Path(problem.data).expanduser()
    if problem.data == "digits" or (path.is_dir() and _cifar10_root(path)):
        return (3, 32, 32), 10
    with _open(path) as arrays:
        images, labels = _names(arrays, path)[:2]
        shape = _shape(path, images) if path.suffix == ".npz" else arrays[images].shape
        classes = int(_labels(arrays[labels][:], f"{path}: {labels}").max(initial=0)) + 1
    whole = _channels_last(np.broadcast_to(0, shape), f"{path}: {images}")  # of one zero
    _, height, width, channels = whole.shape
    return (channels, height, width), classes


def fetch(problem: ProblemSettings) -> str:
    """Download CIFAR-10 with a bar on standard error if ``problem.data`` is a folder for it and
    it is not whole there; say where the data lie.

    Raises :class:`~llmatic_hpc.errors.DataError` where the download fails.
    """
    path = Path(problem.data).expanduser()
    if problem.data == "digits":
        return "in scikit-learn"
    if path.suffix in _SUFFIXES or path.is_file():
        return str(path)
    root = path.parent if path.name == _CIFAR10 else path
    cifar10 = _torchvision(path)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(FETCH_SECONDS)  # torchvision would wait forever
    try:
        with warnings.catch_warnings(action="ignore"):
            cifar10(root, download=True)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"{path}: CIFAR-10 could not be fetched from {cifar10.url} ({error}); do it where the "
            f"network is, or unpack {cifar10.filename} into that folder yourself"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return str(root)


def for_training(dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Return what a child may see: images (N, C, H, W), and labels of the training images only."""

    def planes(split: Split) -> NDArray[np.uint8]:
        return split.images.transpose(0, 3, 1, 2)

    return {
        "train_images": planes(dataset.train),
        "train_labels": dataset.train.labels,
        "validation_images": planes(dataset.validation),
        "test_images": planes(dataset.test),
    }


def stratified(
    labels: NDArray[np.int64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw ``count`` sorted positions, classes in the proportions of ``labels``.

    Shares are rounded by the method of largest remainders, ties in the order of the classes.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    shares = np.floor(exact).astype(np.int64)
    missing = count - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    parts = [
        generator.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))


# --- sources ------------------------------------------------------------------------------------


def _read(data: str) -> tuple[Split, Split, int]:
    if data == "digits":
        return _divided(_digits(), data)
    path = Path(data).expanduser()
    if path.is_dir():
        return (*_cifar10(path), 10)
    splits = []
    with _open(path) as arrays:
        names = _names(arrays, path)
        for images, labels in zip(names[::2], names[1::2], strict=True):
            split = Split(
                _images(arrays[images][:], f"{path}: {images}"),
                _labels(arrays[labels][:], f"{path}: {labels}"),
            )
            if len(split.images) != len(split):
                raise DataError(
                    f"{path}: {images} has {len(split.images)} images but {len(split)} labels"
                )
            splits.append(split)
    if len(splits) == 1:
        return _divided(splits[0], str(path))
    train, test = splits
    classes = _classes(train.labels, f"{path}: {names[1]}")
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


def _digits() -> Split:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(
            'the digits come with scikit-learn: pip install "llmatic-hpc[quickstart]"'
        ) from None
    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    images = images.repeat(4, axis=1).repeat(4, axis=2)[..., None].repeat(3, axis=3)
    return Split(images, found.target.astype(np.int64))


def _cifar10(path: Path) -> tuple[Split, Split]:
    root, cifar10 = _cifar10_root(path), _torchvision(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # numpy's on the age of the files
            sets = [cifar10(root, train=train) for train in (True, False)]
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{path}: CIFAR-10 is damaged or incomplete ({error}); {_FETCH}") from None
    train, test = (Split(s.data, np.asarray(s.targets, np.int64)) for s in sets)
    return train, test


def _torchvision(path: Path) -> Any:
    """Return torchvision's class of CIFAR-10."""
    try:
        from torchvision.datasets import CIFAR10
    except ImportError as error:
        raise DataError(
            f"{path}: CIFAR-10 needs torchvision: pip install torchvision ({error})"
        ) from None
    return CIFAR10


def _cifar10_root(path: Path) -> Path:
    for root in (path, path.parent if path.name == _CIFAR10 else path):
        if (root / _CIFAR10).is_dir():
            return root
    raise DataError(f"{path}: no folder {_CIFAR10} in it; to have CIFAR-10 there, {_FETCH}")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open an .npz or .h5 file as its arrays by name."""
    if path.suffix not in _SUFFIXES:
        missing = f" (and there is no such file or folder; to have CIFAR-10 there, {_FETCH})"
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


# --- checks and splits ------------------------------------------------------------------------


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


def _classes(labels: NDArray[np.int64], where: str) -> int:
    """Count the classes. Each must have an image, or the numbering is not what it seems."""
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(f"{where}: there are {len(present)} classes; expected at least 2")
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise DataError(
            f"{where}: no image of class {int(gaps[0])}, but one of class {int(present[-1])}; "
            "expected the labels 0 to K-1"
        )
    return len(present)


def _divided(whole: Split, where: str) -> tuple[Split, Split, int]:
    """Split images that come in one piece, the same way in every run."""
    classes = _classes(whole.labels, where)
    test, train = _drawn(whole, math.ceil(len(whole) / _TEST_PART))
    return train, test, classes


def _at_most(split: Split, count: int) -> Split:
    return _drawn(split, count)[0] if 0 < count < len(split) else split


def _drawn(split: Split, count: int, purpose: int = _FIXED, seed: int = 0) -> tuple[Split, Split]:
    """Draw ``count`` images, stratified; return them and the others."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(purpose,))
    chosen = stratified(split.labels, count, np.random.default_rng(sequence))
    every = np.arange(len(split), dtype=np.int64)
    return split.take(chosen), split.take(np.setdiff1d(every, chosen, assume_unique=True))

"""Data that have a name: scikit-learn's digits, and CIFAR-10 as torchvision keeps it."""

from __future__ import annotations

import socket
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ...config import ProblemSettings
from ...errors import DataError
from .splits import Split

_CIFAR10 = "cifar-10-batches-py"
SUFFIXES = (".npz", ".h5", ".hdf5")
FETCH = "run `llmatic prefetch CONFIG` where the network is"
FETCH_SECONDS = 15.0
"""Longest silence of the server that CIFAR-10 comes from, seconds."""


def fetch(problem: ProblemSettings) -> str:
    """Download CIFAR-10 with a bar on standard error if ``problem.data`` is a folder for it and
    it is not whole there; say where the data lie.

    Raises :class:`~llmatic_hpc.errors.DataError` where the download fails.
    """
    path = Path(problem.data).expanduser()
    if problem.data == "digits":
        return "in scikit-learn"
    if path.suffix in SUFFIXES or path.is_file():
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


def digits() -> Split:
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


def cifar10(path: Path) -> tuple[Split, Split]:
    root, cifar10 = cifar10_root(path), _torchvision(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # numpy's on the age of the files
            sets = [cifar10(root, train=train) for train in (True, False)]
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{path}: CIFAR-10 is damaged or incomplete ({error}); {FETCH}") from None
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


def cifar10_root(path: Path) -> Path:
    for root in (path, path.parent if path.name == _CIFAR10 else path):
        if (root / _CIFAR10).is_dir():
            return root
    raise DataError(f"{path}: no folder {_CIFAR10} in it; to have CIFAR-10 there, {FETCH}")

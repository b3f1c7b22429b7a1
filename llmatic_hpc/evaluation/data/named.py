"""Data that have a name: scikit-learn's digits, and torchvision's data sets on disk."""

from __future__ import annotations

import importlib.util
import socket
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ...config import ProblemSettings
from ...errors import DataError
from . import folders
from .shaping import Raw, shaped
from .splits import Dataset, Split

SUFFIXES = (".npz", ".h5", ".hdf5")
FETCH = "run `llmatic prefetch CONFIG` where the network is"
FETCH_SECONDS = 15.0
"""Longest silence of the server that data come from, seconds."""
TORCHVISION = "torchvision:"
LAYOUTS = (
    f"a folder with CIFAR-10 ({folders.CIFAR10} in it), a folder of images as CLASS/FILE, or as "
    "train/CLASS/FILE and perhaps test/CLASS/FILE and val/CLASS/FILE"
)
"""Folders that are accepted, for messages."""
CIFAR10_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_BY_TRAIN = ({"train": True}, {"train": False})
_BY_SPLIT = ({"split": "train"}, {"split": "test"})
_PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "USPS"), _BY_TRAIN),
    **dict.fromkeys(("SVHN", "STL10"), _BY_SPLIT),
}
"""Names of torchvision, and what its class calls the part for training and the one for testing."""


def fetch(problem: ProblemSettings) -> str:
    """Download what ``problem.data`` names of torchvision, or CIFAR-10 where it is a folder for it,
    with a bar on standard error unless it is whole there; say where the data lie.

    Raises :class:`~llmatic_hpc.errors.DataError` where the download fails, and for a folder that
    holds images: they are not mixed with CIFAR-10.
    """
    path = Path(problem.data).expanduser()
    if problem.data == "digits":
        return "in scikit-learn"
    if problem.data.startswith(TORCHVISION):
        name, root = _name_and_folder(problem.data)
    elif path.suffix in SUFFIXES or path.is_file() or folders.holds_images(path):
        return str(path)
    elif path.name == folders.CIFAR10:
        name, root = "CIFAR10", path.parent
    else:
        name, root = "CIFAR10", path
        if not (root / folders.CIFAR10).exists() and folders.has_pictures(root):
            raise DataError(
                f"{root}: holds images, so CIFAR-10 is not fetched into it; for CIFAR-10 name "
                f"another folder; else expected {LAYOUTS}"
            )
    wanted = _torchvision(name)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(FETCH_SECONDS)  # torchvision would wait forever
    try:
        with warnings.catch_warnings(action="ignore"):
            for choice in _PARTS[name]:
                wanted(root, download=True, **choice)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"{root}: {name} could not be fetched from {getattr(wanted, 'url', 'its mirrors')} "
            f"({error}); do it where the network is, or unpack "
            f"{getattr(wanted, 'filename', 'its files')} into that folder yourself"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return str(root)


def digits() -> Split:
    """Return scikit-learn's digits, of which only the file is read: importing takes far longer."""
    found = importlib.util.find_spec("sklearn")
    try:
        if found is None or found.origin is None:
            raise FileNotFoundError
        file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
        rows = np.loadtxt(file, delimiter=",")
    except OSError:
        raise DataError(
            'the digits come with scikit-learn: pip install "llmatic-hpc[quickstart]"'
        ) from None
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = images.repeat(4, axis=1).repeat(4, axis=2)[..., None].repeat(3, axis=3)
    return Split(images, rows[:, -1].astype(np.int64))


def cifar10(path: Path) -> tuple[Split, Split]:
    """Return CIFAR-10 for training and for testing."""
    train, test = _parts("CIFAR10", cifar10_root(path), str(path))
    return (
        Split(train.data, np.asarray(train.targets, np.int64)),
        Split(test.data, np.asarray(test.targets, np.int64)),
    )


def torchvision(data: str) -> Dataset:
    """Return a data set of torchvision by its name, ``torchvision:NAME:FOLDER``."""
    name, folder = _name_and_folder(data)
    parts = {
        part: Raw(
            np.asarray(found.data),
            np.asarray(found.labels if hasattr(found, "labels") else found.targets),
            f"{data}: {part} images",
            f"{data}: {part} labels",
        )
        for part, found in zip(("train", "test"), _parts(name, folder, data), strict=True)
    }
    return shaped(parts, data)


def class_names(data: str) -> tuple[str, ...]:
    """Return the names of the classes, where torchvision has them."""
    name, folder = _name_and_folder(data)
    if name == "CIFAR10":
        return CIFAR10_NAMES
    found = getattr(_parts(name, folder, data)[0], "classes", ())
    return tuple(map(str, found))


def _name_and_folder(data: str) -> tuple[str, Path]:
    name, _, folder = data.removeprefix(TORCHVISION).partition(":")
    if name not in _PARTS or not folder:
        raise DataError(
            f"problem.data = {data!r}: expected {TORCHVISION}NAME:FOLDER with NAME one of "
            f"{', '.join(_PARTS)}"
        )
    return name, Path(folder).expanduser()


def _parts(name: str, root: Path, where: str) -> list[Any]:
    """Return torchvision's parts for training and for testing."""
    wanted = _torchvision(name)
    try:
        with warnings.catch_warnings(action="ignore"):  # numpy's on the age of the files
            return [wanted(root, **choice) for choice in _PARTS[name]]
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        told = "CIFAR-10" if name == "CIFAR10" else name
        raise DataError(f"{where}: {told} is damaged or incomplete ({error}); {FETCH}") from None


def _torchvision(name: str) -> Any:
    """Return torchvision's class of a data set."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError(f"{name} needs torchvision: pip install torchvision ({error})") from None
    return getattr(datasets, name)


def cifar10_root(path: Path) -> Path:
    for root in (path, path.parent if path.name == folders.CIFAR10 else path):
        if (root / folders.CIFAR10).is_dir():
            return root
    raise DataError(
        f"{path}: no data found in it; expected {LAYOUTS}; to have CIFAR-10 in an empty folder, "
        f"{FETCH}"
    )

"""Folders of images by class, read by torchvision's ImageFolder and Pillow."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from . import cache
from .shaping import Raw, shaped
from .splits import Dataset

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
CIFAR10 = "cifar-10-batches-py"
_PARTS = {"train": "train", "test": "test", "validation": "val"}
_FOUND = (OSError, SyntaxError, ValueError)
"""Failures of Pillow on a damaged file."""


def holds_images(path: Path) -> bool:
    """Return whether a folder is one of images by class: CLASS/FILE or train/CLASS/FILE.

    One that holds CIFAR-10 is that.
    """
    if not path.is_dir() or (path / CIFAR10).is_dir():
        return False
    files = itertools.chain(path.glob("*/*"), path.glob("train/*/*"))
    return any(file.suffix.lower() in _IMAGES for file in files)


def has_pictures(path: Path) -> bool:
    """Return whether a folder holds image files, however they lie in it, four levels deep."""
    levels = ("*", "*/*", "*/*/*", "*/*/*/*")
    files = itertools.chain.from_iterable(path.glob(level) for level in levels)
    return any(file.suffix.lower() in _IMAGES for file in files)


def read(path: Path) -> Dataset:
    """Return all images of a folder as one size and one number of channels.

    They have one channel if all training images are gray, else red, green and blue; and the
    median height and width of the training images. One of another size is stretched to it
    (bilinear). They are read once and then kept in the cache.
    """
    own = {part: path / name for part, name in _PARTS.items() if (path / name).is_dir()}
    files = {
        part: _files(folder)
        for part, folder in (own if "train" in own else {"train": path}).items()
    }
    listed = [Path(file) for part in files.values() for file, _ in part]
    return cache.kept(listed, lambda: _converted(files, path))


def class_names(path: Path) -> tuple[str, ...]:
    """Return the names of the folders of a folder of images, in the order of their classes."""
    train = path / _PARTS["train"]
    folder = train if train.is_dir() else path
    return tuple(sorted(one.name for one in folder.iterdir() if one.is_dir()))


def _converted(files: Mapping[str, Sequence[tuple[str, str]]], path: Path) -> Dataset:
    found = [_header(file) for file, _ in files["train"]]
    width, height = (round(float(np.median([size[axis] for size, _ in found]))) for axis in (0, 1))
    mode = "L" if all(mode in ("1", "L") for _, mode in found) else "RGB"
    parts = {
        part: Raw(
            _stacked([file for file, _ in listed], mode, (width, height)),
            np.array([label for _, label in listed]),
            f"{path}: {part} images",
            f"{path}: {part} classes",
        )
        for part, listed in files.items()
    }
    return shaped(parts, str(path))


def _stacked(files: Sequence[str], mode: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read images into one array, which is all the memory that they take."""
    width, height = size
    images = np.empty((len(files), height, width, *((3,) if mode == "RGB" else ())), np.uint8)
    for image, file in zip(images, files, strict=True):
        image[...] = _pixels(file, mode, size)
    return images


def _files(folder: Path) -> Sequence[tuple[str, str]]:
    """Return image files with the names of their classes."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: {error} Expected a folder of images for each class, and nothing else"
        ) from None
    return [(file, found.classes[label]) for file, label in found.samples]


def _header(file: str) -> tuple[tuple[int, int], str]:
    """Return width and height of an image, and its mode."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.size, image.mode
    except _FOUND as error:
        raise DataError(f"{file}: no image that can be read: {error}") from None


def _pixels(file: str, mode: str, size: tuple[int, int]) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":
                raise DataError(
                    f"{file}: has pixels of more than 8 bits; expected 8 bits, or the images as "
                    "floating point in an .npz or .h5 file"
                )
            whole = image.convert(mode)
            return np.asarray(
                whole if whole.size == size else whole.resize(size, Image.Resampling.BILINEAR)
            )
    except _FOUND as error:
        raise DataError(f"{file}: no image that can be read: {error}") from None

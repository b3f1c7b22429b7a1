"""Data by the settings that name them, split as a run needs them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import ProblemSettings, TrainingSettings
from ...errors import DataError
from . import arrays, named
from .splits import VALIDATION, Dataset, Split, at_most, divided, drawn


def load(problem: ProblemSettings, training: TrainingSettings, *, seed: int) -> Dataset:
    """Load the data that the settings name. Raises :class:`~llmatic_hpc.errors.DataError`.

    With ``training.fitness_split = "validation"`` a stratified part of the training images,
    drawn with ``seed`` (that of the run), becomes the validation split. ``train_images`` and
    ``test_images`` choose stratified and always the same images.
    """
    return _wanted(_read(problem.data), problem, training, seed)


def checked(
    problem: ProblemSettings, training: TrainingSettings, *, seed: int
) -> tuple[Dataset, str]:
    """Load as :func:`load` does; return a SHA-256 of all that the settings name, too.

    It is one of content, before the settings choose among it: the same for the same images and
    labels in another file, and for every seed.
    """
    whole = _read(problem.data)
    return _wanted(whole, problem, training, seed), _sha256(*whole)


def _wanted(
    whole: tuple[Split, Split, int], problem: ProblemSettings, training: TrainingSettings, seed: int
) -> Dataset:
    train, test, classes = whole
    train = at_most(train, problem.train_images)
    test = at_most(test, problem.test_images)
    validation = train.take(np.empty(0, np.int64))
    if training.fitness_split == "validation":
        count = round(training.validation_fraction * len(train))
        if not 0 < count < len(train):
            raise DataError(
                f"{problem.data}: {len(train)} training images are too few for "
                f"training.validation_fraction = {training.validation_fraction:g}"
            )
        validation, train = drawn(train, count, VALIDATION, seed)
    return Dataset(train, validation, test, classes)


def describe(problem: ProblemSettings) -> tuple[tuple[int, int, int], int]:
    """Return the shape of an image (channels, height, width) and the number of classes.

    Images are not read. Raises :class:`~llmatic_hpc.errors.DataError` where the data are missing
    or unreadable.
    """
    path = Path(problem.data).expanduser()
    if problem.data == "digits" or (path.is_dir() and named.cifar10_root(path)):
        return (3, 32, 32), 10
    return arrays.describe(path)


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


def _sha256(*splits_and_classes: Split | int) -> str:
    digest = hashlib.sha256()
    for one in splits_and_classes:
        if isinstance(one, Split):
            digest.update(repr(one.images.shape).encode())
            digest.update(np.ascontiguousarray(one.images).data)
            digest.update(np.ascontiguousarray(one.labels, dtype="<i8").data)
        else:
            digest.update(str(one).encode())
    return digest.hexdigest()


def _read(data: str) -> tuple[Split, Split, int]:
    if data == "digits":
        return divided(named.digits(), data)
    path = Path(data).expanduser()
    if path.is_dir():
        return (*named.cifar10(path), 10)
    return arrays.read(path)

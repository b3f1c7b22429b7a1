"""Data by the settings that name them, split as a run needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import ProblemSettings, TrainingSettings
from ...errors import DataError
from . import arrays, folders, named
from .splits import VALIDATION, Dataset, Split, at_most, divided, drawn, sha256, whole


def load(problem: ProblemSettings, training: TrainingSettings, *, seed: int) -> Dataset:
    """Load the data that the settings name. Raises :class:`~llmatic_hpc.errors.DataError`.

    With ``training.fitness_split = "validation"`` data's own validation split is taken where there
    is one; else a stratified part of the training images,
    drawn with ``seed`` (that of the run), becomes the validation split. ``train_images`` and
    ``test_images`` choose stratified and always the same images.
    """
    return _wanted(_read(problem.data), problem, training, seed)


def checked(
    problem: ProblemSettings, training: TrainingSettings, *, seed: int
) -> tuple[Dataset, str, bool]:
    """Load as :func:`load` does; return a SHA-256 of all that the settings name, too.

    It is one of content, before the settings choose among it: the same for the same images and
    labels in another file, and for every seed. Last: true where the validation split is the
    data's own.
    """
    found = _read(problem.data)
    wanted = _wanted(found, problem, training, seed)
    return wanted, sha256(found), len(found.validation) > 0 and len(wanted.validation) > 0


def _wanted(
    found: Dataset, problem: ProblemSettings, training: TrainingSettings, seed: int
) -> Dataset:
    train = at_most(found.train, problem.train_images)
    test = at_most(found.test, problem.test_images)
    if training.fitness_split == "test":
        return whole(train, test, found.classes)
    if len(validation := found.validation) == 0:
        count = round(training.validation_fraction * len(train))
        if not 0 < count < len(train):
            raise DataError(
                f"{problem.data}: {len(train)} training images are too few for "
                f"training.validation_fraction = {training.validation_fraction:g}"
            )
        validation, train = drawn(train, count, VALIDATION, seed)
    return whole(train, test, found.classes, validation)


def describe(problem: ProblemSettings) -> tuple[tuple[int, int, int], int]:
    """Return the shape of an image (channels, height, width) and the number of classes.

    Images of arrays are not read. Raises :class:`~llmatic_hpc.errors.DataError` where the data are
    missing or unreadable.
    """
    path = Path(problem.data).expanduser()
    if problem.data.startswith(named.TORCHVISION) or folders.holds_images(path):
        found = _read(problem.data)
        return found.input_shape, found.classes
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


def _read(data: str) -> Dataset:
    path = Path(data).expanduser()
    if data == "digits":
        return whole(*divided(named.digits(), data))
    if data.startswith(named.TORCHVISION):
        return named.torchvision(data)
    if folders.holds_images(path):
        return folders.read(path)
    if path.is_dir():
        return whole(*named.cifar10(path), 10)
    return arrays.read(path)

"""Data by the settings that name them, split as a run needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...config import ProblemSettings, TrainingSettings
from ...errors import ConfigError, DataError
from . import arrays, cache, folders, named, scaling
from .scaling import standardised
from .splits import VALIDATION, Dataset, Split, at_most, divided, drawn, sha256, whole

SHIFT = 4
"""Pixels by which augmentation moves an image at most (He et al., 2016, section 4.2)."""


def load(problem: ProblemSettings, training: TrainingSettings, *, seed: int) -> Dataset:
    """Load the data that the settings name. Raises :class:`~llmatic_hpc.errors.DataError`, and
    :class:`~llmatic_hpc.errors.ConfigError` for settings that do not fit the data.

    With ``training.fitness_split = "validation"`` data's own validation split is taken where there
    is one; else a stratified part of the training images, drawn with ``seed`` (that of the run),
    becomes the validation split. ``train_images`` and ``test_images`` choose stratified and always
    the same images. Sequences and tables are standardised by what is left for training.
    """
    return _wanted(_read(problem), problem, training, seed)


def checked(
    problem: ProblemSettings, training: TrainingSettings, *, seed: int, known: str = ""
) -> tuple[Dataset, str, bool]:
    """Load as :func:`load` does; return a SHA-256 of all that the settings name, too.

    It is one of content, before the settings choose among it: the same for the same images and
    labels in another file, and for every seed. Data ``known`` by it are taken from the cache where
    they are there: a compute node then walks no folder of images. Last: true where the validation
    split is the data's own.
    """
    found = cache.of_digest(known) if known else None
    digest = known
    if found is None:
        found = _read(problem)
        digest = sha256(found)
    wanted = _wanted(found, problem, training, seed)
    return wanted, digest, len(found.validation) > 0 and len(wanted.validation) > 0


def scale(
    problem: ProblemSettings, training: TrainingSettings, *, seed: int
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return by what sequences and tables are standardised, see :func:`.scaling.scale`.

    None: images are not. Raises as :func:`load`.
    """
    if len(describe(problem)[0]) == 3:
        return None
    return scaling.scale(_chosen(_read(problem), problem, training, seed).train)


def class_names(problem: ProblemSettings) -> tuple[str, ...]:
    """Return the classes by name, in their order; empty where the data have no names for them."""
    path = Path(problem.data).expanduser()
    if problem.data == "digits":
        return tuple("0123456789")
    if problem.data.startswith(named.TORCHVISION):
        return named.class_names(problem.data)
    if folders.holds_images(path):
        return folders.class_names(path)
    return named.CIFAR10_NAMES if path.is_dir() else arrays.class_names(path)


def refuse_augmentation(augmentation: Sequence[str], input_shape: tuple[int, ...]) -> None:
    """Raise ``ConfigError`` where data of ``input_shape`` are no images to flip and shift.

    Images are (channels, height, width), higher and wider than the largest shift.
    """
    if augmentation and (len(input_shape) != 3 or min(input_shape[1:]) <= SHIFT):
        raise ConfigError(
            f"training.augmentation = {list(augmentation)} is for images of more than {SHIFT} by "
            f"{SHIFT} pixels, and the data have shape {input_shape}: say training.augmentation = "
            "[]"
        )


def _wanted(
    found: Dataset, problem: ProblemSettings, training: TrainingSettings, seed: int
) -> Dataset:
    refuse_augmentation(training.augmentation, found.input_shape)
    return standardised(_chosen(found, problem, training, seed), problem.data)


def _chosen(
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
                f"{problem.data}: {len(train)} examples for training are too few for "
                f"training.validation_fraction = {training.validation_fraction:g}"
            )
        validation, train = drawn(train, count, VALIDATION, seed)
    return whole(train, test, found.classes, validation)


def describe(problem: ProblemSettings) -> tuple[tuple[int, ...], int]:
    """Return :attr:`.Dataset.input_shape` and the number of classes.

    Of files of arrays only labels are read. Raises :class:`~llmatic_hpc.errors.DataError` where the
    data are missing or unreadable.
    """
    path = Path(problem.data).expanduser()
    if not _is_file(problem.data):
        _refuse_layout(problem)
    if problem.data.startswith(named.TORCHVISION) or folders.holds_images(path):
        found = _read(problem)
        return found.input_shape, found.classes
    if problem.data == "digits" or (path.is_dir() and named.cifar10_root(path)):
        return (3, 32, 32), 10
    return arrays.describe(path, problem.layout)


def remark(problem: ProblemSettings) -> str:
    """Say what should be looked at in how the data are read; empty where nothing is."""
    if problem.layout != "auto" or not _is_file(problem.data):
        return ""
    return arrays.remark(Path(problem.data).expanduser())


def for_training(dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Return what a child may see: images (N, C, H, W), sequences (N, C, L) or tables (N, F), and
    labels of those for training only."""

    def planes(split: Split) -> NDArray[Any]:
        return split.images.transpose(0, 3, 1, 2) if split.images.ndim == 4 else split.images

    return {
        "train_images": planes(dataset.train),
        "train_labels": dataset.train.labels,
        "validation_images": planes(dataset.validation),
        "test_images": planes(dataset.test),
    }


def _read(problem: ProblemSettings) -> Dataset:
    data, path = problem.data, Path(problem.data).expanduser()
    if not _is_file(data):
        _refuse_layout(problem)
    if data == "digits":
        return whole(*divided(named.digits(), data))
    if data.startswith(named.TORCHVISION):
        return named.torchvision(data)
    if folders.holds_images(path):
        return folders.read(path)
    if path.is_dir():
        return whole(*named.cifar10(path), 10)
    return arrays.read(path, problem.layout)


def _is_file(data: str) -> bool:
    """Return whether data are, or would be, a file of arrays."""
    named_here = data == "digits" or data.startswith(named.TORCHVISION)
    return not named_here and not Path(data).expanduser().is_dir()


def _refuse_layout(problem: ProblemSettings) -> None:
    if problem.layout in ("sequences", "tables"):
        raise DataError(
            f"problem.layout = {problem.layout!r}, but problem.data = {problem.data!r} are images; "
            "leave the layout at 'auto', or name an .npz or .h5 file"
        )

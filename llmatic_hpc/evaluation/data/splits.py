"""Images, sequences or tables with their labels, and the choices among them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError

_TEST_PART = 5
_CHUNK = 1 << 22
"""Numbers that are looked at at a time."""
_FIXED, VALIDATION = 0, 1
"""Purposes of the random choices here. The first never depends on the seed of a run, so that
every run of a configuration is tested on the same images."""


@dataclass(frozen=True)
class Split:
    """Images, (N, height, width, channels) uint8, and their labels, (N,) int64.

    In their place sequences, (N, channels, length), or tables, (N, features): numbers of any type
    as they were found, float32 where candidates are trained on them.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image; channels and length; or features."""
        shape = self.images.shape[1:]
        return (shape[2], *shape[:2]) if len(shape) == 3 else shape

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
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example: see :attr:`Split.shape`."""
        return self.train.shape


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


def count_classes(labels: NDArray[np.int64], where: str, first: int = 0) -> int:
    """Count the classes. Each must have an example, or the numbering is not what it seems.

    ``first``: the user's own number of class 0, for messages.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(f"{where}: there are {len(present)} classes; expected at least 2")
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise DataError(
            f"{where}: no example of class {int(gaps[0]) + first}, but one of class "
            f"{int(present[-1]) + first}; expected the labels {'1 to K' if first else '0 to K-1'}"
        )
    return len(present)


def divided(whole: Split, where: str) -> tuple[Split, Split, int]:
    """Split images that come in one piece, the same way in every run."""
    classes = count_classes(whole.labels, where)
    test, train = drawn(whole, math.ceil(len(whole) / _TEST_PART))
    return train, test, classes


def at_most(split: Split, count: int) -> Split:
    return drawn(split, count)[0] if 0 < count < len(split) else split


def drawn(split: Split, count: int, purpose: int = _FIXED, seed: int = 0) -> tuple[Split, Split]:
    """Draw ``count`` images, stratified; return them and the others."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(purpose,))
    chosen = stratified(split.labels, count, np.random.default_rng(sequence))
    every = np.arange(len(split), dtype=np.int64)
    return split.take(chosen), split.take(np.setdiff1d(every, chosen, assume_unique=True))


def whole(train: Split, test: Split, classes: int, validation: Split | None = None) -> Dataset:
    """Put together all that there is, before settings choose among it."""
    return Dataset(train, validation or train.take(np.empty(0, np.int64)), test, classes)


def sha256(data: Dataset) -> str:
    """Return a digest of all images and labels, whatever files they came from."""
    digest = hashlib.sha256(str(data.classes).encode())
    for one in (data.train, data.validation, data.test):
        digest.update(repr(one.images.shape).encode())
        for part in chunks(one.images):
            # Numbers are the same whatever type they were stored in.
            same = part if part.ndim == 4 else part.astype("<f8")
            digest.update(np.ascontiguousarray(same).data)
        digest.update(np.ascontiguousarray(one.labels, dtype="<i8").data)
    return digest.hexdigest()


def chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield views of an array, some rows each."""
    rows = max(1, _CHUNK // max(1, math.prod(array.shape[1:])))
    return (array[start : start + rows] for start in range(0, len(array), rows))

"""Numbers of sequences and tables: checked, and scaled as networks want them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from .splits import Dataset, Split, chunks

Numbers = NDArray[Any]
_EXPECTED = "expected numbers: fill such places in, or leave their rows out"
_AXES = {2: ("row", "column"), 3: ("sequence", "channel", "step")}


def finite(numbers: Numbers, where: str, why: str = _EXPECTED) -> Numbers:
    """Return the numbers, (N, F) or (N, C, L).

    Raises :class:`~llmatic_hpc.errors.DataError` with the place of the first that is none.
    """
    start = 0
    for chunk in chunks(numbers):
        if not (fine := np.isfinite(chunk)).all():
            first, *rest = np.argwhere(~fine)[0].tolist()
            place = (start + first, *rest)
            said = ", ".join(f"{a} {i}" for a, i in zip(_AXES[numbers.ndim], place, strict=True))
            raise DataError(f"{where} has {numbers[place]} in {said}, counted from 0; {why}")
        start += len(chunk)
    return numbers


def scale(train: Split) -> tuple[Numbers, Numbers]:
    """Return mean and deviation, (C,) or (F,) float64, by which :func:`standardised` scales.

    The deviation of what is constant in the training part is infinite.
    """
    centre, unit, mean, deviation = _scale(train.images)
    return (centre + unit * mean).ravel(), (unit * deviation).ravel()


def standardised(data: Dataset, where: str) -> Dataset:
    """Return sequences with mean 0 and deviation 1 of each channel, tables of each feature.

    The numbers become float32. Mean and (population) deviation are those of the training part;
    what is constant there becomes 0 in every part. Images stay as they are. Raises
    :class:`~llmatic_hpc.errors.DataError` for what is too large for that.
    """
    train = data.train.images
    if train.ndim == 4:
        return data
    centre, unit, mean, deviation = _scale(train)

    def scaled(part: Split, name: str) -> Split:
        numbers = np.empty(part.images.shape, np.float32)
        with np.errstate(over="ignore"):
            for into, chunk in zip(chunks(numbers), chunks(part.images), strict=True):
                into[...] = ((chunk.astype(np.float64) - centre) / unit - mean) / deviation
        why = "standardised by the training data it is too large; expected numbers like those"
        return Split(finite(numbers, f"{where}: {name}", why), part.labels)

    return replace(
        data,
        train=scaled(data.train, "training part"),
        validation=scaled(data.validation, "validation part"),
        test=scaled(data.test, "test part"),
    )


def _scale(train: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return centre and unit that bring numbers to -1 to 1, and mean and deviation of those."""
    axes = (0, 2) if train.ndim == 3 else (0,)

    def each(statistic: Callable[[Numbers], Numbers]) -> Iterator[Numbers]:
        return (statistic(chunk.astype(np.float64)) for chunk in chunks(train))

    low = reduce(np.minimum, each(lambda chunk: chunk.min(axes, keepdims=True)))
    high = reduce(np.maximum, each(lambda chunk: chunk.max(axes, keepdims=True)))
    # First to -1 to 1, where nothing overflows, and dates in seconds keep their digits.
    centre, varies = low / 2 + high / 2, high > low
    unit = np.where(varies, high / 2 - low / 2, 1.0)

    def mean_of(statistic: Callable[[Numbers], Numbers]) -> Numbers:
        sums = each(lambda c: statistic((c - centre) / unit).sum(axes, keepdims=True))
        return reduce(np.add, sums) / (train.size / low.size)

    mean = mean_of(lambda chunk: chunk)
    deviation = np.where(varies, np.sqrt(mean_of(lambda chunk: (chunk - mean) ** 2)), np.inf)
    return centre, unit, mean, deviation

"""Data and labels of any accepted shape and type, checked and made into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from .scaling import finite
from .splits import Dataset, Split, count_classes, divided, whole

_RANGES = ((0, 1), (-1, 1), (0, 255))
"""Ranges of floating point. The first that holds all training images is meant."""
_SEQUENCES = '; sequences, (N, channels, length), want problem.layout = "sequences"'


@dataclass(frozen=True)
class Raw:
    """Images (or sequences, or tables) and labels as they were found, and their names."""

    images: NDArray[Any]
    labels: NDArray[Any]
    where: str
    of_labels: str


def shaped(parts: Mapping[str, Raw], origin: str, layout: str = "images") -> Dataset:
    """Make data of the parts ``train``, ``test`` and ``validation``.

    ``layout`` is that of ``problem.layout``. The last part may be missing; without a test part a
    fixed stratified fifth becomes it. Raises :class:`~llmatic_hpc.errors.DataError`, which says
    what was found and what is expected.
    """
    train = parts["train"]
    noun = layout = meant(train.images.ndim, layout)
    span = None
    if layout == "images" and np.issubdtype(train.images.dtype, np.floating):
        span = _span(train.images)
    elif layout == "tables":
        noun = "rows"
    classes = numbered({name: (part.labels, part.of_labels) for name, part in parts.items()})
    splits = {}
    for name, part in parts.items():
        is_image = layout == "images"
        images = _bytes(part.images, part.where, span) if is_image else _numbers(part, layout)
        split = Split(images, classes[name])
        if len(split.images) != len(split):
            raise DataError(
                f"{part.where} has {len(split.images)} {noun} but {len(split)} labels; expected "
                "one label for each"
            )
        splits[name] = split
    count = count_classes(splits["train"].labels, train.of_labels)
    shape = splits["train"].images.shape[1:]
    for name, split in splits.items():
        if not len(split) or split.images.shape[1:] != shape:
            raise DataError(
                f"{origin}: training {noun} of shape {shape} and {len(split)} {name} {noun} of "
                f"shape {split.images.shape[1:]}; there must be some, and of one shape"
            )
    if "test" not in splits:
        splits["train"], splits["test"], _ = divided(splits["train"], origin)
    return whole(splits["train"], splits["test"], count, splits.get("validation"))


def meant(axes: int, layout: str) -> str:
    """Return the layout of arrays with so many axes: ``auto`` is images, of two axes tables."""
    return ("tables" if axes == 2 else "images") if layout == "auto" else layout


def arranged(array: NDArray[Any], where: str, layout: str) -> NDArray[Any]:
    """View an array as images, (N, height, width, channels), sequences, (N, channels, length), or
    tables, (N, features). Raises :class:`~llmatic_hpc.errors.DataError` where it is none."""
    layout = meant(array.ndim, layout)
    if layout == "images":
        return channels_last(array, where)
    if layout == "sequences" and array.ndim == 2:
        array = array[:, None]
    expected = {"sequences": "(N, channels, length) or (N, length)", "tables": "(N, features)"}
    if array.ndim != (3 if layout == "sequences" else 2) or 0 in array.shape[1:]:
        raise DataError(
            f"{where} has shape {array.shape}; expected {layout}, {expected[layout]}, as "
            f'problem.layout = "{layout}" says'
        )
    return array


def channels_last(images: NDArray[Any], where: str) -> NDArray[Any]:
    """View images of any accepted layout as (N, height, width, channels).

    Four axes: the last is channels if it has 1 to 4 elements; else the second if it has. With
    more channels, height and width are the two neighbours of equal length; where that does not
    tell, channels are the shorter one of second and last axis.
    """
    shape = images.shape
    if images.ndim == 3 and min(shape[1:]) > 0:
        return images[..., None]
    if images.ndim == 4 and min(shape[1:]) > 0:
        if shape[3] <= 4:
            return images
        if shape[1] <= 4 or (shape[2] == shape[3] != shape[1]):
            return images.transpose(0, 2, 3, 1)
        if shape[1] == shape[2] != shape[3] or shape[3] < shape[1]:
            return images
        if shape[1] < shape[3]:
            return images.transpose(0, 2, 3, 1)
    raise DataError(
        f"{where} has shape {shape}; expected images, (N, height, width), (N, height, width, "
        "channels) or (N, channels, height, width), in which channels can be told from height and "
        'width; or tables, (N, features); or, with problem.layout = "sequences", sequences, (N, '
        "channels, length)"
    )


def numbered(
    parts: Mapping[str, tuple[NDArray[Any], str]],
) -> dict[str, NDArray[np.int64]]:
    """Number the classes of labels, each with its name for messages, from 0 on.

    ``train`` says which classes there are: integers from 0, or from 1; texts, in alphabetical
    order; or the column of the one in one-hot rows.
    """
    flat = {name: _flat(labels, where) for name, (labels, where) in parts.items()}
    known = np.unique(flat["train"])
    if known.dtype.kind == "U":
        for name, labels in flat.items():
            if strange := sorted(set(labels.tolist()) - set(known.tolist())):
                raise DataError(
                    f"{parts[name][1]} has label {strange[0]!r}, which no training example has"
                )
        return {name: np.searchsorted(known, labels) for name, labels in flat.items()}
    first = 1 if known.size and known[0] == 1 else 0
    count_classes(flat["train"] - first, parts["train"][1], first)
    for name, labels in flat.items():
        if labels.dtype.kind == "U":
            raise DataError(f"{parts[name][1]} holds text, the training labels are numbers")
        wrong = labels[(labels < first) | (labels > known.max(initial=0))]
        if wrong.size:
            raise DataError(
                f"{parts[name][1]} has label {wrong[0]}, but the training labels are {first} to "
                f"{known.max(initial=0)}"
            )
    return {name: labels - first for name, labels in flat.items()}


def _flat(labels: NDArray[Any], where: str) -> NDArray[Any]:
    """Return one label per example: int64, or text."""
    shape, dtype = labels.shape, labels.dtype
    if labels.ndim == 2 and shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and dtype.kind in "biuf":
        if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(axis=1) == 1).all():
            raise DataError(
                f"{where} has shape {shape}, but not a single 1 in every row; expected one class "
                "per example: integers from 0 or 1 on, text, or one-hot rows"
            )
        labels = labels.argmax(axis=1)
    if labels.dtype.kind == "O" and all(isinstance(one, str | bytes) for one in labels.flat):
        labels = labels.astype(bytes if isinstance(next(labels.flat, ""), bytes) else str)
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where} has label {error.object!r}, which is no text in UTF-8; expected text in "
                "UTF-8, integers from 0 or 1 on, or one-hot rows"
            ) from None
    if labels.dtype.kind == "f":
        raise DataError(
            f"{where} holds {dtype}, as for regression; only classes can be learned: expected "
            "integers from 0 or 1 on, text, or one-hot rows"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "biuU":
        raise DataError(
            f"{where} holds {dtype} of shape {shape}; expected one class per example: integers "
            "from 0 or 1 on, text, or one-hot rows"
        )
    if labels.dtype.kind == "U":
        return labels
    if labels.size and (labels.min() < 0 or labels.max() >= 1 << 31):
        raise DataError(f"{where} ranges from {labels.min()} to {labels.max()}; expected 0 to K-1")
    return labels.astype(np.int64)


def _span(images: NDArray[Any]) -> tuple[int, int] | None:
    """Return the range that floating point is meant to fill; None where it fits in none.

    What would be only the darker half of 0 to 255 is likely of a range of its own, such as 0 to
    16, and does not fit.
    """
    low, high = (images.min(), images.max()) if images.size else (0, 0)
    span = next((one for one in _RANGES if one[0] <= low and high <= one[1]), None)
    return None if span == (0, 255) and high < 128 else span


def _bytes(images: NDArray[Any], where: str, span: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Make uint8 of numbers; floating point by the range of the training images, if it is one."""
    ndim, images = images.ndim, channels_last(images, where)
    kind = images.dtype.kind
    if kind == "b":
        images = images.astype(np.uint8) * np.uint8(255)
    elif images.dtype != np.uint8:
        low, high = (images.min(), images.max()) if images.size and kind in "iuf" else (0, 0)
        bottom, top = (span or _span(images) or (1, 0)) if kind == "f" else (0, 255)
        if kind not in "iuf" or not (bottom <= low and high <= top):
            here = f" ({bottom} to {top} here)" if bottom < top else ""
            raise DataError(
                f"{where} holds {images.dtype} from {low} to {high}; expected uint8, other "
                "integers from 0 to 255, or floating point from 0 to 1, -1 to 1 or 0 to 255 (with "
                f"128 or more), as the training images{here}{_SEQUENCES * (ndim == 3)}"
            )
        if kind == "f" and bottom < 0:
            images = np.rint((images.astype(np.result_type(images, np.float32)) + 1.0) * 127.5)
        elif kind == "f":
            images = np.rint(images * 255.0 if top == 1 else images)
        images = images.astype(np.uint8)
    return np.ascontiguousarray(images)


def _numbers(part: Raw, layout: str) -> NDArray[Any]:
    """Return sequences or tables of finite numbers, of whatever type."""
    numbers = arranged(part.images, part.where, layout)
    if numbers.dtype.kind not in "biuf":
        raise DataError(
            f"{part.where} holds {numbers.dtype}; expected numbers (text can become one "
            "column of 0 and 1 for each of its values)"
        )
    return finite(np.ascontiguousarray(numbers), part.where)

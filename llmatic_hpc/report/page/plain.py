"""Plain values for JSON: numbers with the digits that a page shows, None for what is not known."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

DIGITS = 6
"""Significant digits of a number on the page."""


def number(value: float) -> float | None:
    """Return a number with few digits; None in place of NaN and infinity."""
    value = float(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def numbers(values: NDArray[Any]) -> list[Any]:
    """Return a column (N,) of numbers or short texts as a list for JSON."""
    if values.dtype.kind == "S":
        return [value.decode() for value in values.tolist()]
    if values.dtype.kind == "f":
        return [number(value) for value in values.tolist()]
    return list(values.tolist())


def plain(value: Any) -> Any:
    """Return any value for JSON: of numbers with a point :func:`number`, the rest as it is."""
    return number(value) if isinstance(value, float) else value

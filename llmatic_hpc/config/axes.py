"""Axes of the network archive: a problem's descriptors as the settings want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import ConfigError
from ..types import Descriptor
from .settings import NetworkArchiveSettings


def network_axes(
    settings: NetworkArchiveSettings, descriptors: Sequence[Descriptor], origin: str = ""
) -> tuple[Descriptor, ...]:
    """Return the problem's descriptors with the bounds and scales that the settings ask for.

    Raises ``ConfigError``, which names ``origin``, for bounds that do not fit the axes.
    """
    where, names = f"{origin}: " if origin else "", ", ".join(one.name for one in descriptors)
    found = list(descriptors)
    for bound in ("lower", "upper"):
        values = getattr(settings, bound)
        if values and len(values) != len(found):
            raise ConfigError(
                f"{where}archive.network.{bound} must have {len(found)} numbers, for {names}; "
                "or none, for the problem's own"
            )
        if values:
            found = [replace(o, **{bound: v}) for o, v in zip(found, values, strict=True)]
    if settings.log_flops:
        found = [replace(one, scale="log") if one.name == "flops" else one for one in found]
    for one in found:
        if not one.lower < one.upper:
            raise ConfigError(
                f"{where}archive.network.upper must exceed archive.network.lower; for {one.name} "
                f"they are {one.upper:g} and {one.lower:g}"
            )
        if one.scale == "log" and one.lower <= 0:
            raise ConfigError(
                f"{where}archive.network.log_flops needs a lower bound of {one.name} above 0 "
                "(archive.network.lower)"
            )
    return tuple(found)

"""Automatic bounds of the network archive, which become numbers when a run starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..config import AUTO, Config, changed_settings, settled
from ..errors import ConfigError
from ..problems.evaluator import Evaluator
from ..store import rows
from ..types import PENDING


def of_initial(config: Config, evaluator: Evaluator) -> Config:
    """Return the settings of a new run, its automatic bounds by measures of the initial network.

    Raises :class:`ConfigError` where that does not fit.
    """
    if not config.archive.network.is_automatic:
        return config
    verdict = evaluator.examine([evaluator.problem.initial_source], repair=False)[0].screened
    if verdict.status != PENDING:
        raise ConfigError(
            "archive.network.lower and upper = 'auto' need an initial network that fits, and it is "
            f"{verdict.status}: {verdict.failure}. Mend it (problem.initial), or give numbers"
        )
    return settled(config, rows.measured(verdict))


def of_run(before: Config, config: Config) -> Config:
    """Return ``config``, its automatic bounds those of the run that it continues."""
    network = config.archive.network
    numbers: dict[str, Any] = {}
    for key in ("lower", "upper"):
        known = getattr(before.archive.network, key)
        places = network.automatic(key, len(known))
        if not known and getattr(network, key) == AUTO:
            numbers[key] = known
        if any(places) and len(places) == len(known):
            numbers[key] = tuple(
                number if is_automatic else getattr(network, key)[axis]
                for axis, (is_automatic, number) in enumerate(zip(places, known, strict=True))
            )
    return replace(config, archive=replace(config.archive, network=replace(network, **numbers)))


def changed(before: Config, config: Config) -> list[str]:
    """List the settings in which a run and its continuation differ and must not."""
    try:
        return changed_settings(settled(before), settled(config))
    except ConfigError:  # bounds of the run under other axes
        return changed_settings(before, config)

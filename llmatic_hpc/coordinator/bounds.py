"""Automatic bounds of the network archive, which become numbers when a run starts."""

from __future__ import annotations

from dataclasses import replace

from ..config import AUTO, Config, changed_settings, settled
from ..errors import ConfigError
from ..problems.evaluator import Evaluator
from ..store import rows
from ..types import PENDING


def of_initial(config: Config, evaluator: Evaluator) -> Config:
    """Return the settings of a new run, its automatic bounds by measures of the initial network.

    Raises :class:`ConfigError` where that does not fit.
    """
    if AUTO not in (config.archive.network.lower, config.archive.network.upper):
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
    numbers = {
        key: getattr(before.archive.network, key)
        for key in ("lower", "upper")
        if getattr(network, key) == AUTO
    }
    return replace(config, archive=replace(config.archive, network=replace(network, **numbers)))


def changed(before: Config, config: Config) -> list[str]:
    """List the settings in which a run and its continuation differ and must not."""
    try:
        return changed_settings(settled(before), settled(config))
    except ConfigError:  # bounds of the run under other axes
        return changed_settings(before, config)

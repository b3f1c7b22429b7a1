"""Values of settings that earlier versions offered and this one does not.

A record, or a run's own config.toml, that holds one is read as before: the run is verified,
reported and continued. Messages and documentation no longer offer it, and a new run that asks
for it is refused. What a retired key means today belongs here, too, once a key goes altogether.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError

VALUES = {
    "search.parents": {
        "curious": "parents by curiosity were hardly better than uniform ones; choose "
        "'tournament' or 'uniform'",
    },
}
"""Reasons by the setting's full name and the value."""


def refuse_retired(config: Any) -> None:
    """Raise ``ConfigError`` where settings of a new run have a retired value."""
    for name, values in VALUES.items():
        value = config
        for part in name.split("."):
            value = getattr(value, part)
        if value in values:
            raise ConfigError(
                f"{name} = {value!r} is retired and only continues runs that began with it: "
                f"{values[value]}"
            )

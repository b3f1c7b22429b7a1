"""All candidates, and which configuration claims which."""

from __future__ import annotations

from . import (
    candidates_crash,
    candidates_escape,
    candidates_forge,
    candidates_generated,
    candidates_resource,
    candidates_system,
)
from .table import Hostile

CANDIDATES: list[Hostile] = [
    *candidates_escape.CANDIDATES,
    *candidates_system.CANDIDATES,
    *candidates_generated.CANDIDATES,
    *candidates_resource.CANDIDATES,
    *candidates_forge.CANDIDATES,
    *candidates_crash.CANDIDATES,
]


def claimed(hostile: Hostile, configuration: str) -> bool:
    """Return whether the layers of a configuration claim to stop a candidate."""
    if configuration == "whole":
        return True
    return configuration in hostile.claims

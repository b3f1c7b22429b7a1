"""Facts about servers of language models: their URL and key, and how they describe themselves."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..errors import GeneratorError

LIST_LENGTH = 10
LONGEST_FACT = 300
LONGEST_PAUSE_SECONDS = 60.0


def refuse_other_model(known: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    """Raise :class:`GeneratorError` where a server has other weights than before, as it says."""
    was, now = known.get("digest"), found.get("digest")
    if was and now and was != now:
        raise GeneratorError(
            f"{where}: the server has another model by that name: {now} in place of {was}. Serve "
            "the one that the run began with, or begin another run"
        )


def facts(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is worth a record of what a server says of a model: short and lasting."""
    return {
        str(name): value
        for name, value in model.items()
        if name not in ("object", "created")
        and isinstance(value, str | int | float | bool)
        and len(f"{name}{value}") < LONGEST_FACT
    }


def pause(error: Exception, failed: int) -> float:
    """Return how long to wait after so many failures: as the server says, or ever longer."""
    response = getattr(error, "response", None)
    try:
        said = float(response.headers["retry-after"]) if response is not None else 0.0
    except (KeyError, ValueError):
        said = 0.0
    wait = said if 0 < said <= LONGEST_PAUSE_SECONDS else min(0.5 * 2**failed, 8.0)
    return wait * random.uniform(1.0, 1.25)


def base(url: str) -> str:
    """Complete a URL without a path, ``http://host:8000``, to ``http://host:8000/v1``."""
    return url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")


def key(variable: str) -> str:
    """Read the key from an environment variable; empty where none is named."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise GeneratorError(
            f"generator.key_variable = {variable!r}: no such environment variable, or an empty "
            f"one; set it to the server's key (export {variable}=...)"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise GeneratorError(
            f"the environment variable {variable} holds no key: keys are printable, without spaces"
        )
    return key


def listed(names: Sequence[str]) -> str:
    """List the first of what a server offers, in words."""
    shown = ", ".join(names[:LIST_LENGTH]) or "nothing"
    more = len(names) - LIST_LENGTH
    return f"{shown} and {more:,} more" if more > 0 else shown

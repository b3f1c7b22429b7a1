"""Fetch what a run needs from the network, so that it runs offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import problems
from ..config import Config


def prefetch(
    config: Config,
    tell: Callable[[str], None],
    *,
    official: Path | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Fetch data and model unless they are here, check both, and ``tell`` in a line where each is.

    What is here is left alone and what broke off is taken up, so that it may be repeated. A model
    behind a server is asked for a token. ``official`` and ``progress``: see
    :meth:`.ProblemKind.fetch`.

    Raises :class:`~llmatic_hpc.errors.LLMaticError` where something cannot be had or is damaged.
    """
    problems.kind_of(config).fetch(config, tell, official=official, progress=progress)
    tell(f"model: {model_of(config)}")


def model_of(config: Config, *, download: bool = True) -> str:
    """Check the model and say where it is. Raises as :func:`prefetch`."""
    settings = config.generator
    if settings.kind == "procedural":
        return "none is needed (generator.kind = 'procedural')"
    if settings.kind == "replay":
        from ..generation import Replay

        Replay(settings.replay)
        return f"none is needed, completions are in {settings.replay}"
    if settings.kind == "endpoint":
        from ..generation.endpoint import Endpoint

        Endpoint(settings, problems.problem_of(config)).close()
        return f"{settings.model} answers at {settings.url}"
    from ..generation.language_model import model_loading

    location = model_loading.locate(settings.model, download=download)
    size = model_loading.check(location)
    return f"{location.folder / location.gguf} ({size / 1e9:,.2f} GB)"

"""Prompt in, source text out: what writes the networks, and how their text is read.

``create`` makes the generator that the settings ask for. To add a kind: write a class with the
methods of :class:`Generator`, and a line in :data:`~llmatic_hpc.config.registry.GENERATORS`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..config import GENERATORS, GeneratorSettings, imported
from ..errors import ConfigError
from ..types import Problem
from .base import Generator, ModelUnavailable
from .extract import Extracted, extract
from .prompts import shown
from .replay import Replay

__all__ = [
    "Extracted",
    "Generator",
    "ModelUnavailable",
    "Replay",
    "control",
    "create",
    "extract",
    "shown",
]


def create(
    settings: GeneratorSettings, problem: Problem, *, notify: Callable[[str], None]
) -> Generator:
    """Make the generator of ``settings``, loaded and ready.

    Args:
        settings: ``[generator]`` of the configuration.
        problem: what the networks are for.
        notify: told, in a sentence, that a model is being loaded, which takes a while, and where
            something else than asked for is made.

    Raises:
        ModelUnavailable: the model cannot be had and no fallback is set.
        GeneratorError: the generator cannot be loaded.
    """
    # Imported where needed: transformers and torch take seconds that others need not wait.
    if settings.kind == "huggingface":
        notify(f"loading the model {settings.model}")
    if settings.kind == "endpoint" and settings.address_file:
        seconds = settings.request_seconds * (settings.retries + 1)
        notify(f"looking for the server of {settings.address_file}, {seconds:g} s at most")
    try:
        made: Generator = GENERATORS.get(settings.kind)(settings, problem)
        made.kind = settings.kind  # the name under which it is registered
        return made
    except ModelUnavailable as error:
        if settings.fallback != "procedural":
            raise
        generator = control(settings, problem)
        generator.name = f"procedural (control without a language model; fallback: {error.reason})"
        notify(
            f"NO LANGUAGE MODEL: {error.reason}. Since generator.fallback = 'procedural', the "
            "networks of this run are written by fixed rules, as a control."
        )
        return generator


def control(settings: GeneratorSettings, problem: Problem) -> Generator:
    """Make the procedural control of the problem, which stands in for a language model.

    Raises :class:`~llmatic_hpc.errors.ConfigError` where the problem has none.
    """
    if not problem.control:
        raise ConfigError(
            f"generator.kind = 'procedural': the problem {problem.name} brings no control; choose "
            "another generator.kind, or give its Problem a control"
        )
    made: Generator = imported(problem.control)(settings, problem)
    return made

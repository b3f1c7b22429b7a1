"""Prompt in, source text out: what writes the networks, and how their text is read.

``create`` makes the generator that the settings ask for. To add a kind: write a class with the
methods of :class:`Generator`, and a line in ``create``.
"""

from __future__ import annotations

from collections.abc import Callable

from ..config import GeneratorSettings
from ..types import Problem
from .base import Generator, ModelUnavailable
from .extract import Extracted, extract
from .prompts import chat_messages, completion_prompt, shown
from .replay import Replay

__all__ = [
    "Extracted",
    "Generator",
    "ModelUnavailable",
    "Replay",
    "chat_messages",
    "completion_prompt",
    "create",
    "extract",
    "shown",
]


def create(
    settings: GeneratorSettings, problem: Problem, *, notify: Callable[[str], None]
) -> Generator:
    """The generator of ``settings``, loaded and ready.

    Args:
        settings: ``[generator]`` of the configuration.
        problem: what the networks are for.
        notify: told, in a sentence, where something else than asked for is made.

    Raises:
        ModelUnavailable: the model cannot be had and no fallback is set.
        GeneratorError: the generator cannot be loaded.
    """
    # Imported where needed: transformers and torch take seconds that others need not wait.
    if settings.kind == "replay":
        return Replay(settings.replay)
    if settings.kind == "procedural":
        return _procedural(settings, problem)
    try:
        return _language_model(settings, problem)
    except ModelUnavailable as error:
        if settings.fallback != "procedural":
            raise
        generator = _procedural(settings, problem)
        generator.name = f"procedural (control without a language model; fallback: {error.reason})"
        notify(
            f"NO LANGUAGE MODEL: {error.reason}. Since generator.fallback = 'procedural', the "
            "networks of this run are written by fixed rules, as a control."
        )
        return generator


def _procedural(settings: GeneratorSettings, problem: Problem) -> Generator:
    if problem.name == "nasbench201":
        from ..problems.nasbench201.procedural import ProceduralCells

        return ProceduralCells(settings)
    from .procedural.control import Procedural

    return Procedural(problem)


def _language_model(settings: GeneratorSettings, problem: Problem) -> Generator:
    if settings.kind == "endpoint":
        from .endpoint import Endpoint

        return Endpoint(settings, problem)
    from .language_model.huggingface import HuggingFace

    return HuggingFace(settings, problem)

"""Opening of the generator of a run, the same one for all of it: its record says who wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .. import generation
from ..config import GeneratorSettings
from ..errors import ConfigError, LLMaticError
from ..generation import Generator, ModelUnavailable
from ..generation.servers import refuse_other_model
from ..generation.several import Several, prose_writer, sharing
from ..types import Problem
from . import environment


def open_generator(
    settings: GeneratorSettings,
    problem: Problem,
    recorded: dict[str, Any],
    *,
    notify: Callable[[str], None],
) -> Generator:
    """Make the generator of ``settings``, or of its writers, and note in ``recorded`` what it is.

    ``recorded`` is the environment of the run's record. A writer that fell back once does so for
    good, and one that did not never will. Raises what :func:`~.generation.create` raises, with the
    writer's name.
    """
    if not settings.writers:
        generator, facts = _opened(settings, problem, recorded, "this run", notify)
        recorded.update(facts)
        return generator
    known: Mapping[str, dict[str, Any]] = recorded.get("writers", {})
    found: dict[str, Generator] = {}
    noted: dict[str, Any] = {}
    try:
        with sharing():
            for name, wanted in settings.by_name().items():
                said = known.get(name, {})
                found[name], noted[name] = _of_writer(wanted, problem, said, name, notify)
    except BaseException:
        for generator in found.values():
            generator.close()
        raise
    several = Several(found)
    recorded.update(writers=noted, generator=several.name, generator_kind=several.kind)
    return several


def prompt_writer(generator: Generator) -> str:
    """Return the name of the writer that rewrites prompts, the first one that can.

    Raises :class:`ConfigError` where none can.
    """
    name = prose_writer(generator)
    if name is None:
        raise ConfigError(
            "search.prompts = 'evolve' needs a writer of prose, and there is none: "
            f"{generator.name} writes networks alone. Choose a model that chats "
            "(generator.kind = 'huggingface' or 'endpoint', generator.form = 'chat'), one of "
            "several generator.writers will do; a replay file needs lines "
            '{"rewriting": "..."}; or set search.prompts = \'archive\''
        )
    return name


def _of_writer(
    wanted: GeneratorSettings,
    problem: Problem,
    recorded: Mapping[str, Any],
    name: str,
    notify: Callable[[str], None],
) -> tuple[Generator, dict[str, Any]]:
    """Make the generator of a writer; an error that it raises has the writer's name."""
    who = f"writer {name}"
    try:
        return _opened(wanted, problem, recorded, who, notify)
    except ConfigError:
        raise
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{who}: {error.reason}", error.advice) from error
    except LLMaticError as error:
        raise type(error)(f"{who}: {error}") from error


def _opened(
    wanted: GeneratorSettings,
    problem: Problem,
    recorded: Mapping[str, Any],
    who: str,
    notify: Callable[[str], None],
) -> tuple[Generator, dict[str, Any]]:
    """Make one generator, as ``recorded`` if it is, and what the record is to say of it."""
    known, kind = recorded.get("generator"), environment.generator_kind(recorded)
    fell_back = bool(kind) and kind != wanted.kind
    if fell_back:
        notify(f"{who} is written by: {known}")
        wanted = replace(wanted, kind=kind)
    if kind:
        wanted = replace(wanted, fallback="")
    generator = generation.create(wanted, problem, notify=notify)
    name = str(known) if fell_back else generator.name
    facts: dict[str, Any] = {"generator": name, "generator_kind": generator.kind}
    if served := getattr(generator, "served", None):  # by a server, as that says
        try:
            refuse_other_model(recorded.get("generator_served", {}), served, wanted.url)
        except BaseException:
            generator.close()
            raise
        facts["generator_served"] = served
    return generator, facts

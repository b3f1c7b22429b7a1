"""A configuration from TOML files, overrides and records, and what no single setting can say.

``--set search.generations=5`` wins over a file, and a file over what it extends (see
:mod:`.fields`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..types import Descriptor
from .fields import merge, parse_override, read_into
from .registry import GENERATORS, PROBLEMS
from .settings import BASELINES, Config, GeneratorSettings, NetworkArchiveSettings

# Relative to the file that names them.
PATHS = ("problem.data", "problem.initial", "problem.table", "generator.replay", "generator.model")


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Load the configuration in ``path``, what it extends, and ``KEY=VALUE`` overrides.

    Raises :class:`ConfigError` for a file that is missing or not TOML and for any setting
    that is unknown, of the wrong type, or out of range. ``PATHS`` are relative to the file that
    names them, where such a file or folder exists.
    """
    return override(read_into(Config(), path, paths=PATHS), overrides, str(path))


def override(config: Config, overrides: Sequence[str], origin: str = "--set") -> Config:
    """Change ``config`` by ``KEY=VALUE`` settings; ``origin`` is what an error names."""
    changed = config
    for text in overrides:
        changed = merge(changed, parse_override(text), "--set")
    try:
        _check_together(changed, origin)
    except ConfigError:
        _check_together(config, origin)  # a fault of the file is told as such
        _check_together(changed, "--set")
    return changed


def from_tables(tables: Mapping[str, Any], origin: str) -> Config:
    """Make a configuration of nested mappings, as :func:`to_tables` makes them."""
    config: Config = merge(Config(), tables, origin)
    _check_together(config, origin)
    return config


def network_axes(
    settings: NetworkArchiveSettings, descriptors: Sequence[Descriptor], origin: str = ""
) -> tuple[Descriptor, ...]:
    """Return the problem's descriptors with the bounds and scales that the settings ask for.

    Raises ``ConfigError``, which names ``origin``, for bounds that do not fit the axes.
    """
    where = f"{origin}: " if origin else ""
    found = list(descriptors)
    for bound in ("lower", "upper"):
        if not (values := getattr(settings, bound)):
            continue
        if len(values) != len(found):
            raise ConfigError(
                f"{where}archive.network.{bound} must have {len(found)} "
                f"numbers, for {', '.join(one.name for one in found)}; or none, for the problem's "
                "own"
            )
        found = [replace(one, **{bound: v}) for one, v in zip(found, values, strict=True)]
    if settings.log_flops:
        found = [replace(one, scale="log") if one.name == "flops" else one for one in found]
    for one in found:
        if not one.lower < one.upper:
            raise ConfigError(
                f"{where}archive.network.upper must exceed "
                f"archive.network.lower; for {one.name} they are {one.upper:g} and {one.lower:g}"
            )
        if one.scale == "log" and one.lower <= 0:
            raise ConfigError(
                f"{where}archive.network.log_flops needs a lower bound of "
                f"{one.name} above 0 (archive.network.lower)"
            )
    return tuple(found)


def _check_together(config: Config, origin: str) -> None:
    """Refuse settings that do not fit together."""
    problem = PROBLEMS.get(config.problem.kind, origin)()
    problem.check(config, origin)
    network_axes(config.archive.network, problem.descriptors(config.problem), origin)
    GENERATORS.check(config.generator.kind, origin)
    for fault in _faults(config, problem):
        raise ConfigError(f"{origin}: {fault}")


def _faults(config: Config, problem: Any) -> Iterator[str]:
    """Yield the faults that no single setting has."""
    prompt, search, generator = config.archive.prompt, config.search, config.generator
    for bound in ("lower", "upper"):
        if len(getattr(prompt, bound)) != 2:
            yield f"archive.prompt.{bound} must have two numbers"
    if any(upper <= lower for lower, upper in zip(prompt.lower, prompt.upper, strict=True)):
        yield "archive.prompt.upper must exceed archive.prompt.lower"
    if search.temperature_upper < search.temperature_lower:
        yield "search.temperature_upper must be at least search.temperature_lower"
    if not search.crossover_neighbours:
        yield "search.crossover_neighbours must not be empty"
    if len(config.problem.prompts) > prompt.upper[0]:
        yield (
            f"problem.prompts has {len(config.problem.prompts)} prompts, more than "
            f"archive.prompt.upper leaves room for ({prompt.upper[0]:g})"
        )
    for layer in config.containment.require:
        if layer not in ("landlock", "seccomp"):
            yield f"containment.require has {layer!r}; it may have landlock and seccomp"
    if search.queries and config.cluster.quorum < 1.0:
        yield (
            "search.queries needs cluster.quorum = 1, or candidates that are late would be left "
            "out where it ends"
        )
    if search.variant in BASELINES and not (
        problem.neighbours(config.problem) and generator.kind == "procedural"
    ):
        yield (
            f"search.variant = {search.variant!r} is a baseline on NAS-Bench-201: it needs "
            "problem.kind = 'nasbench201' and generator.kind = 'procedural'"
        )
    if generator.kind == "replay" and not generator.replay:
        yield "generator.kind = 'replay' needs generator.replay, a file"
    if generator.kind == "endpoint":
        yield from _faults_of_endpoint(generator)


def _faults_of_endpoint(generator: GeneratorSettings) -> Iterator[str]:
    """Say why a server cannot be one, without repeating what may be a misplaced secret."""
    try:
        url = urlsplit(generator.url)
        port_is_fine = url.port is None or url.port > 0
    except ValueError:
        url, port_is_fine = urlsplit(""), False
    if url.username is not None or url.password is not None or url.query:
        yield (
            "generator.url must hold no key or password, since it is written into the record; put "
            "it into an environment variable and name that in generator.key_variable"
        )
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_fine:
        yield (
            "generator.kind = 'endpoint' needs generator.url, the base of an OpenAI-compatible "
            f"server such as http://localhost:8000/v1; got {generator.url!r}"
        )
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*|", generator.key_variable):
        yield (
            "generator.key_variable must be the name of an environment variable, in capitals, such "
            "as LLM_API_KEY; never the key itself"
        )

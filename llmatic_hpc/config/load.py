"""A configuration from TOML files, overrides and records, and what no single setting can say.

``--set search.generations=5`` wins over a file, and a file over what it extends (see
:mod:`.fields`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from .axes import network_axes
from .fields import merge, parse_override, read_into
from .registry import GENERATORS, PROBLEMS
from .settings import BASELINES, Config, GeneratorSettings

# Relative to the file that names them.
PATHS = (
    "problem.data",
    "problem.initial",
    "problem.table",
    "generator.replay",
    "generator.model",
)


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Load the configuration in ``path``, what it extends, and ``KEY=VALUE`` overrides.

    Raises :class:`ConfigError` for a file that is missing or not TOML and for any setting
    that is unknown, of the wrong type, or out of range. Relative paths in ``PATHS`` (and in
    ``generator.model`` where such a file or folder exists) are relative to the file that names
    them.
    """
    return override(read_into(Config(), path, paths=PATHS), overrides, str(path))


def override(config: Config, overrides: Sequence[str], origin: str = "--set") -> Config:
    """Change ``config`` by ``KEY=VALUE`` settings; ``origin`` is what an error names."""
    for text in overrides:
        config = merge(config, parse_override(text), "--set", "")
    _check_together(config, origin)
    return config


def from_tables(tables: Mapping[str, Any], origin: str) -> Config:
    """Make a configuration of nested mappings, as :func:`to_tables` makes them."""
    config: Config = merge(Config(), tables, origin, "")
    _check_together(config, origin)
    return config


def _check_together(config: Config, origin: str) -> None:
    """Refuse settings that do not fit together."""
    problem = PROBLEMS.get(config.problem.kind, origin)()
    problem.check(config, origin)
    network_axes(config.archive.network, problem.descriptors(config.problem), origin)
    GENERATORS.check(config.generator.kind, origin)
    prompt = config.archive.prompt
    for bound in ("lower", "upper"):
        if len(getattr(prompt, bound)) != 2:
            raise ConfigError(f"{origin}: archive.prompt.{bound} must have two numbers")
    if any(u <= l for l, u in zip(prompt.lower, prompt.upper, strict=True)):  # noqa: E741
        raise ConfigError(f"{origin}: archive.prompt.upper must exceed archive.prompt.lower")
    search = config.search
    if search.temperature_upper < search.temperature_lower:
        raise ConfigError(
            f"{origin}: search.temperature_upper must be at least search.temperature_lower"
        )
    if not search.crossover_neighbours:
        raise ConfigError(f"{origin}: search.crossover_neighbours must not be empty")
    if len(config.problem.prompts) > config.archive.prompt.upper[0]:
        raise ConfigError(
            f"{origin}: problem.prompts has {len(config.problem.prompts)} prompts, more than "
            f"archive.prompt.upper leaves room for ({config.archive.prompt.upper[0]:g})"
        )
    for layer in config.containment.require:
        if layer not in ("landlock", "seccomp"):
            raise ConfigError(
                f"{origin}: containment.require has {layer!r}; it may have landlock and seccomp"
            )
    if search.queries and config.cluster.quorum < 1.0:
        raise ConfigError(
            f"{origin}: search.queries needs cluster.quorum = 1, or candidates that are late would "
            "be left out where it ends"
        )
    if search.variant in BASELINES and not (
        problem.neighbours(config.problem) and config.generator.kind == "procedural"
    ):
        raise ConfigError(
            f"{origin}: search.variant = {search.variant!r} is a baseline on NAS-Bench-201: it "
            "needs problem.kind = 'nasbench201' and generator.kind = 'procedural'"
        )
    if config.generator.kind == "replay" and not config.generator.replay:
        raise ConfigError(f"{origin}: generator.kind = 'replay' needs generator.replay, a file")
    if config.generator.kind == "endpoint":
        _check_endpoint(config.generator, origin)


def _check_endpoint(generator: GeneratorSettings, origin: str) -> None:
    """Refuse a server that cannot be one, without repeating what may be a misplaced secret."""
    try:
        url = urlsplit(generator.url)
        port_is_fine = url.port is None or url.port > 0
    except ValueError:
        url, port_is_fine = urlsplit(""), False
    if url.username is not None or url.password is not None or url.query:
        raise ConfigError(
            f"{origin}: generator.url must hold no key or password, since it is written into the "
            "record; put it into an environment variable and name that in generator.key_variable"
        )
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_fine:
        raise ConfigError(
            f"{origin}: generator.kind = 'endpoint' needs generator.url, the base of an "
            f"OpenAI-compatible server such as http://localhost:8000/v1; got {generator.url!r}"
        )
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*|", generator.key_variable):
        raise ConfigError(
            f"{origin}: generator.key_variable must be the name of an environment variable, in "
            "capitals, such as LLM_API_KEY; never the key itself"
        )

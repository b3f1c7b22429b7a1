"""A configuration from TOML files, overrides and records, and what no single setting can say.

``--set search.generations=5`` wins over a file, and a file over what it extends (see
:mod:`.fields`).
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..types import Descriptor
from .fields import merge, nearest, parse_override, read_into, resolve_paths
from .generator_settings import GeneratorSettings
from .registry import GENERATORS, PROBLEMS
from .search_settings import AUTO, BASELINES, WITH_PROMPTS, NetworkArchiveSettings
from .settings import Config

BOUNDS = ("lower", "upper")
LANGUAGE_MODELS = ("huggingface", "endpoint")
"""Kinds of generators that go by ``generator.model``."""
# Relative to the file that names them.
PATHS = (
    "problem.data",
    "problem.initial",
    "problem.table",
    "generator.replay",
    "generator.model",
    "generator.adapter",
    "generator.templates",
    "generator.url",
)


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Load the configuration in ``path``, what it extends, and ``KEY=VALUE`` overrides.

    Raises :class:`ConfigError` for a file that is missing or not TOML and for any setting
    that is unknown, of the wrong type, or out of range. ``PATHS`` are relative to the file that
    names them, where such a file or folder exists.
    """
    return override(read_into(Config(), path, paths=PATHS), overrides, str(path))


def layered(path: Path, layers: Mapping[str, Mapping[str, Any]], folder: Path) -> Config:
    """Read the configuration in ``path`` and lay tables of settings over it, the last one wins.

    The tables are named as an error shall name them; their ``PATHS`` are relative to ``folder``.
    Raises :class:`ConfigError` as :func:`load`, but what does not fit together is left to
    :func:`override`.
    """
    config = read_into(Config(), path, paths=PATHS)
    for origin, table in layers.items():
        own = copy.deepcopy(dict(table))
        resolve_paths(own, folder, PATHS)
        config = merge(config, own, origin)
    return config


def with_model(config: Config, model: str) -> Config:
    """Return ``config`` with ``model`` wherever a language model writes, of several writers too."""
    generator = config.generator
    if not generator.writers:
        if generator.kind in LANGUAGE_MODELS:
            generator = replace(generator, model=model)
        return replace(config, generator=generator)
    kinds = [table.get("kind", generator.kind) in LANGUAGE_MODELS for table in generator.writers]
    writers = tuple(
        {**table, "model": model} if is_model else table
        for is_model, table in zip(kinds, generator.writers, strict=True)
    )
    return replace(config, generator=replace(generator, writers=writers))


def absolute(config: Config) -> Config:
    """Return ``config`` with ``PATHS`` that exist below the working directory made absolute."""
    for name in PATHS:
        section, _, key = name.partition(".")
        part = getattr(config, section)
        value = str(getattr(part, key))
        if value and value != "digits" and Path(value).expanduser().exists():
            found = str(Path(value).expanduser().absolute())
            config = replace(config, **{section: replace(part, **{key: found})})
    return config


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
    settings: NetworkArchiveSettings,
    descriptors: Sequence[Descriptor],
    origin: str = "",
    *,
    settled: bool = True,
) -> tuple[Descriptor, ...]:
    """Return the problem's descriptors that are axes, with the bounds and scales of the settings.

    Raises ``ConfigError``, which names ``origin``, for what does not fit together, and for
    automatic bounds, which :func:`settled` makes numbers; ``settled = False``: those are the
    problem's own.
    """
    where = f"{origin}: " if origin else ""
    found = _checked_axes(settings, descriptors, where)
    if settled and settings.is_automatic:
        raise ConfigError(
            f"{where}archive.network.lower and upper = 'auto' are settled by a run; give numbers"
        )
    return found


def _checked_axes(
    settings: NetworkArchiveSettings, descriptors: Sequence[Descriptor], where: str
) -> tuple[Descriptor, ...]:
    """Return the axes; an automatic bound is still the problem's own."""
    found = _chosen_axes(settings, descriptors, where)
    automatic = (settings.automatic(key, len(found)) for key in BOUNDS)
    for one, lower, upper in zip(found, *automatic, strict=True):
        if one.late and (lower or upper):
            raise ConfigError(
                f"{where}archive.network.lower and upper: {one.name} is measured where candidates "
                "train, so that 'auto' cannot know it beforehand; give numbers"
            )
        if not math.isfinite(one.lower) or not math.isfinite(one.upper):
            raise ConfigError(f"{where}archive.network.lower and upper must be finite numbers")
        if not (lower or upper) and not one.lower < one.upper:
            raise ConfigError(
                f"{where}archive.network.upper must exceed "
                f"archive.network.lower; for {one.name} they are {one.upper:g} and {one.lower:g}"
            )
        if one.scale == "log" and not lower and one.lower <= 0:
            raise ConfigError(
                f"{where}archive.network.scale = 'log' needs a lower bound of "
                f"{one.name} above 0 (archive.network.lower)"
            )
    return found


def _chosen_axes(
    settings: NetworkArchiveSettings, descriptors: Sequence[Descriptor], where: str
) -> tuple[Descriptor, ...]:
    """Return the axes with what the settings say of each; automatic bounds stay as they are."""
    known = {one.name: one for one in descriptors}
    if settings.axes and len(set(settings.axes)) < max(2, len(settings.axes)):
        raise ConfigError(f"{where}archive.network.axes must name two or more different axes")
    for name in settings.axes:
        if name not in known:
            raise ConfigError(
                f"{where}archive.network.axes: there is no {name!r}, there are "
                f"{', '.join(known)}{nearest(name, list(known))}"
            )
    found = [known[name] for name in settings.axes] or [one for one in descriptors if one.chosen]
    for key in (*BOUNDS, "scale"):
        values = getattr(settings, key)
        if not values or values == AUTO:
            continue
        if len(values) != len(found):
            raise ConfigError(
                f"{where}archive.network.{key} must have {len(found)} "
                f"{'words' if key == 'scale' else 'numbers'}, for "
                f"{', '.join(one.name for one in found)}; or none, for the problem's own"
            )
        given = [{} if value == AUTO else {key: value} for value in values]
        found = [replace(one, **change) for one, change in zip(found, given, strict=True)]
    return tuple(found)


def settled(config: Config, initial: Mapping[str, float] = MappingProxyType({})) -> Config:
    """Write out axes, scales and bounds of the network archive, for all runs by one formula.

    ``initial``: measures of the initial network. Automatic bounds go from a tenth of its value to
    ``Descriptor.reach`` times it, and never beyond what ``[containment]`` allows.
    """
    archive, limits = config.archive.network, config.containment
    most = {"flops": limits.max_flops, "params": limits.max_params, "depth": limits.max_layers}
    axes = _chosen_axes(
        archive, PROBLEMS.get(config.problem.kind)().descriptors(config.problem), ""
    )
    automatic = [archive.automatic(key, len(axes)) for key in BOUNDS]
    for one, *wanted in zip(axes, *automatic, strict=True):
        if any(wanted) and one.name not in initial:
            raise ConfigError(
                f"archive.network.lower and upper: 'auto' for {one.name} needs a measure of the "
                "initial network, and a run that is continued keeps the axes and bounds it has"
            )
    axes = tuple(
        replace(
            one,
            lower=initial[one.name] / 10 if lower else one.lower,
            upper=min(one.reach * initial[one.name], most.get(one.name, math.inf))
            if upper
            else one.upper,
        )
        for one, lower, upper in zip(axes, *automatic, strict=True)
    )
    archive = replace(
        archive,
        axes=tuple(one.name for one in axes),
        lower=tuple(float(one.lower) for one in axes),
        upper=tuple(float(one.upper) for one in axes),
        scale=tuple(one.scale for one in axes),
    )
    network_axes(archive, axes)
    return replace(config, archive=replace(config.archive, network=archive))


def _check_together(config: Config, origin: str) -> None:
    """Refuse settings that do not fit together."""
    problem = PROBLEMS.get(config.problem.kind, origin)()
    problem.check(config, origin)
    archive, axes = config.archive.network, problem.descriptors(config.problem)
    _checked_axes(archive, axes, f"{origin}: ")
    writers = config.generator.by_name(origin)
    for writer in writers.values():
        GENERATORS.check(writer.kind, origin)
    for fault in _faults(config, problem):
        raise ConfigError(f"{origin}: {fault}")
    for name, writer in writers.items():
        for fault in _faults_of_writer(writer):
            raise ConfigError(f"{origin}: {f'writer {name}: ' if name else ''}{fault}")


def _faults(config: Config, problem: Any) -> Iterator[str]:
    """Yield the faults that no single setting has."""
    prompt, search, generator = config.archive.prompt, config.search, config.generator
    training = config.training
    for bound in ("lower", "upper"):
        if len(getattr(prompt, bound)) != 2:
            yield f"archive.prompt.{bound} must have two numbers"
    if any(upper <= lower for lower, upper in zip(prompt.lower, prompt.upper, strict=True)):
        yield "archive.prompt.upper must exceed archive.prompt.lower"
    if search.temperature_upper < search.temperature_lower:
        yield "search.temperature_upper must be at least search.temperature_lower"
    if search.targets and generator.request == "paper":
        yield "search.targets is told by informed requests: set generator.request = 'informed'"
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
    bounded = {
        "budget": search.budget,
        "max_gpu_hours": search.max_gpu_hours,
        "max_hours": search.max_hours,
    }
    for name, most in bounded.items():
        if most and config.cluster.quorum < 1.0:
            yield (
                f"search.{name} needs cluster.quorum = 1, or candidates that are late would be "
                "left out where it ends"
            )
    if training.rungs or len(problem.rungs(config)) > 1:
        yield from _faults_of_rungs(config, problem)
    early = "training.rungs" if training.rungs else "search.oversample"
    axes = _chosen_axes(config.archive.network, problem.descriptors(config.problem), "")
    late = [one.name for one in axes if one.late]
    if late and (training.rungs or search.oversample > 1):
        yield (
            f"{early} needs to know a candidate's niche before it trains, and {late[0]} is "
            "measured afterwards: choose other archive.network.axes"
        )
    if search.variant in BASELINES and not (
        problem.neighbours(config.problem)
        and generator.kind == "procedural"
        and not generator.writers
    ):
        yield (
            f"search.variant = {search.variant!r} edits by number, without a model: it needs "
            "generator.kind = 'procedural' alone, and a problem.kind with neighbours, such as "
            "'image_classification' or 'nasbench201'"
        )
    if search.oversample > 1 and search.variant in BASELINES:
        yield f"search.oversample must be 1 with the baseline search.variant = {search.variant!r}"
    if search.challenge and search.variant in BASELINES:
        yield f"search.challenge must be 0 with the baseline search.variant = {search.variant!r}"
    if search.challenge and not search.train_start:
        yield "search.challenge needs search.train_start = true: what is not trained has no noise"
    if search.challenge and search.parents == "curious":
        yield "search.challenge must be 0 with search.parents = 'curious'"
    if search.start == "seeds" and not 0 < problem.seeds <= search.batch:
        yield (
            f"search.start = 'seeds' needs a problem with seeds and a search.batch that holds "
            f"them; problem.kind = {config.problem.kind!r} has {problem.seeds}"
        )
    if search.start == "seeds" and (
        not search.start_elites or search.variant in ("random", *BASELINES)
    ):
        yield (
            "search.start = 'seeds' needs a start phase: search.start_elites above 0, and a "
            f"variant that has one, not {search.variant!r}"
        )
    if search.prompts == "evolve":
        yield from _faults_of_evolution(config)
    is_bandit = search.prompts == "bandit"
    if search.writers != "uniform" and not generator.writers and not is_bandit:
        yield (
            f"search.writers = {search.writers!r} shares candidates among generator.writers, and "
            "there are none: name several, [[generator.writers]]"
        )
    if search.writers == "each" and search.oversample % max(1, len(generator.writers)):
        yield (
            "search.writers = 'each' asks every writer as often as any other for each place: "
            f"search.oversample must be a multiple of the {len(generator.writers)} "
            f"generator.writers, not {search.oversample}"
        )
    learns = search.writers in ("ucb", "thompson")
    if is_bandit and not (learns and search.variant in WITH_PROMPTS):
        yield (
            "search.prompts = 'bandit' goes by search.writers = 'ucb' or 'thompson' and by a "
            f"search.variant with a prompt archive ({', '.join(WITH_PROMPTS)}); they are "
            f"{search.writers!r} and {search.variant!r}"
        )


def _faults_of_evolution(config: Config) -> Iterator[str]:
    """Say why no prompts can be rewritten, as far as it is known without the generator."""
    search, writers = config.search, config.generator.by_name().values()
    if search.variant not in WITH_PROMPTS:
        yield (
            "search.prompts = 'evolve' needs a search.variant with a prompt archive "
            f"({', '.join(WITH_PROMPTS)}); it is {search.variant!r}"
        )
    if all(
        one.kind == "procedural" or (one.kind in LANGUAGE_MODELS and one.form == "completion")
        for one in writers
    ):
        yield (
            "search.prompts = 'evolve' has a model write prompts, and there is none that can: "
            "choose a generator.kind (or one of generator.writers) other than 'procedural', with "
            "generator.form = 'chat'"
        )


def _faults_of_writer(writer: GeneratorSettings) -> Iterator[str]:
    """Yield the faults of what writes networks, or of one of several."""
    if writer.kind == "replay" and not writer.replay:
        yield "generator.kind = 'replay' needs generator.replay, a file"
    if writer.kind == "endpoint":
        yield from _faults_of_endpoint(writer)
    if writer.adapter and (writer.kind != "huggingface" or writer.quantization):
        yield (
            "generator.adapter is of generator.kind = 'huggingface' without "
            "generator.quantization: its changes are added to the weights"
        )


def _faults_of_rungs(config: Config, problem: Any) -> Iterator[str]:
    """Say why candidates cannot be trained from rung to rung."""
    training, rungs = config.training, config.training.rungs
    shapes = [tuple(map(type, rung)) for rung in rungs]
    is_fine = shapes == [(int, str)] * (len(rungs) - 1) + [(int,)] and len(rungs) > 1
    if rungs and not (is_fine and all(rung[1:] in ((), ("niche",)) for rung in rungs)):
        yield (
            "training.rungs must be pairs of epochs and 'niche', and the epochs of a full training "
            f"at the end, such as [[3, 'niche'], [12, 'niche'], [50]]; got {_listed(rungs)}"
        )
        return
    epochs = [0, *problem.rungs(config)]
    if len(epochs) < 3:
        yield f"training.rungs: there are no trainings in problem.kind = {config.problem.kind!r}"
    if sorted(set(epochs)) != epochs:
        yield f"training.rungs must have ever more epochs, from 1; got {epochs[1:]}"
    if training.promotion == "elites" and len(epochs) > 3:
        yield (
            "training.promotion = 'elites' goes by the first rung and the last: leave those in "
            f"between out of training.rungs; got {_listed(rungs)}"
        )
    if config.cluster.quorum < 1.0:
        yield (
            "training.rungs needs cluster.quorum = 1, for what trains on is decided when all of a "
            "generation are there"
        )
    if not config.search.train_start:
        yield "training.rungs needs search.train_start = true: what is not trained has no rungs"
    if config.search.variant in BASELINES:
        variant = config.search.variant
        yield f"training.rungs goes by niches, and search.variant = {variant!r} has none"


def _listed(rungs: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(rung) for rung in rungs]


def _faults_of_endpoint(generator: GeneratorSettings) -> Iterator[str]:
    """Say why a server cannot be one, without repeating what may be a misplaced secret."""
    if generator.address_file is not None:
        if generator.key_variable:
            yield (
                "generator.key_variable must be empty where generator.url is a file: the server's "
                "token is in it"
            )
        return
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
            "server such as http://localhost:8000/v1, or the file of 'llmatic serve', such as "
            f"serve.json; got {generator.url!r}"
        )
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*|", generator.key_variable):
        yield (
            "generator.key_variable must be the name of an environment variable, in capitals, such "
            "as LLM_API_KEY; never the key itself"
        )

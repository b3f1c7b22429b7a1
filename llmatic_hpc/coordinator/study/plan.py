"""The runs that a study is made of: its file read and checked, before anything runs.

Pure: nothing is started, and of what is on disk only configurations are read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from ... import config as configuration
from ...config import Config
from ...config.fields import merge, nearest, setting
from ...errors import ConfigError
from ...rundir.paths import StudyPaths

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

OF_THE_STUDY = {"run.seed": "seeds", "run.directory": "--output"}
"""Settings of a run that a study gives by itself, and what says them."""


@dataclass(frozen=True)
class Study:
    """File of a study: what its runs have in common, and in what they differ."""

    config: str = setting("", "configuration that every run extends")
    seeds: int | tuple[int, ...] = setting(1, "of each run; n: 0 to n - 1", low=0, high=2**32 - 1)
    at_once: int = setting(1, "runs at once", low=1, high=10_000)
    model_variable: str = setting(
        "", "environment variable; where it is set it names the model of all runs that have one"
    )
    settings: dict[str, Any] = setting({}, "settings of every run, over the configuration")
    variants: dict[str, Any] = setting({}, "settings by name, [variants.NAME]")
    problems: dict[str, Any] = setting({}, "the same; every variant is run on each")
    writers: dict[str, Any] = setting({}, "the same; every variant is run with each")

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Seeds in the order in which they run."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclass(frozen=True)
class Planned:
    """One run of a study."""

    variant: str
    problem: str
    """Empty: the study has no problems of its own, as for ``writer``."""
    writer: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Name that it shares with its other seeds, and of their folder."""
        return ".".join(part for part in (self.variant, self.problem, self.writer) if part)

    @property
    def title(self) -> str:
        """Name for people: ``random/seed0``."""
        return f"{self.name}/seed{self.seed}"


def is_study(path: Path) -> bool:
    """Return whether a file is that of a study; a configuration has no variants."""
    try:
        return "variants" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever reads it as a configuration says what is wrong
        return False


def model_of(study: Study, environ: Mapping[str, str]) -> str:
    """Return the model that the study's environment variable names; empty: none."""
    return environ.get(study.model_variable, "") if study.model_variable else ""


def read(path: Path) -> Study:
    """Read the file of a study.

    Raises :class:`ConfigError` for one that is missing, not TOML, or has a key that is unknown or
    of the wrong type; what is wrong within the tables of settings :func:`plan` finds.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = nearest(path.stem, [p.stem for p in path.parent.glob("*.toml")])
        raise ConfigError(f"{path}: no such file{near.replace('?', '.toml?')}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    study: Study = merge(Study(), table, str(path))
    for fault in _faults(study):
        raise ConfigError(f"{path}: {fault}")
    return study


def _faults(study: Study) -> Iterator[str]:
    seeds = study.all_seeds
    if not seeds or len(set(seeds)) < len(seeds):
        yield f"seeds must be one or more different numbers, or how many; got {study.seeds!r}"
    if not study.variants:
        yield "there are no variants: name one or more, [variants.NAME], each a table of settings"
    results = StudyPaths(Path())
    taken = {results.report.name, results.figures.name}
    for kind in ("variants", "problems", "writers"):
        for name, table in getattr(study, kind).items():
            if not NAME.fullmatch(name) or (kind == "variants" and name in taken):
                yield (
                    f"{kind}.{name}: a name has up to 64 letters, digits, '-' and '_', and is none "
                    f"of {', '.join(sorted(taken))}"
                )
            if not isinstance(table, Mapping):
                yield f"{kind}.{name} is a table of settings, got {table!r}"
            elif not isinstance(table.get("extends", ""), str):
                yield f"{kind}.{name}.extends: expected a file name, got {table['extends']!r}"
            elif "extends" in table and kind != "variants":
                yield f"{kind}.{name}: only a variant may say extends"
    if not study.config and not all("extends" in table for table in study.variants.values()):
        yield "config must name the configuration that every run extends"
    for name, key in product(("settings",), OF_THE_STUDY):
        if _says(getattr(study, name), key):
            yield f"{name}.{key}: the study says it itself ({OF_THE_STUDY[key]})"
    for kind in ("variants", "problems", "writers"):
        for (name, table), key in product(getattr(study, kind).items(), OF_THE_STUDY):
            if _says(table, key):
                yield f"{kind}.{name}.{key}: the study says it itself ({OF_THE_STUDY[key]})"


def _says(table: Mapping[str, Any], key: str) -> bool:
    section, _, last = key.partition(".")
    inner = table.get(section)
    return isinstance(inner, Mapping) and last in inner


def plan(study: Study, path: Path, overrides: Sequence[str] = (), model: str = "") -> list[Planned]:
    """Return every run of the ``study`` in the file ``path``, variant by variant, then by seed.

    A run has the settings of the configuration, then the study's, its problem's, its writer's and
    its variant's, then ``model`` for what a language model writes, then ``overrides``; the last one
    wins. Paths that exist become absolute: whoever continues a run may be elsewhere.

    Raises :class:`ConfigError` for any setting of any run.
    """
    for text in overrides:
        key = text.partition("=")[0].strip()
        if key in OF_THE_STUDY:
            raise ConfigError(f"--set {key}: a study says it itself ({OF_THE_STUDY[key]})")
    if model and Path(model).expanduser().exists():
        model = str(Path(model).expanduser().absolute())
    found = []
    tables = (study.variants, study.problems or {"": {}}, study.writers or {"": {}})
    for variant, problem, writer in product(*tables):
        config = _config(study, path, (variant, problem, writer), overrides, model)
        for seed in study.all_seeds:
            own = replace(config, run=replace(config.run, seed=seed))
            found.append(Planned(variant, problem, writer, seed, own))
    return found


def _config(
    study: Study, path: Path, names: tuple[str, str, str], overrides: Sequence[str], model: str
) -> Config:
    """Return the settings of the runs of one variant, problem and writer."""
    variant, problem, writer = names
    own = dict(study.variants[variant])
    base, folder = own.pop("extends", study.config), path.absolute().parent
    origin = f"{path}: variant {variant}"
    layers = {
        f"{path}: settings": study.settings,
        f"{path}: problem {problem}": study.problems.get(problem, {}),
        f"{path}: writer {writer}": study.writers.get(writer, {}),
        origin: own,
    }
    config = configuration.layered(folder / base, layers, folder)
    if model:
        config = configuration.with_model(config, model)
    where = f"{origin}{', problem ' * bool(problem)}{problem}{', writer ' * bool(writer)}{writer}"
    try:
        config = configuration.override(config, overrides, where)
        configuration.refuse_retired(config)
    except ConfigError as error:
        text = str(error)
        if text.startswith(("--set", str(path))):
            raise
        raise ConfigError(f"{where}: {text}") from error
    return configuration.absolute(config)

"""Implementations by name: those of this package, a line each, and those of installed packages.

Another package adds one by an entry point, for instance in its setup.cfg::

    [options.entry_points]
    llmatic.problems =
        sequences = my_package.sequences:Sequences
    llmatic.generators =
        mine = my_package.writer:Mine
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .fields import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True)
class Registry:
    """The implementations that a setting chooses among. Nothing is imported before it is asked for.

    ``setting`` is the name of the setting, ``group`` that of the entry points, and ``built_in``
    says by name where this package's own are: ``module:attribute``.
    """

    setting: str
    group: str
    built_in: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """All names, this package's first."""
        return (*self.built_in, *(n for n in _installed(self.group) if n not in self.built_in))

    def get(self, name: str, origin: str = "") -> Any:
        """Import the implementation ``name``.

        Raises :class:`~llmatic_hpc.errors.ConfigError`, which begins with ``origin``, for a name
        that is not known and for an installed package that cannot be imported.
        """
        self.check(name, origin)
        if (place := self.built_in.get(name)) is not None:
            return imported(place)
        entry = _installed(self.group)[name]
        try:
            return entry.load()
        except Exception as error:
            raise ConfigError(
                f"{origin or self.setting}: {self.setting} = {name!r}: {entry.value} of an "
                f"installed package cannot be imported: {type(error).__name__}: {error}"
            ) from error

    def check(self, name: str, origin: str) -> None:
        """Refuse a ``name`` that is not known, without importing anything; see :meth:`get`."""
        if name not in self.built_in and name not in self.names():
            allowed = ", ".join(map(repr, self.names()))
            raise ConfigError(
                f"{origin}: {self.setting} must be one of {allowed}, got {name!r}"
                f"{nearest(name, self.names())}"
            )


imported = pkgutil.resolve_name
"""Import what ``module:attribute`` names."""


@cache
def _installed(group: str) -> dict[str, EntryPoint]:
    from importlib import metadata  # slow, and of no use to who names what is built in

    return {entry.name: entry for entry in metadata.entry_points(group=group)}


PROBLEMS = Registry(
    "problem.kind",
    "llmatic.problems",
    {
        "image_classification": "llmatic_hpc.problems.images.kind:ImageClassification",
        "nasbench201": "llmatic_hpc.problems.nasbench201.kind:NASBench201",
    },
)
"""Kinds of problems: subclasses of :class:`~llmatic_hpc.problems.kind.ProblemKind`."""

GENERATORS = Registry(
    "generator.kind",
    "llmatic.generators",
    {
        "huggingface": "llmatic_hpc.generation.language_model.huggingface:HuggingFace",
        "endpoint": "llmatic_hpc.generation.endpoint:Endpoint",
        "procedural": "llmatic_hpc.generation:control",
        "replay": "llmatic_hpc.generation.replay:of_settings",
    },
)
"""Kinds of generators: callables that make a :class:`~llmatic_hpc.generation.base.Generator` of
``[generator]``'s settings and the problem."""

"""How candidates get their scores, by the kind of problem.

To add a problem: describe it in :mod:`llmatic_hpc.problems`, write a class with the methods of
:class:`Evaluator`, and a line in ``create``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..cluster import Backend
from ..config import Config
from ..paths import RunPaths
from ..problems import Problem, nasbench201
from .base import Evaluated, Evaluator
from .tabulated import Tabulated, load_table
from .trained import Trained
from .trained import problem_of as _problem_of_images

__all__ = [
    "Evaluated",
    "Evaluator",
    "Tabulated",
    "Trained",
    "alone",
    "create",
    "load_table",
    "problem_of",
]


def problem_of(config: Config) -> Problem:
    """The problem that the settings describe.

    Raises :class:`~llmatic_hpc.errors.LLMaticError` where its data cannot be had.
    """
    if config.problem.kind == "nasbench201":
        return nasbench201(config.problem)
    return _problem_of_images(config)


@contextmanager
def alone(config: Config) -> Iterator[Evaluator]:
    """An evaluator for single candidates, outside of any run."""
    made = create(config, RunPaths(Path()), notice=lambda text: None, stop=threading.Event())
    try:
        yield made
    finally:
        made.close()


def create(
    config: Config,
    paths: RunPaths,
    *,
    notice: Callable[[str], None],
    stop: threading.Event,
    backend: Backend | None = None,
) -> Evaluator:
    """The evaluator for ``problem.kind``.

    Raises :class:`~llmatic_hpc.errors.LLMaticError` where its data cannot be had.
    """
    if config.problem.kind == "nasbench201":
        return Tabulated(config)
    return Trained(config, paths, notice=notice, stop=stop, backend=backend)

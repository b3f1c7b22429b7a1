"""What is searched for: shapes, prompts, where the search begins, and how scores come about.

To add a problem: describe it in a folder of its own, write a class with the methods of
:class:`Evaluator`, and a line in ``create``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Config, ProblemSettings
from ..rundir.paths import RunPaths
from ..types import Problem

if TYPE_CHECKING:
    from ..cluster import Backend
    from .evaluator import Evaluator


def problem_of(config: Config) -> Problem:
    """The problem that the settings describe.

    Raises :class:`~llmatic_hpc.errors.LLMaticError` where its data cannot be had.
    """
    if config.problem.kind == "nasbench201":
        from .nasbench201.problem import nasbench201

        return nasbench201(config.problem)
    from .images.evaluator import problem_of as problem_of_images

    return problem_of_images(config)


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
        from .nasbench201.evaluator import Tabulated

        return Tabulated(config)
    from .images.evaluator import Trained

    return Trained(config, paths, notice=notice, stop=stop, backend=backend)


def bounds_of(settings: ProblemSettings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The smallest and largest (ratio, FLOPs) of any network; empty where nobody knows them."""
    if settings.kind == "nasbench201":
        from .nasbench201 import cells

        return cells.bounds(cells.DATASETS[settings.dataset])
    return (), ()


def neighbours_of(settings: ProblemSettings) -> int:
    """How many networks are one edit away from any; 0 where they cannot be counted."""
    if settings.kind == "nasbench201":
        from .nasbench201 import cells

        return len(cells.neighbours(cells.INITIAL))
    return 0

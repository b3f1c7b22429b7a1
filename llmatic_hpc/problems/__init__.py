"""Problems that networks are searched for: a folder each, and a line in ``PROBLEMS``.

:class:`~.kind.ProblemKind` is what a new one implements; the functions here are the ways in.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import PROBLEMS, Config
from ..rundir.paths import RunPaths
from ..types import Problem
from .kind import ProblemKind

if TYPE_CHECKING:
    from .evaluator import Evaluator

__all__ = ["ProblemKind", "alone", "kind_of", "problem_of"]


def kind_of(config: Config) -> ProblemKind:
    """Return the kind of problem that ``problem.kind`` names."""
    kind: ProblemKind = PROBLEMS.get(config.problem.kind)()
    return kind


def problem_of(config: Config) -> Problem:
    """Describe the problem of the settings; see :meth:`.ProblemKind.describe`."""
    return kind_of(config).describe(config)


@contextmanager
def alone(config: Config) -> Iterator[Evaluator]:
    """Hold an evaluator for single candidates, outside of any run."""
    paths, stop = RunPaths(Path()), threading.Event()
    made = kind_of(config).evaluator(config, paths, notice=lambda text: None, stop=stop)
    with closing(made):
        yield made

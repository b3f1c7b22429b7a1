"""Image classification as a kind of problem."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import Config, GeneratorSettings, ProblemSettings
from ...rundir.paths import RunPaths
from ...types import Descriptor, Problem
from ..kind import ProblemKind
from .problem import image_classification_of

if TYPE_CHECKING:
    from ...cluster import Backend
    from ...generation import Generator
    from ..evaluator import Evaluator

DESCRIPTORS = (
    Descriptor("ratio", 0.0, 200.0, "width / depth"),
    Descriptor("flops", 2e8, 5e9, "FLOPs", "FLOP"),
)
"""Axes and bounds of the paper (section 4.1)."""


def control(settings: GeneratorSettings, problem: Problem) -> Generator:
    """Make the procedural control of networks that are a list of layers."""
    from ...generation.procedural.control import Procedural

    return Procedural(problem)


class ImageClassification(ProblemKind):
    """Classify images by networks that are trained from scratch."""

    contained = True

    def descriptors(self, settings: ProblemSettings) -> tuple[Descriptor, ...]:
        """See :meth:`.ProblemKind.descriptors`."""
        return DESCRIPTORS

    def describe(self, config: Config) -> Problem:
        """See :meth:`.ProblemKind.describe`."""
        from ...evaluation import data

        shape, classes = data.describe(config.problem)
        return image_classification_of(config.problem, shape, classes)

    def evaluator(
        self,
        config: Config,
        paths: RunPaths,
        *,
        notice: Callable[[str], None],
        stop: threading.Event,
        backend: Backend | None = None,
    ) -> Evaluator:
        """See :meth:`.ProblemKind.evaluator`."""
        from .evaluator import Trained

        return Trained(
            self.describe(config), config, paths, notice=notice, stop=stop, backend=backend
        )

    def data(self, config: Config) -> str:
        """See :meth:`.ProblemKind.data`."""
        from ...evaluation import data

        shape, classes = data.describe(config.problem)
        return f"{config.problem.data}: {' x '.join(map(str, shape))}, {classes} classes"

    def fetch(
        self,
        config: Config,
        tell: Callable[[str], None],
        *,
        official: Path | None = None,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> None:
        """See :meth:`.ProblemKind.fetch`."""
        if official is not None:
            super().fetch(config, tell, official=official)
        from ...evaluation import data

        where = data.fetch(config.problem)
        found = data.load(config.problem, config.training, seed=config.run.seed)
        tell(
            f"data: {where}: {len(found.train) + len(found.validation):,} images for training, "
            f"{len(found.test):,} for testing, {found.classes} classes"
        )

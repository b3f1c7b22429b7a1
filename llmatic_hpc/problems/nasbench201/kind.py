"""NAS-Bench-201 as a kind of problem."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import Config, GeneratorSettings, ProblemSettings
from ...errors import ConfigError
from ...rundir.paths import RunPaths
from ...types import Descriptor, Problem
from ..kind import ProblemKind
from . import cells
from .problem import nasbench201

if TYPE_CHECKING:
    from ...cluster import Backend
    from ...generation import Generator
    from ...report.compare import Comparison
    from ...store import Difference, Record
    from ..evaluator import Evaluator


def control(settings: GeneratorSettings, problem: Problem) -> Generator:
    """Make the procedural control of cells."""
    from .procedural import ProceduralCells

    return ProceduralCells(settings)


class NASBench201(ProblemKind):
    """Find the best cell of a benchmark whose trainings are a table."""

    def descriptors(self, settings: ProblemSettings) -> tuple[Descriptor, ...]:
        """See :meth:`.ProblemKind.descriptors`; bounds are the smallest and largest of any cell."""
        lower, upper = cells.bounds(cells.DATASETS[settings.dataset])
        return (
            Descriptor("ratio", lower[0], upper[0], "width / depth"),
            Descriptor("flops", lower[1], upper[1], "FLOPs", "FLOP"),
        )

    def describe(self, config: Config) -> Problem:
        """See :meth:`.ProblemKind.describe`."""
        return nasbench201(config.problem)

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
        from .evaluator import Tabulated

        return Tabulated(config)

    def neighbours(self, settings: ProblemSettings) -> int:
        """See :meth:`.ProblemKind.neighbours`."""
        return len(cells.neighbours(cells.INITIAL))

    def check(self, config: Config, origin: str) -> None:
        """See :meth:`.ProblemKind.check`."""
        if config.problem.table_epochs not in (12, 200):
            raise ConfigError(
                f"{origin}: problem.table_epochs must be 12 or 200, for the benchmark has no other "
                f"trainings; got {config.problem.table_epochs}"
            )
        if not config.search.train_start:
            raise ConfigError(
                f"{origin}: search.train_start = false saves trainings, and problem.kind = "
                "'nasbench201' has none: leave it true"
            )

    def data(self, config: Config) -> str:
        """See :meth:`.ProblemKind.data`."""
        from .evaluator import load_table

        found = load_table(config.problem)
        return f"{found.path}: {len(found.rows):,} cells, SHA-256 {found.digest[:12]}"

    def fetch(
        self,
        config: Config,
        tell: Callable[[str], None],
        *,
        official: Path | None = None,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> None:
        """Make the table of the benchmark authors' ``official`` file or folder, if one is given,
        and ``tell`` that it is whole."""
        if official is not None:
            from .table import convert

            if not config.problem.table:
                raise ConfigError("problem.table is not set: it names the file that is to be made")
            convert(official, Path(config.problem.table), tell, progress)
        tell(f"table: {self.data(config)}")

    def comparison(self) -> Comparison:
        """See :meth:`.ProblemKind.comparison`."""
        from .comparison import BenchmarkComparison

        return BenchmarkComparison()

    def differences(self, record: Record, table: Path) -> Iterator[Difference]:
        """See :func:`.evaluator.against`."""
        from .evaluator import against
        from .table import read

        return against(record, read(table))

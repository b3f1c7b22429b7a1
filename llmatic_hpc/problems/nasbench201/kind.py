"""Cells of NAS-Bench-201 as a problem: the paper's second half (section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import Config, GeneratorSettings, ProblemSettings
from ...errors import ConfigError
from ...rundir.paths import RunPaths
from ...types import Descriptor, Interface, Problem
from ..images.kind import CROSSOVER_PROMPT, RANDOM_PROMPT, initial_of
from ..kind import ProblemKind
from . import cells, whole, write

if TYPE_CHECKING:
    from ...generation import Generator
    from ...report.compare import Comparison
    from ...store import Difference, Record
    from ..evaluator import Evaluator


_CONV = "ReLU, {0}x{0} convolutional layer and Batch normalization layer"
_INSTEAD = "Delete a layer to improve the above network and add"

PROMPTS = (
    f"Add {_CONV.format(3)} to improve the above network",
    f"Add {_CONV.format(1)} to improve the above network",
    "Delete a layer to improve the above network",
    "Add 3x3 average pooling layer to improve the above network",
    "Add skip connection to improve the above network",
    f"{_INSTEAD} {_CONV.format(3)}",
    f"{_INSTEAD} {_CONV.format(1)}",
    f"{_INSTEAD} 3x3 average pooling layer",
    f"{_INSTEAD} skip connection",
)
"""The nine mutation prompts of appendix A, in its order."""

ADVICE = (
    "The network has exactly six edges. Keep `forward`; replace the operation of one edge by "
    "another of `Zero()` (nothing), `nn.Identity()` (skip), `relu_conv1x1_bn(channels)`, "
    "`relu_conv3x3_bn(channels)`, `avg_pool3x3()`."
)
"""Words that a chat is told beside the instruction: models small enough for a laptop repeat the
parent as it is in most of their answers unless the vocabulary is spelled out."""


def nasbench201(settings: ProblemSettings) -> Problem:
    """Describe the problem of finding the best cell for ``problem.dataset``.

    Raises :class:`ConfigError` when the file of the initial cell cannot be read.
    """
    dataset = cells.DATASETS[settings.dataset]
    return Problem(
        name="nasbench201",
        input_shape=(3, dataset.size, dataset.size),
        classes=dataset.classes,
        initial_source=initial_of(settings) or write.source(cells.INITIAL),
        prompts=settings.prompts or PROMPTS,
        crossover_prompt=CROSSOVER_PROMPT,
        random_prompt=RANDOM_PROMPT,
        advice=ADVICE,
        helpers=f"{write.IMPORTS}\n\n{write.HELPERS}",
        control="llmatic_hpc.problems.nasbench201.kind:control",
    )


def control(settings: GeneratorSettings, problem: Problem) -> Generator:
    """Make the procedural control of cells."""
    from .procedural import ProceduralCells

    return ProceduralCells(settings)


def _check_single(config: Config, origin: str) -> None:
    """Refuse single trainings where the table has none. Raises :class:`ConfigError`."""
    settings = config.problem
    has = "sound" if settings.dataset == "cifar10" else "paper"
    if settings.protocol != has:
        raise ConfigError(
            f"{origin}: problem.table_trainings = 'single': of single trainings on "
            f"{settings.dataset} the table has accuracies on the "
            f"{'validation' if has == 'sound' else 'test'} images alone: set problem.protocol = "
            f"{has!r}"
        )
    epochs = settings.table_epochs
    if epochs == 12 or (isinstance(epochs, tuple) and config.training.promotion == "elites"):
        raise ConfigError(
            f"{origin}: problem.table_trainings = 'single': of 12 epochs the table has the mean "
            "alone: set problem.table_epochs = 200, or [12, 200] with training.promotion = 'niche' "
            "or 'halving'"
        )


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

    def evaluator(self, config: Config, paths: RunPaths, **hooks: Any) -> Evaluator:
        """See :meth:`.ProblemKind.evaluator`."""
        from .evaluator import Tabulated

        return Tabulated(config)

    def neighbours(self, settings: ProblemSettings) -> int:
        """See :meth:`.ProblemKind.neighbours`."""
        return len(cells.neighbours(cells.INITIAL))

    def interface(self, config: Config) -> Interface:
        """See :meth:`.ProblemKind.interface`; of the whole network."""
        return whole.interface(cells.DATASETS[config.problem.dataset])

    def network(self, config: Config, source: str, architecture: str) -> str:
        """See :meth:`.ProblemKind.network`: the cell in the benchmark's skeleton, if it is one."""
        if not architecture:
            return source
        return whole.source(cells.cell_of(architecture), cells.DATASETS[config.problem.dataset])

    def rungs(self, config: Config) -> tuple[int, ...]:
        """See :meth:`.ProblemKind.rungs`."""
        given = config.problem.table_epochs
        return given if isinstance(given, tuple) else ()

    def check(self, config: Config, origin: str) -> None:
        """See :meth:`.ProblemKind.check`."""
        if config.problem.table_epochs not in (12, 200, (12, 200)):
            raise ConfigError(
                f"{origin}: problem.table_epochs must be 12, 200 or [12, 200], for the benchmark "
                f"has no other trainings; got {config.problem.table_epochs}"
            )
        if config.problem.table_trainings == "single":
            _check_single(config, origin)
        elif config.search.challenge:
            raise ConfigError(
                f"{origin}: search.challenge asks for further trainings, and the mean of the table "
                "is over all of them: set problem.table_trainings = 'single', or search.challenge "
                "= 0"
            )
        if config.training.rungs:
            raise ConfigError(
                f"{origin}: training.rungs is of trainings, and problem.kind = 'nasbench201' has "
                "a table of them: set problem.table_epochs = [12, 200] instead"
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
        **options: Any,
    ) -> None:
        """Make the table of the benchmark authors' ``official`` file or folder, if one is given,
        and ``tell`` that it is whole."""
        if official is not None:
            from .table import convert

            if not config.problem.table:
                raise ConfigError("problem.table is not set: it names the file that is to be made")
            convert(official, Path(config.problem.table), tell, **options)
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

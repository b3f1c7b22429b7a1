"""Everything that one kind of problem brings: the only thing to write for a new one."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Config, ProblemSettings
from ..errors import ConfigError
from ..rundir.paths import RunPaths
from ..types import Descriptor, Interface, Problem

if TYPE_CHECKING:
    from ..cluster import Backend
    from ..report.compare import Comparison
    from ..store import Difference, Record
    from .evaluator import Evaluator


class ProblemKind(ABC):
    """A kind of problem, by its name in ``problem.kind``.

    Write a subclass with :meth:`descriptors`, :meth:`describe` and :meth:`evaluator`, and register
    it by a line in :data:`~llmatic_hpc.config.registry.PROBLEMS` or by an entry point of the group
    ``llmatic.problems``. Methods get the settings of a run; a problem's own stand in
    ``problem.options``. What fails raises an :class:`~llmatic_hpc.errors.LLMaticError` whose
    message says what, where and what next.
    """

    contained = False
    """True where sources are run, in contained children: doctor then checks that these work."""

    seeds = 0
    """Number of the seeds in :attr:`.Problem.seeds`, for ``search.start = "seeds"``."""

    @abstractmethod
    def descriptors(self, settings: ProblemSettings) -> tuple[Descriptor, ...]:
        """Return the axes of the network archive with their own bounds, two or more.

        Each names a measured value that the evaluator's ``examine`` reports of every network.
        """

    @abstractmethod
    def describe(self, config: Config) -> Problem:
        """Return shapes, prompts and the initial network.

        Raises :class:`~llmatic_hpc.errors.LLMaticError` where the data cannot be had.
        """

    @abstractmethod
    def evaluator(
        self,
        config: Config,
        paths: RunPaths,
        *,
        notice: Callable[[str], None],
        stop: threading.Event,
        backend: Backend | None = None,
    ) -> Evaluator:
        """Make what screens and scores the candidates of a run in ``paths``.

        ``notice`` tells a person, ``stop`` is set when the run should end, ``backend`` takes the
        place of the one that the settings name. Raises as :meth:`describe`.
        """

    def neighbours(self, settings: ProblemSettings) -> int:
        """Return how many networks are one edit away from any; 0 where they cannot be counted.

        The baselines that edit by number need it.
        """
        return 0

    def rungs(self, config: Config) -> tuple[int, ...]:
        """Return the epochs of the rungs, the last a full training; empty: there are none.

        The evaluator's ``evaluate`` is then told a rung.
        """
        return ()

    def check(self, config: Config, origin: str) -> None:  # noqa: B027 (nothing to refuse)
        """Refuse settings that do not fit the problem.

        Raises :class:`~llmatic_hpc.errors.ConfigError`, which begins with ``origin``, the file
        that says them.
        """

    def data(self, config: Config) -> str:
        """Say in a line where the data are and how many. Raises as :meth:`describe`."""
        self.describe(config)
        return "needs none"

    def fetch(
        self,
        config: Config,
        tell: Callable[[str], None],
        *,
        official: Path | None = None,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> None:
        """Fetch the data unless they are here, check them, and ``tell`` in a line where they are.

        ``official``: a file to make them of, where the problem knows one, with ``progress`` from
        0 to 1.
        """
        if official is not None:
            kind = config.problem.kind
            raise ConfigError(
                f"--from: problem.kind = {kind!r} makes no data of a file; leave it out"
            )
        tell(f"data: {self.data(config)}")

    def interface(self, config: Config) -> Interface:
        """Say what a network is given and gives back. Raises as :meth:`describe`."""
        problem = self.describe(config)
        return Interface(problem.input_shape, problem.classes)

    def network(self, config: Config, source: str, architecture: str) -> str:
        """Return a module with the whole network of a candidate: its source, where that is whole.

        ``architecture``: its name, where the problem has names for its networks.
        """
        return source

    def sentence(self, config: Config, problem: Problem) -> str:
        """Say the task in a sentence or two to a model that asks for facts."""
        size = " x ".join(map(str, problem.input_shape))
        return f"Task: networks that map {size} numbers to {problem.classes} classes."

    def comparison(self) -> Comparison:
        """Return what puts finished runs side by side for ``llmatic compare``."""
        from ..report.compare import Comparison

        return Comparison()

    def differences(self, record: Record, table: Path) -> Iterator[Difference]:
        """Compare the scores of a record with a ``table`` of all scores, where there is one."""
        raise ConfigError(f"{table}: the run is none of NAS-Bench-201; leave --table out")

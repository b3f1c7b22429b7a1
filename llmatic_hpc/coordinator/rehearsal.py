"""A search with everything but its trainings and its language model, to see what it would train.

The procedural control writes the networks, the screen measures them, and random numbers stand in
for their fitness: which networks a search comes to depends on its niches more than on who wins
them, and the first generation of a run of the control is the rehearsed one to the letter.
"""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import problems, store
from ..config import Config, GeneratorSettings
from ..errors import Interrupted
from ..problems.evaluator import Evaluated, Evaluator
from ..rundir.paths import RunPaths
from ..store import Record, promotion, rows
from ..types import Examined, Outcome, Result, Screened
from .loop import Coordinator
from .observing import Silent

SECONDS = 30.0
"""Time that a rehearsal takes at most; the generations after it are taken to be like its last."""


@dataclass(frozen=True)
class Training:
    """Training that a run would have to make."""

    candidate: int
    source: str
    epochs: float
    flops: float
    """Multiply-adds for one example."""
    depth: float
    params: float
    activation_bytes: float


@dataclass(frozen=True)
class Generation:
    """Work of a generation."""

    completions: int
    screen_seconds: float
    trainings: Sequence[Training]


@dataclass(frozen=True)
class Rehearsal:
    """A search as far as it was rehearsed."""

    generations: Sequence[Generation]
    last: Sequence[Training]
    """Trainings of elites in full, at the end of the run."""
    first_seconds: float
    """Time until the first generation was screened that the others did not take."""
    seconds: float
    """Time of all of it."""
    row_bytes: float
    """Growth of the record by a candidate."""
    base_bytes: float
    """Size of a record without any."""
    parents: Sequence[str]
    """Sources of elites at its end."""
    queries: float
    cost: float
    """Networks with a score and full trainings, as ``search.queries`` and ``budget`` count them."""
    is_whole: bool
    """True where it came to the end of the run."""


def rehearse(config: Config, number: int, real: Evaluator) -> Rehearsal:
    """Run a search once; its stand-in for fitness differs by ``number``.

    ``real`` examines networks, and scores them where that costs nothing. Raises
    :class:`~llmatic_hpc.errors.LLMaticError` as a run does.
    """
    stop = threading.Event()
    config = _without_a_model(config)
    began = time.monotonic()
    evaluator = Untrained(real, config, number, stop)
    with tempfile.TemporaryDirectory(prefix="llmatic-", ignore_cleanup_errors=True) as folder:
        paths = RunPaths(Path(folder))
        is_whole = True
        try:
            record = Coordinator(config, paths, _Quiet(), stop, evaluator=evaluator).run()
        except Interrupted:
            record, is_whole = store.load(paths.record), False
        seconds = time.monotonic() - began
        size = paths.record.stat().st_size
        before = paths.previous_record
        earlier = store.load(before).rows if before.exists() else record.rows
        grown = size - (before.stat().st_size if before.exists() else size)
    each = grown / (record.rows - earlier) if record.rows > earlier else size / max(1, record.rows)
    base = max(0.0, size - each * record.rows)
    return replace(_told(record, seconds, each, base), is_whole=is_whole)


def _without_a_model(config: Config) -> Config:
    """Return the settings with the control as their writer, and nothing that needs another."""
    generator = GeneratorSettings(kind="procedural", repair=config.generator.repair)
    search = replace(
        config.search, prompts="archive", targets=False, max_gpu_hours=0.0, max_hours=0.0
    )
    run = replace(config.run, trackers=(), directory="")
    return replace(config, generator=generator, search=search, run=run)


class _Quiet(Silent):
    """Keeps to itself what a rehearsal says."""

    def notice(self, text: str) -> None:
        """See the class."""


class Untrained(Evaluator):
    """Evaluator that examines as the ``real`` one does, and scores by chance at no cost."""

    def __init__(
        self, real: Evaluator, config: Config, number: int, stop: threading.Event, *,
        seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        self._real, self._config, self._number, self._stop = real, config, number, stop
        self.problem, self.trains_anew = real.problem, real.trains_anew
        self.repeatable = real.repeatable
        self._until = time.monotonic() + seconds

    def facts(self) -> dict[str, Any]:
        """See :meth:`.Evaluator.facts`."""
        return self._real.facts()

    def start(self) -> str:
        """See :meth:`.Evaluator.start`."""
        return self._real.start()

    def examine(self, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        """See :meth:`.Evaluator.examine`."""
        return self._real.examine(sources, repair=repair)

    def evaluate(
        self,
        record: Record,
        due: Sequence[int],
        on_result: Callable[[Result], None],
        rung: int | None = None,
    ) -> Evaluated:
        """Score by a random number for each candidate, the same at every rung."""
        if time.monotonic() > self._until:
            self._stop.set()
        if self._real.repeatable:
            return self._real.evaluate(record, due, on_result, rung)
        return Evaluated({row: self._result(record, row, rung) for row in due})

    def judge(self, source: str, *, seed: int | None = None) -> tuple[Screened, Outcome]:
        """See :meth:`.Evaluator.judge`; nobody asks."""
        return self._real.judge(source, seed=seed)

    def score(self, record: Record, row: int) -> float:
        """Return the number, 0 to 1, that stands in for a candidate's fitness."""
        return float(np.random.default_rng((self._number, row)).uniform())

    def _result(self, record: Record, row: int, rung: int | None) -> dict[str, Any]:
        score = self.score(record, row)
        epochs = self._config.training.in_full if rung is None else record.rungs[rung]
        if not self._config.search.train_start and rows.is_of_start(record, row):
            epochs = 0
        accuracies = dict.fromkeys(("fitness", "valid_accuracy", "test_accuracy"), score)
        zero = dict.fromkeys(("train_seconds", "queue_seconds"), 0.0)
        more = {"epochs": epochs, "attempts": 1, "train_loss": 1.0, "milliseconds": 1.0}
        return {"status": "scored", "failure": "", **accuracies, **zero, **more}


def _told(record: Record, seconds: float, row_bytes: float, base_bytes: float) -> Rehearsal:
    table, history = record.candidates, record.history
    is_own = (table["duplicate_of"] < 0) & (table["attempts"] > 0)
    is_late = table["promoted"] >= 0
    is_asked = ~record.are_repeats & (table["operator"] != b"seed")
    longer = record.rungs[-1] if record.rungs else 0

    def training(row: int, epochs: float) -> Training:
        measured = (float(table[n][row]) for n in ("flops", "depth", "params", "activation_bytes"))
        return Training(
            row, str(table["source"][row]), epochs, *(v if v > 0 else 0.0 for v in measured)
        )

    generations, screened = [], history["screen_seconds"].tolist()
    for number in range(record.committed_generations):
        here = table["generation"] == number
        found = [
            training(row, float(table["epochs"][row] - (longer if is_late[row] else 0)))
            for row in np.flatnonzero(here & is_own).tolist()
        ]
        took = float(screened[number])
        generations.append(Generation(int((here & is_asked).sum()), took, found))
    later = sorted(screened[1:])
    usual = later[len(later) // 2] if later else math.nan
    first = max(0.0, screened[0] - usual) if later else (screened or [0.0])[0]
    if generations:
        took = usual if later else 0.0
        generations[0] = replace(generations[0], screen_seconds=took)
    elites = record.archives["network"].elite
    elites = elites[elites >= 0]
    late = elites if promotion.is_deferred(record) else elites[:0]
    return Rehearsal(
        generations,
        [training(row, float(longer)) for row in late.tolist()],
        first,
        seconds,
        row_bytes,
        base_bytes,
        [str(table["source"][row]) for row in elites.tolist()],
        queries=rows.queries(record),
        cost=promotion.cost(record),
        is_whole=True,
    )


def evaluator_of(config: Config) -> Evaluator:
    """Make the evaluator of a run of these settings, in no folder; it is to be closed."""
    return problems.kind_of(config).evaluator(
        config, RunPaths(Path()), notice=lambda text: None, stop=threading.Event()
    )

"""Cost of the coordinator itself per generation of 100, early and late in a run.

    python -m tests.benchmarks.coordinator --generations 201

Everything is real but two things that are not the coordinator's: the procedural control
writes the networks (its time is taken out), and workers are replaced by a function that
writes each result file with a made-up fitness (its time is taken out, too). What is left is
proposing, extracting, screening in contained children, gathering, updating both archives
and two durable commits. Prints a line per sampled generation: median seconds and parts.

The work follows the length of the sources. ``--fitness drifting`` selects nothing, so that the
control's networks grow to its cap: the worst that a run can meet.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmatic_hpc import config
from llmatic_hpc.cluster import InlineBackend
from llmatic_hpc.coordinator.loop import Coordinator
from llmatic_hpc.evaluation.tasks import CandidateSpec, TaskSpec, write_result
from llmatic_hpc.problems.evaluator import Evaluator
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record
from llmatic_hpc.types import Completion, Examined, Outcome, Request, Result

ROOT = Path(__file__).parents[2]


def learned(item: CandidateSpec) -> float:
    """Like a short training: more arithmetic helps less and less, many layers do not train."""
    noise = np.random.default_rng(item.training_seed).random()
    layers = item.source.count("self.") / 2
    return float((1 - math.exp(-item.flops / 1e7)) * math.exp(-layers / 12) * 0.9 + 0.1 * noise)


def drifting(item: CandidateSpec) -> float:
    """Pure chance: nothing selects, and the control's edits drift to its cap of 40 layers."""
    return float(0.3 + 0.5 * np.random.default_rng(item.training_seed).random())


FITNESS = {"learned": learned, "drifting": drifting}


class Timed(Coordinator):
    """A coordinator that knows how long the parts took that are not its own."""

    fitness: Callable[[CandidateSpec], float] = staticmethod(learned)
    generator_seconds = 0.0
    worker_seconds = 0.0
    screen_seconds = 0.0

    def _generate(
        self, record: Record, generation: int, requests: Sequence[Request], number: int = 0
    ) -> list[Completion]:
        began = time.perf_counter()
        found = super()._generate(record, generation, requests, number)
        self.generator_seconds += time.perf_counter() - began
        return found

    def _screen(
        self, evaluator: Evaluator, generation: int, sources: Sequence[str]
    ) -> list[Examined]:
        began = time.perf_counter()
        found = super()._screen(evaluator, generation, sources)
        self.screen_seconds += time.perf_counter() - began
        return found

    def made_up_task(self, folder: Path) -> int:
        began = time.perf_counter()
        path = folder / "task.json"
        spec = TaskSpec.from_json(path.read_text(), origin=str(path))
        for item in spec.candidates:
            fitness = self.fitness(item)
            outcome = Outcome("scored", fitness=fitness, test_accuracy=fitness, epochs=1)
            result = Result(spec.run_id, item.candidate, item.attempt, item.source_sha256, outcome)
            write_result(Path(spec.results) / f"{item.candidate:05d}.{item.attempt}.json", result)
        self.worker_seconds += time.perf_counter() - began
        return 0


class Watch:
    """Takes the time of each generation."""

    def __init__(self) -> None:
        self.coordinator: Timed | None = None
        self.rows: list[tuple[float, float]] = []
        self._mark = time.perf_counter()

    def notice(self, text: str) -> None:
        """Nothing."""

    def stage(self, generation: int, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        """Nothing."""

    def scored(self, candidate: int, fitness: float) -> None:
        """Nothing."""

    def generation_done(self, record: Record) -> None:
        """A generation's own seconds: all of it less what was not the coordinator's."""
        assert self.coordinator is not None
        now = time.perf_counter()
        other = self.coordinator.generator_seconds + self.coordinator.worker_seconds
        self.rows.append((now - self._mark - other, self.coordinator.screen_seconds))
        self.coordinator.generator_seconds = self.coordinator.worker_seconds = 0.0
        self.coordinator.screen_seconds = 0.0
        self._mark = now


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--generations", type=int, default=201)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--fitness", choices=tuple(FITNESS), default="learned")
    options = parser.parse_args()
    settings = config.load(ROOT / "configs" / "smoke.toml")
    settings = replace(
        settings,
        search=replace(settings.search, generations=options.generations, batch=options.batch),
        archive=config.Config().archive,
        containment=config.Config().containment,
    )
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch()
        backend = InlineBackend(lambda task: watch.coordinator.made_up_task(task))
        paths, stop = RunPaths(Path(folder)), threading.Event()
        watch.coordinator = Timed(settings, paths, watch, stop, backend=backend)
        watch.coordinator.fitness = FITNESS[options.fitness]
        record = watch.coordinator.run()
    print(
        f"{options.batch} candidates a generation, fitness {options.fitness}; seconds of the "
        "coordinator's own work"
    )
    lengths = np.array([len(source) for source in record.candidates["source"]])
    for generation in sorted({2, 20, 50, 100, options.generations - 1}):
        near = watch.rows[max(1, generation - 2) : generation + 3]
        if near and generation < options.generations:
            total, screen = (statistics.median(column) for column in zip(*near, strict=True))
            print(
                f"generation {generation:4d}: {total:.2f} s (screen {screen:.2f}, "
                f"the rest {total - screen:.2f}); sources of "
                f"{lengths[record.candidates['generation'] == generation].mean():.0f} characters"
            )
    first = statistics.median(row[0] for row in watch.rows[1:5])
    last = statistics.median(row[0] for row in watch.rows[-5:])
    print(f"last / generation 2: {last / first:.2f}")


if __name__ == "__main__":
    main()

"""Candidates are screened in contained children here and trained where the cluster has room."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...cluster import Backend, Dispatcher, Work, chain, submission_prefix
from ...cluster.backend import wait_until
from ...cluster.local import stop_orphans
from ...cluster.placement import back_end, kind_of, packing, tasks_at_once, threads_per_task
from ...config import Config
from ...errors import ClusterError, ConfigError, Interrupted
from ...evaluation import data, selftest, worker
from ...evaluation.screen import Screener
from ...rundir.files import write_atomically
from ...rundir.paths import RunPaths
from ...store import Record, rows
from ...types import PENDING, Examined, Outcome, Problem, Result, Screened
from ..evaluator import Evaluated, Evaluator

STOPPING_SECONDS = 60.0


@dataclass(eq=False)
class Trained(Evaluator):
    """Evaluator of image classification; for its fields see :meth:`.ProblemKind.evaluator`."""

    problem: Problem
    config: Config
    paths: RunPaths
    notice: Callable[[str], None]
    stop: threading.Event
    backend: Backend | None = None
    repeatable: bool = False
    _screener: Screener | None = None

    def prepare(self) -> None:
        """See :meth:`.Evaluator.prepare`; what an element of an array is given, its worker sees."""
        if kind_of(self.config.cluster) != "slurm":
            selftest.require(self.config.training.device)
        elif self.backend is None and shutil.which("sbatch") is None:
            raise ClusterError(
                "cluster.kind = 'slurm', and there is no sbatch here: load the cluster's module, "
                "log in to a node that has it, or set cluster.kind = 'local'"
            )

    def start(self) -> str:
        """See :meth:`.Evaluator.start`: read all data, measure an initial network of one's own."""
        config = self.config
        self.waits(f"reading the data, {config.problem.data}")
        _, digest, self.own_validation = data.checked(
            config.problem, config.training, seed=config.run.seed
        )
        if remark := data.remark(config.problem):
            self.notice(f"{config.problem.data}: {remark}")
        if config.problem.initial:
            (found,) = self.examine([self.problem.initial_source], repair=False)
            if found.screened.status != PENDING:
                raise ConfigError(
                    f"problem.initial: {config.problem.initial}: {found.screened.status}: "
                    f"{found.screened.failure}; 'llmatic screen {config.problem.initial} --config "
                    "CONFIG' tries it again"
                )
        return digest

    def examine(self, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        """See :meth:`.Evaluator.examine`."""
        if self._screener is None:
            self._screener = Screener(
                input_shape=self.problem.input_shape,
                classes=self.problem.classes,
                containment=self.config.containment,
                proxies=self.config.search.proxies,
            )
        return self._screener.examine(sources, repair=repair)

    def evaluate(
        self,
        record: Record,
        due: Sequence[int],
        on_result: Callable[[Result], None],
        rung: int | None = None,
    ) -> Evaluated:
        """See :meth:`.Evaluator.evaluate`."""
        digests, flops = record.candidates["source_sha256"], record.candidates["flops"]
        work = [Work(row, digests[row].decode(), float(flops[row])) for row in due]
        for row in set(record.out()) - set(due) if rung else ():  # they go no further
            shutil.rmtree(self.paths.checkpoint(row), ignore_errors=True)
        dispatcher = self._dispatcher(record, rung or 0)
        enough = self._enough(record.committed_generations, len(work))
        gathered = dispatcher.run(work, enough=enough, on_result=on_result)
        found = {
            candidate: {
                **rows.result(one.result),
                "attempts": one.attempts,
                "queue_seconds": one.queue_seconds,
            }
            for candidate, one in gathered.items()
        }
        tries = [one for candidate in sorted(gathered) for one in gathered[candidate].tries]
        return Evaluated(found, dispatcher.lost, tries)

    def judge(self, source: str, *, seed: int | None = None) -> tuple[Screened, Outcome]:
        """Screen, train and judge a source text here, as a compute node would."""
        return worker.evaluate_source(source, self.config, training_seed=seed)

    def interrupted(self) -> None:
        """End workers of candidates that are out, which may go on while no results are gathered."""
        if kind_of(self.config.cluster) == "local":
            tasks = self.paths.generation
            wait_until(lambda: stop_orphans(tasks) == 0, STOPPING_SECONDS, pause=0.1)

    def end(self, record: Record) -> None:
        """Take what is left of the run out of the scheduler's queue."""
        if self.backend is not None:
            self.backend.end(submission_prefix(record.run_id))

    def close(self) -> None:
        """End the contained processes."""
        if self._screener is not None:
            self._screener.close()

    def _enough(self, generation: int, work: int) -> int:
        """Count the results that a generation needs; the last one waits for all that are out."""
        is_last = generation + 1 >= self.config.search.generations
        return work if is_last else math.ceil(self.config.cluster.quorum * work - 1e-9)

    def _dispatcher(self, record: Record, rung: int = 0) -> Dispatcher:
        config, table = self.config, record.candidates
        paths, below_last = replace(self.paths, rung=rung), record.rungs[:-1]

        def epochs(row: int) -> int:
            trained = config.search.train_start or not rows.is_of_start(record, row)
            return config.training.in_full if trained else 0

        def write_task(folder: Path, items: Sequence[tuple[Work, int]]) -> None:
            candidates = [
                worker.CandidateSpec(
                    candidate=work.candidate,
                    attempt=attempt,
                    source=table["source"][work.candidate],
                    source_sha256=work.source_sha256,
                    training_seed=int(table["seed"][work.candidate]),
                    epochs=epochs(work.candidate),
                    flops=work.flops,
                    until=below_last[rung] if rung < len(below_last) else 0,
                )
                for work, attempt in items
            ]
            spec = worker.TaskSpec(
                run_id=record.run_id,
                results=str(paths.results.resolve()),
                checkpoints=str(paths.checkpoints.resolve()),
                seed=config.run.seed,
                threads=threads_per_task(config),
                problem=config.problem,
                training=config.training,
                containment=config.containment,
                candidates=tuple(candidates),
                workers=config.cluster.workers_per_task,
                data_sha256=record.data_sha256,
            )
            write_atomically(folder / worker.TASK_FILE, spec.to_json())

        def read_result(path: Path, work: Work) -> Result | None:
            return worker.read_result(
                path,
                run_id=record.run_id,
                candidate=work.candidate,
                source_sha256=work.source_sha256,
            )

        if self.backend is None:  # one for all of a run: it remembers which nodes are bad
            self.backend = back_end(config, worker.run_folder)
        at = f"r{rung}" if rung else ""
        return Dispatcher(
            paths,
            self.backend,
            packing(config, rows.median_train_seconds(record, rung)),
            name=f"{submission_prefix(record.run_id)}{record.committed_generations:05d}{at}",
            parallelism=tasks_at_once(config),
            write_task=write_task,
            read_result=read_result,
            wait=self.stop.wait,
            waits=self.waits,
            leave=self._leave if config.cluster.chain else None,
        )

    def _leave(self, jobs: Sequence[str]) -> None:
        """Let another job gather the results of ``jobs``; without one, stay and do it here."""
        try:
            successor = chain.hand_over(jobs, self.paths)
        except ClusterError as error:
            self.notice(f"{error}")
            return
        raise Interrupted(f"job {successor} continues the run when its array has ended")

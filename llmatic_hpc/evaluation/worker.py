"""Evaluate the candidates of one task on a compute node, ``workers`` at a time.

It is a judge (see :mod:`llmatic_hpc.evaluation`): candidates run in contained children. A
result file is the only thing that it leaves behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..config import Config, accelerators
from ..errors import DataError, LLMaticError
from ..rundir.paths import TRAINING_STATE, RunPaths
from ..sandbox import wire
from ..sandbox.container import Container, Job, Reply
from ..types import PENDING, Outcome, Result, Screened
from . import data, selftest, trainer
from .screen import Screener
from .stop import Stop
from .tasks import CandidateSpec, TaskSpec, read_result, write_result
from .trainer import Trainer

__all__ = ["CandidateSpec", "TaskSpec", "evaluate_source", "read_result", "run_task"]

CHECKPOINTED = 75
"""Exit code of "checkpointed, run me again" (``EX_TEMPFAIL``)."""
TASK_FILE = "task.json"
"""File that tells the candidates of a task, in the folder of the task."""


def run_folder(folder: Path) -> int:
    """Evaluate the candidates of a task's folder; what a worker process runs."""
    return run_task(folder / TASK_FILE)


def run_task(task: Path) -> int:
    """Evaluate what the file ``task`` (a :class:`TaskSpec` as JSON) asks for.

    Returns 0 when every candidate has its result file, and 75 when SIGUSR2, SIGTERM or
    SIGINT came before: the running candidate then has its checkpoint and no result, and the
    same call continues. A candidate that already has a valid result of any attempt is
    skipped, except where that result is an infrastructure failure of an earlier attempt.

    Whatever is not a candidate's fault becomes a result of status ``infrastructure``.
    Raises :class:`~llmatic_hpc.errors.LLMaticError` for a task file that cannot be read and
    results that cannot be written. Only for the main thread; handlers are put back.
    """
    try:
        text = task.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LLMaticError(f"{task}: the task cannot be read: {error}") from None
    spec = TaskSpec.from_json(text, origin=str(task))
    with Stop.on_signals() as stop:
        return _Worker(spec, stop).run()


def evaluate_source(
    source: str, config: Config, *, training_seed: int | None = None
) -> tuple[Screened, Outcome]:
    """Screen and train one source as a compute node would.

    ``training_seed``: None is the seed of the run, which always draws the data's splits.
    Raises :class:`~llmatic_hpc.errors.DataError` and
    :class:`~llmatic_hpc.errors.ContainmentError`.
    """
    with bench(config) as (_, evaluator, screener):
        (screened,) = screener.screen([source])
        if screened.status != PENDING:
            return screened, Outcome(screened.status, screened.failure)
        with tempfile.TemporaryDirectory(prefix="llmatic-", ignore_cleanup_errors=True) as scratch:
            outcome = evaluator.evaluate(
                source,
                seed=config.run.seed if training_seed is None else training_seed,
                epochs=config.training.in_full,
                folder=Path(scratch),
            )
    return screened, outcome


@contextlib.contextmanager
def bench(config: Config) -> Iterator[tuple[Container, Trainer, Screener]]:
    """Hold a container with the data of ``config``, and what trains and screens in it.

    Raises as :func:`evaluate_source`.
    """
    threads = config.training.threads or _cores()
    with Container(config.containment, threads=threads) as container:
        dataset = data.load(config.problem, config.training, seed=config.run.seed)
        container.share(data.for_training(dataset))
        screener = Screener(
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            containment=config.containment,
            container=container,
        )
        evaluator = Trainer(container, dataset, config.training, config.containment, threads)
        yield container, evaluator, screener


class _Worker:
    """One task under way."""

    def __init__(self, spec: TaskSpec, stop: Stop) -> None:
        self._spec, self._stop = spec, stop
        self._folder = Path(spec.results)

    def run(self) -> int:
        pending = [c for c in self._spec.candidates if not self._is_done(c)]
        for candidate in self._spec.candidates:
            if candidate not in pending:  # killed between its result and this
                self._clear(candidate)
        if not pending:
            return 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return self._evaluate(pending)
        except OSError as error:
            raise LLMaticError(f"{self._folder}: a result cannot be written: {error}") from error

    def _evaluate(self, pending: Sequence[CandidateSpec]) -> int:
        spec = self._spec
        cores = spec.threads or _cores()
        devices = () if spec.training.device == "cpu" else accelerators.visible()
        slots = max(spec.workers, len(devices))
        threads = max(1, cores // slots)
        left = list(pending)
        try:
            selftest.once(
                spec.containment, spec.training.device, Path(spec.checkpoints).parent / "logs"
            )
            # The container first: torch is imported there while the data are read here.
            with Container(
                spec.containment, threads=threads, slots=slots, devices=devices
            ) as container:
                dataset = self._data()
                container.share(data.for_training(dataset))
                evaluator = Trainer(container, dataset, spec.training, spec.containment, threads)
                with self._stop.tells(container):
                    self._train(container, evaluator, left)
        except LLMaticError as error:  # no data, or no child to be had: true for all that is left
            where = f"problem.data: {error}" if isinstance(error, DataError) else str(error)
            now = time.time()
            for candidate in left:
                self._write(candidate, Outcome("infrastructure", wire.one_line(where)), now)
            left = []
        return CHECKPOINTED if left else 0

    def _data(self) -> data.Dataset:
        spec = self._spec
        if not spec.data_sha256:
            return data.load(spec.problem, spec.training, seed=spec.seed)
        dataset, digest, _ = data.checked(
            spec.problem, spec.training, seed=spec.seed, known=spec.data_sha256
        )
        if digest != spec.data_sha256:
            raise DataError(
                f"{spec.problem.data}: other data on this node than the run was started with: "
                f"data_sha256 is {digest} here, and {spec.data_sha256} on the record"
            )
        return dataset

    def _train(self, container: Container, evaluator: Trainer, left: list[CandidateSpec]) -> None:
        """Evaluate what is ``left``; what has its result leaves the list."""
        candidates = {self._checkpoint(c): c for c in left}
        jobs = [
            evaluator.job(
                c.source, seed=c.training_seed, epochs=c.epochs, folder=folder, until=c.until
            )
            for folder, c in candidates.items()
        ]
        for job, reply in _replies(container, jobs):
            assert job.scratch is not None
            started = time.time() - (reply.seconds if reply is not None else 0.0)
            outcome = self._outcome(evaluator, job, reply)
            if outcome.status != "checkpointed":
                candidate = candidates[job.scratch]
                self._write(candidate, outcome, started)
                left.remove(candidate)
                self._clear(candidate)

    @staticmethod
    def _outcome(evaluator: Trainer, job: Job, reply: Reply | None) -> Outcome:
        try:
            return evaluator.outcome(job, reply)
        except LLMaticError:
            raise
        except Exception as error:  # ours, and no reason to lose the siblings
            traceback.print_exc(file=sys.stderr)
            text = wire.one_line(f"{type(error).__name__}: {error}")
            return Outcome("infrastructure", f"the worker failed: {text}")

    def _write(self, candidate: CandidateSpec, outcome: Outcome, started: float) -> None:
        result = Result(
            run_id=self._spec.run_id,
            candidate=candidate.candidate,
            attempt=candidate.attempt,
            source_sha256=candidate.source_sha256,
            outcome=outcome,
            node=selftest.node_name(),
            slurm_job=_slurm_job(),
            started=started,
            finished=time.time(),
        )
        write_result(self._folder / _result_name(candidate.candidate, candidate.attempt), result)

    def _is_done(self, candidate: CandidateSpec) -> bool:
        for path in self._folder.glob(f"{candidate.candidate:05d}.*.json"):
            result = read_result(
                path,
                run_id=self._spec.run_id,
                candidate=candidate.candidate,
                source_sha256=candidate.source_sha256,
            )
            if result is not None and (
                result.outcome.status != "infrastructure" or result.attempt >= candidate.attempt
            ):
                return True
        return False

    def _clear(self, candidate: CandidateSpec) -> None:
        """Remove what a finished candidate wrote, but for the state that a next rung begins with.

        It is kept where the states of all candidates fit in ``training.rung_disk_bytes``; workers
        that finish at the same time may exceed that by one state each.
        """
        folder = self._checkpoint(candidate)
        if candidate.until and _state_bytes(folder):
            kept = sum(map(_state_bytes, folder.parent.iterdir()))
            if kept <= self._spec.training.rung_disk_bytes:
                # Each rung has its own time limit.
                (folder / trainer.SECONDS).unlink(missing_ok=True)
                return
        shutil.rmtree(folder, ignore_errors=True)

    def _checkpoint(self, candidate: CandidateSpec) -> Path:
        name = RunPaths(Path()).checkpoint(candidate.candidate).name
        return Path(self._spec.checkpoints) / name


def _replies(container: Container, jobs: Sequence[Job]) -> Iterator[tuple[Job, Reply | None]]:
    """Yield replies as they come; None, at once, for a job that has no time left."""
    for job in jobs:
        if job.seconds <= 0:
            yield job, None
    yield from container.run_many(job for job in jobs if job.seconds > 0)


def _result_name(candidate: int, attempt: int) -> str:
    return RunPaths(Path()).result(candidate, attempt).name


def _cores() -> int:
    """Return the cores for this process: a job's share where the cluster does not bind it."""
    bound = len(os.sched_getaffinity(0))
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(bound, int(given)) if given.isdecimal() and int(given) else bound


def _slurm_job() -> str:
    array, task = (os.environ.get(f"SLURM_ARRAY_{k}_ID", "") for k in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def _state_bytes(folder: Path) -> int:
    """Return the size of the training state in a folder of checkpoints; 0 where there is none."""
    try:
        return (folder / TRAINING_STATE).stat().st_size
    except OSError:
        return 0

"""The loop: propose, generate, screen, submit, gather, update, commit.

Read top to bottom. A run is a record, and the archives are a fold over it; nothing else
holds state. Two commits a generation (its code is written; its results are in) and small
files in between make every instant a safe one to be killed at: what is on disk is whole,
and starting again continues from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from . import config as configuration
from . import environment, lock, store
from .cluster import Backend, Dispatcher, Gathered, InlineBackend, LocalBackend, Work
from .cluster.base import TASK_FILE
from .cluster.local import stop_orphans, visible_gpus
from .config import Config
from .errors import ConfigError, Interrupted, LLMaticError, RecordError
from .evaluation import data, worker
from .evaluation.screen import Screener
from .generation import create
from .generation.base import Generator
from .generation.extract import extract
from .paths import RunPaths
from .problems import problem_of
from .records import (
    INITIAL,
    PENDING,
    Completion,
    Proposal,
    Request,
    Result,
    Screened,
)
from .search import Search
from .store import Record
from .store.file import explain_os_error
from .store.record import EVALUATED, PROPOSED
from .store.replay import archive_states, evaluations, new_search, proposal_columns, resume

log = logging.getLogger(__name__)

LONGEST_COMPLETION = 200_000
"""Characters of a completion that the record keeps; a longer one is no network."""


class Observer(Protocol):
    """What a run tells whoever watches it."""

    def notice(self, text: str) -> None:
        """Something a person should know."""
        ...

    def stage(self, generation: int, name: str, total: int) -> None:
        """``generated``, ``screened`` or ``trained`` begins, of ``total`` candidates."""
        ...

    def advance(self, name: str, count: int = 1) -> None:
        """So many more candidates are through the stage."""
        ...

    def scored(self, candidate: int, fitness: float) -> None:
        """A candidate has a fitness."""
        ...

    def generation_done(self, record: Record) -> None:
        """The last row of the history is committed."""
        ...


class Coordinator:
    """Runs one search in one run directory."""

    def __init__(
        self, config: Config, paths: RunPaths, observer: Observer, stop: threading.Event
    ) -> None:
        self._config = config
        self._paths = paths
        self._observer = observer
        self._stop = stop
        self._generator: Generator | None = None
        self._screener: Screener | None = None

    def run(self) -> Record:
        """Start or continue the run until its budget is spent.

        Raises :class:`Interrupted` when asked to stop, with everything saved, and
        :class:`LLMaticError` for whatever a user can mend.
        """
        try:
            self._paths.root.mkdir(parents=True, exist_ok=True)
            with lock.hold(self._paths.lock):
                return self._run()
        except OSError as error:
            raise LLMaticError(explain_os_error(error, str(self._paths.root))) from error
        finally:
            if self._generator is not None:
                self._generator.close()
            if self._screener is not None:
                self._screener.close()

    def _run(self) -> Record:
        record = self._open_record()
        search = resume(record, self._config)
        self._discard_leftovers(record)
        while record.committed_generations < self._config.search.generations:
            if self._stop.is_set():
                raise Interrupted("the run was asked to stop; everything is saved")
            proposals = search.ask()
            if record.phase == EVALUATED:
                self._propose(record, proposals)
            self._evaluate(record, search, proposals)
            self._observer.generation_done(record)
        return record

    # --- opening ----------------------------------------------------------------------------

    def _open_record(self) -> Record:
        shape, classes = data.describe(self._config.problem)
        self._problem = problem_of(self._config.problem, shape, classes)
        if self._paths.record.exists() or self._paths.previous_record.exists():
            record = store.load(self._paths.record)
            before = configuration.from_tables(record.config, str(self._paths.record))
            if changed := configuration.changed_settings(before, self._config):
                raise ConfigError(
                    f"{self._paths.root}: this run was started with other settings: "
                    f"{'; '.join(changed)}. Continue it with the old ones "
                    f"({self._paths.config}), or choose another --run-dir"
                )
            if record.prompts != self._problem.prompts:
                raise RecordError(
                    f"{self._paths.record}: made with other prompts than this version has; "
                    "continue it with the version that started it"
                )
            record.config = configuration.to_tables(self._config)
            return record
        search = new_search(self._config, len(self._problem.prompts))
        record = Record(
            run_id=uuid.uuid4().hex,
            config=configuration.to_tables(self._config),
            environment=environment.describe(),
            prompts=self._problem.prompts,
            archives=archive_states(search),
        )
        write_text_atomically(self._paths.config, configuration.to_toml(self._config))
        store.commit(self._paths, record)
        return record

    def _discard_leftovers(self, record: Record) -> None:
        """Remove the generation folder of a generation that is already in the record."""
        in_flight = record.committed_generations
        try:
            plan = json.loads(self._paths.plan.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            plan = {}
        if plan != self._plan(record, in_flight):
            stop_orphans(self._paths.tasks)
            shutil.rmtree(self._paths.generation, ignore_errors=True)
            shutil.rmtree(self._paths.checkpoints, ignore_errors=True)

    @staticmethod
    def _plan(record: Record, generation: int) -> dict[str, object]:
        return {"run_id": record.run_id, "generation": generation}

    # --- propose, generate, screen: the first commit ------------------------------------------

    def _propose(self, record: Record, proposals: Sequence[Proposal]) -> None:
        generation = record.committed_generations
        started = time.time()
        self._paths.generation.mkdir(parents=True, exist_ok=True)
        plan = json.dumps(self._plan(record, generation))
        write_text_atomically(self._paths.plan, plan)

        completions = self._generate(record, generation, proposals)
        generated = time.time()
        extracted = [extract(c.text, form=c.form, prefix=c.prefix) for c in completions]
        screened = self._screen(generation, [e.source for e in extracted])
        rows = []
        originals = self._originals(record, proposals)
        for proposal, completion, code, verdict in zip(
            proposals, completions, extracted, screened, strict=True
        ):
            failure = completion.failure or code.failure
            if failure and not verdict.canonical_sha256:
                verdict = Screened("invalid", failure)
            key = verdict.canonical_sha256
            original = originals.setdefault(key, proposal.candidate) if (
                verdict.status == PENDING
            ) else proposal.candidate  # fmt: skip
            described = verdict.descriptors
            rows.append(
                {
                    **proposal_columns(proposal),
                    "completion": "" if completion.text == code.source
                    else completion.text[:LONGEST_COMPLETION],
                    "form": completion.form,
                    "tokens": completion.tokens,
                    "generate_seconds": completion.seconds,
                    "source": code.source,
                    "source_sha256": sha256(code.source),
                    "canonical_sha256": key,
                    "duplicate_of": original if original != proposal.candidate else -1,
                    "status": verdict.status,
                    "failure": verdict.failure,
                    **({} if described is None else {
                        "width": described.width,
                        "depth": described.depth,
                        "ratio": described.ratio,
                        "flops": described.flops,
                        "params": described.params,
                    }),
                }
            )  # fmt: skip
        record.append_candidates(rows)
        record.phase = PROPOSED
        assert self._generator is not None
        record.environment["generator"] = self._generator.name
        write_text_atomically(
            self._paths.generation / "times.json",
            json.dumps(
                {
                    "started": started,
                    "generate_seconds": generated - started,
                    "screen_seconds": time.time() - generated,
                }
            ),
        )
        store.commit(self._paths, record)

    def _generate(
        self, record: Record, generation: int, proposals: Sequence[Proposal]
    ) -> list[Completion]:
        """A completion for every proposal; those that are in the journal are not sampled again."""
        done = read_completions(self._paths.completions)
        missing = [p for p in proposals if p.candidate not in done]
        self._observer.stage(generation, "generated", len(proposals))
        self._observer.advance("generated", len(proposals) - len(missing))
        generator = self._open_generator(record)
        requests = [self._request(record, proposal) for proposal in missing]
        with open(self._paths.completions, "a", encoding="utf-8") as file:
            for completion in generator.generate(requests) if requests else ():
                done[completion.candidate] = completion
                file.write("\n" + json.dumps(completion.__dict__))
                file.flush()
                os.fsync(file.fileno())
                self._observer.advance("generated")
                if self._stop.is_set() and len(done) < len(proposals):
                    raise Interrupted("the run was asked to stop; every completion is saved")
        return [done[p.candidate] for p in proposals]

    def _open_generator(self, record: Record) -> Generator:
        if self._generator is None:
            settings = self._config.generator
            known = record.environment.get("generator")
            if known is not None:  # a run is written by one hand
                procedural = settings.fallback == "procedural" and "fallback" in known
                settings = replace(
                    settings, fallback="", kind="procedural" if procedural else settings.kind
                )
                if procedural:
                    self._observer.notice(f"the record says: written by {known}")
            self._generator = create(settings, self._problem, notify=self._observer.notice)
            if known is None:
                record.environment["generator"] = self._generator.name
        return self._generator

    def _request(self, record: Record, proposal: Proposal) -> Request:
        problem = self._problem
        instruction = {
            "mutation": lambda: problem.prompts[proposal.prompt],
            "crossover": lambda: problem.crossover_prompt,
            "random": lambda: problem.random_prompt,
        }[proposal.operator]()
        sources = record.candidates["source"]
        parents = tuple(sources[p] for p in proposal.parents if p != INITIAL)
        return Request(
            candidate=proposal.candidate,
            operator=proposal.operator,
            prompt=proposal.prompt,
            instruction=instruction,
            parents=parents or (problem.initial_source,),
            temperature=proposal.temperature,
            seed=proposal.sampling_seed,
        )

    def _screen(self, generation: int, sources: Sequence[str]) -> list[Screened]:
        if self._screener is None:
            self._screener = Screener(
                self._problem, self._config.containment, slots=available_cores()
            )
        self._observer.stage(generation, "screened", len(sources))
        screened = self._screener.screen(sources)
        self._observer.advance("screened", len(sources))
        return screened

    def _originals(self, record: Record, proposals: Sequence[Proposal]) -> dict[str, int]:
        """Who was first with each canonical syntax tree, among candidates like these.

        What the machine spoiled is no original: it has no score to reuse. Nor is a candidate
        that was not trained one of those that will be.
        """
        table = record.candidates
        start_phase = record.history["phase"] == b"start"
        now = in_start_phase(proposals)
        found: dict[str, int] = {}
        for row, (key, status, generation, original) in enumerate(
            zip(table["canonical_sha256"], table["status"], table["generation"],
                table["duplicate_of"], strict=True)
        ):  # fmt: skip
            like = self._config.search.train_start or bool(start_phase[generation]) == now
            judged = status in (b"scored", b"diverged", b"too_large", b"too_slow", b"invalid")
            if key and original < 0 and like and judged:
                found.setdefault(key.decode(), row)
        return found

    # --- evaluate, update: the second commit --------------------------------------------------

    def _evaluate(self, record: Record, search: Search, proposals: Sequence[Proposal]) -> None:
        generation = record.committed_generations
        first = generation * self._config.search.batch
        rows = range(first, record.rows)
        table = record.candidates
        work = [
            Work(
                candidate=row,
                index=row - first,
                source_sha256=table["source_sha256"][row].decode(),
                flops=float(table["flops"][row]),
            )
            for row in rows
            if record.status(row) == PENDING and table["duplicate_of"][row] < 0
        ]
        began = time.time()
        self._observer.stage(generation, "trained", len(work))
        gathered = self._dispatcher(record, proposals).run(work, on_result=self._on_result)
        for item in work:
            record.update(item.candidate, result_columns(gathered[item.index]))
        for row in rows:
            original = int(table["duplicate_of"][row])
            if original >= 0:
                record.update(row, duplicate_columns(record, original))

        told = search.tell(evaluations(record, generation))
        for update in told.updates:
            values = dict(update.__dict__)
            record.update(values.pop("candidate"), values)
        record.append_history(
            {
                **told.generation.__dict__,
                **read_times(self._paths.generation / "times.json"),
                "evaluate_seconds": time.time() - began,
                "finished": time.time(),
            }
        )
        record.archives = archive_states(search)
        record.phase = EVALUATED
        record.committed_generations += 1
        store.commit(self._paths, record)
        shutil.rmtree(self._paths.generation, ignore_errors=True)
        shutil.rmtree(self._paths.checkpoints, ignore_errors=True)

    def _on_result(self, result: Result) -> None:
        self._observer.advance("trained")
        if math.isfinite(result.outcome.fitness):
            self._observer.scored(result.candidate, result.outcome.fitness)

    def _dispatcher(self, record: Record, proposals: Sequence[Proposal]) -> Dispatcher:
        cluster, training = self._config.cluster, self._config.training
        parallelism = task_parallelism(self._config)
        threads = training.threads or max(1, available_cores() // parallelism)
        untrained = in_start_phase(proposals) and not self._config.search.train_start
        table = record.candidates

        def write_task(folder: Path, items: Sequence[tuple[Work, int]]) -> None:
            candidates = [
                worker.CandidateSpec(
                    candidate=work.candidate,
                    index=work.index,
                    attempt=attempt,
                    source=table["source"][work.candidate],
                    source_sha256=work.source_sha256,
                    training_seed=int(table["seed"][work.candidate]),
                    epochs=0 if untrained else training.epochs,
                )
                for work, attempt in items
            ]
            spec = worker.TaskSpec(
                run_id=record.run_id,
                run_dir=str(self._paths.root.resolve()),
                generation=record.committed_generations,
                seed=self._config.run.seed,
                threads=threads,
                problem=self._config.problem,
                training=training,
                containment=self._config.containment,
                candidates=tuple(candidates),
            )
            write_text_atomically(folder / TASK_FILE, spec.to_json())

        def read_result(path: Path, work: Work) -> Result | None:
            return worker.read_result(
                path,
                run_id=record.run_id,
                candidate=work.candidate,
                source_sha256=work.source_sha256,
            )

        backend: Backend
        if cluster.kind == "inline":
            backend = InlineBackend(run_task)
        else:
            backend = LocalBackend(
                run_task, parallelism=parallelism, time_minutes=cluster.time_minutes
            )
        return Dispatcher(
            self._paths,
            backend,
            cluster,
            label=f"g{record.committed_generations:05d}",
            parallelism=parallelism,
            write_task=write_task,
            read_result=read_result,
            wait=self._stop.wait,
        )


# --- small pure parts -------------------------------------------------------------------------


def run_task(folder: Path) -> int:
    """What a worker process does with its task's folder."""
    return worker.run_task(folder / TASK_FILE)


def in_start_phase(proposals: Sequence[Proposal]) -> bool:
    """Whether a generation is made from the initial network by mutation."""
    return any(p.operator == "mutation" and not p.parents for p in proposals)


def available_cores() -> int:
    """Cores that this process may use; a Slurm job or a container may have fewer than all."""
    return len(os.sched_getaffinity(0))


def task_parallelism(config: Config) -> int:
    """How many tasks run at once."""
    if config.cluster.kind == "inline":
        return 1
    gpus = 0 if config.training.device == "cpu" else len(visible_gpus())
    return config.cluster.array_parallelism or gpus or available_cores()


def result_columns(gathered: Gathered) -> dict[str, object]:
    """A result by the columns that hold it."""
    result, outcome = gathered.result, gathered.result.outcome
    return {
        "status": outcome.status,
        "failure": outcome.failure,
        "fitness": outcome.fitness,
        "valid_accuracy": outcome.valid_accuracy,
        "test_accuracy": outcome.test_accuracy,
        "train_loss": outcome.train_loss,
        "epochs": outcome.epochs,
        "train_seconds": outcome.train_seconds,
        "queue_seconds": gathered.queue_seconds,
        "attempts": gathered.attempts,
        "slurm_job": result.slurm_job,
        "node": result.node,
    }


def duplicate_columns(record: Record, original: int) -> dict[str, object]:
    """What a duplicate takes over from the candidate that was first."""
    table = record.candidates
    status = record.status(original)
    if status == "infrastructure":
        return {
            "status": "infrastructure",
            "failure": f"a duplicate of candidate {original}, which the machine spoiled",
        }
    copied = ("fitness", "valid_accuracy", "test_accuracy", "train_loss", "epochs")
    return {
        "status": "duplicate",
        "failure": "" if status == "scored"
        else f"a duplicate of candidate {original} ({status}): {table['failure'][original]}",
        **{name: table[name][original] for name in copied},
    }  # fmt: skip


def read_completions(path: Path) -> dict[int, Completion]:
    """Completions of the generation in flight; a line that a kill tore is not there."""
    found: dict[int, Completion] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                completion = Completion(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[completion.candidate] = completion
    return found


def read_times(path: Path) -> dict[str, float]:
    """How long the first half of the generation took, by the coordinator that ran it."""
    try:
        found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def sha256(text: str) -> str:
    """Digest of a source as the record holds it."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_text_atomically(path: Path, text: str) -> None:
    """Write beside and rename: a reader sees all of it or nothing."""
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)

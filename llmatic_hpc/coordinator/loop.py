"""The loop: propose, generate, screen, submit, gather, update, commit.

Read top to bottom. A run is a record, and the archives are a fold over it; nothing else
holds state. Two commits a generation (its code is written; its results are in) and small
files in between make every instant a safe one to be killed at: what is on disk is whole,
and starting again continues from it. Where both code and results can be had again at no cost
(look-ups in a table), nothing lies in between, and generations are committed together.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from .. import config as configuration
from .. import problems, store
from ..config import Config, accelerators
from ..errors import ConfigError, ContainmentError, Interrupted, LLMaticError, RecordError
from ..generation import create
from ..generation.base import Generator
from ..generation.extract import extracted_from
from ..problems.evaluator import Evaluator
from ..rundir import lock
from ..rundir.files import write_atomically
from ..rundir.paths import RunPaths
from ..search import Search
from ..store import Record, rows
from ..store.file import explain_os_error
from ..store.fold import advance, archive_states, new_search, resume
from ..store.record import EVALUATED, PROPOSED
from ..types import Completion, Examined, Proposal, Request, Result
from . import environment
from .in_flight import InFlight

if TYPE_CHECKING:
    from ..cluster import Backend

COMMIT_SECONDS = 1.0
"""Least time between commits where all can be had again at no cost."""
MOST_COMMIT_SECONDS = 30.0
"""Longest time between them, on however slow a disk."""
COMMIT_SHARE = 0.05
"""Most of the time that such commits may take."""


class Observer(Protocol):
    """Listener to a run: is told of stages, progress and results."""

    def notice(self, text: str) -> None:
        """Something a person should know."""
        ...

    def stage(self, generation: int, name: str, total: int) -> None:
        """``generated``, ``screened`` or ``trained`` begins, of ``total`` candidates."""
        ...

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        """So many more candidates are through the stage, for which ``tokens`` were written."""
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
        self,
        config: Config,
        paths: RunPaths,
        observer: Observer,
        stop: threading.Event,
        *,
        backend: Backend | None = None,
    ) -> None:
        self._config = config
        self._paths = paths
        self._observer = observer
        self._stop = stop
        self._in_flight = InFlight(paths)
        self._generator: Generator | None = None
        self._backend = backend
        self._evaluator: Evaluator | None = None
        self._search: Search | None = None
        self._times: dict[str, float] = {}
        self._enough_rows = 0
        """Candidates from which on the budget of queries may be spent."""
        self._committed = -math.inf
        self._pause = COMMIT_SECONDS
        self._is_due = False
        """True while generations of look-ups wait to be committed together; nothing is told."""

    def run(self) -> Record:
        """Start or continue the run until its budget is spent.

        Raises :class:`Interrupted` when asked to stop, with everything saved, and
        :class:`LLMaticError` for whatever a user can mend.
        """
        try:
            self._paths.root.mkdir(parents=True, exist_ok=True)
            with lock.hold(self._paths.lock):
                return self._run()
        except Interrupted:
            if self._evaluator is not None:
                self._evaluator.interrupted()
            raise
        except OSError as error:
            raise LLMaticError(explain_os_error(error, str(self._paths.root))) from error
        finally:
            if self._generator is not None:
                self._generator.close()
            if self._evaluator is not None:
                self._evaluator.close()

    def _run(self) -> Record:
        self._evaluator = evaluator = problems.kind_of(self._config).evaluator(
            self._config,
            self._paths,
            notice=self._observer.notice,
            stop=self._stop,
            backend=self._backend,
        )
        evaluator.prepare()
        record = self._open_record(evaluator)
        self._search = search = resume(record, self._config)
        self._clear_away(record)
        while not self._is_spent(record):
            if self._stop.is_set():
                self._commit_rest(record)
                raise Interrupted("the run was asked to stop; everything is saved")
            proposals = search.ask()
            if record.phase == EVALUATED:
                self._propose(record, proposals)
            if self._evaluate(evaluator, record, search):
                self._observer.generation_done(record)
        self._commit_rest(record)
        evaluator.end(record)
        return record

    def _is_spent(self, record: Record) -> bool:
        """Return whether the budget of generations or of queries is spent."""
        search = self._config.search
        if search.queries and record.phase == EVALUATED and record.rows >= self._enough_rows:
            missing = search.queries - rows.queries(record)
            if missing <= 0:
                return True
            # Counting takes time: not again before there may be enough.
            self._enough_rows = record.rows + missing - len(record.out())
        return record.committed_generations >= search.generations

    def _is_cheap(self, record: Record) -> bool:
        """Return whether completions and results can be had again at no cost."""
        assert self._evaluator is not None
        return self._evaluator.repeatable and self._open_generator(record).repeatable

    def _commit(self, record: Record) -> None:
        began = time.monotonic()
        if self._search is not None:
            record.archives = archive_states(self._search)
        store.commit(self._paths, record)
        self._committed = time.monotonic()
        pause = (self._committed - began) / COMMIT_SHARE
        self._pause = min(max(pause, COMMIT_SECONDS), MOST_COMMIT_SECONDS)
        self._is_due = False

    def _commit_rest(self, record: Record) -> None:
        """Commit generations that were left to be committed with later ones."""
        if self._is_due:
            self._commit(record)

    def _stage(self, generation: int, name: str, total: int) -> None:
        """Tell of a stage, unless it is one of thousands of look-ups."""
        if not self._is_due:
            self._observer.stage(generation, name, total)

    def _advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        if not self._is_due:
            self._observer.advance(name, count, tokens=tokens)

    def _clear_away(self, record: Record) -> None:
        """Remove what a generation that is in the record left, and what is of another run."""
        committed = record.committed_generations
        if self._in_flight.is_of(record.run_id, committed):
            return
        out = record.out() if self._in_flight.is_of(record.run_id, committed - 1) else []
        if not out and self._paths.tasks.exists():
            from ..cluster.local import stop_orphans  # submitit, which look-ups do without

            stop_orphans(self._paths.tasks)
        self._in_flight.end(out)

    @property
    def _trains_all(self) -> bool:
        return self._config.search.train_start

    # --- opening ----------------------------------------------------------------------------

    def _open_record(self, evaluator: Evaluator) -> Record:
        self._problem = evaluator.problem
        if self._paths.record.exists() or self._paths.previous_record.exists():
            record = store.load(self._paths.record)
            before = configuration.from_tables(record.config, str(self._paths.record))
            if changed := configuration.changed_settings(
                *map(_with_bounds, (before, self._config))
            ):
                raise ConfigError(
                    f"{self._paths.root}: this run was started with other settings: "
                    f"{'; '.join(changed)}. Continue it with the old ones "
                    f"({self._paths.config}), or choose another --run-dir"
                )
            facts = evaluator.facts()
            known = {name: record.environment.get(name) for name in facts}
            if facts != known:
                raise RecordError(
                    f"{self._paths.record}: this run was started on other data: it says {known}, "
                    f"here is {facts}. Continue it with the table that it was started with"
                )
            if record.prompts != self._problem.prompts:
                raise RecordError(
                    f"{self._paths.record}: made with other prompts than this version has; "
                    "continue it with the version that started it"
                )
            record.config = configuration.to_tables(self._config)
            return record
        configuration.refuse_retired(self._config)
        search = new_search(self._config, len(self._problem.prompts))
        record = Record(
            run_id=uuid.uuid4().hex,
            config=configuration.to_tables(self._config),
            environment={**environment.describe(), **evaluator.facts()},
            prompts=self._problem.prompts,
            archives=archive_states(search),
        )
        write_atomically(self._paths.config, configuration.to_toml(self._config))
        store.commit(self._paths, record)
        return record

    # --- propose, generate, screen: the first commit ------------------------------------------

    def _propose(self, record: Record, proposals: Sequence[Proposal]) -> None:
        generation = record.committed_generations
        started = time.time()
        self._is_due = is_cheap = self._is_cheap(record)
        if not is_cheap:
            self._in_flight.begin(record.run_id, generation)
        requests = [self._request(record, proposal) for proposal in proposals]
        completions = self._generate(record, generation, requests)
        generated = time.time()
        extracted = [
            extracted_from(completion, request, self._problem.helpers)
            for completion, request in zip(completions, requests, strict=True)
        ]
        examined = self._screen(generation, [code.source for code in extracted])
        originals = rows.Originals(record, None if self._trains_all else starts(proposals))
        record.append_candidates(
            [
                rows.candidate(proposal, completion, code.failure, found, originals, record.axes)
                for proposal, completion, code, found in zip(
                    proposals, completions, extracted, examined, strict=True
                )
            ]
        )
        record.phase = PROPOSED
        self._times = {
            "started": started,
            "generate_seconds": generated - started,
            "screen_seconds": time.time() - generated,
        }
        if not is_cheap:
            self._in_flight.keep_times(**self._times)
            self._commit(record)

    def _generate(
        self, record: Record, generation: int, requests: Sequence[Request]
    ) -> list[Completion]:
        """A completion for every request; those that are on disk are not sampled again."""
        is_kept = not self._is_cheap(record)
        done = self._in_flight.completions() if is_kept else {}
        missing = [request for request in requests if request.candidate not in done]
        self._stage(generation, "generated", len(requests))
        self._advance("generated", len(requests) - len(missing))
        generator = self._open_generator(record)
        for completion in generator.generate(missing) if missing else ():
            done[completion.candidate] = completion
            if is_kept:
                self._in_flight.keep_completion(completion)
            self._advance("generated", tokens=completion.tokens)
            if is_kept and self._stop.is_set() and len(done) < len(requests):
                raise Interrupted("the run was asked to stop; every completion is saved")
        return [done[request.candidate] for request in requests]

    def _open_generator(self, record: Record) -> Generator:
        """Open the generator, the same one for all of a run: its record says who wrote it."""
        if self._generator is None:
            wanted = self._config.generator
            known = record.environment.get("generator")
            kind = environment.generator_kind(record.environment)
            fell_back = bool(kind) and kind != wanted.kind
            if fell_back:
                self._observer.notice(f"this run is written by: {known}")
                wanted = replace(wanted, kind=kind)
            if kind:
                wanted = replace(wanted, fallback="")
            self._generator = create(wanted, self._problem, notify=self._observer.notice)
            record.environment["generator"] = known if fell_back else self._generator.name
            record.environment["generator_kind"] = self._generator.kind
        return self._generator

    def _request(self, record: Record, proposal: Proposal) -> Request:
        problem = self._problem
        instruction = {
            "mutation": lambda: problem.prompts[proposal.prompt],
            "crossover": lambda: problem.crossover_prompt,
            "random": lambda: problem.random_prompt,
            "neighbour": lambda: problem.random_prompt,  # of a baseline, without a model to read it
        }[proposal.operator]()
        parents = tuple(record.candidates["source"][parent] for parent in proposal.parents)
        return Request(
            candidate=proposal.candidate,
            operator=proposal.operator,
            prompt=proposal.prompt,
            instruction=instruction,
            parents=parents or (problem.initial_source,),
            temperature=proposal.temperature,
            seed=proposal.sampling_seed,
            neighbour=proposal.individual if proposal.operator == "neighbour" else -1,
            seen=record.architectures,
        )

    def _screen(self, generation: int, sources: Sequence[str]) -> list[Examined]:
        assert self._evaluator is not None
        self._stage(generation, "screened", len(sources))
        examined = self._evaluator.examine(sources, repair=self._config.generator.repair)
        for found in examined:
            if found.screened.status == "infrastructure":
                raise ContainmentError(
                    f"a network could not be screened: {found.screened.failure}. Nothing is "
                    "lost: mend that and start the run again"
                )
        self._advance("screened", len(sources))
        return examined

    # --- evaluate, update: the second commit --------------------------------------------------

    def _evaluate(self, evaluator: Evaluator, record: Record, search: Search) -> bool:
        """Evaluate and update; return whether the generation was committed at once."""
        duplicates = record.candidates["duplicate_of"] >= 0
        due = [row for row in record.out() if not duplicates[row]]
        began = time.time()
        self._stage(record.committed_generations, "trained", len(due))
        evaluated = evaluator.evaluate(record, due, self._on_result)
        if why := _spoiled([evaluated.rows.get(row, {}) for row in due]):
            self._in_flight.forget()
            raise LLMaticError(
                f"the machine spoiled every candidate of generation {record.committed_generations}"
                f", most often: {why}. Nothing is lost: mend that and start the run again"
            )
        timings = {
            **(self._times or self._in_flight.times()),
            **{f"lost_{kind}_seconds": s for kind, s in evaluated.lost.items()},
            "evaluate_seconds": time.time() - began,
        }
        advance(record, search, evaluated.rows, timings)
        self._times = {}
        if not self._is_due:
            self._commit(record)
            self._in_flight.end(set(record.out()))
            return True
        if time.monotonic() - self._committed >= self._pause:
            self._commit(record)
        return not self._is_due

    def _on_result(self, result: Result) -> None:
        self._advance("trained")
        if math.isfinite(result.outcome.fitness):
            self._observer.scored(result.candidate, result.outcome.fitness)


# --- small pure parts -------------------------------------------------------------------------


def starts(proposals: Sequence[Proposal]) -> bool:
    """Return whether a generation is made from the initial network by mutation."""
    return any(p.operator == "mutation" and not p.parents for p in proposals)


def _spoiled(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the commonest reason where the machine spoiled all there is; else an empty text.

    A device that was lost in the middle of a training may be that candidate's own doing.
    """
    reasons = Counter(str(row["failure"]) for row in found if row.get("status") == "infrastructure")
    lost = any(accelerators.fault(reason) in accelerators.LOST for reason in reasons)
    all_of_them = bool(found) and reasons.total() == len(found)
    return reasons.most_common(1)[0][0] if all_of_them and not lost else ""


def _with_bounds(config: Config) -> Config:
    """Write out the bounds of the network archive; left out, they are the problem's."""
    archive = config.archive
    own = configuration.PROBLEMS.get(config.problem.kind)().descriptors(config.problem)
    axes = configuration.network_axes(archive.network, own)
    network = replace(
        archive.network,
        lower=tuple(one.lower for one in axes),
        upper=tuple(one.upper for one in axes),
    )
    return replace(config, archive=replace(archive, network=network))

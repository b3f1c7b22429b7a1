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
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configuration
from .. import problems, store
from ..config import Config
from ..errors import ConfigError, ContainmentError, Interrupted, LLMaticError, RecordError
from ..generation.base import Generator, stopped_by
from ..generation.extract import extracted_from
from ..generation.several import repeatable
from ..problems.evaluator import Evaluator
from ..rundir import lock
from ..rundir.files import write_atomically
from ..rundir.paths import RunPaths
from ..search import Search
from ..store import Record, fold, places, requests, rewritings, rows
from ..store.file import explain_os_error
from ..store.fold import advance, archive_states, new_search, resume
from ..store.record import EVALUATED, PROPOSED
from ..types import REPEAT, Completion, Examined, Proposal, Request
from . import bounds, environment, task
from .asking import Answer, answered, starts
from .budget import Budget
from .in_flight import PROMPTS, InFlight
from .observing import Observer, Silent
from .opening import open_generator, prompt_writer
from .tracking import Mirrors
from .trainings import Trainings

if TYPE_CHECKING:
    from ..cluster import Backend

COMMIT_SECONDS = 5.0
"""Least time between commits where all can be had again at no cost."""
MOST_COMMIT_SECONDS = 30.0
"""Longest time between them, on however slow a disk."""
COMMIT_SHARE = 0.02
"""Most of the time that such commits may take."""


@dataclass(eq=False)
class Coordinator:
    """Runs one search in one run directory."""

    config: Config
    paths: RunPaths
    observer: Observer
    stop: threading.Event
    _: KW_ONLY
    backend: Backend | None = None
    evaluator: Evaluator | None = None
    """In place of the problem's own, for a rehearsal."""
    _generator: Generator | None = field(default=None, init=False)
    _evaluator: Evaluator | None = field(default=None, init=False)
    _search: Search | None = field(default=None, init=False)
    _times: dict[str, float] = field(default_factory=dict, init=False)
    _committed: float = field(default=-math.inf, init=False)
    _pause: float = field(default_factory=lambda: COMMIT_SECONDS, init=False)
    _started: float = field(default_factory=time.monotonic, init=False)
    """Begin of the time of this coordinator that the record does not have yet."""
    _is_due: bool = field(default=False, init=False)
    """True while generations of look-ups wait to be committed together; nothing is told."""

    def __post_init__(self) -> None:
        self._in_flight = InFlight(self.paths)
        self._mirrors = Mirrors(self.paths, self.observer.notice)

    def run(self) -> Record:
        """Start or continue the run until its budget is spent.

        Raises :class:`Interrupted` when asked to stop, with everything saved, and
        :class:`LLMaticError` for whatever a user can mend.
        """
        try:
            self.paths.root.mkdir(parents=True, exist_ok=True)
            with lock.hold(self.paths.lock):
                try:
                    return self._run()
                except Interrupted:
                    # Under the lock still: the workers of the next coordinator are not ours to end.
                    if self._evaluator is not None:
                        self._evaluator.interrupted()
                    raise
        except OSError as error:
            raise LLMaticError(explain_os_error(error, str(self.paths.root))) from error
        finally:
            self._mirrors.leave()
            if self._generator is not None:
                self._generator.close()
            if self._evaluator is not None:
                self._evaluator.close()

    def _run(self) -> Record:
        self._evaluator = evaluator = self.evaluator or problems.kind_of(self.config).evaluator(
            self.config,
            self.paths,
            notice=self.observer.notice,
            stop=self.stop,
            backend=self.backend,
        )
        evaluator.waits = getattr(self.observer, "waits", evaluator.waits)
        evaluator.prepare()
        record = self._open_record(evaluator)
        self._mirrors.start(self.config.run.trackers)
        self._search = search = resume(record, self.config)
        self._clear_away(record)
        budget = Budget(self.config.search)
        while not budget.is_spent(record, search):
            if self.stop.is_set():
                self._commit_rest(record)
                raise Interrupted("the run was asked to stop; everything is saved")
            if record.phase == EVALUATED:
                self._begin(evaluator, record)
                self._rewrite(record, search)
            proposals = fold.ask(record, search)
            if record.phase == EVALUATED:
                self._propose(evaluator, record, search, proposals)
            if self._evaluate(evaluator, record, search):
                self.observer.generation_done(record)
                self._mirrors.tell()
        if self._trainings(evaluator, record, search).finish():
            self._commit(record)
            self._in_flight.end(())
        self._commit_rest(record)
        if words := budget.last_words(record, search):
            self.observer.notice(words)
        evaluator.end(record)
        self._mirrors.finish()
        return record

    def _commit(self, record: Record) -> None:
        began = time.monotonic()
        self._count_time(record)
        if self._search is not None:
            record.archives = archive_states(self._search, record)
        store.commit(self.paths, record)
        self._committed = time.monotonic()
        pause = (self._committed - began) / COMMIT_SHARE
        self._pause = min(max(pause, COMMIT_SECONDS), MOST_COMMIT_SECONDS)
        self._is_due = False

    def _count_time(self, record: Record) -> None:
        """Add the time since the last call to what the run has been alive."""
        now = time.monotonic()
        record.alive_seconds += now - self._started
        self._started = now

    def _commit_rest(self, record: Record) -> None:
        """Commit generations that were left to be committed with later ones."""
        if self._is_due:
            self._commit(record)

    @property
    def _told(self) -> Observer:
        """Whom to tell of stages; of one of thousands of look-ups nobody is told."""
        return Silent() if self._is_due else self.observer

    def _clear_away(self, record: Record) -> None:
        """Remove what a generation that is in the record left, and what is of another run."""
        committed = record.committed_generations
        if self._in_flight.is_of(record.run_id, committed):
            return
        out = record.out() if self._in_flight.is_of(record.run_id, committed - 1) else []
        if not out and self.paths.generation.exists():
            from ..cluster.local import stop_orphans  # submitit, which look-ups do without

            stop_orphans(self.paths.generation)
        self._in_flight.end(out)

    # --- opening ----------------------------------------------------------------------------

    def _open_record(self, evaluator: Evaluator) -> Record:
        self._problem = evaluator.problem
        if self.paths.record.exists() or self.paths.previous_record.exists():
            record = store.load(self.paths.record)
            before = configuration.from_tables(record.config, str(self.paths.record))
            self.config = bounds.of_run(before, self.config)
            if changed := bounds.changed(before, self.config):
                raise ConfigError(
                    f"{self.paths.root}: this run was started with other settings: "
                    f"{'; '.join(changed)}. Continue it with the old ones "
                    f"({self.paths.config}), or choose another --run-dir"
                )
            data_sha256 = evaluator.start()
            environment.refuse_other_data(record, evaluator, data_sha256, self.paths.record)
            if record.prompts[: record.own_prompts] != self._problem.prompts:
                raise RecordError(
                    f"{self.paths.record}: made with other prompts than this version has; "
                    "continue it with the version that started it"
                )
            task.refuse_other_templates(self.config, record.task)
            record.config = configuration.to_tables(self.config)
            return record
        configuration.refuse_retired(self.config)
        data_sha256 = evaluator.start()
        self.config = bounds.of_initial(self.config, evaluator)
        search = new_search(self.config, len(self._problem.prompts))
        record = Record(
            run_id=uuid.uuid4().hex,
            config=configuration.to_tables(self.config),
            environment={
                **environment.describe(),
                **evaluator.facts(),
                "initial_network": self._problem.initial_source,
            },
            prompts=self._problem.prompts,
            archives=archive_states(search),
            data_sha256=data_sha256,
            rungs=problems.kind_of(self.config).rungs(self.config),
            task=task.facts(self.config, evaluator),
        )
        if record.evolves:
            prompt_writer(self._open_generator(record))
        write_atomically(self.paths.config, configuration.to_toml(self.config))
        store.commit(self.paths, record)
        return record

    # --- propose, generate, screen: the first commit ------------------------------------------

    def _begin(self, evaluator: Evaluator, record: Record) -> None:
        """Begin a generation; of one that costs nothing no trace is kept until it is committed."""
        self._is_due = evaluator.repeatable and self._open_generator(record).repeatable
        if not self._is_due:
            self._in_flight.begin(record.run_id, record.committed_generations)

    def _rewrite(self, record: Record, search: Search) -> None:
        """Have the prompts rewritten that are due, and enter what was written into the record."""
        if not record.evolves:
            return
        writer = prompt_writer(self._open_generator(record))
        if asked := rewritings.requests(record, search, writer):
            answers = self._generate(record, record.committed_generations, asked, PROMPTS)
            rewritings.enter(record, search, asked, answers)

    def _propose(
        self, evaluator: Evaluator, record: Record, search: Search, proposals: Sequence[Proposal]
    ) -> None:
        generation = record.committed_generations
        started = time.time()
        new = [proposal for proposal in proposals if proposal.operator != REPEAT]
        texts = requests.texts(record, self.config, search, new)
        asked = [
            requests.request_of(p, record, self._problem, texts.get(p.candidate, ""), number)
            for number, p in enumerate(new, record.completions)
        ]
        spent = {"generate_seconds": 0.0, "screen_seconds": 0.0}

        def ask(due: Sequence[Request], number: int) -> list[Answer]:
            began = time.time()
            completions = self._generate(record, generation, due, number)
            generated = time.time()
            answers = self._read(evaluator, generation, due, completions)
            spent["generate_seconds"] += generated - began
            spent["screen_seconds"] += time.time() - generated
            return answers

        found = answered(self.config, record, new, asked, ask)
        began = time.time()
        originals = rows.Originals(record, None if self.config.search.train_start else starts(new))
        kept = [one.answer for one in found]
        given = places.give(
            search, record, originals, proposals, [one.completion for one in kept],
            [one.missing for one in kept], [one.examined for one in kept],
        )  # fmt: skip
        columns = [one.columns for one in found]
        sampled = [row | more for row, more in zip(given, columns, strict=False)]
        record.append_candidates(sampled + given[len(sampled) :])  # repeats are not sampled
        record.phase = PROPOSED
        spent["screen_seconds"] += time.time() - began
        self._times = {"started": started, **spent}
        if not self._is_due:
            self._in_flight.keep_times(**self._times)
            self._commit(record)

    def _generate(
        self, record: Record, generation: int, requests: Sequence[Request], number: int | str
    ) -> list[Completion]:
        """A completion for every request of a round; what is on disk is not sampled again."""
        is_kept, generator = not self._is_due, self._open_generator(record)
        done = self._in_flight.completions(number) if is_kept else {}
        for request in requests:
            if request.operator == "seed":
                seed = request.candidate // self.config.search.oversample
                source = self._problem.seeds[seed]
                done[request.candidate] = Completion(request.candidate, source, "source")
        # What costs nothing is written again, all of it: it may depend on its neighbours.
        again = {r.candidate for r in requests if r.writer and repeatable(generator, r)}
        missing = [r for r in requests if r.candidate not in done or r.candidate in again]
        self._told.stage(generation, "generated", len(requests))
        self._told.advance("generated", len(requests) - len(missing))
        for completion in generator.generate(missing) if missing else ():
            done[completion.candidate] = completion
            if is_kept and completion.candidate not in again:
                self._in_flight.keep_completion(completion, number)
            self._told.advance("generated", tokens=completion.tokens)
            if is_kept and self.stop.is_set() and len(done) < len(requests):
                raise Interrupted("the run was asked to stop; every completion is saved")
        return [done[request.candidate] for request in requests]

    def _open_generator(self, record: Record) -> Generator:
        """Open the generator, the same one for all of a run: its record says who wrote it."""
        if self._generator is None:
            with stopped_by(self.stop):
                self._generator = open_generator(
                    self.config.generator,
                    self._problem,
                    record.environment,
                    notify=self.observer.notice,
                )
        return self._generator

    def _read(
        self,
        evaluator: Evaluator,
        generation: int,
        requests: Sequence[Request],
        completions: Sequence[Completion],
    ) -> list[Answer]:
        """Read the networks of completions, and screen them."""
        extracted = [
            extracted_from(completion, request, self._problem.helpers)
            for completion, request in zip(completions, requests, strict=True)
        ]
        examined = self._screen(evaluator, generation, [code.source for code in extracted])
        missing = [code.failure for code in extracted]
        return [Answer(*one) for one in zip(completions, missing, examined, strict=True)]

    def _screen(
        self, evaluator: Evaluator, generation: int, sources: Sequence[str]
    ) -> list[Examined]:
        self._told.stage(generation, "screened", len(sources))
        examined = evaluator.examine(sources, repair=self.config.generator.repair)
        for found in examined:
            if found.screened.status == "infrastructure":
                raise ContainmentError(
                    f"a network could not be screened: {found.screened.failure}. Nothing is "
                    "lost: mend that and start the run again"
                )
        self._told.advance("screened", len(sources))
        return examined

    # --- evaluate, update: the second commit --------------------------------------------------

    def _evaluate(self, evaluator: Evaluator, record: Record, search: Search) -> bool:
        """Evaluate and update; return whether the generation was committed at once."""
        duplicates = record.candidates["duplicate_of"] >= 0
        due = [row for row in record.out() if not duplicates[row]]
        began = time.time()
        evaluated = self._trainings(evaluator, record, search).run(due)
        timings = {
            **(self._times or self._in_flight.times()),
            **{f"lost_{kind}_seconds": s for kind, s in evaluated.lost.items()},
            "evaluate_seconds": time.time() - began,
        }
        aimed = search.aiming.is_on
        advance(record, search, evaluated.rows, timings)
        if aimed and not search.aiming.is_on:
            self.observer.notice(
                "targets switched themselves off: answers hit the niches that were named no more "
                "than by chance ('llmatic status RUN --targets')"
            )
        self._times = {}
        self._count_time(record)  # also where generations are committed together
        if not self._is_due:
            self._commit(record)
            self._in_flight.end(set(record.out()))
            return True
        if time.monotonic() - self._committed >= self._pause:
            self._commit(record)
        return not self._is_due

    def _trainings(self, evaluator: Evaluator, record: Record, search: Search) -> Trainings:
        return Trainings(evaluator, record, search, self._in_flight, self.observer, self._told)


# --- the same from Python, without a command line -----------------------------------------------


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a configuration from a TOML file, with ``KEY=VALUE`` overrides.

    Raises :class:`~llmatic_hpc.errors.ConfigError` for whatever is wrong with it, in one line.
    """
    return configuration.load(Path(path), overrides)


def run(
    config: Config,
    directory: str | Path,
    *,
    generations: int | None = None,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
) -> Record:
    """Start or continue the run in ``directory`` until its budget is spent.

    Args:
        config: the settings; those of a run that is continued may differ only in place, pace and
            length.
        directory: the run directory; it is made.
        generations: in place of ``search.generations``.
        observer: is told of stages, progress and results.
        stop: set it, from another thread, to have the run save everything and leave.

    Returns:
        The record, as it also stands in ``directory/run.h5``.

    Raises:
        LLMaticError: something that a user can mend; the message says what, where, what next.
        Interrupted: ``stop`` was set; calling again continues.
    """
    environment.spare_machine()
    if generations is not None:
        config = replace(config, search=replace(config.search, generations=generations))
    paths = RunPaths(Path(directory))
    return Coordinator(config, paths, observer or Silent(), stop or threading.Event()).run()

"""Single candidates outside a run: what a config's generator, screen and training make of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from .. import config as configuration
from .. import generation, problems
from ..config import Config
from ..errors import LLMaticError
from ..evaluation.audit import Audit, audit
from ..generation.extract import extracted_from
from ..store import Record, rows
from ..types import NO_PROMPT, Completion, Examined, Outcome, Request, Screened
from . import environment

COMPARED = ("fitness", "valid_accuracy", "test_accuracy", "train_loss")
"""Columns that the same training gives again to the last digit."""


def screen_sources(config: Config, sources: Sequence[str]) -> list[Screened]:
    """The screen's verdict on each source text."""
    with problems.alone(config) as evaluator:
        return [found.screened for found in evaluator.examine(sources, repair=False)]


def audit_screened(
    config: Config, sources: Sequence[str], verdicts: Sequence[Screened]
) -> list[Audit]:
    """Count the multiply-adds of the sources that fit with fvcore, too."""
    fit = [
        s for s, v in zip(sources, verdicts, strict=True) if v.descriptors and not v.architecture
    ]
    shape = problems.problem_of(config).input_shape
    found = dict(
        zip(fit, audit(fit, input_shape=shape, containment=config.containment), strict=True)
    )
    known = "its FLOPs are those of the benchmark's table"
    return [
        found.get(source) or Audit(failure=known if verdict.architecture else "it does not fit")
        for source, verdict in zip(sources, verdicts, strict=True)
    ]


def evaluate_source(
    config: Config, source: str, seed: int | None = None
) -> tuple[Screened, Outcome]:
    """Screen and score a source text as a run would; ``seed`` of its training: None, the run's."""
    with problems.alone(config) as evaluator:
        return evaluator.judge(source, seed=seed)


@dataclass(frozen=True)
class Recorded:
    """Candidate of a record, with all that its evaluation went by."""

    record: Record
    candidate: int
    """The one that was evaluated; of a duplicate its original."""
    config: Config

    @property
    def source(self) -> str:
        """Source text as it was trained."""
        return str(self.record.candidates["source"][self.candidate])

    @property
    def seed(self) -> int:
        """Seed of its training."""
        return int(self.record.candidates["seed"][self.candidate])

    def differences(self, outcome: Outcome) -> list[str]:
        """Say in what another evaluation differs from the recorded one: nothing, if it is equal."""
        table, status = self.record.candidates, self.record.status(self.candidate)
        if outcome.status != status:
            return [f"status: recorded {status}, now {outcome.status}"]
        pairs = [(k, float(table[k][self.candidate]), getattr(outcome, k)) for k in COMPARED]
        return [
            f"{name.replace('_', ' ')}: recorded {before!r}, now {now!r}"
            for name, before, now in pairs
            if before != now and not (math.isnan(before) and math.isnan(now))
        ]

    def surroundings(self, outcome: Outcome) -> list[str]:
        """Say in what device, machine and packages differ from those that evaluated it."""
        here, then = environment.describe(), self.record.environment
        before = {**then, **then.get("packages", {})}
        before["host"] = self.record.candidates["node"][self.candidate].decode() or then.get("host")
        device = self.record.candidates["device"][self.candidate].decode()
        before["device"] = device or outcome.device  # older records do not say
        now = {**here, **here["packages"], "device": outcome.device}
        names = ("host", "device", "platform", "cores", "python", "torch", "numpy", "llmatic_hpc")
        return [
            f"{name}: recorded {before[name]}, here {now[name]}"
            for name in names
            if before.get(name, now[name]) != now[name]
        ]


def recorded(record: Record, candidate: int, overrides: Sequence[str] = ()) -> Recorded:
    """Find what a candidate's evaluation went by; ``overrides`` may say where the data are now.

    Raises :class:`LLMaticError` where there is no such candidate or it has no source.
    """
    if candidate >= record.rows:
        raise LLMaticError(f"there is no candidate {candidate}; there are {record.rows}")
    original = int(record.candidates["duplicate_of"][candidate])
    row = candidate if original < 0 else original
    if not record.candidates["source"][row]:
        raise LLMaticError(f"candidate {row} has no source: {record.candidates['failure'][row]}")
    if (status := record.status(row)) in ("pending", "infrastructure", "passed_over"):
        raise LLMaticError(f"candidate {row} has no result that could come again: it is {status}")
    if status == "stopped":
        raise LLMaticError(
            f"candidate {row} has no score of a training in full: "
            f"{record.candidates['failure'][row]}; 'llmatic export RUN --candidate {row}' writes a "
            "file that can be evaluated"
        )
    config = configuration.override(configuration.from_tables(record.config, "run.h5"), overrides)
    training = replace(config.training, threads=_threads(record, config))
    if not config.search.train_start and rows.is_of_start(record, row):
        training = replace(training, epochs=0)
    return Recorded(record, row, replace(config, training=training))


def _threads(record: Record, config: Config) -> int:
    """Return the threads that trained a candidate of the record; 0: as many as a job was given."""
    from ..cluster.placement import threads_per_task

    kind = config.cluster.kind
    if kind == "auto":
        kind = "slurm" if record.environment.get("slurm") else "local"
    placed = replace(config, cluster=replace(config.cluster, kind=kind))
    threads = threads_per_task(placed)
    return max(1, threads // config.cluster.workers_per_task) if threads else 0


def screen(source: str, config: Config | None = None) -> Screened:
    """Screen the source text of a network in a contained process, without training it.

    Args:
        source: a module of Python whose last class that derives from ``torch.nn.Module`` and
            needs no arguments is the network.
        config: settings of the problem and of containment; the defaults are scikit-learn's digits.

    Returns:
        The verdict, ``pending`` where the network can be trained, with width, depth, FLOPs and
        parameters.

    Raises:
        LLMaticError: data or containment cannot be had.
    """
    return screen_sources(config or Config(), [source])[0]


def evaluate(source: str, config: Config | None = None) -> Outcome:
    """Screen and train the source text of a network as a compute node would, and score it.

    Arguments and errors are those of :func:`screen`; accuracies are shares, from 0 to 1.
    """
    return evaluate_source(config or Config(), source)[1]


def generate_candidates(
    config: Config,
    *,
    parents: Sequence[str],
    prompt: int,
    temperature: float,
    count: int,
    seed: int,
    notify: Callable[[str], None],
    writer: str | None = None,
) -> Iterator[tuple[Completion, Examined]]:
    """Completion and what became of it, ``count`` times with seeds from ``seed`` on.

    Two parents make a crossover; of several writers the first writes, or the one that is named.
    Raises :class:`LLMaticError` for a prompt or a writer that does not exist.
    """
    writers = config.generator.by_name()
    writer = next(iter(writers)) if writer is None else writer
    if writer not in writers:
        known = ", ".join(filter(None, writers)) or "generator.writers is empty"
        raise LLMaticError(f"--writer {writer}: there is no such writer; there are: {known}")
    problem = problems.problem_of(config)
    if not 0 <= prompt < len(problem.prompts):
        known = "\n".join(f"  {i:2d}  {text}" for i, text in enumerate(problem.prompts))
        raise LLMaticError(f"--prompt {prompt}: there is no such prompt. There are:\n{known}")
    crossover = len(parents) >= 2
    request = Request(
        candidate=0,
        operator="crossover" if crossover else "mutation",
        prompt=NO_PROMPT if crossover else prompt,
        instruction=problem.crossover_prompt if crossover else problem.prompts[prompt],
        parents=tuple(parents) or (problem.initial_source,),
        temperature=temperature,
        seed=seed,
    )
    requests = [replace(request, candidate=i, seed=seed + i) for i in range(count)]
    generator = generation.create(writers[writer], problem, notify=notify)
    try:
        with problems.alone(config) as evaluator:
            for completion in generator.generate(requests):
                code = extracted_from(completion, request, problem.helpers)
                found = evaluator.examine([code.source], repair=config.generator.repair)[0]
                if failure := completion.failure or code.failure:
                    verdict = replace(found.screened, status="invalid", failure=failure)
                    found = replace(found, screened=verdict)
                yield completion, found
    finally:
        generator.close()

"""Single candidates outside a run: what a config's generator, screen and training make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .. import generation, problems
from ..config import Config
from ..errors import LLMaticError
from ..evaluation.audit import Audit, audit
from ..generation.extract import extracted_from
from ..types import NO_PROMPT, Completion, Examined, Outcome, Request, Screened


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


def evaluate_source(config: Config, source: str) -> tuple[Screened, Outcome]:
    """Screen and score a source text as a run would."""
    with problems.alone(config) as evaluator:
        return evaluator.judge(source)


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
) -> Iterator[tuple[Completion, Examined]]:
    """Completion and what became of it, ``count`` times with seeds from ``seed`` on.

    Two parents make a crossover. Raises :class:`LLMaticError` for a prompt that does not exist.
    """
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
    generator = generation.create(config.generator, problem, notify=notify)
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

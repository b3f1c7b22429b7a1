"""A generation that is told: whether it may be, and its row of the history."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

from ..types import Evaluation, Generation, Update
from .archive import Archive

TOLD = ("scored", "stopped", "untrainable", "infrastructure", "passed_over")
"""Statuses that a search knows."""


class AskTellError(RuntimeError):
    """Raised where ask() and tell() are called out of order or with foreign evaluations: a bug."""


@dataclass(frozen=True)
class Told:
    """Effect of a generation's evaluations."""

    updates: tuple[Update, ...]
    """One per candidate, in order."""
    generation: Generation


def check(evaluations: Sequence[Evaluation], out: Container[int], axes: int) -> None:
    """Refuse evaluations that no search can be told.

    ``out`` are the candidates that were asked for and not told yet, ``axes`` is the number of
    descriptors. Raises :class:`AskTellError`.
    """
    last = -1
    for evaluation in evaluations:
        if evaluation.candidate not in out:
            raise AskTellError(f"candidate {evaluation.candidate}: not asked for, or told before")
        if evaluation.candidate <= last:
            raise AskTellError(
                f"candidate {evaluation.candidate}: told after candidate {last}; the order is "
                "that of the candidates, each once"
            )
        last = evaluation.candidate
        if evaluation.status not in TOLD:
            raise AskTellError(
                f"candidate {evaluation.candidate}: unknown status {evaluation.status!r}; "
                f"{', '.join(TOLD)} are known"
            )
        if evaluation.status == "scored" and len(evaluation.descriptors) != axes:
            raise AskTellError(
                f"candidate {evaluation.candidate}: scored, with {len(evaluation.descriptors)} "
                f"descriptors where the network archive has {axes} axes"
            )


def history_row(
    number: int,
    asked: tuple[str, str, str],
    best: float,
    evaluations: Sequence[Evaluation],
    updates: Sequence[Update],
    archives: tuple[Archive, Archive],
    collective: tuple[float, ...],
) -> Generation:
    """Sum up generation ``number``: what it brought, and the network and the prompt archive.

    ``asked``: its phase, the operator that was applied, and the one that was drawn.
    """
    networks, prompts = archives
    scored = [e.fitness for e in evaluations if e.status == "scored"]
    finite = [fitness for fitness in scored if math.isfinite(fitness)]
    phase, operator, operator_drawn = asked
    return Generation(
        generation=number,
        phase=phase,
        operator=operator,
        operator_drawn=operator_drawn,
        best_before=best,
        best_fitness=max(finite, default=math.nan),
        mean_fitness=math.fsum(finite) / len(finite) if finite else math.nan,
        trainable=sum(e.status in ("scored", "stopped") for e in evaluations),
        added=sum(update.network_added > 0 for update in updates),
        network_elites=networks.num_elites,
        network_coverage=networks.coverage,
        network_qd_score=networks.qd_score,
        prompt_elites=prompts.num_elites,
        prompt_coverage=prompts.coverage,
        collective=collective,
    )

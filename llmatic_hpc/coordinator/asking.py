"""Rounds of asking a generator: every candidate once, some of them again before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..config import Config
from ..store import Record, rows, tries
from ..store.requests import digest
from ..types import PENDING, Completion, Examined, Proposal, Request


@dataclass(frozen=True)
class Answer:
    """A completion as it was read and screened."""

    completion: Completion
    missing: str
    """Why no source could be read from it; empty otherwise."""
    examined: Examined


@dataclass(frozen=True)
class Answered:
    """A candidate's answer that is kept, and those that were not."""

    answer: Answer
    earlier: Sequence[dict[str, Any]] = ()
    seconds: float = 0.0
    """Time that those took."""

    request: str = ""
    """Text of the informed request; empty: it was the paper's."""

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the candidate that tell of request and answers that were not kept."""
        return {
            "request_sha256": digest(self.request),
            "generate_seconds": self.answer.completion.seconds + self.seconds,
            **tries.columns(self.earlier),
        }


Ask = Callable[[Sequence[Request], int], list[Answer]]
"""Answers requests of a round, in order."""


def answered(
    config: Config,
    record: Record,
    proposals: Sequence[Proposal],
    requests: Sequence[Request],
    ask: Ask,
) -> list[Answered]:
    """Ask for a completion for every request, and again for those that :mod:`~..store.tries` says.

    A round asks at once for all that are due in it, so that a run that was killed asks for the
    same ones again, in the same order.
    """
    found = dict(zip((p.candidate for p in proposals), ask(requests, 0), strict=True))
    number = record.completions + len(requests)
    earlier: dict[int, list[dict[str, Any]]] = {candidate: [] for candidate in found}
    if not (config.generator.resample or config.generator.retry):
        return [Answered(a, request=r.text) for a, r in zip(found.values(), requests, strict=True)]
    seconds = dict.fromkeys(found, 0.0)
    decided = tries.rounds(record, config, record.committed_generations)
    of = {p.candidate: (p, request) for p, request in zip(proposals, requests, strict=True)}
    exempt = {p.candidate for p in proposals if p.operator in tries.AS_THEY_ARE}
    decided.due({c: _seen(found[c]) for c in of if c in exempt}, final=True)
    new = {c: found[c] for c in of if c not in exempt}
    for count in range(1, 2 + config.generator.resample + config.generator.retry):
        due = decided.due({candidate: _seen(answer) for candidate, answer in new.items()})
        if not due:
            break
        again: list[Request] = []
        for candidate, why in due.items():
            proposal, request = of[candidate]
            kinds = [one["kind"] for one in earlier[candidate]]
            before = tries.seed_and_temperature(config, proposal, kinds)
            last = found[candidate]
            seconds[candidate] += last.completion.seconds
            reason = why.reason(proposal.parents)
            earlier[candidate].append(_entry(last, why.kind, reason, before))
            more: dict[str, Any] = {"number": number + len(again)}
            if why.kind == tries.RETRY:
                error = last.completion.failure or last.missing or last.examined.screened.failure
                more |= {"answered": last.completion.text, "error": error}
            asking = tries.seed_and_temperature(config, proposal, [*kinds, why.kind])
            again.append(replace(request, **asking, **more))
        number += len(again)
        new = dict(zip(due, ask(again, count), strict=True))
        found |= new
    return [Answered(found[c], earlier[c], seconds[c], of[c][1].text) for c in of]


def _seen(answer: Answer) -> tries.Seen:
    verdict = answer.examined.screened
    if not answer.examined.source:
        return tries.Seen("", False)
    return tries.Seen(verdict.canonical_sha256, verdict.status == PENDING)


def _entry(answer: Answer, kind: str, why: str, sampled: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a completion that is sampled again."""
    completion, seen = answer.completion, _seen(answer)
    failure = completion.failure or answer.missing or answer.examined.screened.failure
    return {
        "kind": kind,
        "why": why,
        "failure": failure,
        "completion": completion.text[: rows.LONGEST_COMPLETION],
        "form": completion.form,
        "tokens": completion.tokens,
        "canonical_sha256": seen.key,
        "fits": seen.fits,
        **sampled,
    }


def starts(proposals: Sequence[Proposal]) -> bool:
    """Return whether a generation is made from the initial network by mutation."""
    return any(p.operator == "mutation" and not p.parents for p in proposals)

"""Screen sources: gate, digest, measures and repair, before anything is trained.

Three steps from cheap to dear: the static gate and the canonical digest here in the judge,
which only look at the text, then building and measuring in contained children.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..config import ContainmentSettings
from ..sandbox.container import Container, Job, Reply
from ..sandbox.wire import FAULTS
from ..source import gate
from ..types import PENDING, Descriptors, Examined, Repair, Screened
from . import repair

GROUP = 25
"""Sources that are measured in one child at first."""
EXAMINED = "examined"
"""Status of a child's reply that holds both a verdict and what could be repaired."""

MOST_WHOLE = 1 << 53
"""No measure of a network is so large: whole numbers in floating point end there."""

_MEASURES = tuple(field.name for field in fields(Descriptors))
_WHOLE = ("width", "depth", "params", "activation_bytes")


class Screener:
    """Screens sources for one problem, ``slots`` at a time. A context manager.

    ``slots = 0``: as many as this process has cores. The contained children's warm parent
    starts to load at once and is waited for by the first source that passes the gate.
    With a ``container`` of the caller's, children start in that one, which stays open.
    Sources with equal canonical digests are the same network and are measured once. ``proxies``:
    of what fits, also what :mod:`.proxies` says; nothing goes by it.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        classes: int,
        containment: ContainmentSettings,
        proxies: bool = False,
        slots: int = 0,
        container: Container | None = None,
    ) -> None:
        self._settings = containment
        self._parameters: dict[str, Any] = {
            "input_shape": list(input_shape),
            "classes": classes,
            "max_params": containment.max_params,
            "max_flops": containment.max_flops,
            "max_layers": containment.max_layers,
            "seed": 0,
        }
        self._proxies = proxies
        self._large = False
        """True once a network was large: others are taken for that, too, which only costs time."""
        self._known: dict[str, Screened] = {}
        self._repairs: dict[str, tuple[str, list[Repair]]] = {}
        self._looked: dict[str, Screened] = {}
        self._named: dict[str, tuple[str, list[Repair]]] = {}
        self._owned = container is None
        self._container = container or Container(
            containment, slots=slots or len(os.sched_getaffinity(0)), kind="measure"
        )

    def __enter__(self) -> Screener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the contained processes."""
        if self._owned:
            self._container.close()

    def screen(self, sources: Sequence[str]) -> list[Screened]:
        """Return the verdicts, in order. ``pending``: fit to be trained, with descriptors.

        A verdict of ``infrastructure`` is none: no child could be had for that source, and
        it may be screened again. Raises
        :class:`~llmatic_hpc.errors.ContainmentError` where children cannot be had at all.
        """
        self._begin()
        return self._screened(sources, repair=False)

    def examine(self, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        """Return the sources with their verdicts; ``repair``: repaired where rules make them fit.

        A source that would not fit afterwards stays as it was written, with its verdict.
        """
        self._begin()
        written = dict(zip(sources, self._screened(sources, repair=repair), strict=True))
        found = {source: Examined(source, verdict, verdict) for source, verdict in written.items()}
        if repair:
            ill = [s for s, verdict in written.items() if verdict.status == "invalid" and s]
            spoiled = self._look_for_repairs(ill)
            found |= {s: Examined(s, verdict, written[s]) for s, verdict in spoiled.items()}
            repaired = [s for s in ill if s not in spoiled and self._repairs[s][1]]
            verdicts = self._screened([self._repairs[s][0] for s in repaired], repair=False)
            for source, verdict in zip(repaired, verdicts, strict=True):
                text, repairs = self._repairs[source]
                if verdict.status == PENDING:
                    found[source] = Examined(text, verdict, written[source], tuple(repairs))
                elif verdict.status == "infrastructure":
                    found[source] = Examined(source, verdict, written[source])
        return [found[source] for source in sources]

    def _begin(self) -> None:
        """Forget what is of use within one batch only."""
        self._looked.clear()
        self._named.clear()

    def _screened(self, sources: Sequence[str], *, repair: bool) -> list[Screened]:
        """Do as :meth:`screen` does; with ``repair``, what does not fit is looked at for that."""
        due: dict[str, str] = {}
        fresh = self._measured_in_groups(self._due(sources, due), due)
        alone = {digest: source for digest, source in due.items() if digest not in fresh}
        if repair:
            fresh |= self._measured_and_repaired(alone)
        left = [digest for digest in alone if digest not in fresh]
        jobs = [job_of(self._settings, "measure", due[d], self._parameters) for d in left]
        replies = replies_to(self._container, jobs)
        fresh |= {d: _screened(reply, d) for d, reply in zip(left, replies, strict=True)}
        if self._proxies:
            fresh |= self._foretold(fresh, due)
        reusable = (PENDING, "invalid", "forbidden", "too_large", "diverged")
        self._known |= {d: found for d, found in fresh.items() if found.status in reusable}
        measured = fresh | self._known
        looked = [self._look(source) for source in sources]
        return [
            measured[seen.canonical_sha256] if seen.status == PENDING else seen for seen in looked
        ]

    def _due(self, sources: Sequence[str], due: dict[str, str]) -> Iterator[str]:
        """Yield digests that have to be measured, while sources are looked at.

        Fills in ``due``: the last of the sources with each digest.
        """
        for source in sources:
            seen = self._look(source)
            digest = seen.canonical_sha256
            if seen.status == PENDING and digest not in self._known:
                is_new = digest not in due
                due[digest] = source
                if is_new:
                    yield digest

    def _measured_in_groups(
        self, digests: Iterator[str], due: Mapping[str, str]
    ) -> dict[str, Screened]:
        """Measure several to a child, since a fork costs more than a small network's measures.

        Returns what fits. Whatever does not, and every group in which anything went wrong, is left
        out: it is measured again, each source in a child of its own, and only that counts against
        it. A candidate that got past the gate could disturb the measures of its group, but
        neither its verdict of not fitting nor anybody's score.
        """
        width = len(_MEASURES)
        group_of: dict[int, tuple[Job, list[str]]] = {}

        def jobs() -> Iterator[Job]:
            while len(group := list(itertools.islice(digests, GROUP))) > 1:
                job = job_of(
                    self._settings, "measure", "",
                    {**self._parameters, "sources": [due[d] for d in group], "large": self._large},
                    payload_bytes=8 * width * len(group),
                )  # fmt: skip
                group_of[id(job)] = job, group
                yield job

        found: dict[str, Screened] = {}
        for job, reply in self._container.run_many(jobs()):
            if reply.status != PENDING:
                continue
            self._large |= reply.values.get("large") == 1
            rows = np.frombuffer(reply.payload, dtype=np.float64).reshape(-1, width)
            for digest, row in zip(group_of[id(job)][1], rows.tolist(), strict=True):
                if all(0 <= value < MOST_WHOLE for value in row):  # none of which is NaN
                    values = dict(zip(_MEASURES, row, strict=True))
                    values |= {n: int(values[n]) for n in _WHOLE if values[n].is_integer()}
                    found[digest] = _screened(Reply(PENDING, values=values), digest)
        return {digest: seen for digest, seen in found.items() if seen.status == PENDING}

    def _measured_and_repaired(self, alone: Mapping[str, str]) -> dict[str, Screened]:
        """Measure sources, each in a child of its own that also looks for repairs if it must.

        Returns verdicts on those with which all went well. What went wrong may have gone wrong
        in either half, so the others are left out: each half is done again, alone.
        """
        digest_of: dict[int, tuple[Job, str]] = {}

        def jobs() -> Iterator[Job]:
            for digest, source in alone.items():
                text, _ = self._by_names(source)
                if self._look(text).status == PENDING:
                    parameters = {**self._parameters, "repaired": text}
                    job = job_of(self._settings, "examine", source, parameters, EXAMINED,
                                 repair.REPLY_BYTES)  # fmt: skip
                    digest_of[id(job)] = job, digest
                    yield job

        found: dict[str, Screened] = {}
        for job, reply in self._container.run_many(jobs()):
            digest = digest_of[id(job)][1]
            if reply.status == EXAMINED:
                verdict = next((s for s in FAULTS if s in reply.values), PENDING)
                values = {name: n for name, n in reply.values.items() if name != verdict}
                found[digest] = _screened(replace(reply, status=verdict, values=values), digest)
                if verdict == "invalid":
                    self._note_findings(job.source, reply.payload)
        return found

    def _foretold(
        self, fresh: Mapping[str, Screened], due: Mapping[str, str]
    ) -> dict[str, Screened]:
        """Return verdicts on what fits with its signals; one that cannot be had is left out."""
        fit = [digest for digest, seen in fresh.items() if seen.status == PENDING]
        jobs = [
            job_of(self._settings, "proxies", due[digest], self._parameters, "foretold")
            for digest in fit
        ]
        found = {}
        for digest, reply in zip(fit, replies_to(self._container, jobs), strict=True):
            known = {n: float(v) for n, v in reply.values.items() if v is not None}
            if reply.status == "foretold" and known.keys() <= {"naswot", "synflow"}:
                found[digest] = replace(fresh[digest], measured=known)
        return found

    def _look_for_repairs(self, sources: Sequence[str]) -> dict[str, Screened]:
        """Look for repairs of sources that were not looked at before.

        Returns verdicts on those that the machine kept from being looked at.
        """
        source_of: dict[int, tuple[Job, str]] = {}

        def jobs() -> Iterator[Job]:
            for source in sources:
                if source not in self._repairs:
                    text, repairs = self._by_names(source)
                    if self._look(text).status == PENDING:
                        job = job_of(self._settings, "repair", text, self._parameters,
                                     "looked", repair.REPLY_BYTES)  # fmt: skip
                        source_of[id(job)] = job, source
                        yield job
                    else:
                        self._repairs[source] = text, repairs

        spoiled: dict[str, Screened] = {}
        for job, reply in self._container.run_many(jobs()):
            source = source_of[id(job)][1]
            if reply.status == "infrastructure":
                spoiled[source] = Screened(reply.status, reply.failure)
            else:
                self._note_findings(source, reply.payload)
        return spoiled

    def _note_findings(self, source: str, payload: bytes) -> None:
        """Repair a source by what the text alone shows, and by a child's findings if there are."""
        text, repairs = self._by_names(source)
        with contextlib.suppress(ValueError):
            text, more = repair.by_findings(text, repair.decode(payload))
            repairs = repairs + more
        self._repairs[source] = text, repairs

    def _by_names(self, source: str) -> tuple[str, list[Repair]]:
        if source not in self._named:
            channels, classes = self._parameters["input_shape"][0], self._parameters["classes"]
            self._named[source] = repair.by_names(source, channels=channels, classes=classes)
        return self._named[source]

    def _look(self, source: str) -> Screened:
        if source not in self._looked:
            most = self._settings.source_bytes
            self._looked[source] = gate.check(source, max_bytes=most, digest=True)
        return self._looked[source]


def job_of(
    containment: ContainmentSettings, kind: str, source: str, parameters: Mapping[str, Any],
    success: str = PENDING, payload_bytes: int = 0,
) -> Job:  # fmt: skip
    """Return a job that may take as long as the screening of a source."""
    seconds = containment.screen_seconds
    limit = f"containment.screen_seconds = {seconds:g}"
    return Job(kind, source, seconds, limit, parameters, success, payload_bytes)


def replies_to(container: Container, jobs: Sequence[Job]) -> list[Reply]:
    """Run jobs; return their replies in the order of the jobs."""
    replies = {id(job): reply for job, reply in container.run_many(jobs)}
    return [replies[id(job)] for job in jobs]


def _screened(reply: Reply, digest: str) -> Screened:
    values: dict[str, Any] = dict(reply.values)
    built = values.pop("built", 0) == 1
    if reply.status != PENDING:
        return Screened(reply.status, reply.failure, digest, built=built)
    sane = set(values) == set(_MEASURES) and all(
        (type(value) is int if name in _WHOLE else isinstance(value, int | float))
        and 0 <= value < MOST_WHOLE
        for name, value in values.items()
    )
    if not sane:
        return Screened("invalid", "reply: its measures are not what ours look like", digest)
    values |= {name: float(values[name]) for name in ("ratio", "flops")}
    return Screened(PENDING, "", digest, Descriptors(**values), built=True)

"""The screen: what is worth training, and where it stands in the archive.

Three steps from cheap to dear: the static gate and the canonical digest here in the judge,
which only look at the text, then building and measuring in contained children.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np

from ..config import ContainmentSettings
from ..sandbox.container import Container, Job, Reply
from ..source import canonical, gate
from ..types import PENDING, Descriptors, Examined, Repair, Screened
from . import repair

GROUP = 8
"""Sources that are measured in one child at first."""

_MEASURES = ("width", "depth", "ratio", "flops", "params")
_WHOLE = ("width", "depth", "params")


class Screener:
    """Screens sources for one problem, ``slots`` at a time. A context manager.

    ``slots = 0``: as many as this process has cores. The contained children's warm parent
    starts to load at once and is waited for by the first source that passes the gate.
    With a ``container`` of the caller's, children start in that one, which stays open.
    Sources with equal canonical digests are the same network and are measured once.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        classes: int,
        containment: ContainmentSettings,
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
        self._known: dict[str, Screened] = {}
        self._repairs: dict[str, tuple[str, list[Repair]]] = {}
        self._owned = container is None
        self._container = container or Container(
            containment, slots=slots or len(os.sched_getaffinity(0)), kind="measure"
        )

    def __enter__(self) -> Screener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the contained processes."""
        if self._owned:
            self._container.close()

    def screen(self, sources: Sequence[str]) -> list[Screened]:
        """The verdicts, in order. ``pending``: fit to be trained, with descriptors.

        A verdict of ``infrastructure`` is none: no child could be had for that source, and
        it may be screened again. Raises
        :class:`~llmatic_hpc.errors.ContainmentError` where children cannot be had at all.
        """
        looked = [self._look(source) for source in sources]
        due = {
            seen.canonical_sha256: source
            for source, seen in zip(sources, looked, strict=True)
            if seen.status == PENDING and seen.canonical_sha256 not in self._known
        }
        fresh = self._measured_in_groups(due)
        jobs = {d: self._job(source) for d, source in due.items() if d not in fresh}
        digests = {id(job): digest for digest, job in jobs.items()}
        for job, reply in self._container.run_many(jobs.values()):
            digest = digests[id(job)]
            fresh[digest] = _screened(reply, digest)
        reusable = (PENDING, "invalid", "forbidden", "too_large", "diverged")
        self._known |= {d: found for d, found in fresh.items() if found.status in reusable}
        measured = fresh | self._known
        return [
            measured[seen.canonical_sha256] if seen.status == PENDING else seen for seen in looked
        ]

    def examine(self, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        """The sources with their verdicts; ``repair``: those repaired that rules can make fit.

        A source that would not fit afterwards stays as it was written, with its verdict.
        """
        screened = self.screen(sources)
        if not repair:
            return [Examined(s, v, v) for s, v in zip(sources, screened, strict=True)]
        ill = {s: v for s, v in zip(sources, screened, strict=True) if v.status == "invalid" and s}
        spoiled, repaired = self._repaired_texts(ill)
        verdicts = self.screen([text for text, _ in repaired.values()])
        after = dict(zip(repaired, verdicts, strict=True))
        found = []
        for source, written in zip(sources, screened, strict=True):
            verdict = spoiled.get(source) or after.get(source, written)
            if source in after and verdict.status == PENDING:
                text, repairs = repaired[source]
                found.append(Examined(text, verdict, written, tuple(repairs)))
            else:
                lost = verdict.status == "infrastructure"
                found.append(Examined(source, verdict if lost else written, written))
        return found

    def _repaired_texts(
        self, sources: Iterable[str]
    ) -> tuple[dict[str, Screened], dict[str, tuple[str, list[Repair]]]]:
        """Those that the machine kept from being looked at, and those that rules change: with
        the text afterwards and the changes."""
        channels, classes = self._parameters["input_shape"][0], self._parameters["classes"]
        due = [source for source in sources if source not in self._repairs]
        texts = {s: repair.by_names(s, channels=channels, classes=classes) for s in due}
        due = [s for s in due if self._look(texts[s][0]).status == PENDING]
        spoiled: dict[str, Screened] = {}
        jobs = [(s, self._repair_job(texts[s][0])) for s in due]
        of = {id(job): source for source, job in jobs}
        for job, reply in self._container.run_many([job for _, job in jobs]):
            source = of[id(job)]
            if reply.status == "infrastructure":
                spoiled[source] = Screened(reply.status, reply.failure)
            elif reply.status == "looked":
                with contextlib.suppress(ValueError):
                    text, repairs = texts[source]
                    text, more = repair.by_findings(text, repair.decode(reply.payload))
                    texts[source] = text, repairs + more
        self._repairs |= {s: found for s, found in texts.items() if s not in spoiled}
        wanted = [s for s in sources if self._repairs.get(s, ("", []))[1]]
        return spoiled, {s: self._repairs[s] for s in wanted}

    def _repair_job(self, source: str) -> Job:
        return replace(
            self._job(source), kind="repair", success="looked", payload_bytes=repair.REPLY_BYTES
        )

    def _measured_in_groups(self, due: Mapping[str, str]) -> dict[str, Screened]:
        """What fits, found several to a child: a fork costs more than a small network's measures.

        Whatever does not fit, and every group in which anything went wrong, is left out: it
        is measured again, each source in a child of its own, and only that counts against it.
        A candidate that got past the gate could disturb the measures of its group, but
        neither its verdict of not fitting nor anybody's score.
        """
        digests = list(due)
        groups = [digests[i : i + GROUP] for i in range(0, len(digests), GROUP)]
        jobs = {
            id(job): (job, g) for g in groups if len(g) > 1 for job in [self._group_job(due, g)]
        }
        found: dict[str, Screened] = {}
        for job, reply in self._container.run_many([job for job, _ in jobs.values()]):
            if reply.status != PENDING:
                continue
            rows = np.frombuffer(reply.payload, dtype=np.float64).reshape(-1, len(_MEASURES))
            for digest, row in zip(jobs[id(job)][1], rows.tolist(), strict=True):
                if all(math.isfinite(value) for value in row):
                    values = {
                        name: int(value) if name in _WHOLE and value.is_integer() else value
                        for name, value in zip(_MEASURES, row, strict=True)
                    }
                    screened = _screened(Reply(PENDING, values=values), digest)
                    if screened.status == PENDING:
                        found[digest] = screened
        return found

    def _group_job(self, due: Mapping[str, str], digests: Sequence[str]) -> Job:
        seconds = self._settings.screen_seconds
        return Job(
            kind="measure",
            source="",
            seconds=seconds,
            limit=f"containment.screen_seconds = {seconds:g}",
            parameters={**self._parameters, "sources": [due[digest] for digest in digests]},
            success=PENDING,
            payload_bytes=8 * len(_MEASURES) * len(digests),
        )

    def _look(self, source: str) -> Screened:
        verdict = gate.check(source, max_bytes=self._settings.source_bytes)
        digest = canonical.canonical_sha256(source) if verdict.status != "too_large" else ""
        return Screened(verdict.status, verdict.failure, digest)

    def _job(self, source: str) -> Job:
        return Job(
            kind="measure",
            source=source,
            seconds=self._settings.screen_seconds,
            limit=f"containment.screen_seconds = {self._settings.screen_seconds:g}",
            parameters=self._parameters,
            success=PENDING,
        )


def _screened(reply: Reply, digest: str) -> Screened:
    values = dict(reply.values)
    built = values.pop("built", 0) == 1
    if reply.status != PENDING:
        return Screened(reply.status, reply.failure, digest, built=built)
    width, depth, params = (values.get(key) for key in ("width", "depth", "params"))
    ratio, flops = values.get("ratio"), values.get("flops")
    if (
        type(width) is int and type(depth) is int and type(params) is int
        and isinstance(ratio, int | float) and isinstance(flops, int | float)
        and set(values) == set(_MEASURES)
        and min(width, depth, params, ratio, flops) >= 0
    ):  # fmt: skip
        found = Descriptors(width, depth, float(ratio), float(flops), params)
        return Screened(PENDING, "", digest, found, built=True)
    return Screened("invalid", "reply: its measures are not what ours look like", digest)

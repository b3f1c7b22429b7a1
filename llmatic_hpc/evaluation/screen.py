"""Screen sources: gate, digest, measures and repair, before anything is trained.

Three steps from cheap to dear: the static gate and the canonical digest here in the judge,
which only look at the text, then building and measuring in contained children.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..config import ContainmentSettings
from ..sandbox.container import Container, Job, Reply
from ..source import canonical, gate
from ..types import PENDING, Descriptors, Examined, Repair, Screened
from . import repair

GROUP = 8
"""Sources that are measured in one child at first."""

_MEASURES = tuple(field.name for field in fields(Descriptors))
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
        looked = [self._look(source) for source in sources]
        due = {
            seen.canonical_sha256: source
            for source, seen in zip(sources, looked, strict=True)
            if seen.status == PENDING and seen.canonical_sha256 not in self._known
        }
        fresh = self._measured_in_groups(due)
        jobs = {d: self._job("measure", s) for d, s in due.items() if d not in fresh}
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
        """Return the sources with their verdicts; ``repair``: repaired where rules make them fit.

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
        """Return verdicts on those that the machine kept from being looked at, and by source
        the text after repair with its changes, where there are any."""
        channels, classes = self._parameters["input_shape"][0], self._parameters["classes"]
        due = [source for source in sources if source not in self._repairs]
        texts = {s: repair.by_names(s, channels=channels, classes=classes) for s in due}
        due = [s for s in due if self._look(texts[s][0]).status == PENDING]
        spoiled: dict[str, Screened] = {}
        jobs = [
            self._job("repair", texts[s][0], success="looked", payload_bytes=repair.REPLY_BYTES)
            for s in due
        ]
        sources_of = dict(zip(map(id, jobs), due, strict=True))
        for job, reply in self._container.run_many(jobs):
            source = sources_of[id(job)]
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

    def _measured_in_groups(self, due: Mapping[str, str]) -> dict[str, Screened]:
        """Measure several to a child, since a fork costs more than a small network's measures.

        Returns what fits. Whatever does not, and every group in which anything went wrong, is left
        out: it is measured again, each source in a child of its own, and only that counts against
        it.
        A candidate that got past the gate could disturb the measures of its group, but
        neither its verdict of not fitting nor anybody's score.
        """
        digests = list(due)
        groups = [digests[i : i + GROUP] for i in range(0, len(digests), GROUP)]
        groups = [group for group in groups if len(group) > 1]
        width = len(_MEASURES)
        jobs = [
            self._job("measure", "", payload_bytes=8 * width * len(g), sources=[due[d] for d in g])
            for g in groups
        ]
        group_of = dict(zip(map(id, jobs), groups, strict=True))
        found: dict[str, Screened] = {}
        for job, reply in self._container.run_many(jobs):
            if reply.status != PENDING:
                continue
            rows = np.frombuffer(reply.payload, dtype=np.float64).reshape(-1, width)
            for digest, row in zip(group_of[id(job)], rows.tolist(), strict=True):
                if all(math.isfinite(value) for value in row):
                    values = {
                        name: int(value) if name in _WHOLE and value.is_integer() else value
                        for name, value in zip(_MEASURES, row, strict=True)
                    }
                    screened = _screened(Reply(PENDING, values=values), digest)
                    if screened.status == PENDING:
                        found[digest] = screened
        return found

    def _look(self, source: str) -> Screened:
        seen = gate.check(source, max_bytes=self._settings.source_bytes)
        if seen.status == "too_large":
            return seen
        return replace(seen, canonical_sha256=canonical.canonical_sha256(source))

    def _job(
        self, kind: str, source: str, *, success: str = PENDING, payload_bytes: int = 0, **more: Any
    ) -> Job:
        seconds = self._settings.screen_seconds
        return Job(
            kind=kind,
            source=source,
            seconds=seconds,
            limit=f"containment.screen_seconds = {seconds:g}",
            parameters={**self._parameters, **more},
            success=success,
            payload_bytes=payload_bytes,
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

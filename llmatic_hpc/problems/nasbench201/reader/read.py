"""Read the cell that a source text spells: as it is written here, or traced in a contained child.

A canonical source, as the control writes it, is recognised from its text. Any other text goes
through the gate, and a contained child follows one forward pass of the network (see
:mod:`~llmatic_hpc.evaluation.graph_trace`); the child answers with a graph, from which the cell is
read here. Nothing that a model wrote runs in this process. A child that lies only says that its
source is another cell.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....config import ContainmentSettings
from ....types import PENDING
from ..cells import Cell
from ..write import cell_written
from .layers import CHANNELS, NotACell

if TYPE_CHECKING:
    from ....sandbox.container import Container, Job, Reply

# Modules that only a source needs that is not canonical are imported where it comes to that.

ATTEMPTS = 3
"""Times that a source is traced when the machine is at fault."""


@dataclass(frozen=True)
class Reading:
    """A cell, or why a source is none: a status of a candidate and one line."""

    cell: Cell | None
    status: str = PENDING
    failure: str = ""


class CellReader:
    """Reads the cells that sources spell. A context manager.

    Any spelling of the five operations and of the sums between them is understood. An edge that
    is not there carries nothing. A tensor is a node where an operation is applied to it; two nodes
    are numbered as variables or attributes say (``node_2``, ``edge_0_2``), else in order of
    evaluation. Operations in place count by their value; a layer that two edges share counts for
    each; an average pooling counts the padding or not; a batch norm may lack its affine part.
    """

    def __init__(self, containment: ContainmentSettings) -> None:
        self._settings = containment
        self._container: Container | None = None
        self._known: dict[str, Reading] = {}

    def __enter__(self) -> CellReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the contained processes."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def read(self, sources: Sequence[str]) -> list[Reading]:
        """Read what each source spells, in order.

        ``infrastructure``: no child could be had for a source; it may be read again. Raises
        :class:`~llmatic_hpc.errors.ContainmentError` where children cannot be had at all.
        """
        found = {source: self._without_running(source) for source in dict.fromkeys(sources)}
        due = [source for source, reading in found.items() if reading is None]
        for _ in range(ATTEMPTS):
            found |= self._traced(due)
            due = [source for source in due if _is_spoiled(found[source])]
        return [reading for source in sources if (reading := found[source]) is not None]

    def _without_running(self, source: str) -> Reading | None:
        """The reading of a canonical source, one seen before, or one that may not run."""
        if (known := self._known.get(source)) is not None:
            return known
        if (cell := cell_written(source)) is not None:
            return Reading(cell)
        from ....source import allowlist, gate

        verdict = gate.check(source, max_bytes=self._settings.source_bytes)
        # Its class may ask for the number of channels, which networks for images do not.
        if verdict.status == PENDING or verdict.failure == allowlist.NO_NETWORK:
            return None
        return Reading(None, verdict.status, verdict.failure)

    def _traced(self, sources: Iterable[str]) -> dict[str, Reading]:
        jobs = {id(job): (job, source) for source in sources for job in [self._job(source)]}
        if not jobs:
            return {}
        if self._container is None:
            from ....sandbox.container import Container

            cores = len(os.sched_getaffinity(0))
            self._container = Container(self._settings, slots=cores, kind="measure")
        replies = self._container.run_many([job for job, _ in jobs.values()])
        found = {jobs[id(job)][1]: _reading(reply) for job, reply in replies}
        self._known |= {s: r for s, r in found.items() if not _is_spoiled(r)}
        return found

    def _job(self, source: str) -> Job:
        from ....evaluation import graph
        from ....sandbox.container import Job

        seconds = self._settings.screen_seconds
        return Job(
            kind="trace",
            source=source,
            seconds=seconds,
            limit=f"containment.screen_seconds = {seconds:g}",
            parameters={"channels": CHANNELS},
            success="traced",
            payload_bytes=graph.REPLY_BYTES,
        )


def _is_spoiled(reading: Reading | None) -> bool:
    return reading is not None and reading.status == "infrastructure"


def _reading(reply: Reply) -> Reading:
    from ....evaluation import graph
    from .wiring import cell_of

    if reply.status != "traced":
        return Reading(None, reply.status, reply.failure)
    try:
        return Reading(cell_of(graph.decode(reply.payload)))
    except NotACell as error:
        return Reading(None, "invalid", str(error))
    except ValueError as error:
        return Reading(None, "invalid", f"reply: {error}")

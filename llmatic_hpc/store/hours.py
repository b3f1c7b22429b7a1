"""Hours of a run on its record: of devices, for its candidates, and of its coordinators.

They are measured, so no replay goes by them: they may only end a run, after a generation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import promotion
from .record import EVALUATED, Record

LOST = ("lost_machine_seconds", "lost_preempted_seconds", "lost_limit_seconds")
"""Columns of the history with seconds of tasks that ended without a result."""


class Limit(NamedTuple):
    """Setting that bounds the hours of a run, and how much of it is spent."""

    setting: str
    spent: float
    most: float
    unit: str

    @property
    def is_spent(self) -> bool:
        """True where nothing is left."""
        return self.spent >= self.most

    @property
    def left(self) -> float:
        """Hours that are left, 0 at least."""
        return max(0.0, self.most - self.spent)

    def __str__(self) -> str:
        return f"{self.spent:.2f} of {self.most:g} {self.unit}"


def limits(record: Record, elites: NDArray[np.int64]) -> list[Limit]:
    """Return the limits that the settings of a run name: ``search.max_gpu_hours``, ``max_hours``.

    ``elites`` (K,): candidates, -1 where there is none; those that are still to be trained in full
    when the run ends count beforehand, by their times at the first rung.
    """
    settings, found = record.config["search"], []
    if most := float(settings.get("max_gpu_hours", 0.0)):
        spent = (device_seconds(record) + _due_seconds(record, elites)) / 3600
        found.append(Limit("search.max_gpu_hours", spent, most, device_unit(record)))
    if most := float(settings.get("max_hours", 0.0)):
        spent = record.alive_seconds / 3600
        found.append(Limit("search.max_hours", spent, most, "hours"))
    return found


def spent(record: Record, elites: NDArray[np.int64]) -> list[Limit]:
    """Return those of the :func:`limits` that end a run here; none within a generation."""
    return [one for one in limits(record, elites) if one.is_spent and record.phase == EVALUATED]


def device_seconds(record: Record) -> float:
    """Return what candidates took of devices: all trainings, and attempts without a result.

    A training that shares a device with others has its part of it; a task that was lost had all
    of its devices. The time in which a worker starts is not a candidate's.
    """
    trained = float(np.nansum(record.candidates["train_seconds"]))
    return trained * part(record) + _lost_seconds(record) * devices_of_task(record.config)


def part(record: Record) -> float:
    """Return the part of a device that a candidate has while it trains: 1, or less where several
    share one."""
    devices = devices_of_task(record.config)
    return devices / max(devices, int(record.config["cluster"].get("workers_per_task", 1)))


def devices_of_task(config: dict[str, Any]) -> int:
    """Count the devices of a task by ``cluster.gres``, such as gpu:a100:4; 1 where it is empty."""
    counts = [
        int(words[-1]) if len(words) > 1 and words[-1].isdecimal() else 1
        for one in str(config["cluster"].get("gres", "")).split(",")
        if (words := one.split("(")[0].split(":"))[0] == "gpu"
    ]
    return max(1, sum(counts))


def device_unit(record: Record) -> str:
    """Name the unit of a run's training hours by the devices that it trained on."""
    if record.environment.get("benchmark"):
        return "hours of the benchmark"
    devices = {name for name in record.candidates["device"].tolist() if name}
    if devices and not any(name.startswith(b"cpu") for name in devices):
        return "GPU-hours"
    return "CPU-hours" if devices and all(n.startswith(b"cpu") for n in devices) else "device-hours"


def _lost_seconds(record: Record) -> float:
    """Return the seconds of tasks that were lost.

    The history has what the scheduler said of them, the table of attempts also what workers on this
    machine did that failed. Both are accounts of the same tasks: the one that knows more counts.
    """
    told = sum(float(np.nansum(record.history[name])) for name in LOST)
    tried = record.attempts
    vain = (tried["ending"] != b"result") & (tried["end"] > tried["start"])  # not where NaN
    spans: dict[bytes, list[tuple[float, float]]] = {}
    for job, start, end in zip(*(tried[n][vain] for n in ("job", "start", "end")), strict=True):
        spans.setdefault(job, []).append((float(start), float(end)))
    return max(told, sum(map(_covered, spans.values())))


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return the length that intervals cover: candidates of one task were lost at the same time."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return float(total)


def _due_seconds(record: Record, elites: NDArray[np.int64]) -> float:
    """Return what elites should yet take that are to be trained in full when the run ends."""
    if not promotion.is_deferred(record):
        return 0.0
    table, due = record.candidates, elites[elites >= 0]
    due = due[table["promoted"][due] < 0]
    longer = record.rungs[-1] / max(1, record.rungs[0])
    return float(np.nansum(table["train_seconds"][due])) * longer * part(record)

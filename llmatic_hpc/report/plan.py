"""A plan of a run: its cost as it was estimated beforehand, and beside what it came to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..rundir.paths import RunPaths
from ..store import Record
from ..store.hours import device_seconds


@dataclass(frozen=True)
class Estimate:
    """Cost of a run, or of several: they add up, one after the other."""

    generations: float
    candidates: float
    trainings: float
    device_hours: Mapping[str, float]
    """By what they go into; see :data:`.planning.PARTS`."""
    least_hours: float
    most_hours: float
    """Hours of devices in the cheapest and the dearest of the rehearsals."""
    unit: str
    """Name of these hours: GPU-hours, or CPU-hours, those of workers."""
    wall_hours: Mapping[str, float]
    """By what the coordinator does or waits for meanwhile."""
    tokens: float | None
    """Tokens that a language model writes; None: not known."""
    disk_bytes: float
    """Size of the run directory in the end."""
    peak_bytes: float
    """Size while candidates train."""
    inodes: float
    """Files and folders while candidates train."""
    advice: tuple[str, ...] = ()
    """Parts that most goes into, and what would halve them."""
    notes: tuple[str, ...] = ()
    """Limits of the estimate."""
    runs: int = 1

    @property
    def hours(self) -> float:
        """Hours of devices in all."""
        return sum(self.device_hours.values())

    @property
    def wall(self) -> float:
        """Hours until the run is done, without waiting for a scheduler."""
        return sum(self.wall_hours.values())

    def __add__(self, other: Estimate) -> Estimate:
        """Return the cost of both; advice is that of the dearer one."""
        dearer = self if self.hours + self.wall >= other.hours + other.wall else other
        sums: dict[str, Any] = {
            name: getattr(self, name) + getattr(other, name)
            for name in ("generations", "candidates", "trainings", "least_hours", "most_hours",
                         "disk_bytes", "runs")
        }  # fmt: skip
        is_known = self.tokens is not None and other.tokens is not None
        return Estimate(
            **sums,
            device_hours=_sum(self.device_hours, other.device_hours),
            wall_hours=_sum(self.wall_hours, other.wall_hours),
            unit=self.unit if self.unit == other.unit else "device-hours",
            tokens=(self.tokens or 0.0) + (other.tokens or 0.0) if is_known else None,
            peak_bytes=max(self.disk_bytes + other.peak_bytes, self.peak_bytes + other.disk_bytes),
            inodes=self.inodes + other.inodes,
            advice=dearer.advice,
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    def to_json(self) -> str:
        """Return it as text; :func:`planned` reads it."""
        return json.dumps(self.values())

    def values(self) -> dict[str, Any]:
        """Return plain values with the sums."""
        return asdict(self) | {"hours": self.hours, "wall": self.wall}

    def lines(self) -> list[tuple[str, str]]:
        """Return it in words: names, and what is said of each."""
        several = f"{self.runs} runs: " if self.runs > 1 else ""
        found = [
            ("trainings", f"{several}{self.trainings:.0f} of {self.candidates:.0f} candidates in "
             f"{self.generations:.0f} generations"),
            (self.unit, f"{told(self.hours)}{_shares(self.device_hours)}"),
        ]  # fmt: skip
        if self.hours:
            of = f"{told(self.least_hours)} to {told(self.most_hours)}, by what the search comes to"
            found.append(("", of))
        found.append(("wall time", f"{told(self.wall)}{_shares(self.wall_hours)}"))
        if self.tokens is None:
            found.append(("tokens", "not known: the model was not tried"))
        elif self.tokens:
            found.append(("tokens", f"{self.tokens:,.0f}, written in "
                          f"{told(self.wall_hours.get('generating', 0.0))}"))  # fmt: skip
        found.append(("disk", f"{_bytes(self.disk_bytes)}, {_bytes(self.peak_bytes)} while "
                      f"candidates train; {self.inodes:.0f} files and folders"))  # fmt: skip
        found += [("halve it", text) for text in self.advice]
        return found + [("note", text) for text in self.notes]


def planned(paths: RunPaths) -> Estimate | None:
    """Read the plan of a run; None where there is none, or none that can be read."""
    try:
        values = json.loads(paths.estimate.read_text(encoding="utf-8"))
        known = {one.name for one in fields(Estimate)}
        found = Estimate(**{name: value for name, value in values.items() if name in known})
        float(found.hours + found.wall + found.generations)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return found


def compared(record: Record, paths: RunPaths) -> dict[str, Any] | None:
    """Return planned and actual hours of devices and of the clock, and tokens; None without plan.

    A run that is not so far is compared with all of its plan.
    """
    plan = planned(paths)
    if plan is None:
        return None
    is_saved = bool(record.environment.get("benchmark"))  # nothing was trained for it
    actual = 0.0 if is_saved else device_seconds(record) / 3600
    return {
        "device_hours": {"planned": plan.hours, "actual": actual},
        "wall_hours": {"planned": plan.wall, "actual": record.alive_seconds / 3600},
        "tokens": {"planned": plan.tokens, "actual": int(np.sum(record.candidates["tokens"]))},
        "generations": {"planned": plan.generations, "actual": record.committed_generations},
        "unit": plan.unit,
    }


def comparison_line(values: Mapping[str, Any]) -> str:
    """Say in a line what :func:`compared` returned."""
    done, device, wall = (values[n] for n in ("generations", "device_hours", "wall_hours"))
    text = (
        f"{told(device['planned'])} ({values['unit']}) in {told(wall['planned'])} / "
        f"{told(device['actual'])} in {told(wall['actual'])}"
    )
    if device["planned"]:
        text += f", {device['actual'] / device['planned']:.0%} of it"
    if done["actual"] < done["planned"]:
        text += f", after {done['actual']} of {done['planned']:.0f} generations"
    return text


def told(hours: float) -> str:
    """Return a time in the unit that suits it: ``40 s``, ``12.3 min``, ``4.1 h``."""
    if hours < 0.025:
        return f"{hours * 3600:.3g} s"
    return f"{hours * 60:.3g} min" if hours < 2 else f"{hours:,.4g} h"


def _shares(parts: Mapping[str, float]) -> str:
    """Return the parts of a sum in percent, the largest first; those of less than 1 % left out."""
    total = sum(parts.values())
    if not total:
        return ""
    sizes = sorted(parts.items(), key=lambda one: -one[1])
    return ": " + ", ".join(f"{n} {v / total:.0%}" for n, v in sizes if v >= 0.01 * total)


def _bytes(size: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}

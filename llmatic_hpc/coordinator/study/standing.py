"""State of the runs of a study, as far as the plan wants them, and that they are its runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ... import config as configuration
from ... import store
from ...cluster.backend import wait_until
from ...errors import ConfigError, RecordError
from ...report.status import status
from ...rundir import lock
from ...rundir.paths import RunPaths, StudyPaths
from .. import bounds
from .plan import Planned

WAITING, RUNNING, STOPPED, FINISHED, FAILED = "waiting", "running", "stopped", "finished", "failed"
LOCK_SECONDS, PAUSE_SECONDS = 5.0, 0.1
MOST_NAMED = 5
"""Runs that a message names at most."""


@dataclass(frozen=True, eq=False)
class Standing:
    """A run of a study at one moment."""

    run: Planned
    paths: RunPaths
    state: str
    values: dict[str, Any] = field(default_factory=dict)
    """Values of :func:`~.report.status.status`; empty where there is no record."""
    differs: tuple[str, ...] = ()
    """Settings in which the record differs from the plan and must not."""
    reason: str = ""
    """Reason why it failed or stopped, in words."""

    @property
    def row(self) -> dict[str, Any]:
        """Plain values for JSON; None where something is not known."""
        values, best = self.values, self.values.get("best") or {}
        return {
            "variant": self.run.variant,
            "problem": self.run.problem or None,
            "writer": self.run.writer or None,
            "seed": self.run.seed,
            "run": str(self.paths.root),
            "state": self.state,
            "reason": self.reason or None,
            "generation": values.get("generation", 0),
            "generations": self.run.config.search.generations,
            "candidates": values.get("candidates", 0),
            "elites": values.get("network_elites"),
            "qd_score": values.get("qd_score"),
            "best": best.get("candidate"),
            "fitness": best.get("fitness"),
            "test_accuracy": best.get("test_accuracy"),
        }


def standings(runs: Iterable[Planned], paths: StudyPaths) -> list[Standing]:
    """Look at every run once."""
    return [standing(run, paths.run(run.name, run.seed)) for run in runs]


def standing(run: Planned, paths: RunPaths) -> Standing:
    """Look at a run: as far as the plan wants it, which may be further than the run once was."""
    is_held = lock.holder(paths.lock) is not None
    if not paths.record.exists() and not paths.previous_record.exists():
        return Standing(run, paths, RUNNING if is_held else WAITING)
    try:
        record = store.load(paths.record)
        before = configuration.from_tables(record.config, str(paths.record))
    except (RecordError, ConfigError) as error:  # the run itself will say so, and others go on
        return Standing(run, paths, STOPPED, reason=str(error))
    config = bounds.of_run(before, run.config)
    differs = tuple(bounds.changed(before, config))
    record.config = configuration.to_tables(config)
    values = status(record, paths, asks=False)
    state = values["state"]
    if state == FINISHED and values["elites_due"]:
        state = STOPPED
    return Standing(run, paths, state, values, differs)


def released(found: Sequence[Standing], seconds: float = LOCK_SECONDS) -> list[Standing]:
    """Look again at runs that were running: what a killed study ran is about to end."""
    held = [one for one in found if one.state == RUNNING]
    wait_until(
        lambda: all(lock.holder(one.paths.lock) is None for one in held), seconds, PAUSE_SECONDS
    )
    return [standing(one.run, one.paths) if one in held else one for one in found]


def due(found: Iterable[Standing]) -> list[Standing]:
    """Return the runs that are not finished, a seed of every variant before the next seed."""
    return sorted((one for one in found if one.state != FINISHED), key=lambda one: one.run.seed)


def refuse_others(found: Sequence[Standing]) -> None:
    """Raise :class:`ConfigError` where runs that are there were made with other settings."""
    others = [one for one in found if one.differs]
    if not others:
        return
    told = [f"{one.paths.root}: {'; '.join(one.differs)}" for one in others[:MOST_NAMED]]
    more = f"\nand {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    raise ConfigError(
        f"{len(others)} of {len(found)} runs were started with other settings than the study has "
        f"now; nothing was started:\n{chr(10).join(told)}{more}\nUndo the change, choose another "
        "--output, or remove these runs, which are then run again"
    )

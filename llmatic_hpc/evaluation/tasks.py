"""Write and read the JSON files of a worker: its task, and its results."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..config import ContainmentSettings, ProblemSettings, TrainingSettings, from_tables
from ..config.fields import to_tables
from ..errors import LLMaticError
from ..rundir.files import write_atomically
from ..types import LARGEST, STATUSES, Outcome, Result
from .score import MOST_LOSSES

MAX_RESULT_BYTES = 64 << 10
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CandidateSpec:
    """One candidate to evaluate, and which attempt at it this is."""

    candidate: int
    attempt: int
    source: str
    source_sha256: str
    training_seed: int
    epochs: int
    """Length of a training in full, which schedules span."""
    flops: float = 0.0
    until: int = 0
    """Epochs to train up to for now; 0: all."""


@dataclass(frozen=True)
class TaskSpec:
    """The candidates that one worker evaluates, in the order given, and how."""

    run_id: str
    results: str
    """Folder of :attr:`.RunPaths.results`."""
    checkpoints: str
    """Folder of :attr:`.RunPaths.checkpoints`."""
    problem: ProblemSettings
    training: TrainingSettings
    containment: ContainmentSettings
    seed: int
    """Seed of the run, which draws the validation split."""
    threads: int
    """CPU threads of the task; 0: as many as this process has cores. Children share them."""
    candidates: tuple[CandidateSpec, ...]
    workers: int = 1
    """Candidates that train side by side. ``containment.wall_seconds`` is each one's limit all
    the same: what is slower for its siblings' sake has to fit in it."""
    data_sha256: str = ""
    """Digest of the data that the run was started with; empty: the data are not compared."""

    def to_json(self) -> str:
        """Return JSON text that :meth:`from_json` reads back to an equal specification."""
        settings = {name: to_tables(getattr(self, name)) for name in _SETTINGS}
        candidates = [dataclasses.asdict(candidate) for candidate in self.candidates]
        return json.dumps({**vars(self), **settings, "candidates": candidates}, indent=1)

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> TaskSpec:
        """Read a task. Raises :class:`~llmatic_hpc.errors.LLMaticError` naming ``origin``."""
        try:
            plain = json.loads(text)
            config = from_tables({name: plain[name] for name in _SETTINGS}, origin)
            settings = {name: getattr(config, name) for name in _SETTINGS}
            candidates = tuple(CandidateSpec(**c) for c in plain["candidates"])
            return cls(**{**plain, **settings, "candidates": candidates})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise LLMaticError(
                f"{origin}: not a task of this version of llmatic-hpc: {error}; remove the "
                "task's folder and start the run again"
            ) from None


_SETTINGS = ("problem", "training", "containment")


def write_result(path: Path, result: Result) -> None:
    """Write a result file: whole or not at all, and durable. Raises ``OSError``."""
    text = json.dumps(_without_nan(dataclasses.asdict(result)), allow_nan=False)
    write_atomically(path, text, shared=True)


def read_result(path: Path, *, run_id: str, candidate: int, source_sha256: str) -> Result | None:
    """Return the result in ``path`` if it is whole, sane, and of this candidate; else None."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_RESULT_BYTES + 1)
        if len(data) > MAX_RESULT_BYTES:
            return None
        plain = json.loads(data.decode("utf-8"), parse_constant=_refuse)
        if not isinstance(plain, dict) or not isinstance(plain.get("outcome"), dict):
            return None
        outcome = Outcome(**_checked({**_LATER, **plain.pop("outcome")}, _OUTCOME))
        result = Result(outcome=outcome, **_checked(plain, _RESULT))
    except (OSError, ValueError, RecursionError):
        return None
    known = (result.run_id, result.candidate, result.source_sha256)
    if known != (run_id, candidate, source_sha256):
        return None
    if outcome.status == "scored" and math.isnan(outcome.fitness):
        return None
    return result


# --- checks -----------------------------------------------------------------------------------


def _only(fits: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """Return a check that hands on what fits, and refuses the rest."""
    return lambda value: value if fits(value) else _refuse(value)


def _text(limit: int) -> Callable[[Any], Any]:
    return _only(lambda value: isinstance(value, str) and len(value) <= limit)


_count = _only(lambda value: type(value) is int and 0 <= value < 1 << 53)


def _number(high: float = math.inf, *, null: bool = True) -> Any:
    def check(value: Any) -> float:
        if value is None and null:
            return math.nan
        if type(value) not in (int, float) or not 0 <= value <= min(high, LARGEST):
            _refuse(value)
        return float(value)

    return check


def _losses(value: Any) -> tuple[float, ...]:
    fits = isinstance(value, list) and len(value) <= MOST_LOSSES
    return tuple(map(_number(), value)) if fits else _refuse(value)


def _refuse(value: object) -> NoReturn:
    raise ValueError(f"unexpected {value!r:.60}")


_OUTCOME: dict[str, Any] = {
    "status": _only(lambda value: isinstance(value, str) and value in STATUSES),
    "failure": _text(4000),
    "fitness": _number(1.0),
    "valid_accuracy": _number(1.0),
    "test_accuracy": _number(1.0),
    "train_loss": _number(),
    "epochs": _count,
    "train_seconds": _number(null=False),
    "device": _text(500),
    "milliseconds": _number(),
    "train_curve": _losses,
}
_RESULT: dict[str, Any] = {
    "run_id": _text(200),
    "candidate": _count,
    "attempt": _count,
    "source_sha256": _only(lambda v: isinstance(v, str) and bool(_SHA256.fullmatch(v))),
    "node": _text(300),
    "slurm_job": _text(100),
    "started": _number(null=False),
    "finished": _number(null=False),
}


_LATER: dict[str, Any] = {"device": "", "milliseconds": None, "train_curve": []}
"""Keys that results of an earlier version lack."""


def _checked(plain: Mapping[str, Any], checks: Mapping[str, Any]) -> dict[str, Any]:
    if set(plain) != set(checks):
        raise ValueError("other keys than expected")
    return {key: check(plain[key]) for key, check in checks.items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

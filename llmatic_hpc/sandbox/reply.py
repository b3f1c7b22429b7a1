"""Read a child's reply and believe no more of it than ours could say. Pure."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import wire

READY = wire.encode_frame({"ready": True})
"""First frame of a reply, written just before the candidate begins."""

_STATUSES = ("invalid", "forbidden", "too_large", "too_slow", "diverged")
"""Statuses that a child may give its own candidate, besides success."""
_MAX_VALUES = 16


@dataclass(frozen=True)
class Job:
    """A source text and what to do with it."""

    kind: str
    """``measure``, ``repair``, ``audit``, ``trace`` or ``train``."""
    source: str
    seconds: float
    """Limit on the wall clock."""
    limit: str
    """The setting that ``seconds`` comes from, and its value, for the failure's text."""
    parameters: Mapping[str, Any]
    """Further facts for the child, as JSON can say them."""
    success: str
    """Status of a good reply: ``pending``, ``looked``, ``audited``, ``traced`` or ``trained``."""
    payload_bytes: int = 0
    """Exact length of a successful reply's payload."""
    scratch: Path | None = None
    """Working folder that outlives the job; None: one that does not."""
    threads: int = 1


@dataclass(frozen=True)
class Reply:
    """The end of a job."""

    status: str
    failure: str = ""
    values: Mapping[str, int | float | None] = field(default_factory=dict)
    payload: bytes = b""
    seconds: float = 0.0
    """Time on the wall clock."""


def reply_of(job: Job, data: bytes, code: int) -> Reply:
    """Turn what a child wrote, and its exit code (negative: a signal), into a reply.

    ``data`` is all that came through its pipe. The table in :mod:`.container` says what is
    whose fault.
    """
    begun = data.startswith(READY)
    if not begun:
        return Reply("infrastructure", _first_words(data) or f"a child {how(code)} at its start")
    if code == 0:
        try:
            return _answer(job, wire.decode_reply(data, max_payload=job.payload_bytes))
        except wire.ReplyError as error:
            return Reply("invalid", f"reply: {error}")
    if code == -signal.SIGKILL:
        return Reply("too_large", "killed, as the kernel does when memory runs out")
    if code == -signal.SIGXCPU:
        return Reply("too_slow", f"it ran out of CPU time ({job.limit})")
    return Reply("invalid", f"it {how(code)} without a reply")


def how(code: int) -> str:
    """Describe an exit code, negative for signals, in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _first_words(data: bytes) -> str:
    """Return why a child could not begin, written before its candidate could have a say."""
    try:
        frames = wire.decode_reply(data, max_payload=0)
    except wire.ReplyError:
        return ""
    return wire.one_line(str(frames[0][0].get("failure", ""))) if frames else ""


def _answer(job: Job, frames: list[tuple[dict[str, Any], bytes]]) -> Reply:
    """Check and return the reply proper. Raises ``ReplyError``."""
    if len(frames) != 2:
        raise wire.ReplyError("missing" if len(frames) < 2 else "more than one")
    header, payload = frames[1]
    if set(header) != {"status", "failure", "values"}:
        raise wire.ReplyError("its header has other keys than it should")
    status, failure, values = header["status"], header["failure"], header["values"]
    if not isinstance(status, str) or not isinstance(failure, str) or not isinstance(values, dict):
        raise wire.ReplyError("its header has values of the wrong type")
    if len(values) > _MAX_VALUES or not all(_is_number(v) for v in values.values()):
        raise wire.ReplyError("its values are not a few finite numbers")
    allowed = {job.success, *_STATUSES}
    if job.kind == "train":
        # A broken GPU shows while a candidate runs. Whoever pretends one gains only retries.
        allowed |= {"checkpointed", "infrastructure"}
    if status not in allowed:
        raise wire.ReplyError(f"its status is {wire.one_line(status, 40)!r}")
    if len(payload) != (job.payload_bytes if status == job.success else 0):
        raise wire.ReplyError(f"it has {len(payload)} bytes of predictions")
    return Reply(status, wire.one_line(failure), values, payload)


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return value is None or (isinstance(value, float) and math.isfinite(value))

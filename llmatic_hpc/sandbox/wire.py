"""Encode and decode what judge, warm parent and child say: two formats, both without pickle.

*Messages* (judge and warm parent, both trusted) are length-prefixed JSON on a socket, and may
carry file descriptors. *Replies* (child to judge, not trusted) are a byte stream of frames,
each a JSON object and raw bytes, which :func:`decode_reply` takes apart strictly, and of which
:func:`reply_of` believes no more than ours could say.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

_MESSAGE = struct.Struct(">I")
_FRAME = struct.Struct(">II")

MAX_HEADER = 16 << 10
"""Most bytes of JSON in one frame of a reply."""
MAX_LINE = 400
"""Most characters of a failure."""
_MAX_DESCRIPTORS = 16


class ReplyError(ValueError):
    """Raised for a reply that no child of ours writes; the message says why."""


# --- messages between judge and warm parent ---------------------------------------------------


def send(sock: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message and copies of open ``descriptors``. Raises ``OSError``."""
    body = json.dumps(message).encode()
    data = _MESSAGE.pack(len(body)) + body
    sent = socket.send_fds(sock, [data], descriptors)
    if sent < len(data):
        sock.sendall(data[sent:])


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive a message and its descriptors. Raises ``EOFError`` once the peer is gone."""
    head, descriptors = b"", list[int]()
    while len(head) < _MESSAGE.size:
        data, found, _, _ = socket.recv_fds(sock, _MESSAGE.size - len(head), _MAX_DESCRIPTORS)
        descriptors += found
        if not data:
            raise EOFError("the other end is gone")
        head += data
    (size,) = _MESSAGE.unpack(head)
    body = bytearray()
    while len(body) < size:
        data = sock.recv(min(size - len(body), 1 << 20))
        if not data:
            raise EOFError("the other end is gone in the middle of a message")
        body += data
    return json.loads(body), descriptors


# --- replies of a child -------------------------------------------------------------------------


def encode_frame(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Encode one frame of a reply."""
    body = json.dumps(header, allow_nan=False).encode()
    return _FRAME.pack(len(body), len(payload)) + body + payload


def decode_reply(data: bytes, *, max_payload: int) -> list[tuple[dict[str, Any], bytes]]:
    """Decode all frames of a reply. Raises :class:`ReplyError` for anything but whole frames.

    Headers are JSON objects of at most ``MAX_HEADER`` bytes with finite numbers.
    """
    frames: list[tuple[dict[str, Any], bytes]] = []
    at = 0
    while at < len(data):
        if len(data) - at < _FRAME.size:
            raise ReplyError("ends in the middle of a frame")
        header_size, payload_size = _FRAME.unpack_from(data, at)
        if header_size > MAX_HEADER or payload_size > max_payload:
            raise ReplyError("a frame claims to be longer than it may be")
        at += _FRAME.size
        end = at + header_size + payload_size
        if end > len(data):
            raise ReplyError("ends in the middle of a frame")
        frames.append((_header(data[at : at + header_size]), data[at + header_size : end]))
        at = end
    return frames


def max_reply(max_payload: int) -> int:
    """Return the most bytes of a whole reply: three frames, one of them with a payload."""
    return 3 * (_FRAME.size + MAX_HEADER) + max_payload


def _header(data: bytes) -> dict[str, Any]:
    def refuse(text: str) -> NoReturn:
        raise ValueError(f"{text} is not JSON")

    try:
        header = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ReplyError("a header is not JSON") from None
    if not isinstance(header, dict):
        raise ReplyError("a header is not an object")
    return header


def one_line(text: str, limit: int = MAX_LINE) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters."""
    head = text[: 4 * limit]
    line = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


# --- what a reply says ---------------------------------------------------------------------------

READY = encode_frame({"ready": True})
"""Frame of a reply that is written just before the candidate begins."""

FAULTS = ("invalid", "forbidden", "too_large", "too_slow", "diverged")
"""Statuses that a child may give its own candidate, besides success."""
_MAX_VALUES = 16


@dataclass(frozen=True)
class Job:
    """A source text and what to do with it."""

    kind: str
    """``measure``, ``repair``, ``examine``, ``proxies``, ``audit``, ``trace``, ``calibrate``,
    ``train`` or ``onnx``."""
    source: str
    seconds: float
    """Limit on the wall clock."""
    limit: str
    """The setting that ``seconds`` comes from, and its value, for the failure's text."""
    parameters: Mapping[str, Any]
    """Further facts for the child, as JSON can say them."""
    success: str
    """Status of a good reply: ``pending``, ``looked``, ``examined``, ``foretold``, ``audited``,
    ``traced``, ``calibrated``, ``trained`` or ``written``."""
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
    device: str = ""
    """Device that a training ran on, told before its candidate began."""


def reply_of(job: Job, data: bytes, code: int) -> Reply:
    """Turn what a child wrote, and its exit code (negative: a signal), into a reply.

    ``data`` is all that came through its pipe. The table in :mod:`.container` says what is
    whose fault.
    """
    device, data = introduced(data)
    return replace(_verdict(job, data, code), device=device)


def _verdict(job: Job, data: bytes, code: int) -> Reply:
    begun = data.startswith(READY)
    if not begun:
        return Reply("infrastructure", _first_words(data) or f"a child {how(code)} at its start")
    if code == 0:
        try:
            return _answer(job, decode_reply(data, max_payload=job.payload_bytes))
        except ReplyError as error:
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
        frames = decode_reply(data, max_payload=0)
    except ReplyError:
        return ""
    return one_line(str(frames[0][0].get("failure", ""))) if frames else ""


def introduced(data: bytes | bytearray) -> tuple[str, bytes]:
    """Split off the frame in which a training's child told its device, before its candidate began.

    Returns the device, empty where none was told, and the rest.
    """
    if not data.startswith(READY) and len(data) >= _FRAME.size:
        size, payload = _FRAME.unpack_from(data)
        end = _FRAME.size + size
        if not payload and size <= MAX_HEADER and len(data) >= end:
            with contextlib.suppress(ReplyError):
                header = _header(bytes(data[_FRAME.size : end]))
                if set(header) == {"device"}:
                    return one_line(str(header["device"])), bytes(data[end:])
    return "", bytes(data)


def _answer(job: Job, frames: list[tuple[dict[str, Any], bytes]]) -> Reply:
    """Check and return the reply proper. Raises ``ReplyError``."""
    if len(frames) != 2:
        raise ReplyError("missing" if len(frames) < 2 else "more than one")
    header, payload = frames[1]
    if set(header) != {"status", "failure", "values"}:
        raise ReplyError("its header has other keys than it should")
    status, failure, values = header["status"], header["failure"], header["values"]
    if not isinstance(status, str) or not isinstance(failure, str) or not isinstance(values, dict):
        raise ReplyError("its header has values of the wrong type")
    if len(values) > _MAX_VALUES or not all(_is_number(v) for v in values.values()):
        raise ReplyError("its values are not a few finite numbers")
    allowed = {job.success, *FAULTS}
    if job.kind == "train":
        # A broken GPU shows while a candidate runs. Whoever pretends one gains only retries.
        allowed |= {"checkpointed", "infrastructure"}
    if status not in allowed:
        raise ReplyError(f"its status is {one_line(status, 40)!r}")
    if len(payload) != (job.payload_bytes if status == job.success else 0):
        raise ReplyError(f"it has {len(payload)} bytes of predictions")
    return Reply(status, one_line(failure), values, payload)


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return value is None or (isinstance(value, float) and math.isfinite(value))

"""Encode and decode what judge, warm parent and child say: two formats, both without pickle.

*Messages* (judge and warm parent, both trusted) are length-prefixed JSON on a socket, and may
carry file descriptors. *Replies* (child to judge, not trusted) are a byte stream of frames,
each a JSON object and raw bytes, which :func:`decode_reply` takes apart strictly.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping, Sequence
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
    """Return the most bytes of a whole reply: two frames, the second with a payload."""
    return 2 * (_FRAME.size + MAX_HEADER) + max_payload


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

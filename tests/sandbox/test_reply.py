"""The reply parser against adversarial bytes: it never raises, and believes little."""

from __future__ import annotations

import json
import math
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmatic_hpc.sandbox import wire
from llmatic_hpc.sandbox.wire import READY, Job, Reply, reply_of

JOB = Job(
    kind="train", source="", seconds=1.0, limit="containment.wall_seconds = 1",
    parameters={}, success="trained", payload_bytes=16,
)  # fmt: skip
HEADER = {"status": "trained", "failure": "", "values": {"train_loss": 0.5, "epochs": 2}}
PAYLOAD = bytes(range(16))
GOOD = READY + wire.encode_frame(HEADER, PAYLOAD)


def test_a_proper_reply_is_believed() -> None:
    """Status, values and payload come through."""
    expected = Reply("trained", "", {"train_loss": 0.5, "epochs": 2}, PAYLOAD)
    assert reply_of(JOB, GOOD, 0) == expected


@given(st.binary(max_size=300), st.integers(-64, 255))
def test_any_bytes_become_a_verdict(data: bytes, code: int) -> None:
    """Garbage after the beginning is the candidate's fault, before it the machine's."""
    after = reply_of(JOB, READY + data, code)
    assert after.status in ("invalid", "too_large", "too_slow")
    assert after.failure
    assert after.failure.isprintable()
    assert after.payload == b""
    if not data.startswith(READY):
        assert reply_of(JOB, data, code).status == "infrastructure"


@given(st.integers(0, len(GOOD) - 1))
def test_a_truncated_reply_is_refused(size: int) -> None:
    """No prefix of a reply passes for one."""
    assert reply_of(JOB, GOOD[:size], 0).status in ("invalid", "infrastructure")


@given(st.integers(len(READY), len(GOOD) - len(PAYLOAD) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_makes_another_payload(at: int, flip: int) -> None:
    """A damaged header is refused or, inside a number or a name, changes only that."""
    data = bytearray(GOOD)
    data[at] ^= flip
    reply = reply_of(JOB, bytes(data), 0)
    assert reply.payload in (b"", PAYLOAD)
    assert all(v is None or math.isfinite(v) for v in reply.values.values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from(["trained", "infrastructure", "scored", "pending"]) | JSON,
            "failure": st.text() | JSON,
            "values": st.dictionaries(st.text(max_size=3), JSON, max_size=20) | JSON,
            "more": JSON,
        },
    ),
    st.binary(max_size=20),
)
def test_any_header_becomes_a_verdict(header: dict[str, object], payload: bytes) -> None:
    """Values that are believed have the types that ours have, whatever JSON says."""
    body = json.dumps(header).encode()  # with NaN and Infinity, which JSON has not
    frame = wire._FRAME.pack(len(body), len(payload)) + body + payload
    reply = reply_of(JOB, READY + frame, 0)
    assert reply.status in ("trained", "invalid", "infrastructure")
    assert isinstance(reply.failure, str)
    assert len(reply.failure) <= wire.MAX_LINE
    for value in reply.values.values():
        assert value is None or (type(value) in (int, float) and math.isfinite(value))
    assert len(reply.payload) == (16 if reply.status == "trained" else 0)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 16_000,
        b'{"a":' * 3_000,
        b"1" * 16_000,
        b'{"status": "trained", "failure": "", "values": {"train_loss": NaN}}',
        b'{"status": "trained", "failure": "", "values": {"train_loss": 1e999}}',
        b'{"status": "trained", "failure": "", "values": {"epochs": true}}',
        b'{"status": "trained", "failure": "", "values": {"epochs": 1' + b"0" * 30 + b"}}",
        b"\xff\xfe",
        b"",
    ],
)
def test_pathological_headers_are_refused(header: bytes) -> None:
    """Deep nesting, huge numbers and what is not JSON end in one line."""
    frame = wire._FRAME.pack(len(header), 16) + header + PAYLOAD
    assert reply_of(JOB, READY + frame, 0).status == "invalid"


def test_lengths_are_bounded_before_they_are_believed() -> None:
    """A frame that claims four gigabytes is refused at once."""
    with pytest.raises(wire.ReplyError, match="longer than it may be"):
        wire.decode_reply(wire._FRAME.pack(1, 2**32 - 1), max_payload=16)


def test_causes_have_names() -> None:
    """Signals and exit codes are named, limits by their setting."""
    assert "SIGSEGV" in reply_of(JOB, READY, -signal.SIGSEGV).failure
    assert "code 3" in reply_of(JOB, READY, 3).failure
    slow = reply_of(JOB, READY, -signal.SIGXCPU)
    assert (slow.status, JOB.limit in slow.failure) == ("too_slow", True)
    assert reply_of(JOB, GOOD, 1).status == "invalid"
    first = wire.encode_frame({"status": "infrastructure", "failure": "no CUDA device"})
    assert reply_of(JOB, first, 0) == Reply("infrastructure", "no CUDA device")


@given(st.text())
def test_one_line_is_one_short_printable_line(text: str) -> None:
    """Any message becomes one, whatever it holds."""
    line = wire.one_line(text, 20)
    assert len(line) <= 20
    assert line.isprintable()

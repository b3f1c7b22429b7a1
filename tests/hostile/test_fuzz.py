"""Any text through the gate and its neighbours, any bytes through the judge of a reply.

A few hundred cases by default, ten thousand of each with ``pytest -m slow``.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import keyword
import math
import random
import struct
import time
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmatic_hpc.evaluation import score, screen
from llmatic_hpc.evaluation.data import Dataset, Split
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.sandbox import wire
from llmatic_hpc.sandbox.wire import READY, Job, reply_of
from llmatic_hpc.source import allowlist, canonical, gate

from .matrix import CANDIDATES
from .table import HEADER, network

MODELS = Path(__file__).parents[1] / "honest" / "models"
HONEST = [path.read_text() for path in sorted(MODELS.glob("*.py"))]
HOSTILE = [hostile.source for hostile in CANDIDATES if len(hostile.source) < 4000]
SECONDS = 5.0
"""No text may take longer: hundreds of times what a network takes."""

WORDS = [
    *keyword.kwlist,
    *sorted(
        allowlist.words(
            r"""
            torch nn F self x os sys eval exec open getattr setattr __import__ __builtins__
            __class__ __globals__ __dict__ gi_frame numpy storage apply_ register_hook cdata
            Union Type typing copy ParameterDict Linear forward range print super hasattr iter
            ( ) [ ] { } : , . = == + - * ** / // % @ -> := << ; ~ ... != | & ^ lambda \
            0 1 9999999999 1e9 0x7f 1j '' 'a' b'b' f'{x}' r'\d' 1_0 0b1 'eval' '__class__'
            """
        )
    ),
    *["\n", "\n    ", "\n        ", "\t", " ", "#", "\r", "\x0c", "\ufeff", "\u2028", "\uff45"],
    *['"""d"""', "u'\u00e9'"],
]

FOREIGN = {
    tokenize.NAME: [word for word in WORDS if word.isidentifier() and not keyword.iskeyword(word)],
    tokenize.OP: [".", ",", "+", "*", "**", "<<", "//", "="],
    tokenize.NUMBER: ["0", "1", "-1", "9999999999", "1e9", "65537", "1j"],
    tokenize.STRING: ["'eval'", "'__class__'", "b'b'", "f'{self}'", "'%9999d'", "''"],
}

few = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def mutated(draw: Callable[..., Any]) -> str:
    """A source with words exchanged, and lines torn out, moved and doubled."""
    source: str = draw(st.sampled_from(HONEST) | st.sampled_from(HOSTILE))
    rng = draw(st.randoms(use_true_random=False))
    return _with_other_words(_with_other_lines(source, rng), rng)


def _with_other_lines(source: str, rng: random.Random) -> str:
    lines = source.split("\n")
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[i] = rng.choice(["", lines[j], f"{lines[i]}\n{lines[j]}", lines[i][4:]])
    return "\n".join(lines)


def _with_other_words(source: str, rng: random.Random) -> str:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return source
    kinds = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
    places = [
        t
        for t in tokens
        if t.type in kinds and t.start[0] == t.end[0] and t.string not in tuple("()[]{}:")
    ]
    alike = {kind: [t.string for t in places if t.type == kind] + FOREIGN[kind] for kind in kinds}
    lines = source.split("\n")
    chosen = rng.sample(places, min(len(places), rng.randint(0, 6)))
    for token in sorted(chosen, key=lambda t: t.start, reverse=True):
        row, start, end = token.start[0] - 1, token.start[1], token.end[1]
        # Mostly of the same kind, so that the parser does not end it all.
        word = rng.choice(alike[token.type] if rng.random() < 0.95 else WORDS)
        lines[row] = lines[row][:start] + word + lines[row][end:]
    return "\n".join(lines)


words = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)
within = words.map(lambda text: network(init=text) if text.strip() else network())
texts = st.one_of(mutated(), mutated(), words, within, st.text(max_size=200))


def look(source: str) -> None:
    """Gate, canonical form and extraction of one text: no exception, no contradiction."""
    started = time.process_time()
    seen = gate.check(source, max_bytes=100_000)
    digest = canonical.canonical_sha256(source)
    extracted = [extract(source, form=form, prefix=HEADER) for form in ("chat", "completion")]
    assert time.process_time() - started < SECONDS
    assert seen.status in ("pending", "invalid", "forbidden", "too_large")
    assert bool(seen.failure) == (seen.status != "pending")
    assert seen.failure.isprintable()
    assert len(seen.failure) < 400
    assert all(bool(found.source) != bool(found.failure) for found in extracted)
    if seen.status == "pending":
        assert digest
        assert not _dangers(source)


def _dangers(source: str) -> list[str]:
    """List what no source that is let in may hold; by eye, and apart from the gate's own rules."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module")]
        for name in names:
            if isinstance(name, str) and (
                (
                    name.startswith("__")
                    and name
                    not in ("__init__", "__repr__", "__constants__", "__future__", "__name__")
                )
                or name.startswith(("gi_", "f_back", "tb_frame", "co_code", "cr_frame"))
                or name in ("_evaluate", "_inst", "as_strided", "data_ptr", "set_")
            ):
                found.append(name)
        if isinstance(node, ast.Import | ast.ImportFrom):
            roots = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            known = "torch torchvision numpy math collections copy functools typing __future__"
            found += [str(r) for r in roots if str(r).split(".")[0] not in known.split()]
        if isinstance(node, ast.Try | ast.Global | ast.Nonlocal | ast.Yield | ast.Await):
            found.append(type(node).__name__)
    return found


@few
@given(texts)
def test_any_text_is_looked_at(source: str) -> None:
    """Mutated candidates, honest and hostile, and words in any order."""
    look(source)


@pytest.mark.slow
@many
@given(texts)
def test_many_texts_are_looked_at(source: str) -> None:
    """The same, for an hour of an attacker's patience."""
    look(source)


# --- replies ------------------------------------------------------------------------------------

_numbers = st.one_of(
    st.integers(-(1 << 70), 1 << 70), st.floats(), st.none(), st.booleans(), st.text(max_size=5)
)
_keys = allowlist.words("train_loss epochs width depth ratio flops params built x")
_values = st.dictionaries(
    st.sampled_from(sorted(_keys)), st.one_of(_numbers, st.lists(_numbers, max_size=2)), max_size=8
)
_statuses = st.sampled_from(
    sorted(
        allowlist.words(
            """
            trained pending scored looked invalid forbidden too_large too_slow diverged
            checkpointed infrastructure duplicate other
            """
        )
    )
)
_headers = st.one_of(
    st.fixed_dictionaries(
        {"status": _statuses, "failure": st.text(max_size=600), "values": _values},
        optional={"more": _numbers},
    ),
    st.dictionaries(st.text(max_size=9), _numbers, max_size=4),
)
_payloads = st.one_of(
    st.binary(max_size=60), st.just(bytes(40)),
    st.lists(st.integers(-2, 11), min_size=5, max_size=5).map(
        lambda classes: np.array(classes, "<i8").tobytes()
    ),
)  # fmt: skip


@st.composite
def replies(draw: Callable[..., Any]) -> bytes:
    """Whole frames, honest or not, with pieces changed, cut off and added."""
    parts = [READY] if draw(st.integers(0, 9)) else []
    for _ in range(draw(st.integers(0, 2))):
        header, payload = draw(_headers), draw(_payloads)
        body = json.dumps(header).encode()
        parts.append(struct.pack(">II", len(body), len(payload)) + body + payload)
    data = bytearray(b"".join(parts))
    for _ in range(draw(st.integers(0, 2))):
        if data and draw(st.booleans()):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    end = draw(st.integers(0, len(data))) if not draw(st.integers(0, 3)) else len(data)
    return bytes(data[:end]) + (draw(st.binary(max_size=9)) if not draw(st.integers(0, 4)) else b"")


def _split(count: int) -> Split:
    return Split(np.zeros((count, 2, 2, 1), np.uint8), np.arange(count) % 3)


DATASET = Dataset(_split(3), _split(3), _split(2), 3)
JOBS = [
    Job("train", "", 9.0, "x = 9", {}, "trained", payload_bytes=40),
    Job("measure", "", 9.0, "x = 9", {}, "pending"),
]


def believe(data: bytes, code: int, job: Job) -> None:
    """From bytes to an outcome: one status that a child may have, and nothing made up."""
    with contextlib.suppress(wire.ReplyError):
        wire.decode_reply(data, max_payload=job.payload_bytes)
    reply = reply_of(job, data, code)
    assert reply.failure.isprintable()
    assert len(reply.failure) <= wire.MAX_LINE
    assert reply.status in (
        job.success, "invalid", "forbidden", "too_large", "too_slow", "diverged", "checkpointed",
        "infrastructure",
    )  # fmt: skip
    if reply.status == job.success:
        assert code == 0
        assert len(reply.payload) == job.payload_bytes
    if job.kind == "train":
        outcome = score.outcome(reply, DATASET, fitness_split="validation")
        assert outcome.status != job.success
        assert (outcome.status == "scored") == (not math.isnan(outcome.fitness))
        assert outcome.status != "scored" or 0 <= outcome.fitness <= 1
        assert math.isnan(outcome.train_loss) or 0 <= outcome.train_loss < math.inf
    else:
        screened = screen._screened(reply, "")
        found = screened.descriptors
        assert (found is not None) == (screened.status == "pending")
        assert found is None or all(
            math.isfinite(n) and n >= 0
            for n in (found.width, found.depth, found.ratio, found.flops, found.params)
        )


_codes = st.one_of(st.just(0), st.just(0), st.integers(-64, 255))
_bytes = st.one_of(replies(), replies(), st.binary(max_size=200))


@few
@given(_bytes, _codes, st.sampled_from(JOBS))
def test_any_reply_is_judged(data: bytes, code: int, job: Job) -> None:
    """Nothing but the declared exception, and no status but the known ones."""
    believe(data, code, job)


@pytest.mark.slow
@many
@given(_bytes, _codes, st.sampled_from(JOBS))
def test_many_replies_are_judged(data: bytes, code: int, job: Job) -> None:
    """The same, ten thousand times."""
    believe(data, code, job)

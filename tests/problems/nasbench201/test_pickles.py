"""The machine that reads pickles as data: what Python's own reads, and nothing that could run."""

from __future__ import annotations

import builtins
import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmatic_hpc.errors import DataError
from llmatic_hpc.problems.nasbench201.official import inert, pickles

ATOMS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text(max_size=300) | st.binary(min_size=1, max_size=300)
)  # fmt: skip
KEYS = st.text(max_size=5) | st.integers() | st.tuples(st.text(max_size=5), st.integers())
DATA = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict)
        | st.sets(KEYS, max_size=3)
        | st.sets(KEYS, max_size=3).map(frozenset)
        | inner.map(lambda value: [value, value])
    ),
    max_leaves=30,
)


class Trickle:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self.inner, self.size = io.BytesIO(data), size

    def read(self, size: int, /) -> bytes:
        return self.inner.read(min(size, self.size))


def read(data: bytes, *, twice: bool = False, size: int = 1 << 20, shorten: Any = None) -> Any:
    """In one pass, or in two, which forgets what is not fetched again."""
    counts = pickles.fetches(pickles.Reader(Trickle(data, size).read, "file")) if twice else None
    return pickles.load(pickles.Reader(Trickle(data, size).read, "file"), shorten or {}, counts)


@settings(max_examples=80, deadline=None)
@given(DATA, st.integers(2, 5), st.booleans(), st.sampled_from([1, 7, 1000]))
def test_reads_what_python_reads(value: Any, protocol: int, twice: bool, size: int) -> None:
    """Plain data is the same as by Python's own machine, however it trickles in."""
    data = pickle.dumps(value, protocol)
    assert read(data, twice=twice, size=size) == value == pickle.loads(data)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["f2", "f4", ">f8", "f8", "i1", "<i4", "i8", "u2", "u8", "?"])
def test_numpy_scalars(kind: str, protocol: int) -> None:
    """Are Python's numbers of the same value, also by the names of older numpy."""
    value = np.dtype(kind).type(1.25 if "f" in kind else 1)
    data = pickle.dumps([value, value], protocol)
    assert read(data) == [value.item()] * 2
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    if protocol < 4:  # names are lines there, and may become shorter
        assert old != data
        assert read(old) == [value.item()] * 2


def test_what_is_not_kept() -> None:
    """Arrays and long texts are admitted and come to nothing."""
    value = {
        "array": np.zeros(5),
        "objects": np.array([{}, None]),
        "long": "x" * (17 << 20),
        "end": 1,
    }
    for protocol in (2, 4, 5):
        found = read(pickle.dumps(value, protocol), twice=True)
        assert found == dict.fromkeys(value, inert.INERT) | {"end": 1}


@pytest.mark.parametrize("length", [0, 255, 256, 511, 512, 513, 5000, 65_536])
@pytest.mark.parametrize("twice", [False, True])
def test_texts_at_the_end(length: int, twice: bool) -> None:
    """Streams of any length, whole or cut off: what is at hand at the end is used up once."""
    data = pickle.dumps("x" * length, 4)
    assert read(data, twice=twice) == "x" * length
    for size in range(0, len(data), max(len(data) // 20, 1)):
        with pytest.raises(DataError):
            read(data[:size], twice=twice)


def test_values_are_shortened_as_they_are_put() -> None:
    """By key, wherever in the file."""
    value = {"a": [{"curve": [1, 2, 3]}, {"curve": [4, 5]}], "curve": [6]}
    found = read(pickle.dumps(value, 2), twice=True, shorten={"curve": len})
    assert found == {"a": [{"curve": 3}, {"curve": 2}], "curve": 1}


def test_what_is_not_fetched_again_is_forgotten() -> None:
    """And only that: an object that is shared stands in every place."""
    shared = ["often"]
    value = [[shared, [str(i)]] for i in range(1000)]
    found = read(pickle.dumps(value, 4), twice=True)
    assert found == value
    assert found[0][0] is found[-1][0]
    counts = pickles.fetches(pickles.Reader(io.BytesIO(pickle.dumps(value, 4)).read, "file"))
    assert sorted(counts)[-2:] == [0, pickles.OFTEN]


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


POISON = {
    "os.system": (opcodes(named("os", "system"), text("touch poisoned"), b"\x85R"), "os.system"),
    "posix by line": (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "posix.system"),
    "eval": (opcodes(named("builtins", "eval"), text("1"), b"\x85R"), "builtins.eval"),
    "getattr": (opcodes(named("builtins", "getattr"), named("os", "system")), "builtins.getattr"),
    "dotted": (
        opcodes(named("collections", "OrderedDict.fromkeys.__self__")),
        "collections.OrderedDict.fromkeys",
    ),
    "module of the list": (opcodes(named("torch.serialization", "load")), "torch.serialization"),
    "name of the list": (opcodes(named("evil", "OrderedDict")), "evil.OrderedDict"),
    "numpy's tricks": (opcodes(named("numpy.testing._private.utils", "runstring")), "runstring"),
    "foreign array": (
        opcodes(named("numpy.core.multiarray", "_reconstruct"), named("posix", "system")),
        "posix.system",
    ),
    "no name": (opcodes(b"K\x01K\x02\x93"), "1.2"),
    "INST": (b"\x80\x02(S'true'\nios\nsystem\n.", "STRING"),
    "INST alone": (b"\x80\x02(ios\nsystem\n.", "INST"),
    "OBJ": (b"\x80\x02(ccollections\nOrderedDict\no.", "OBJ"),
    "EXT1": (b"\x80\x02\x82\x01.", "EXT1"),
    "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
    "NEWOBJ_EX": (opcodes(named("collections", "OrderedDict"), b")}\x92"), "NEWOBJ_EX"),
    "PERSID": (b"\x80\x02Pevil\n.", "PERSID"),
    "NEXT_BUFFER": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "state of a name": (opcodes(named("collections", "OrderedDict"), b"}b"), "state for Name"),
    "state of a list": (opcodes(b"]}b"), "state for list"),
    "calls a dictionary": (opcodes(b"})R"), "calls what is no function"),
    "calls a result": (opcodes(named("numpy", "dtype"), text("f8"), b"\x85R)R"), "no function"),
    "makes a number": (opcodes(named("numpy", "dtype"), b"K\x01\x81"), "no function"),
    "list as a key": (opcodes(b"}]Ns"), "list as a key"),
    "nest as a key": (opcodes(b"})", b"\x85" * 100_000, b"Ns"), "tuple as a key"),
    "nest in a set": (opcodes(b"\x8f()", b"\x85" * 100_000, b"\x90"), "tuple as a key"),
    "items of a tuple": (opcodes(b")(NNu"), "no dictionary"),
    "odd items": (opcodes(b"}(Nu"), "no dictionary"),
    "unknown object": (opcodes(b"h\x05"), "fetches|KeyError"),
    "huge number": (opcodes(b"\x8b\xff\xff\xff\x7f"), "LONG4"),
    "other encoding": (
        opcodes(named("_codecs", "encode"), text("x"), text("rot13"), b"\x86R"),
        "rot13",
    ),
    "object number": (
        opcodes(named("numpy.core.multiarray", "scalar"), named("numpy", "dtype"), text("O8"),
                b"\x85RC\x08abcdefgh\x86R"),
        "O8",
    ),
    "no opcode": (b"\x80\x02\xff.", "no opcode"),
    "endless": (b"\x80\x02" + (b"G" + bytes(8)) * (2 << 20) + b".", "too much"),
    "huge length": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "middle"),
    "empty": (b"", "middle"),
    "nothing": (b"\x80\x04.", "damaged"),
    "two things": (b"\x80\x04NN.", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("name", POISON)
def test_poison_is_refused(
    name: str, twice: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a message that says what it asked for; and nothing is imported or run."""
    data, why = POISON[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtins, "__import__", _no_import)
    with pytest.raises(DataError, match=why) as caught:
        read(data, twice=twice)
    monkeypatch.undo()
    assert str(caught.value).startswith("file: ")
    assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []


def _no_import(name: str, *_: Any) -> None:
    raise AssertionError(f"imports {name}")


def test_names_stand_for_nothing_real() -> None:
    """A name becomes a function of this package, and not what it is called after."""
    for found in inert.ADMITTED.values():
        assert found.make.__module__ == inert.__name__

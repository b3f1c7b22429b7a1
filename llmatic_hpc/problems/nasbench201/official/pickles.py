"""Pickles read as data, never as a program.

A pickle is a program for a small stack machine, and Python's own machine imports and calls
whatever the pickle names. This is another machine for the same language: it knows the opcodes
that plain data needs and a fixed list of names (:data:`~.inert.ADMITTED`), each of which
stands for a function of ours that returns numbers, text, containers, or nothing worth keeping.
It has no way to import, look up an attribute, or call anything else: the worst that a hostile
file can do is to use up memory or time.

It also reads files that are larger than the memory. Python's machine keeps every object that it
ever made, since a later opcode may fetch it again. Here a first pass (:func:`fetches`) counts how
often each is fetched, and the second (:func:`load`) keeps an object no longer than that, and
shortens values as they are put under their key. Language: ``pickletools`` and PEP 307, 3154, 574.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any, NoReturn

from ....errors import DataError
from .inert import ADMITTED, INERT, Name, Shorten, build, check_keys, make_set, put

CHUNK = 1 << 20
MARGIN = 512
"""Bytes that are always at hand: an opcode with its argument, short texts included."""
MAX_TEXT = 1 << 16
"""Bytes of a text or of raw data; what is longer (weights of a network) is not kept."""
MAX_BETWEEN = 16 << 20
"""Bytes between two values that are shortened. A cell of the benchmark has 0.3 MB and several."""


Read = Callable[[int], bytes]
"""Source of bytes: returns at most so many, and none at the end."""


class Reader:
    """A stream of pickles, one after another, and how far it was read."""

    def __init__(self, read: Read, name: str) -> None:
        self._read = read
        self._ended = False
        self.name = name
        """As errors say it."""
        self.data = b""
        self.at = 0
        self.safe = -1
        """The last position in ``data`` behind which there are ``MARGIN`` bytes."""
        self.before = 0
        """Position of ``data`` in the stream."""

    def more(self, at: int) -> tuple[bytes, int, int]:
        """Read on from ``at``: the new ``data``, ``at`` and ``safe``."""
        if not self._ended:
            self.data = self.data[at:]
            self.before += at
            at = 0
            while (read := self._read(CHUNK)) and len(self.data) + len(read) <= MARGIN:
                self.data += read
            self.data += read
            self.safe = len(self.data) - MARGIN - 1
            if read:
                return self.data, 0, self.safe
            # No opcode is a zero byte: what reads on into this is told that the file ends.
            self.data += bytes(MARGIN)
            self.safe = len(self.data)
            self._ended = True
        if at >= len(self.data) - MARGIN:
            self.end_early()
        return self.data, at, self.safe

    def skip(self, at: int, size: int) -> tuple[bytes, int, int]:
        """Go ``size`` bytes on from ``at``, however many. Returns as :meth:`more`."""
        while size > len(self.data) - at:
            size -= len(self.data) - at
            self.more(len(self.data))
            at = 0
        at += size
        return (self.data, at, self.safe) if at <= self.safe else self.more(at)

    def refuse(self, why: str | BaseException) -> NoReturn:
        if isinstance(why, BaseException):
            why = " ".join(f"{type(why).__name__}: {why}".split())[:100]
        raise DataError(
            f"{self.name}: damaged, or no file of the benchmark ({why}); copy or download it again"
        )

    def forbid(self, what: str) -> NoReturn:
        raise DataError(
            f"{self.name}: {what}, which no file of the benchmark needs. It was not loaded, since "
            "it could run code of its own: take the official file instead"
        )

    def end_early(self) -> NoReturn:
        raise DataError(f"{self.name}: ends in the middle: copy or download it again")


# --- the machine ------------------------------------------------------------------------------

_KNOWN = {
    "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE",
    "EMPTY_SET", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM",
    "SETITEMS", "ADDITEMS", "FROZENSET", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID", "GLOBAL",
    "STACK_GLOBAL", "MEMOIZE", "PROTO", "FRAME", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT",
    "BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "SHORT_BINSTRING",
    "BINSTRING",
}  # fmt: skip
"""Opcodes that plain data needs."""

_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
_OPCODES = {name: code for code, name in _NAMES.items()}

MARK, STOP = _OPCODES["MARK"], _OPCODES["STOP"]
BINFLOAT, MEMOIZE = _OPCODES["BINFLOAT"], _OPCODES["MEMOIZE"]
SHORT_BINUNICODE = _OPCODES["SHORT_BINUNICODE"]
BININT, BININT1, BININT2 = (_OPCODES[n] for n in ("BININT", "BININT1", "BININT2"))
GETS = BINGET, _ = _OPCODES["BINGET"], _OPCODES["LONG_BINGET"]
PUTS = BINPUT, _ = _OPCODES["BINPUT"], _OPCODES["LONG_BINPUT"]
SETS = SETITEMS, _ = _OPCODES["SETITEMS"], _OPCODES["SETITEM"]
GLOBAL, STACK_GLOBAL = _OPCODES["GLOBAL"], _OPCODES["STACK_GLOBAL"]
LONG1 = _OPCODES["LONG1"]
_TEXTS = {_OPCODES[name] for name in ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")}

_ARGUMENTS = {ord(op.code): op.arg for op in pickletools.opcodes if op.name in _KNOWN}
_SIZES = {code: argument.n if argument else 0 for code, argument in _ARGUMENTS.items()}
_FIXED = {code: size for code, size in _SIZES.items() if size >= 0}
"""Bytes of the argument, where they are always as many."""

_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_SIZED = {code: _LENGTHS[size] for code, size in _SIZES.items() if size in _LENGTHS}
"""Bytes of the length that comes first, little-endian."""

_SPECIAL = {MEMOIZE, STOP, *GETS, *PUTS}
_STEPS = [1 + _FIXED[op] if op in _FIXED and op not in _SPECIAL else 0 for op in range(256)]

_float = struct.Struct(">d").unpack_from
_int = struct.Struct("<i").unpack_from
_index = struct.Struct("<I").unpack_from

FAULTS = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError,
    ValueError, struct.error,
)  # fmt: skip
"""Exceptions that damaged data can raise in here."""

OFTEN = 255
"""A count of fetches that is no longer counted on: such an object is kept to the end."""


def fetches(reader: Reader) -> bytearray:
    """Count how often each memoized object of the next pickle is fetched again (255: that or more).

    Raises :class:`DataError` for an opcode that is not admitted and where the file ends early.
    """
    try:
        return _fetches(reader)
    except FAULTS as error:
        reader.refuse(error)


def _fetches(reader: Reader) -> bytearray:
    counts = bytearray()
    data, at, safe = reader.data, reader.at, reader.safe
    while True:
        if at > safe:
            data, at, safe = reader.more(at)
        op = data[at]
        if step := _STEPS[op]:
            at += step
        elif op == SHORT_BINUNICODE:
            at += 2 + data[at + 1]
        elif op == MEMOIZE:
            counts.append(0)
            at += 1
        elif op in PUTS:
            index = data[at + 1] if op == BINPUT else _index(data, at + 1)[0]
            at += 1 + _FIXED[op]
            if index == len(counts):
                counts.append(0)
            elif index > len(counts):
                reader.refuse("its objects are not numbered in order")
        elif op in GETS:
            index = data[at + 1] if op == BINGET else _index(data, at + 1)[0]
            at += 1 + _FIXED[op]
            if index >= len(counts):
                reader.refuse("it fetches an object that it does not have")
            if counts[index] < OFTEN:
                counts[index] += 1
        elif width := _SIZED.get(op):
            size = int.from_bytes(data[at + 1 : at + 1 + width], "little")
            data, at, safe = reader.skip(at + 1 + width, size)
        elif op == GLOBAL:
            at = data.index(b"\n", data.index(b"\n", at) + 1) + 1
        elif op == STOP:
            reader.at = at + 1
            return counts
        else:
            _unknown(reader, op)


def load(reader: Reader, shorten: Shorten, counts: bytearray | None = None) -> Any:
    """Read the next pickle: atoms, ``list``, ``tuple``, ``dict``, ``set``,
    :class:`~.inert.Attributes` and :class:`~.inert.Inert`.

    A value is given to ``shorten`` as it is put under one of its keys, complete. ``counts`` are
    the :func:`fetches` of the same pickle (they are used up); without them every memoized object
    is kept to the end.

    Raises :class:`DataError` for a name or an opcode that is not admitted, and for what is no
    whole pickle.
    """
    try:
        return _load(reader, shorten, counts)
    except FAULTS as error:
        reader.refuse(error)


def _load(reader: Reader, shorten: Shorten, counts: bytearray | None) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    numbered = 0
    last = reader.before + reader.at
    push = stack.append
    data, at, safe = reader.data, reader.at, reader.safe
    while True:
        if at > safe:
            data, at, safe = reader.more(at)
            if reader.before + at - last > MAX_BETWEEN:
                reader.refuse("too much of anything else between the results")
        op = data[at]
        at += 1
        # The commonest first: nine of ten are one of these five.
        if op == BINFLOAT:
            push(_float(data, at)[0])
            at += 8
        elif op == MEMOIZE:
            if counts is None or counts[numbered]:
                memo[numbered] = stack[-1]
            numbered += 1
        elif op == SHORT_BINUNICODE:
            end = at + 1 + data[at]
            push(str(data[at + 1 : end], "utf-8"))
            at = end
        elif op == BININT1:
            push(data[at])
            at += 1
        elif op in PUTS:
            index = data[at] if op == BINPUT else _index(data, at)[0]
            at += _FIXED[op]
            if counts is None or counts[index]:
                memo[index] = stack[-1]
            numbered = max(numbered, index + 1)
        elif op in GETS:
            index = data[at] if op == BINGET else _index(data, at)[0]
            at += _FIXED[op]
            push(memo[index])
            if counts is not None and counts[index] != OFTEN:
                counts[index] -= 1
                if not counts[index]:
                    del memo[index]
        elif width := _SIZED.get(op):
            size = int.from_bytes(data[at : at + width], "little")
            at += width
            if size > MAX_TEXT:
                data, at, safe = reader.skip(at, size)
                last += size
                push(INERT)
                continue
            while at + size > len(data) - MARGIN and safe < len(data):
                data, at, safe = reader.more(at)
            raw = data[at : at + size]
            at += size
            if op in _TEXTS:
                push(str(raw, "utf-8"))
            else:
                push(int.from_bytes(raw, "little", signed=True) if op == LONG1 else raw)
        elif op == GLOBAL:
            end = data.index(b"\n", data.index(b"\n", at) + 1)
            push(_find(reader, *str(data[at:end], "utf-8").split("\n")))
            at = end + 1
        elif op == STOP:
            reader.at = at
            (found,) = stack
            return found
        elif op == MARK:
            marks.append(len(stack))
        elif op in SETS:
            if op != SETITEMS:
                marks.append(len(stack) - 2)
            items = _since_mark(stack, marks)
            if put(stack[-1], items, shorten):
                last = reader.before + at
        elif op == STACK_GLOBAL:
            name, module = stack.pop(), stack.pop()
            push(_find(reader, module, name))
        elif op == BININT2:
            push(data[at] | data[at + 1] << 8)
            at += 2
        elif op == BININT:
            push(_int(data, at)[0])
            at += 4
        elif act := _ACTS.get(op):
            act(stack, marks)
            at += _FIXED[op]
        else:
            _unknown(reader, op)


def _find(reader: Reader, module: Any, name: Any) -> Name:
    if type(module) is not str or type(name) is not str or (module, name) not in ADMITTED:
        reader.forbid(f"asks for {str(module)[:80]}.{str(name)[:80]}")
    return ADMITTED[module, name]


def _unknown(reader: Reader, op: int) -> NoReturn:
    if not op:
        reader.end_early()
    if op not in _NAMES:
        reader.refuse(f"byte {op} is no opcode of a pickle")
    reader.forbid(f"uses the opcode {_NAMES[op]}")


def _since_mark(stack: list[Any], marks: list[int]) -> list[Any]:
    start = marks.pop()
    items = stack[start:]
    del stack[start:]
    return items


def _append(stack: list[Any], items: list[Any]) -> None:
    if type(stack[-1]) is not list:
        raise TypeError("items for what is no list")
    stack[-1].extend(items)


def _add(stack: list[Any], items: list[Any]) -> None:
    if type(stack[-1]) is not set:
        raise TypeError("items for what is no set")
    check_keys(items)
    stack[-1].update(items)


def _call(stack: list[Any], _: list[int]) -> None:
    arguments, name = stack.pop(), stack.pop()
    if type(name) is not Name or type(arguments) is not tuple:
        raise TypeError("calls what is no function")
    stack.append(name.make(*arguments))


def _tuple_of(count: int) -> Callable[[list[Any], list[int]], None]:
    def act(stack: list[Any], _: list[int]) -> None:
        if len(stack) < count:
            raise IndexError("empty stack")
        stack[-count:] = [tuple(stack[-count:])]

    return act


_ACTS: dict[int, Callable[[list[Any], list[int]], Any]] = {
    _OPCODES[name]: act
    for name, act in {
        "NONE": lambda stack, _: stack.append(None),
        "NEWTRUE": lambda stack, _: stack.append(True),
        "NEWFALSE": lambda stack, _: stack.append(False),
        "EMPTY_DICT": lambda stack, _: stack.append({}),
        "EMPTY_LIST": lambda stack, _: stack.append([]),
        "EMPTY_TUPLE": lambda stack, _: stack.append(()),
        "EMPTY_SET": lambda stack, _: stack.append(set()),
        "TUPLE": lambda stack, marks: stack.append(tuple(_since_mark(stack, marks))),
        "TUPLE1": _tuple_of(1),
        "TUPLE2": _tuple_of(2),
        "TUPLE3": _tuple_of(3),
        "APPEND": lambda stack, _: _append(stack, [stack.pop()]),
        "APPENDS": lambda stack, marks: _append(stack, _since_mark(stack, marks)),
        "ADDITEMS": lambda stack, marks: _add(stack, _since_mark(stack, marks)),
        "FROZENSET": lambda stack, marks: stack.append(make_set(_since_mark(stack, marks))),
        "REDUCE": _call,
        "NEWOBJ": _call,
        "BUILD": lambda stack, _: build(stack[-2], stack.pop()),
        # An identifier of what lies outside the pickle: the storage of a tensor.
        "BINPERSID": lambda stack, _: stack.__setitem__(-1, INERT),
        # Where the pickle begins, and hints about reading ahead.
        "PROTO": lambda *_: None,
        "FRAME": lambda *_: None,
    }.items()
}

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

import io
import math
import pickle  # for the names of its opcodes
import pickletools
import struct
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

from ....errors import DataError
from .inert import ADMITTED, INERT, Name, Shorten, build, check_keys, make_set, put

MAX_TEXT = 1 << 16
"""Bytes of a text or of raw data; what is longer (weights of a network) is not kept."""
MAX_BETWEEN = 16 << 20
"""Bytes between two values that are shortened. A cell of the benchmark has 0.3 MB and several."""
_CHUNK = 1 << 20

_FIXED = {
    code: (struct.Struct(layout).unpack, struct.calcsize(layout))
    for code, layout in {
        pickle.BINFLOAT: ">d", pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H",
        pickle.BINGET: "<B", pickle.LONG_BINGET: "<I", pickle.BINPUT: "<B",
        pickle.LONG_BINPUT: "<I", pickle.PROTO: "<B", pickle.FRAME: "<Q",
    }.items()
}  # fmt: skip
"""Readers and sizes of arguments that are a number."""

_SIZED = {
    pickle.SHORT_BINUNICODE: 1, pickle.BINUNICODE: 4, pickle.BINUNICODE8: 8,
    pickle.SHORT_BINBYTES: 1, pickle.BINBYTES: 4, pickle.BINBYTES8: 8, pickle.BYTEARRAY8: 8,
    pickle.SHORT_BINSTRING: 1, pickle.BINSTRING: 4, pickle.LONG1: 1,
}  # fmt: skip
"""Bytes of the length that comes before an argument of any size, little-endian."""

_NUMBERS = {pickle.BINFLOAT, pickle.BININT, pickle.BININT1, pickle.BININT2}
_TEXTS = {pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8}
_GETS = {pickle.BINGET, pickle.LONG_BINGET}
_PUTS = {pickle.BINPUT, pickle.LONG_BINPUT}

_FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
FAULTS = (*_FAULTS, RecursionError, struct.error)
"""Exceptions that damaged data can raise in here."""


class Stream(Protocol):
    """Source of bytes."""

    def read(self, size: int, /) -> bytes: ...


class Reader(io.RawIOBase):
    """A stream of pickles, one after another, as opcodes with their arguments."""

    def __init__(self, stream: Stream, name: str) -> None:
        self._stream = stream
        self._buffered = io.BufferedReader(self, _CHUNK)
        self.name = name
        """Name of the file in errors."""
        self.since = 0.0
        """Bytes since the last value that was shortened."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, unless too much was read since the last value that was shortened."""
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self.since += len(data)
        if self.since > MAX_BETWEEN:
            self.refuse("too much of anything else between the results")
        return len(data)

    def opcodes(self) -> Iterator[tuple[bytes, Any]]:
        """Yield the opcodes of the next pickle up to STOP, each with its argument, if it has one.

        An argument is a number, bytes, None for bytes that are too long, or the two words of
        GLOBAL. Raises :class:`DataError` for an opcode that is not admitted.
        """
        read = self._buffered.read
        while (code := read(1)) != pickle.STOP:
            if fixed := _FIXED.get(code):
                unpack, size = fixed
                yield code, unpack(read(size))[0]
            elif code in _BARE:
                yield code, None
            elif width := _SIZED.get(code):
                yield code, self._sized(int.from_bytes(read(width), "little"))
            elif code == pickle.GLOBAL:
                lines = [self._buffered.readline(MAX_TEXT) for _ in range(2)]
                yield code, [line.decode().rstrip("\n") for line in lines]
            else:
                self._unknown(code)

    def _sized(self, size: int) -> bytes | None:
        """Read so many bytes, or pass over them where they are too long to keep."""
        if size <= MAX_TEXT:
            kept = self._buffered.read(size)
            return kept if len(kept) == size else self._unknown(b"")
        while size:
            passed = len(self._buffered.read(min(size, _CHUNK))) or self._unknown(b"")
            size -= passed
            self.since -= passed
        return None

    def refuse(self, why: str) -> NoReturn:
        """Raise :class:`DataError` for what is damaged."""
        raise DataError(
            f"{self.name}: damaged, or no file of the benchmark ({why}); copy or download it again"
        )

    def refuse_code(self, what: str) -> NoReturn:
        """Raise :class:`DataError` for what is no plain data."""
        raise DataError(
            f"{self.name}: {what}, which no file of the benchmark needs. It was not loaded, since "
            "it could run code of its own: take the official file instead"
        )

    def _unknown(self, code: bytes) -> NoReturn:
        if not code:
            raise DataError(f"{self.name}: ends in the middle: copy or download it again")
        for known in pickletools.opcodes:
            if known.code == chr(code[0]):
                self.refuse_code(f"uses the opcode {known.name}")
        self.refuse(f"byte {code[0]} is no opcode of a pickle")


# --- the machine ------------------------------------------------------------------------------

OFTEN = 255
"""A count of fetches that is no longer counted on: such an object is kept to the end."""


def fetches(reader: Reader) -> bytearray:
    """Count how often each memoized object of the next pickle is fetched again (255: or more).

    Raises :class:`DataError` for an opcode that is not admitted and where the file ends early.
    """
    counts = bytearray()
    reader.since = -math.inf  # nothing is kept
    try:
        for code, index in reader.opcodes():
            if code == pickle.MEMOIZE or (code in _PUTS and index == len(counts)):
                counts.append(0)
            elif code in _PUTS and index > len(counts):
                reader.refuse("its objects are not numbered in order")
            elif code in _GETS:
                if index >= len(counts):
                    reader.refuse("it fetches an object that it does not have")
                counts[index] = min(counts[index] + 1, OFTEN)
    except FAULTS as error:
        reader.refuse(_one_line(error))
    return counts


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
        reader.refuse(_one_line(error))


def _load(reader: Reader, shorten: Shorten, counts: bytearray | None) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    numbered = 0
    reader.since = 0
    for code, argument in reader.opcodes():  # the commonest first
        if code in _NUMBERS:
            stack.append(argument)
        elif code == pickle.MEMOIZE or code in _PUTS:
            index = numbered if argument is None else argument
            if counts is None or counts[index]:
                memo[index] = stack[-1]
            numbered = max(numbered, index + 1)
        elif code in _GETS:
            stack.append(memo[argument])
            if counts is not None and counts[argument] != OFTEN:
                counts[argument] -= 1
                if not counts[argument]:
                    del memo[argument]
        elif code in _SIZED:
            if argument is None:
                stack.append(INERT)
            elif code in _TEXTS:
                stack.append(str(argument, "utf-8"))
            elif code == pickle.LONG1:
                stack.append(int.from_bytes(argument, "little", signed=True))
            else:
                stack.append(argument)
        elif code in (pickle.SETITEM, pickle.SETITEMS):
            start = marks.pop() if code == pickle.SETITEMS else len(stack) - 2
            items = stack[start:]
            del stack[start:]
            if put(stack[-1], items, shorten):
                reader.since = 0
        elif code == pickle.GLOBAL:
            stack.append(_find(reader, *argument))
        elif code == pickle.STACK_GLOBAL:
            name, module = stack.pop(), stack.pop()
            stack.append(_find(reader, module, name))
        elif code in _ACTS:
            _ACTS[code](stack, marks)
    (found,) = stack
    return found


def _find(reader: Reader, module: Any, name: Any) -> Name:
    if type(module) is not str or type(name) is not str or (module, name) not in ADMITTED:
        reader.refuse_code(f"asks for {str(module)[:80]}.{str(name)[:80]}")
    return ADMITTED[module, name]


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:100]


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


def _set_state(stack: list[Any], _: list[int]) -> None:
    state = stack.pop()
    build(stack[-1], state)


def _tuple_of(count: int) -> Callable[[list[Any], list[int]], None]:
    def act(stack: list[Any], _: list[int]) -> None:
        if len(stack) < count:
            raise IndexError("empty stack")
        stack[-count:] = [tuple(stack[-count:])]

    return act


_ACTS: dict[bytes, Callable[[list[Any], list[int]], Any]] = {
    pickle.MARK: lambda stack, marks: marks.append(len(stack)),
    pickle.NONE: lambda stack, _: stack.append(None),
    pickle.NEWTRUE: lambda stack, _: stack.append(True),
    pickle.NEWFALSE: lambda stack, _: stack.append(False),
    pickle.EMPTY_DICT: lambda stack, _: stack.append({}),
    pickle.EMPTY_LIST: lambda stack, _: stack.append([]),
    pickle.EMPTY_TUPLE: lambda stack, _: stack.append(()),
    pickle.EMPTY_SET: lambda stack, _: stack.append(set()),
    pickle.TUPLE: lambda stack, marks: stack.append(tuple(_since_mark(stack, marks))),
    pickle.TUPLE1: _tuple_of(1),
    pickle.TUPLE2: _tuple_of(2),
    pickle.TUPLE3: _tuple_of(3),
    pickle.APPEND: lambda stack, _: _append(stack, [stack.pop()]),
    pickle.APPENDS: lambda stack, marks: _append(stack, _since_mark(stack, marks)),
    pickle.ADDITEMS: lambda stack, marks: _add(stack, _since_mark(stack, marks)),
    pickle.FROZENSET: lambda stack, marks: stack.append(make_set(_since_mark(stack, marks))),
    pickle.REDUCE: _call,
    pickle.NEWOBJ: _call,
    pickle.BUILD: _set_state,
    # An identifier of what lies outside the pickle: the storage of a tensor.
    pickle.BINPERSID: lambda stack, _: stack.__setitem__(-1, INERT),
}
_BARE = {*_ACTS, pickle.MEMOIZE, pickle.SETITEM, pickle.SETITEMS, pickle.STACK_GLOBAL}
"""Opcodes without an argument."""

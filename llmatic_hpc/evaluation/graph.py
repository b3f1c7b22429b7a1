"""The graph of layers that a network's ``forward`` spells out, and how a child reports it.

A contained child follows one forward pass (:mod:`.graph_trace`) and answers with :func:`encode`;
the judge, which believes nothing, takes the answer apart with :func:`decode`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_TENSORS = 128
"""Most tensors of a graph; a cell of NAS-Bench-201 takes about thirty."""
REPLY_BYTES = 32_768
"""Length of an encoded graph, padded."""

KINDS = ("input", "sum", "relu", "conv", "bn", "pool", "identity", "zero", "other")
"""What makes a tensor."""
_MAX_NAMES = 8
_MAX_TEXT = 60
_MAX_ARGUMENTS = 10
_MAX_NUMBER = 1 << 31


@dataclass(frozen=True)
class Traced:
    """One tensor of a forward pass."""

    kind: str
    """One of ``KINDS``."""
    origins: tuple[int, ...] = ()
    """Numbers of the tensors that it was made from: none of the input, two of a sum, one else."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Sizes of the layer: numbers, pairs of numbers, short texts or None."""
    text: str = ""
    """Name of the layer or function where ``kind`` is ``other``."""
    label: str = ""
    """Attribute or key of the module that was called."""
    names: tuple[str, ...] = ()
    """Variables of ``forward`` that were bound to the tensor."""


@dataclass(frozen=True)
class Graph:
    """Tensors in order of evaluation, the input first, and the number of the one returned."""

    tensors: tuple[Traced, ...]
    output: int


def encode(tensors: Sequence[Traced], output: int) -> bytes:
    """The graph as ``REPLY_BYTES`` bytes. Raises ``ValueError`` where it is larger."""
    text = json.dumps({"tensors": [asdict(tensor) for tensor in tensors], "output": output})
    if len(text) > REPLY_BYTES:
        raise ValueError("the graph is too large")
    return text.encode().ljust(REPLY_BYTES)


def decode(payload: bytes) -> Graph:
    """The graph that :func:`encode` wrote. Raises ``ValueError`` for any other bytes."""
    try:
        found = json.loads(payload)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    entries, output = _entries(found)
    tensors = tuple(_traced(number, entry) for number, entry in enumerate(entries))
    if not _is_number(output) or not 0 <= output < len(tensors):
        raise ValueError("no output")
    return Graph(tensors, output)


def _entries(found: object) -> tuple[list[object], Any]:
    if not isinstance(found, dict) or set(found) != {"tensors", "output"}:
        raise ValueError("not a graph")
    entries = found["tensors"]
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_TENSORS:
        raise ValueError("not a list of tensors")
    return entries, found["output"]


def _traced(number: int, entry: object) -> Traced:
    if not isinstance(entry, dict) or set(entry) != set(Traced.__dataclass_fields__):
        raise ValueError("not a tensor")
    kind, origins, arguments = entry["kind"], entry["origins"], entry["arguments"]
    wanted = 0 if number == 0 else 2 if kind == "sum" else 1
    if kind not in KINDS or (kind == "input") != (number == 0):
        raise ValueError("not a kind of tensor")
    if not isinstance(origins, list) or len(origins) != wanted:
        raise ValueError("not the origins of a tensor")
    if not all(_is_number(origin) and 0 <= origin < number for origin in origins):
        raise ValueError("a tensor that is made from later ones")
    if not isinstance(arguments, dict) or len(arguments) > _MAX_ARGUMENTS:
        raise ValueError("not the arguments of a layer")
    if not all(map(_is_text, arguments)) or not all(map(_is_argument, arguments.values())):
        raise ValueError("not an argument of a layer")
    names = entry["names"]
    if not isinstance(names, list) or len(names) > _MAX_NAMES:
        raise ValueError("not the names of a tensor")
    if not all(map(_is_text, (*names, entry["text"], entry["label"]))):
        raise ValueError("not a name")
    return Traced(kind, tuple(origins), arguments, entry["text"], entry["label"], tuple(names))


def _is_number(value: object) -> bool:
    return type(value) is int and abs(value) < _MAX_NUMBER


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable()


def _is_argument(value: object) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and all(map(_is_number, value))
    return value is None or _is_number(value) or _is_text(value)


def short(text: str) -> str:
    """``text`` as a name that :func:`decode` accepts."""
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_TEXT])


def bounded_names(names: Sequence[str]) -> tuple[str, ...]:
    """The last names of a tensor, as many as :func:`decode` accepts."""
    return tuple(short(name) for name in names[-_MAX_NAMES:])

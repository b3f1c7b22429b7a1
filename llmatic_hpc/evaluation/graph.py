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
"""Operations that make a tensor."""
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
    _check(isinstance(found, dict) and set(found) == {"tensors", "output"}, "not a graph")
    entries, output = found["tensors"], found["output"]
    is_list = isinstance(entries, list) and 0 < len(entries) <= MAX_TENSORS
    _check(is_list, "not a list of tensors")
    tensors = tuple(_traced(number, entry) for number, entry in enumerate(entries))
    _check(_is_number(output) and 0 <= output < len(tensors), "no output")
    return Graph(tensors, output)


def _traced(number: int, entry: Any) -> Traced:
    fields = Traced.__dataclass_fields__
    _check(isinstance(entry, dict) and set(entry) == set(fields), "not a tensor")
    kind, origins, arguments, text, label, names = (entry[name] for name in fields)
    _check(kind in KINDS and (kind == "input") == (number == 0), "not a kind of tensor")
    wanted = 0 if number == 0 else 2 if kind == "sum" else 1
    are_origins = isinstance(origins, list) and len(origins) == wanted
    _check(are_origins, "not the origins of a tensor")
    are_earlier = all(_is_number(origin) and 0 <= origin < number for origin in origins)
    _check(are_earlier, "a tensor that is made from later ones")
    are_arguments = isinstance(arguments, dict) and len(arguments) <= _MAX_ARGUMENTS
    _check(are_arguments, "not the arguments of a layer")
    are_sizes = all(map(_is_text, arguments)) and all(map(_is_argument, arguments.values()))
    _check(are_sizes, "not an argument of a layer")
    _check(isinstance(names, list) and len(names) <= _MAX_NAMES, "not the names of a tensor")
    _check(all(map(_is_text, (*names, text, label))), "not a name")
    return Traced(kind, tuple(origins), arguments, text, label, tuple(names))


def _check(holds: bool, fault: str) -> None:
    if not holds:
        raise ValueError(fault)


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

"""Stand-ins for the names in a pickle: numbers, containers, or nothing worth keeping.

No entry of ``ADMITTED`` is the thing that it is named after. Each is a function of this file,
so that nothing that a pickle does with it can reach numpy, torch or Python's own objects.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Shorten = Mapping[str, Callable[[Any], Any]]
"""By key: what becomes of a value that a dictionary holds under that key."""


class Inert:
    """Stand-in for what is admitted but not kept: a tensor, an array, a storage."""


INERT = Inert()


class Attributes(dict[str, Any]):
    """An object of one of the benchmark's own classes, as what its attributes hold."""


@dataclass
class _DType:
    code: str
    order: str = "<"


@dataclass(frozen=True)
class Name:
    """A global: calling it in a pickle calls ``make``."""

    make: Callable[..., Any]


_FORMATS = {
    "f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "b1": "?",
}  # fmt: skip


def _scalar(dtype: _DType, raw: bytes) -> float | int | bool:
    """A numpy scalar, as Python's own number."""
    return struct.unpack(dtype.order + _FORMATS[dtype.code], raw)[0]  # type: ignore[no-any-return]


def _encode(text: str | Inert, encoding: str) -> bytes | Inert:
    """Bytes, as protocols 0 to 2 spell them."""
    if encoding != "latin1":
        raise ValueError(encoding)
    return text if isinstance(text, Inert) else text.encode("latin-1")


def _dict(items: Any = ()) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    pairs = list(items.items()) if isinstance(items, dict) else items
    put(found, [part for key, value in pairs for part in (key, value)], {})
    return found


def make_set(items: Any = ()) -> set[Any]:
    check_keys(items)
    return set(items)


def _names() -> dict[tuple[str, str], Name]:
    storages = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte",
                "Bool", "Untyped", "Typed")  # fmt: skip
    apis = ("nats_bench", "nas_201_api", "nas_201_api.api", "nats_bench.api_utils",
            "nas_201_api.api_201", "nas_201_api.api_utils")  # fmt: skip
    named: dict[Callable[..., Any], list[str]] = {
        _dict: ["collections.OrderedDict", "builtins.dict", "__builtin__.dict"],
        make_set: [f"{m}.{s}" for m in ("builtins", "__builtin__") for s in ("set", "frozenset")],
        lambda items=(): list(items): ["builtins.list", "__builtin__.list"],
        _encode: ["_codecs.encode"],
        lambda code, *_: _DType(code): ["numpy.dtype"],
        _scalar: ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"],
        lambda *_: Attributes(): [f"{m}.{c}" for m in apis for c in ("ArchResults", "ResultsCount")]
        + ["copyreg._reconstructor", "copy_reg._reconstructor"],
        lambda *_: INERT: ["builtins.object", "__builtin__.object", "numpy.ndarray", "torch.Size"]
        + [f"numpy.{c}.multiarray._reconstruct" for c in ("core", "_core")]
        + [f"numpy.{c}.numeric._frombuffer" for c in ("core", "_core")]
        + [f"torch._utils._rebuild_{t}" for t in ("tensor", "tensor_v2", "parameter")]
        + ["torch.storage._load_from_bytes"]
        + [f"torch.{s}Storage" for s in storages]
        + [f"torch.storage.{s}Storage" for s in storages],
    }
    return {
        full.rpartition(".")[::2]: Name(make) for make, fulls in named.items() for full in fulls
    }


ADMITTED = _names()
"""By module and name; everything else is refused, whatever it is."""

_ATOMS = {str, int, float, bool, bytes, type(None)}


def check_keys(keys: Any) -> None:
    """Only atoms and flat tuples are keys: Python hashes deeper ones without end."""
    if set(map(type, keys)) <= _ATOMS:
        return
    for key in keys:
        if type(key) not in _ATOMS and not (type(key) is tuple and set(map(type, key)) <= _ATOMS):
            raise TypeError(f"{type(key).__name__} as a key")


def put(target: Any, items: list[Any], shorten: Shorten) -> bool:
    """Set keys and values in turn; whether any was shortened."""
    if not isinstance(target, dict) or len(items) % 2:
        raise TypeError("keys and values for what is no dictionary")
    keys = items[::2]
    check_keys(keys)
    target.update(zip(keys, items[1::2], strict=True))
    if shorten.keys().isdisjoint(keys):
        return False
    for key in shorten.keys() & set(keys):
        target[key] = shorten[key](target[key])
    return True


def build(target: Any, state: Any) -> None:
    """Do what an object's ``__setstate__`` would do, for the kinds there are."""
    if type(target) is Attributes:
        if isinstance(state, dict):
            put(target, [part for item in state.items() for part in item], {})
    elif type(target) is _DType:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("byte order of a number")
        target.order = "<" if state[1] == "|" else state[1]
    elif type(target) not in (Inert, dict):  # of these two it is not kept
        raise TypeError(f"state for {type(target).__name__}")

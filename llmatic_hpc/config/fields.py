"""Settings as frozen dataclasses: TOML in, TOML out, and mistakes told in one line.

A setting's key, type, range and default stand in its dataclass and nowhere else. An unknown
key, a wrong type or a value out of range raises :class:`~llmatic_hpc.errors.ConfigError` with
one line that names the file, the key, what is allowed and the nearest key.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import ConfigError

T = TypeVar("T")


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    retired: Mapping[str, str] = MappingProxyType({}),
    resumable: bool = False,
    lasting: Callable[[Any], Any] = lambda value: value,
) -> Any:
    """Make a dataclass field that knows its range, its choices and whether it may change later.

    ``low`` and ``high`` are inclusive and hold for each element of a list. ``retired``: former
    choices, with reasons; they continue runs that began with them (:func:`refuse_retired`).
    ``lasting``: what of a value may not change later, where that is not all of it.
    """
    metadata: dict[str, Any] = {"help": help, "low": low, "high": high, "choices": tuple(choices)}
    metadata |= {"retired": retired, "resumable": resumable, "lasting": lasting}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


resumable = partial(setting, resumable=True)
"""Make a :func:`setting` that may differ when a run is continued: it changes where, how fast or how
long the run goes, never what the search does."""


def read_into(settings: T, path: Path, *, paths: Sequence[str] = ()) -> T:
    """Return ``settings``, a dataclass of :func:`setting` fields, changed by a TOML file.

    The file may begin with ``extends = "other.toml"`` (relative to itself); what it says itself
    wins. ``paths`` names the settings that are relative to the file that says them, where such
    a file or folder exists. Raises :class:`ConfigError` for a file that is missing or not TOML
    and for any setting that is unknown, of the wrong type, or out of range.
    """
    for file, table in _read(path, paths, ()):
        settings = merge(settings, table, str(file))
    return settings


def parse_override(text: str) -> dict[str, Any]:
    """Return ``search.generations=5`` as a nested table; what is not TOML is taken as a string."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"--set {text}: expected KEY=VALUE, for example search.generations=5")
    try:
        parsed: Any = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    assert isinstance(parsed, dict)
    return parsed


def settings_of(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yield the full name, the field and the value of every setting, in order."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from settings_of(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", f, value


def to_tables(config: Any) -> dict[str, Any]:
    """Return nested plain dictionaries: what JSON and TOML can say."""

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in pairs}

    return dataclasses.asdict(config, dict_factory=table)


def to_toml(config: Any) -> str:
    """Return the configuration as TOML text that :func:`load` reads back to an equal one."""
    lines: list[str] = []
    for table, members in groupby(settings_of(config), lambda member: member[0].rpartition(".")[0]):
        lines.append(f"[{table}]")
        lines.extend(f"{f.name} = {_toml_value(value)}" for _, f, value in members)
        lines.append("")
    return "\n".join(lines)


def changed_settings(before: Any, after: Any) -> list[str]:
    """Return names and values of settings that a continued run may not change but did."""
    return [
        f"{name} (was {_toml_value(old)}, now {_toml_value(new)})"
        for (name, f, old), (_, _, new) in zip(settings_of(before), settings_of(after), strict=True)
        if not f.metadata["resumable"] and f.metadata["lasting"](old) != f.metadata["lasting"](new)
    ]


def refuse_retired(config: Any) -> None:
    """Raise ``ConfigError`` where a setting of a new run has a value that was retired."""
    for name, f, value in settings_of(config):
        retired = f.metadata["retired"]
        if retired and value in retired:
            raise ConfigError(
                f"{name} = {value!r} is retired and only continues runs that began with it: "
                f"{retired[value]}"
            )


def every_key(root: type) -> list[str]:
    """Return all settings by their full names, in order."""
    return [name for name, _, _ in settings_of(root())]


def _read(
    path: Path, paths: Sequence[str], seen: tuple[Path, ...]
) -> list[tuple[Path, dict[str, Any]]]:
    """Return the tables of a file and of what it extends, the most general first."""
    resolved = path.resolve()
    if resolved in seen:
        chain = " -> ".join(str(p) for p in (*seen, resolved))
        raise ConfigError(f"{path}: extends itself: {chain}")
    try:
        table = tomllib.loads(resolved.read_text(encoding="utf-8"))
    except FileNotFoundError:
        by = f" (extended by {seen[-1]})" if seen else ""
        near = _nearest_file(resolved)
        raise ConfigError(f"{path}: no such file{by}{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    parent = table.pop("extends", None)
    resolve_paths(table, resolved.parent, paths)
    if parent is None:
        return [(path, table)]
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends: expected a file name, got {parent!r}")
    return [*_read(resolved.parent / parent, paths, (*seen, resolved)), (path, table)]


def _nearest_file(path: Path) -> str:
    near = nearest(path.stem, [p.stem for p in path.parent.glob("*.toml")])
    return near.replace("?", ".toml?")


def resolve_paths(table: dict[str, Any], folder: Path, paths: Sequence[str]) -> None:
    """Make ``paths`` in a ``table`` that are relative to ``folder`` absolute, where they exist."""
    for name in paths:
        section, _, key = name.partition(".")
        inner = table.get(section)
        # A section, and the tables of its lists, which have the same keys.
        lists = (
            [v for v in inner.values() if isinstance(v, list)] if isinstance(inner, dict) else []
        )
        for one in (inner, *(one for several in lists for one in several)):
            value = one.get(key) if isinstance(one, dict) else None
            if isinstance(value, str) and value and (folder / Path(value).expanduser()).exists():
                one[key] = str(folder / Path(value).expanduser())


def merge(
    current: Any, table: Mapping[str, Any], origin: str, prefix: str = "", root: type | None = None
) -> Any:
    """Return ``current``, the part ``prefix`` of a ``root``, with the settings in ``table``.

    Its class may have ``RETIRED``: keys that became others, each with a function from the value to
    the settings that now say the same.
    """
    root = root or type(current)
    retired = getattr(current, "RETIRED", {})
    for key in retired.keys() & table.keys():
        table = {**retired[key](table[key]), **{k: v for k, v in table.items() if k != key}}
    hints = get_type_hints(type(current))
    known = {f.name: f for f in fields(current)}
    changes: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if key not in known:
            every = every_key(root)
            near = _same_last(name, every) or nearest(key, list(known), prefix)
            near = near or nearest(name, every)
            raise ConfigError(f"{origin}: unknown setting {name}{near}")
        if is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{origin}: {name} is a table of settings, got {value!r}")
            changes[key] = merge(getattr(current, key), value, origin, name + ".", root)
        else:
            changes[key] = _convert(value, hints[key], known[key], origin, name)
    return dataclasses.replace(current, **changes)


def _convert(value: Any, kind: Any, spec: dataclasses.Field[Any], origin: str, name: str) -> Any:
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{origin}: {name} is a table, got {value!r}")
        return dict(value)
    if get_origin(kind) is Union:  # a list or a number, or a word in its place
        kind, word = get_args(kind)
        if value in get_args(word):
            return value
        if isinstance(value, str):
            what = "a list" if get_origin(kind) is tuple else "a number"
            raise ConfigError(
                f"{origin}: {name} must be {what} or {get_args(word)[0]!r}, got {value!r}"
            )
    if isinstance(kind, UnionType):  # one of several types: a list or a number, a number or a text
        wanted = tuple if isinstance(value, list) else type(value)
        fitting = [one for one in get_args(kind) if (get_origin(one) or one) is wanted]
        kind = fitting[0] if fitting else get_args(kind)[0]
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{origin}: {name} must be a list, got {value!r}")
        return tuple(_convert(v, get_args(kind)[0], spec, origin, name) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ConfigError(f"{origin}: {name} must be {words[kind]}, got {value!r}")
    low, high, choices = (spec.metadata[k] for k in ("low", "high", "choices"))
    if choices and value not in choices and value not in spec.metadata["retired"]:
        allowed = ", ".join(repr(c) for c in choices)
        near = nearest(str(value), choices)
        raise ConfigError(f"{origin}: {name} must be one of {allowed}, got {value!r}{near}")
    outside = (low is not None and value < low) or (high is not None and value > high)
    if outside or value != value:
        bounds = ((f"at least {low}", low), (f"at most {high}", high))
        allowed = " and ".join(text for text, bound in bounds if bound is not None)
        raise ConfigError(f"{origin}: {name} must be {allowed or 'a number'}, got {value!r}")
    return value


def nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """Return ``; did you mean ...?`` for the most similar of the ``known`` names, or nothing."""
    by_last = {_last(k): k for k in reversed(known)}
    found = difflib.get_close_matches(_last(name), by_last, n=1, cutoff=0.7)
    return f"; did you mean {prefix}{by_last[found[0]]}?" if found else ""


def _same_last(name: str, known: Sequence[str]) -> str:
    """Return :func:`nearest` for a key that stands under the wrong table, or under none."""
    found = [k for k in known if _last(k) == _last(name)]
    return f"; did you mean {found[0]}?" if found else ""


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string once DEL is escaped, too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{_toml_value(k)} = {_toml_value(v)}" for k, v in value.items())
        return f"{{{pairs}}}"
    return repr(value)

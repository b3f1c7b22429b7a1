"""Build a candidate's network from its source. For a contained child only: this runs the source.

The gate has looked at the source before, and the child is confined; as a layer between the
two, the source runs with a short list of builtins, may import only what a network needs, and
its ``print`` says nothing. None of that is meant to hold on its own.
"""

from __future__ import annotations

import builtins
import functools
import types
import warnings
from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any

from torch import nn

from ..source import allowlist
from ..source.network import live, network_class
from ..source.parse import SourceError, parse
from .faults import CANDIDATE_EXCEPTIONS, SOURCE_NAME, CandidateError, bounded, candidate_error


def build(source: str) -> nn.Module:
    """Run ``source`` and construct its network (see :func:`.network.network_class`).

    Only the statements that the network needs are run. Parameters are made on the default
    device from the global random state, as in any program.

    Raises :class:`CandidateError` for anything that the source does wrong, whatever it raises.
    """
    try:
        return construct(source)
    except CANDIDATE_EXCEPTIONS as error:
        raise candidate_error(error) from None


def construct(source: str) -> nn.Module:
    """Do as :func:`build` does, but let through whatever the source raises, with its traceback."""
    try:
        code, name, line = _program(source)
    except (SourceError, RecursionError) as error:
        raise CandidateError("invalid", bounded(str(error))) from None
    names = namespace()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)
        instance = names[name]()
    if not isinstance(instance, nn.Module):
        raise CandidateError("invalid", f"{name} is not an nn.Module")
    if "_parameters" not in vars(instance):
        message = f"{name}.__init__ does not call super().__init__()"
        raise CandidateError("invalid", f"line {line}: {message}")
    return instance


@functools.lru_cache(maxsize=1)  # measuring may take several builds of one source
def _program(source: str) -> tuple[CodeType, str, int]:
    """Compile the statements that the network needs; with its class's name and line."""
    tree = live(parse(source))
    network = network_class(tree)
    if network is None:
        raise CandidateError("invalid", allowlist.NO_NETWORK)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(tree, SOURCE_NAME, "exec", dont_inherit=True)
    except CANDIDATE_EXCEPTIONS as error:
        raise candidate_error(error) from None
    return code, network.name, network.lineno


def namespace() -> dict[str, Any]:
    """The names that a source starts with: a short list of builtins."""
    return {"__builtins__": _builtins(), "__name__": "candidate"}


def _builtins() -> dict[str, Any]:
    names = allowlist.BUILTINS - {"print"}
    return {
        **{name: getattr(builtins, name) for name in names},
        "__build_class__": builtins.__build_class__,
        "__import__": _import,
        "print": _print,
    }


def _print(*_values: object, **_options: object) -> None:
    """Stand in for ``print``, and say nothing."""


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> types.ModuleType:
    """Import one of the few modules that a network may use.

    And of what C++ in torch looks up on its behalf, which names no names: it passes a list.
    """
    torch_itself = isinstance(fromlist, list) and name.partition(".")[0] == "torch"
    if level or not (torch_itself or name in allowlist.MODULES):
        raise ImportError(f"{name} is not available to a network")
    return __import__(name, globals, locals, fromlist or (), 0)


__all__ = [
    "CANDIDATE_EXCEPTIONS", "SOURCE_NAME", "CandidateError", "bounded", "build", "candidate_error",
]  # fmt: skip

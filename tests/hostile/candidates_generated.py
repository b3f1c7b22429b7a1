"""Routes out of torch, found by walking it: dotted paths to what must not be reached."""

from __future__ import annotations

import functools
import re
import types
import warnings

import torch
from torch import nn

from llmatic_hpc.source import allowlist

from .table import BOTH, DENIED, FORBIDDEN, HEADER, Hostile, network, reply

TARGETS = {
    "os": ".listdir('@HOME@')", "sys": ".modules['os'].listdir('@HOME@')",
    "builtins": ".open('@HOME@/secret.txt').read()", "io": ".open('@HOME@/secret.txt').read()",
    "shutil": ".copy('@HOME@/secret.txt', 'copy')", "glob": ".os.listdir('@HOME@')",
    "tempfile": "._os.listdir('@HOME@')", "pathlib": ".Path('@HOME@/secret.txt').read_text()",
    "importlib": ".import_module('os').listdir('@HOME@')", "pickle": ".sys.modules",
    "subprocess": ".run(['cat', '@HOME@/secret.txt'], capture_output=True)",
    "socket": ".create_connection(('127.0.0.1', @TCP@))",
    "ctypes": ".CDLL(None)", "threading": "._os.listdir('@HOME@')", "inspect": ".sys.modules",
    "platform": ".os.listdir('@HOME@')", "types": ".sys.modules",
    "zipfile": ".os.listdir('@HOME@')",
    "logging": ".os.listdir('@HOME@')", "linecache": ".os.listdir('@HOME@')",
    "traceback": ".linecache", "gc": ".get_objects()", "weakref": ".sys.modules",
    "multiprocessing": ".Process", "signal": ".raise_signal(9)", "urllib": ".request",
}  # fmt: skip
"""Modules of Python that lead out, and what a candidate would do with them."""

_LOOKS = ("os", "sys", "builtins", "io", "pathlib", "importlib", "platform", "zipfile", "logging")
_DEPTH = 4
_PER_TARGET = 40

_DOORS = ("__init__.__globals__", "forward.__globals__", "__init__.__builtins__", "__class__",
          "__subclasses__()", "__base__", "__mro__", "__dict__", "__reduce__()",
          "__getattribute__", "_forward_hooks", "register_forward_hook")  # fmt: skip


@functools.cache
def routes() -> dict[str, tuple[str, ...]]:
    """By target, dotted paths that lead to it from what a candidate may import."""
    found: dict[str, list[str]] = {target: [] for target in TARGETS}
    level: list[tuple[str, types.ModuleType]] = [("torch", torch)]
    seen: set[int] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(_DEPTH):
            following = []
            for path, module in level:
                for name, value in sorted(vars(module).items()):
                    if not isinstance(value, types.ModuleType) or not re.match(
                        r"_?[a-zA-Z]\w*$", name
                    ):
                        continue
                    if value.__name__ in found:
                        if len(found[value.__name__]) < _PER_TARGET:
                            found[value.__name__].append(f"{path}.{name}")
                    elif value.__name__.split(".")[0] == "torch" and id(value) not in seen:
                        seen.add(id(value))
                        following.append((f"{path}.{name}", value))
            level = following
    return {target: tuple(paths) for target, paths in found.items() if paths}


@functools.cache
def doors() -> tuple[str, ...]:
    """Attributes by which a class or function of torch leads to the interpreter."""
    classes = [f"nn.{name}" for name in sorted(allowlist.MODULE_CLASSES)]
    functions = sorted(p for p in allowlist.PATHS if p.startswith("torch.nn.functional."))
    found = [f"{c}.{door}" for c in classes for door in _DOORS]
    found += [f"{f}.{a}" for f in functions for a in ("__globals__", "__code__", "__builtins__")]
    return tuple(found)


@functools.cache
def torch_functions() -> tuple[str, ...]:
    """Everything in torch, its networks and functions that the gate does not know."""
    spaces = {"torch": torch, "torch.nn": nn, "torch.nn.functional": nn.functional,
              "torch.nn.init": nn.init, "torch.nn.utils": nn.utils, "torch.linalg": torch.linalg,
              "torch.fft": torch.fft, "torch.cuda": torch.cuda}  # fmt: skip
    known = allowlist.PATHS | allowlist.NAMESPACES
    return tuple(
        f"{space}.{name}"
        for space, module in spaces.items()
        for name in sorted(vars(module))
        if name.isidentifier() and f"{space}.{name}" not in known
    )


def using(expression: str) -> str:
    """A network that does something with an expression, and says what came of it."""
    return network(init=f"found = {expression}\nraise ValueError(found)")


def gathering(expressions: tuple[str, ...]) -> list[str]:
    """Sources of one statement each, for the gate alone."""
    return [f"{HEADER}x = {expression}\n" for expression in expressions]


def _sampled() -> list[Hostile]:
    made = []
    for target, paths in routes().items():
        # The shortest, the longest, and one in between: as unlike as they come.
        ordered = sorted(paths, key=lambda p: (len(p), p))
        for path in dict.fromkeys((ordered[0], ordered[len(ordered) // 2], ordered[-1])):
            expected = DENIED if target in _LOOKS else r"(invalid|too_large|too_slow): "
            name = re.sub(r"^torch\.", "", path)
            needs = {"seccomp"} if target in ("subprocess", "socket") else {"landlock"}
            expect = {"gate": FORBIDDEN, **reply(expected)}
            source, title = using(path + TARGETS[target]), f"{target} by {name}"
            made.append(Hostile(title, "escape", source, BOTH, expect, frozenset(needs)))
    return made


CANDIDATES = _sampled()

"""A hostile candidate, and how one is written down."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

GATE, CHILD = frozenset({"gate"}), frozenset({"child"})
BOTH = GATE | CHILD

FORBIDDEN = r"forbidden: line \d+: "
DENIED = (
    r"invalid: .*(PermissionError|not permitted|Permission denied|SIGSYS|not implemented"
    r"|cross-device)"
)
"""A kernel layer said no, to a candidate that does not hide it."""
SLOW = r"too_slow: it ran out of (CPU )?time"
HEAVY = r"too_large: "
HONEST = r"(pending|scored): $"
"""Nothing came of it: a plain reply, and no better than guessing."""


@dataclass(frozen=True)
class Hostile:
    """One source. ``@HOME@``, ``@TCP@`` and their like are filled in by :mod:`.bed`."""

    name: str
    kind: str
    """``escape``, ``resource``, ``forge`` or ``crash``."""
    source: str
    claims: frozenset[str]
    """The layers that stop it alone: ``gate``, ``child``."""
    expect: Mapping[str, str]
    """By step (``gate``, ``measure``, ``train``) what ``status: failure`` has to match."""
    needs: frozenset[str] = field(default_factory=frozenset)
    """Kernel layers without which the child does not stop it."""
    default: bool = False
    """One of the few that run with every change."""


ROUTES = (
    "torch.sys",
    "torch.os.sys",
    "torch.nn.functional.torch.sys",
    "F.torch.os.sys",
    "F.importlib.import_module('sys')",
    "F.warnings.sys",
    "nn.modules.module.torch.sys",
    "nn.modules.module.warnings.sys",
    "nn.modules.lazy.itertools and nn.modules.lazy.torch.sys",
    "nn.init.torch.os.sys",
    "nn.parallel.distributed.sys",
    "nn.utils.rnn.warnings.sys",
    "nn.Linear.__init__.__globals__['torch'].sys",
    "nn.Module.forward.__globals__['torch'].sys",
    "F.relu.__globals__['torch'].sys",
    "F.relu.__builtins__['__import__']('sys')",
    "(lambda: 0).__globals__['torch'].sys",
    "[c for c in ().__class__.__base__.__subclasses__()"
    " if c.__name__ == 'catch_warnings'][0]()._module.sys",
    "nn.Module.__dict__['forward'].__globals__['torch'].sys",
    "torch.serialization.os.sys",
    "torch.hub.sys",
    "torch.utils.data.dataloader.os.sys",
    "torch.storage.io and torch.serialization.sys",
    "torch.library.inspect.sys",
    "torch.overrides.functools.sys if 0 else torch.overrides.torch.sys",
    "torch.no_grad.__init__.__globals__['torch'].sys",
    "nn.Parameter.__new__.__globals__['torch'].sys",
    "torch.random.warnings.sys",
    "torch.functional.operator and torch.functional.torch.sys",
    "torch.Tensor.__reduce_ex__.__globals__['torch'].sys",
)
"""Expressions that lead from what a candidate imports to ``sys``, and so anywhere."""

HEADER = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def network(*, init: str = "", forward: str = "", top: str = "") -> str:
    """A small network that does something else besides."""
    return (
        f"{HEADER}{textwrap.dedent(top)}\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(192, 10)\n"
        f"{_indented(init)}\n"
        "    def forward(self, x):\n"
        f"{_indented(forward)}"
        "        return self.fc(x.flatten(1))\n"
    )


def _indented(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip("\n") + "\n", " " * 8) if text else ""


def freed(payload: str, *, name: str, when: str = "init") -> str:
    """A network whose ``payload`` runs with all of Python: past the gate, anything goes.

    Every name takes another way out. In the payload, ``x`` is the batch (in ``forward``),
    ``net`` the network, and ``answer`` what it returns instead of its logits.
    """
    route = ROUTES[zlib.crc32(name.encode()) % len(ROUTES)]
    top = f"PAYLOAD = {textwrap.dedent(payload).strip()!r}\nsys = {route}\n"
    call = (
        "python = sys.modules['builtins']\n"
        "names = {{'__builtins__': python, 'torch': torch, 'nn': nn, 'F': F}}\n"
        "names |= {{'net': self, {more}}}\n"
        "python.exec(PAYLOAD, names)\n"
    )
    if when == "init":
        return network(top=top, init=call.format(more=""))
    after = "if 'answer' in names:\n    return names['answer']\n"
    return network(top=top, forward=call.format(more="'x': x") + after)


def reply(measure: str, train: str = "") -> dict[str, str]:
    """Expectations of the child's two jobs."""
    return {"measure": measure, "train": train or measure}

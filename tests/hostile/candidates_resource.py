"""Too much of everything: time, memory, processes, files, output, source."""

from __future__ import annotations

from .table import BOTH, CHILD, FORBIDDEN, HEAVY, HONEST, SLOW, Hostile, freed, network, reply

UNLUCKY = r"(invalid|too_slow|too_large): "
GROWING = f"{HEAVY}|{SLOW}"
LATE = HONEST + "|" + UNLUCKY
"""Measured on the meta device, where nothing is allocated; training shows what it takes."""

# What is plain enough for the gate: the child alone has to bear it, or the gate sees it.
PLAIN = [
    ("endless loop", network(forward="n = 1\nwhile n > 0:\n    n = n + 1 if n < 9 else 1"),
     CHILD, reply(SLOW), True),
    ("endless loop in the constructor",
     network(init="n = 1\nwhile n > 0:\n    n = n + 1 if n < 9 else 1"), CHILD, reply(SLOW)),
    ("while True", network(forward="while True:\n    pass"), BOTH, reply(SLOW)),
    ("endless loop at the top", network(top="n = 1\nwhile n > 0:\n    n = 3 - n\nSIZE = n",
                                        init="self.n = SIZE"), CHILD, reply(SLOW)),
    ("a list that grows while it is walked",
     network(forward="q = [0]\nfor n in q:\n    q.append(n)"), CHILD, reply(GROWING)),
    ("a deque that turns", network(
        top="from collections import deque",
        forward="q = deque([1, 2])\nwhile q:\n    q.append(q.popleft())\n    q = q"),
     CHILD, reply(SLOW)),
    ("nested ranges", network(
        forward="n = 1000\nfor a in range(n):\n    for b in range(n):\n"
                "        for c in range(n):\n            n = n"), CHILD, reply(SLOW)),
    ("many steps of torch", network(forward="for _ in range(1 << 20):\n    x = x + 0"),
     CHILD, reply(SLOW + r"|too_large: ")),
    ("sum over a product", network(
        forward="n = 30000\nx = x + 0 * sum(i * j for i in range(n) for j in range(n))"),
     CHILD, reply(SLOW)),
    ("mutual recursion", network(
        top="def f(n):\n    return g(n)\ndef g(n):\n    return f(n) + f(n)",
        forward="x = x + f(1)"), CHILD, reply(r"invalid: .*RecursionError")),
    ("forward in forward", network(forward="x = self.forward(x)"), CHILD,
     reply(r"invalid: .*RecursionError"), True),
    ("exponential recursion", network(
        top="def f(n):\n    return 1 if n < 1 else f(n - 1) + f(n - 1)",
        forward="x = x + f(60)"), CHILD, reply(SLOW)),
    ("a module within itself", network(init="self.add_module('me', self)"), CHILD,
     reply(UNLUCKY)),
    ("layers until memory ends", network(
        init="layers = []\nfor i in range(1 << 20):\n    layers.append(nn.Linear(1000, 1000))\n"
             "self.layers = nn.ModuleList(layers)"), CHILD, reply(r"(too_large|too_slow): ")),
    ("a giant layer", network(init="self.big = nn.Linear(1 << 20, 1 << 20)"), CHILD,
     reply(HEAVY), True),
    ("a giant tensor", network(init="self.t = torch.ones(1 << 20, 1 << 12)"), CHILD,
     reply(LATE, HEAVY)),
    ("a giant tensor in forward",
     network(forward="x = x + torch.zeros(1 << 20, 1 << 12).sum()"), CHILD, reply(LATE, HEAVY)),
    ("a giant tensor of long ago",
     network(forward="y = torch.zeros(x.shape[0], 1 << 26)\nx = x + y.sum()"), CHILD,
     reply(LATE, HEAVY)),
    ("a giant view that is summed", network(
        forward="x = x + torch.zeros(1).expand(1 << 20, 1 << 15).sum()"), CHILD,
     reply(UNLUCKY)),
    ("giant in the backward step", network(
        init="self.w = nn.Parameter(torch.ones(1))",
        forward="y = self.w.expand(1 << 14, 1 << 14)\nx = x + (y * y).mean()"), CHILD,
     reply(LATE, UNLUCKY)),
    ("a convolution without end", network(
        forward="y = F.pad(x, (2000, 2000, 2000, 2000))\n"
                "y = F.conv2d(y, torch.ones(64, 3, 31, 31))\nx = x + y.mean()"), CHILD,
     reply(UNLUCKY)),
    ("a large sort", network(
        forward="x = x + torch.rand(1 << 24).sort().values.sum() * 0"), CHILD,
     reply(UNLUCKY + "|" + HONEST)),
    ("a sequence without end", network(
        init="self.r = nn.LSTM(4, 64, batch_first=True)",
        forward="y, _ = self.r(torch.zeros(1, 1 << 18, 4))\nx = x + y.mean()"), CHILD,
     reply(UNLUCKY)),
    ("a large integer", network(
        forward="n = 3\nfor i in range(64):\n    n = n * n\nx = x + n % 2"), CHILD,
     reply(GROWING)),
    ("a power of a variable", network(
        init="n = 10\nfor i in range(4):\n    n = n ** n\nself.n = n"), CHILD,
     reply(GROWING), True),
    ("a power of a power", network(init="self.n = 9 ** 9 ** 9"), BOTH, reply(GROWING)),
    ("a string that doubles", network(
        init="s = 'ab'\nfor i in range(64):\n    s = s + s\nself.s = s"), CHILD, reply(GROWING)),
    ("a list that doubles", network(
        init="s = [0]\nfor i in range(64):\n    s = s + s\nself.s = s"), CHILD, reply(GROWING)),
    ("digits of a large integer", network(
        init="n = 7\nfor i in range(22):\n    n = n * n\nself.s = str(n)"), CHILD,
     reply(UNLUCKY)),
    ("memory that grows with every batch", network(
        init="self.kept = []",
        forward="self.kept.append(torch.ones(1 << 23))"), CHILD,
     {"measure": HONEST + "|" + HEAVY, "train": HONEST + "|" + HEAVY}),
    ("a graph that grows", network(
        init="self.total = None",
        forward="y = x\nfor i in range(10000):\n    y = torch.cat([y, y * 2], 3)\nx = x + y.sum()"),
     CHILD, reply(GROWING)),
    ("a regular expression", network(
        top="import re\n", init="re.match('(a+)+$', 'a' * 40 + 'b')"), BOTH,
     reply(r"invalid: .*ImportError")),
    ("a long message", network(forward="raise ValueError('x' * (1 << 26))"), BOTH,
     reply(r"invalid: .*ValueError: x+\.\.\.")),
    ("a long name of a layer", network(init="self.add_module('x' * (1 << 16), nn.ReLU())"), CHILD,
     reply(HONEST)),
]  # fmt: skip

TOO_LARGE = r"too_large: \d+ bytes"
UNREADABLE = r"(invalid|forbidden): "

SOURCES = [
    ("a source of a megabyte", network(top="X = '" + "x" * (1 << 20) + "'"), TOO_LARGE),
    ("nested brackets", network(top="X = " + "[" * 3000 + "]" * 3000), UNREADABLE),
    ("nested calls", network(top="X = " + "abs(" * 95 + "1" + ")" * 95 + "\n" * 9), None),
    ("a tower of minus signs", network(top="X = " + "-" * 80_000 + "1"), UNREADABLE),
    ("a long sum", network(top="X = " + "1+" * 40_000 + "1"), UNREADABLE),
    ("a huge literal", network(top="X = " + "9" * 80_000), UNREADABLE),
    ("many statements", network(top="x = 1\n" * 15_000), UNREADABLE),
    ("nested functions", network(top="".join(" " * i + "def f():\n" for i in range(99))),
     UNREADABLE),
    ("nested loops", network(top="".join(" " * i + "for a in b:\n" for i in range(99))
                             + " " * 99 + "pass"), UNREADABLE),
    ("a chain of attributes", network(top="X = torch" + ".a" * 30_000), UNREADABLE),
    ("no Python at all", "\x7fELF\x02\x01\x01\0" * 100, UNREADABLE),
    ("bytes that are no text", "x = '\ud800'", UNREADABLE),
]  # fmt: skip

FREED = {
    "fork bomb": ("import os, time\nfor _ in range(300):\n    if os.fork() == 0:\n"
                  "        os.setsid()\n        time.sleep(60)\n        os._exit(0)\n",
                  r"invalid: |" + SLOW + "|" + HONEST),
    "thread bomb": ("import threading, time\nfor _ in range(500):\n"
                    "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
                    UNLUCKY + "|" + HONEST),
    "file flood": ("for i in range(2000):\n    open(f'f{i}', 'w').write('x' * 100)",
                   UNLUCKY + "|" + HONEST),
    "a large file": ("f = open('f', 'wb')\nfor i in range(9):\n    f.write(bytes(1 << 20))\n"
                     "f.close()", r"invalid: .*File too large"),
    "a sparse file": ("import os\nos.truncate(os.open('f', 66), 1 << 40)",
                      r"invalid: .*File too large"),
    "descriptor flood": ("import os\nwhile True:\n    os.open('/dev/null', 0)",
                         r"invalid: .*(Too many open files|PermissionError)"),
    "output flood": ("import os, sys\nb = bytes(1 << 20)\nfor _ in range(64):\n"
                     "    os.write(1, b)\n    os.write(2, b)\nprint('x' * 99999, file=sys.stderr)",
                     HONEST),
    "reply flood": ("import os\nwhile True:\n    os.write(3, bytes(1 << 16))",
                    r"invalid: reply: longer"),
    "sleep": ("import time\ntime.sleep(3600)", SLOW),
    "sleep that wakes": ("import time\nwhile True:\n    try: time.sleep(9)\n"
                         "    except BaseException: pass", SLOW),
    "stopped": ("import os\nos.kill(os.getpid(), 19)", SLOW + r"|invalid: "),
    "deaf to signals": ("import signal\nfor s in range(1, 64):\n    try: signal.signal(s, 1)\n"
                        "    except (OSError, ValueError): pass\nwhile True: pass", SLOW),
    "regular expression": ("import re\nre.match('(a+)+$', 'a' * 40 + 'b')", SLOW),
    "deadlock": ("import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()", SLOW),
    "limits raised": ("import resource\nfor w in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE):\n"
                      "    resource.setrlimit(w, (1 << 50, 1 << 50))\nraise ValueError('raised')",
                      r"invalid: .*(ValueError: not allowed|PermissionError|not permitted)"),
    "memory step by step": ("a = []\nwhile True:\n    a.append(bytearray(1 << 20))", GROWING),
    "memory by mmap": ("import mmap\na = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 24)\n"
                       "    m[::4096] = bytes(1 << 12)\n    a.append(m)", UNLUCKY),
    "memory in a file of memory": (
        "import os\nf = os.memfd_create('m')\nfor i in range(9):\n    os.write(f, bytes(1 << 20))",
        r"invalid: .*(File too large|PermissionError|not implemented)"),
    "a larger stack": ("import sys, threading\nsys.setrecursionlimit(1 << 30)\n"
                       "def f(): f()\nf()", UNLUCKY),
    "busy in many threads": ("import threading\ndef f():\n    while True: pass\n"
                             "for _ in range(8): threading.Thread(target=f).start()\nf()", SLOW),
    "a clean-up that never ends": (
        "import atexit, threading, time\natexit.register(time.sleep, 99)\n"
        "threading.Thread(target=time.sleep, args=(99,)).start()", HONEST + "|" + SLOW),
}  # fmt: skip

_PRIVILEGED = {"limits raised": "seccomp"}
"""Root may raise its own limits, so there the kernel has to be told."""


def _plain(name: str, source: str, claims: frozenset[str], expect: dict[str, str],
           default: bool = False) -> Hostile:  # fmt: skip
    gate = {"gate": r"(forbidden|invalid): "} if "gate" in claims else {}
    return Hostile(name, "resource", source, claims, {**gate, **expect}, default=default)


def _source(name: str, source: str, gate: str | None) -> Hostile:
    expect = {"gate": gate} if gate else reply(HONEST)
    claims = BOTH - CHILD if gate else CHILD
    return Hostile(name, "resource", source, claims, expect, default=name == "nested brackets")


CANDIDATES = [
    *(_plain(*row) for row in PLAIN),
    *(_source(*row) for row in SOURCES),
    *(Hostile(n, "resource", freed(p, name=n), BOTH, {"gate": FORBIDDEN, **reply(expected)},
              frozenset(_PRIVILEGED.get(n, "").split()),
              n in ("reply flood", "sleep", "memory step by step"))
      for n, (p, expected) in FREED.items()),
]  # fmt: skip

"""Ends of a process, and exceptions, that nobody should have to expect."""

from __future__ import annotations

from .table import BOTH, CHILD, FORBIDDEN, Hostile, freed, network, reply

ENDED = r"(invalid|too_large|too_slow): "

CRASHES = {
    "a null pointer": ("import ctypes\nctypes.string_at(0)", r"invalid: it was ended by SIGSEGV"),
    "a stray write": ("import ctypes\nctypes.memset(8, 0, 64)", r"invalid: it was ended by SIG"),
    "abort": ("import os\nos.abort()", r"invalid: it was ended by SIGABRT"),
    "double free": ("import ctypes\nc = ctypes.CDLL(None)\nc.malloc.restype = ctypes.c_void_p\n"
                    "p = ctypes.c_void_p(c.malloc(9999999))\nc.free(p)\nc.free(p)",
                    r"invalid: it was ended by SIG"),
    "a reference too few": ("import ctypes\nfor _ in range(9):\n"
                            "    ctypes.pythonapi.Py_DecRef(ctypes.py_object(net.fc.weight))",
                            ENDED),
    "None is gone": ("import ctypes\nctypes.c_long.from_address(id(True)).value = 1\ndel net", ENDED
                     + r"|(pending|scored): "),
    "no bytecode": ("c = (lambda: 0).__code__\nf = c.replace(co_code=b'\\xff' * 64)\n"
                    "import types\ntypes.FunctionType(f, {})()", ENDED),
    "stack overflow": ("import sys\nsys.setrecursionlimit(1 << 30)\n"
                       "o = []\nfor _ in range(1 << 20): o = [o]\nrepr(o)", ENDED),
    "stack overflow in C": ("import ctypes\nc = ctypes.CDLL(None)\n"
                            "f = ctypes.CFUNCTYPE(None)\ncall = None\ncall = f(lambda: call())\n"
                            "import sys\nsys.setrecursionlimit(1 << 30)\ncall()", ENDED),
    "illegal instruction": ("import os\nos.kill(os.getpid(), 4)", ENDED),
    "an alarm": ("import signal, time\nsignal.alarm(1)\ntime.sleep(9)", ENDED),
    "a kill of its own": ("import os\nos.kill(os.getpid(), 9)", ENDED),
    "a term of its own": ("import os, time\nos.kill(os.getpid(), 15)\ntime.sleep(9)", ENDED),
    "exit code 0": ("import sys\nsys.exit(0)", r"invalid: .*SystemExit"),
    "exit code 7": ("import os\nos._exit(7)", r"invalid: it exited with code 7"),
    "exit of a thread": ("import os, threading\n"
                         "threading.Thread(target=os._exit, args=(0,)).start()\n"
                         "import time\ntime.sleep(9)", ENDED),
    "faulthandler": ("import faulthandler\nfaulthandler._sigsegv()", ENDED),
    "closed descriptors": ("import os\nos.closerange(0, 64)", ENDED),
    "a closed reply": ("import os\nos.close(3)", ENDED),
    "another reply": ("import os\nr, w = os.pipe()\nos.dup2(w, 3)", ENDED),
    "no modules": ("import sys\nsys.modules.clear()", ENDED + r"|(pending|scored): "),
    "no builtins": ("import builtins\nvars(builtins).clear()", ENDED),
    "interpreter of its own": ("import ctypes\nctypes.pythonapi.Py_FinalizeEx()", ENDED),
    "a C++ exception": ("torch._C._crash_if_csrc_asan() if 0 else torch.ones(2).view(-9, 7)",
                        r"invalid: .*RuntimeError"),
    "no scratch folder": ("import os, shutil\nshutil.rmtree(os.getcwd())",
                          ENDED + r"|(pending|scored): "),
    "BaseException": ("class Odd(BaseException): pass\nraise Odd", r"invalid: .*Odd"),
    "an exception without words": (
        "class Odd(BaseException):\n    def __str__(self): raise self\nraise Odd",
        r"invalid: .*Odd"),
    "an exception of endless words": (
        "class Odd(Exception):\n    def __str__(self):\n        while True: pass\nraise Odd",
        r"too_slow: "),
    "an exception of many words": (
        "class Odd(Exception):\n    def __str__(self): return 'word ' * (1 << 25)\nraise Odd",
        ENDED),
    "an exception that is no text": (
        "class Odd(Exception):\n    def __str__(self): return 7\nraise Odd", r"invalid: .*Odd"),
    "an exception with a name": (
        "raise type('x' * 9999 + '\\n\\x1b[31m', (Exception,), {})", ENDED),
    "a group of exceptions": (
        "raise ExceptionGroup('many', [ValueError(str(i)) for i in range(9999)])", ENDED),
    "a chain of exceptions": (
        "e = None\nfor i in range(99999):\n    n = ValueError(i)\n    n.__cause__ = e\n    e = n\n"
        "raise e", ENDED),
    "an exception that exits": (
        "import os\nclass Odd(Exception):\n    def __str__(self): os._exit(0)\nraise Odd", ENDED),
    "an exception in __del__": (
        "class Odd:\n    def __del__(self): raise BaseException\nOdd()\nraise ValueError",
        r"invalid: .*ValueError"),
    "a checkpoint asked of itself": (
        "import os, time\nos.kill(os.getpid(), 10)\ntime.sleep(0.1)",
        ENDED + r"|(pending|scored|checkpointed): "),
}  # fmt: skip

_LATE = {"illegal instruction", "an alarm", "a kill of its own", "a term of its own"}

_SPARSE = "s = torch.eye(9).to_sparse()\ns._indices().fill_(1 << 30)\nx = x + s.to_dense().sum()"

PLAIN = [
    ("a pointer as a tensor", network(init="self.t = torch.Tensor(cdata=4096)"), BOTH,
     reply(r"invalid: it was ended by SIGSEGV"), True),
    ("sparse indices beyond", network(forward=_SPARSE), BOTH, reply(ENDED)),
    ("strides beyond", network(
        forward="x = x + x.as_strided((9,), (1 << 40,)).sum()"), BOTH, reply(ENDED)),
    ("a storage beyond", network(
        forward="x = x + torch.ones(1).set_(x.untyped_storage(), 1 << 40, (9,), (1,)).sum()"),
     BOTH, reply(ENDED + r"|(pending|scored): ")),
    ("indices beyond", network(forward="x = x[:, :, torch.tensor([99])]"), CHILD,
     reply(r"invalid: .*IndexError")),
    ("a division by zero", network(init="self.n = 1 // 0"), CHILD,
     reply(r"invalid: .*ZeroDivisionError")),
    ("an empty batch", network(forward="x = x[:0].mean()"), CHILD, reply(ENDED)),
    ("an error of its own", network(top="class Odd(Exception):\n    pass",
                                    init="raise Odd('odd')"), CHILD, reply(r"invalid: .*odd")),
    ("an assertion", network(forward="assert x.shape[0] > 99, 'few'"), CHILD,
     reply(r"invalid: .*AssertionError: few")),
    ("a negative size", network(init="self.c = nn.Conv2d(3, -4, 3)"), CHILD, reply(ENDED)),
    ("a wrong device", network(init="self.to('cuda:99')"), CHILD, reply(ENDED)),
    ("a recursive constructor", network(init="self.net = Net()"), CHILD,
     reply(r"invalid: .*RecursionError")),
]  # fmt: skip


def _plain(name: str, source: str, claims: frozenset[str], expect: dict[str, str],
           default: bool = False) -> Hostile:  # fmt: skip
    gate = {"gate": FORBIDDEN} if "gate" in claims else {}
    return Hostile(name, "crash", source, claims, {**gate, **expect}, default=default)


CANDIDATES = [
    *(_plain(*row) for row in PLAIN),
    *(Hostile(n, "crash", freed(p, name=n, when="forward" if n in _LATE else "init"), BOTH,
              {"gate": FORBIDDEN, **reply(expected)}, default=n in ("a null pointer", "abort"))
      for n, (p, expected) in CRASHES.items()),
]  # fmt: skip

"""Out of the child to the user's files, secrets and environment."""

from __future__ import annotations

from .table import BOTH, CHILD, DENIED, FORBIDDEN, HONEST, Hostile, freed, network, reply

READS = {
    "open": "raise ValueError(open('@HOME@/secret.txt').read())",
    "open in tmp": "raise ValueError(open('@TMP@/secret.txt').read())",
    "os.open": "import os\nraise ValueError(os.read(os.open('@HOME@/secret.txt', 0), 99))",
    "pathlib": "import pathlib\nraise ValueError(pathlib.Path('@HOME@/secret.txt').read_text())",
    "torch.from_file": (
        "t = torch.from_file('@HOME@/secret.txt', size=23, dtype=torch.uint8)\n"
        "raise ValueError(bytes(t.tolist()))"
    ),
    "untyped storage": (
        "s = torch.UntypedStorage.from_file('@HOME@/secret.txt', False, 23)\n"
        "raise ValueError(bytes(s.tolist()))"
    ),
    "numpy.fromfile": (
        "import numpy\nraise ValueError(numpy.fromfile('@HOME@/secret.txt', 'u1').tobytes())"
    ),
    "mmap": (
        "import mmap, os\nf = os.open('@HOME@/secret.txt', 0)\n"
        "raise ValueError(mmap.mmap(f, 0, prot=mmap.PROT_READ)[:])"
    ),
    "libc": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "b = ctypes.create_string_buffer(99)\n"
        "f = c.open(b'@HOME@/secret.txt', 0)\n"
        "if f < 0: raise PermissionError(ctypes.get_errno())\n"
        "c.read(f, b, 98)\nraise ValueError(b.value)"
    ),
    "linecache": (
        "import linecache\nt = linecache.getline('@HOME@/secret.txt', 1)\n"
        "if not t: raise PermissionError('empty')\nraise ValueError(t)"
    ),
    "sendfile": (
        "import os\na = os.open('@HOME@/secret.txt', 0)\nb = os.open('copy', 66)\n"
        "os.sendfile(b, a, 0, 99)"
    ),
    "symbolic link": (
        "import os\nos.symlink('@HOME@/secret.txt', 'l')\nraise ValueError(open('l').read())"
    ),
    "hard link": "import os\nos.link('@HOME@/secret.txt', 'l')\nraise ValueError(open('l').read())",
    "proc root": "raise ValueError(open('/proc/self/root@HOME@/secret.txt').read())",
    "parent folders": (
        "import os\nos.chdir('../' * 20)\nraise ValueError(open('.@HOME@/secret.txt').read())"
    ),
    "list home": "import os\nraise ValueError(os.listdir('@HOME@'))",
    "glob": (
        "import os\ntry: os.scandir('@HOME@')\nexcept PermissionError: raise\n"
        "raise ValueError([f for _, _, f in os.walk('@HOME@')])"
    ),
    "password file": "raise ValueError(len(open('/etc/passwd').readlines()))",
    "list of the root folder": "import os\nraise ValueError(len(os.listdir('/')))",
}

_ENVIRON = (
    "import os\nfound = open('/proc/{}/environ').read().split('\\0')\n"
    "raise ValueError(len(found), [f for f in found if '@TOKEN@' in f])"
)

MEMORY = {
    "environment of another process": _ENVIRON.format("@VICTIM@"),
    "environment of the judge": _ENVIRON.format("@JUDGE@"),
    "environment of the parent": _ENVIRON.format("' + str(os.getppid()) + '"),
    "command lines": "raise ValueError(len(open('/proc/@JUDGE@/cmdline').read()))",
    "descriptors of the judge": "import os\nraise ValueError(os.listdir('/proc/@JUDGE@/fd'))",
    "memory of the judge": (
        "maps = open('/proc/@JUDGE@/maps').read().splitlines()\n"
        "a, b = [int(p, 16) for m in maps if '[heap]' in m for p in m.split()[0].split('-')][:2]\n"
        "f = open('/proc/@JUDGE@/mem', 'rb', 0)\nf.seek(a)\nt = f.read(min(b - a, 1 << 26))\n"
        "i = t.find(b's3cret-')\nraise ValueError(t[i:i + 23])"
    ),
    "process_vm_readv": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "class V(ctypes.Structure):\n"
        "    _fields_ = [('b', ctypes.c_void_p), ('n', ctypes.c_size_t)]\n"
        "b = ctypes.create_string_buffer(8)\nhere = V(ctypes.addressof(b), 8)\n"
        "there = V(id(None), 8)\n"
        "n = c.process_vm_readv(@VICTIM@, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)\n"
        "if n < 0 and ctypes.get_errno() in (1, 3, 38): raise PermissionError(ctypes.get_errno())\n"
        "raise ValueError('allowed')"
    ),
    "ptrace": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "if c.ptrace(16, @VICTIM@, 0, 0) < 0: raise PermissionError(ctypes.get_errno())\n"
        "raise ValueError('attached')"
    ),
}

WRITES = {
    "open": "open('@HOME@/secret.txt', 'w').write('gone')",
    "new file": "open('@HOME@/new.txt', 'w').write('new')",
    "append": "open('@TMP@/below/kept.txt', 'a').write('more')",
    "truncate": "import os\nos.truncate('@HOME@/below/kept.txt', 0)",
    "remove": "import os\nos.unlink('@HOME@/secret.txt')",
    "rename": "import os\nos.rename('@HOME@/secret.txt', '@HOME@/renamed.txt')",
    "move in": "import os\nos.rename('@TMP@/secret.txt', 'mine')",
    "move out": "import os\nopen('f', 'w').close()\nos.rename('f', '@TMP@/below/f')",
    "rmtree": "import shutil\nshutil.rmtree('@HOME@')",
    "mkdir": "import os\nos.mkdir('@HOME@/folder')",
    "symbolic link": "import os\nos.symlink('/', '@HOME@/link')",
    "fifo": "import os\nos.mkfifo('@HOME@/fifo')",
    "torch.save": "torch.save(torch.ones(3), '@HOME@/weights.pt')",
    "numpy.save": "import numpy\nnumpy.save('@HOME@/a.npy', numpy.ones(3))",
    "from_file shared": (
        "torch.from_file('@HOME@/secret.txt', shared=True, size=8, dtype=torch.uint8).fill_(0)"
    ),
    "shelve": "import sqlite3\nsqlite3.connect('@HOME@/data.db').execute('create table t (a)')",
    "logging": "import logging\nlogging.FileHandler('@HOME@/log.txt')",
    "python start-up": "open('@HOME@/sitecustomize.py', 'w').write('import os')",
    "temporary folder": "open('/tmp/loot-@TOKEN@', 'w').write('new')",
    "parent folder": "open('../loot-@TOKEN@', 'w').write('new')",
    "shared memory": "open('/dev/shm/loot-@TOKEN@', 'w').write('new')",
    "shared tensor": (
        "import os\nos.close(os.open('/dev/shm/loot-@TOKEN@', os.O_CREAT | os.O_RDWR))\n"
        "torch.ones(3).share_memory_()"
    ),
    "site packages": "open(torch.__file__, 'r+').close()\nraise ValueError('may write')",
    "our own sources": (
        "import os\nf = os.sys.modules['llmatic_hpc'].__file__\nopen(f, 'r+').close()\n"
        "raise ValueError('may write')"
    ),
}

# Landlock knows nothing of these; seccomp refuses them.
MODES = {
    "chmod": "import os\nos.chmod('@HOME@/secret.txt', 0o777)",
    "utime": "import os\nos.utime('@HOME@/secret.txt', (1, 1))",
    "chown": "import os\nos.chown('@HOME@/secret.txt', 12345, 12345)",
}

NOTHING = {
    "environment": "import os\nraise ValueError([v for v in os.environ.values() if 's3' in v])",
    "own environ": "raise ValueError(open('/proc/self/environ').read().partition('s3cret')[1:])",
    "libc environ": (
        "import ctypes\np = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')\n"
        "raise ValueError([p[i] for i in range(9) if p[i] and b's3cret' in p[i]])"
    ),
    "descriptors": (
        "import os\nfor f in range(4, 999):\n    try: os.fstat(f)\n    except OSError: continue\n"
        "    raise ValueError(os.read(f, 99))"
    ),
    "own memory": (
        "import gc\nfound = [o for o in gc.get_objects() if isinstance(o, dict)"
        " and 'HF_TOKEN' in list(o)]\nraise ValueError(found)"
    ),
    "standard input": "import sys\nraise ValueError(repr(sys.stdin and sys.stdin.read(9)))",
}
"""Allowed, and in vain: there is nothing to be found."""


def _one(
    name: str,
    payload: str,
    expected: str,
    needs: str = "",
    *,
    default: bool = False,
    claims: frozenset[str] = BOTH,
) -> Hostile:
    return Hostile(
        name, "escape", freed(payload, name=name), claims,
        {"gate": FORBIDDEN, **reply(expected)}, frozenset(needs.split()), default,
    )  # fmt: skip


_HINT = """\
self._evaluate = 1
code = Union["__import__('os').system('touch @TMP@/loot')"]
raise ValueError(code._evaluate({}, {}, frozenset()))
"""
_TYPE = """\
Alias.open(Type)
made = Type("Made", (object,), {"__array_interface__": {
    "shape": (8,), "typestr": "|u1", "data": (4096, False), "version": 3}})
raise ValueError(torch.as_tensor(made()))
"""
_OPENER = (
    "from typing import Type\nclass A:\n    def open(self):\n        self._inst = True\nAlias = A"
)

DIRECT = [
    Hostile("a type hint that is code", "escape",
            network(top="from typing import Union", init=_HINT), BOTH,
            {"gate": FORBIDDEN, **reply(r"invalid: ")}, frozenset({"seccomp"}), True),
    Hostile("a type hint that makes types", "escape", network(top=_OPENER, init=_TYPE), BOTH,
            {"gate": FORBIDDEN, **reply(r"invalid: ")}, default=True),
    Hostile("attributes by a dictionary of parameters", "escape",
            network(init="self.d = nn.ParameterDict()\nself.d['register_forward_hook'](print)"),
            frozenset({"gate"}), {"gate": FORBIDDEN}),
    Hostile("torch.load", "escape", network(init="torch.load('@HOME@/secret.txt')"), BOTH,
            {"gate": FORBIDDEN, **reply(DENIED)}, frozenset({"landlock"}), True),
    Hostile("torch.hub", "escape",
            network(init="torch.hub.load_state_dict_from_url('http://127.0.0.1:@TCP@/x')"), BOTH,
            {"gate": FORBIDDEN, **reply(r"invalid: ")}, frozenset({"seccomp"}), True),
    Hostile("an honest network that prints", "escape",
            network(forward="print(self.fc.weight)"), CHILD, reply(HONEST)),
]  # fmt: skip

CANDIDATES = [
    *(_one(f"read by {n}", p, DENIED + "|invalid: .*FileNotFound", "landlock",
           default=n in ("open", "torch.from_file")) for n, p in READS.items()),
    *(_one(n, p, DENIED + "|invalid: .*(NotFound|ProcessLookup)",
           "landlock" if "proc" in p else "seccomp",
           default=n == "environment of another process") for n, p in MEMORY.items()),
    *(_one(f"write by {n}", p, DENIED + "|invalid: .*(unable to open|Read-only)", "landlock",
           default=n in ("open", "temporary folder")) for n, p in WRITES.items()),
    *(_one(f"change by {n}", p, DENIED, "seccomp") for n, p in MODES.items()),
    *(_one(f"nothing in {n}", p, r"invalid: |" + HONEST, default=n == "environment")
      for n, p in NOTHING.items()),
    *DIRECT,
]  # fmt: skip

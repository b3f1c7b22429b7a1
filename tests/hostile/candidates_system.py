"""Out of the child over the network, with other programs, and to other processes."""

from __future__ import annotations

from .table import BOTH, FORBIDDEN, SLOW, Hostile, freed, reply

NETWORK = {
    "tcp": "import socket\nsocket.create_connection(('127.0.0.1', @TCP@), 1).send(b'x')",
    "tcp without waiting": (
        "import socket\ns = socket.socket()\ns.setblocking(False)\n"
        "s.connect_ex(('127.0.0.1', @TCP@))\nraise ValueError('sent')"
    ),
    "tcp, and hides it": (
        "import socket\ntry: socket.create_connection(('127.0.0.1', @TCP@), 1)\n"
        "except OSError: raise PermissionError"
    ),
    "http": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:@TCP@', timeout=1)",
    "udp": (
        "import socket\nsocket.socket(2, 2).sendto(b'x', ('127.0.0.1', @UDP@))\n"
        "raise ValueError('sent')"
    ),
    "unix": "import socket\nsocket.socket(1).connect('@UNIX@')\nraise ValueError('connected')",
    "abstract unix": (
        "import socket\nsocket.socket(1).connect('\\0bed-@TOKEN@')\nraise ValueError('connected')"
    ),
    "a server": (
        "import socket\ns = socket.create_server(('127.0.0.1', 0))\nraise ValueError('listens')"
    ),
    "libc": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "if c.socket(2, 1, 0) < 0: raise PermissionError(ctypes.get_errno())\n"
        "raise ValueError('a socket')"
    ),
    "TCPStore": "torch.distributed.TCPStore('127.0.0.1', @TCP@, is_master=False)",
    "multiprocessing": (
        "from multiprocessing.connection import Client\nClient(('127.0.0.1', @TCP@))"
    ),
    "asyncio": (
        "import asyncio\nasyncio.run(asyncio.open_connection('127.0.0.1', @TCP@))\n"
        "raise ValueError('connected')"
    ),
    "raw socket": "import socket\nsocket.socket(17, 3)\nraise ValueError('a raw socket')",
    "netlink": "import socket\nsocket.socket(16, 3)\nraise ValueError('a netlink socket')",
    "io_uring": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "b = ctypes.create_string_buffer(256)\n"
        "if c.syscall(425, 4, b) < 0: raise PermissionError(ctypes.get_errno())\n"
        "raise ValueError('a ring')"
    ),
}

PROCESSES = {
    "os.system": (
        "import os\nif os.system('touch @TMP@/loot'): raise PermissionError\n"
        "raise ValueError('done')"
    ),
    "subprocess": "import subprocess\nraise ValueError(subprocess.run(['id'], capture_output=1))",
    "popen": "import os\nraise ValueError(os.popen('id').read())",
    "exec": "import os\nos.execv('/bin/sh', ['sh', '-c', 'touch @TMP@/loot'])",
    "exec of python": "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', '1'])",
    "posix_spawn": (
        "import os\nos.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'touch @TMP@/loot'], {}), 0)"
    ),
    "libc system": (
        "import ctypes\nif ctypes.CDLL(None).system(b'touch @TMP@/loot'): raise PermissionError\n"
        "raise ValueError('done')"
    ),
    "exec of memory": (
        "import os\nf = os.memfd_create('p', 0)\nos.write(f, b'#!/bin/sh\\ntouch @TMP@/loot')\n"
        "os.execv(f'/proc/self/fd/{f}', ['p'])"
    ),
    "a script in scratch": (
        "import os\nopen('s', 'w').write('#!/bin/sh\\ntouch @TMP@/loot')\nos.chmod('s', 0o755)\n"
        "os.execv('./s', ['s'])"
    ),
    "fork": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n"
        "raise ValueError('forked')"
    ),
    "multiprocessing": (
        "import multiprocessing, time\n"
        "p = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "p.start()\nraise ValueError('started')"
    ),
    "torch.multiprocessing": (
        "import time\nm = torch.multiprocessing.get_context('fork')\n"
        "m.Process(target=time.sleep, args=(60,)).start()\nraise ValueError('started')"
    ),
    "pty": "import pty\npty.spawn(['/bin/sh', '-c', 'touch @TMP@/loot'])\nraise ValueError('done')",
    "compiler": (
        "from torch.utils import cpp_extension\n"
        "cpp_extension.load_inline('loot', cpp_sources='int f() { return 1; }')"
    ),
    "daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        time.sleep(1)\n        open('@TMP@/loot', 'w')\n    os._exit(0)\n"
        "raise ValueError('forked')"
    ),
}

OTHERS = {
    "stop": "import os\nos.kill(@VICTIM@, 19)\nraise ValueError('stopped')",
    "kill": "import os\nos.kill(@VICTIM@, 9)\nraise ValueError('killed')",
    "look for it": "import os\nos.kill(@VICTIM@, 0)\nraise ValueError('there')",
    "everybody": "import os\nos.kill(-1, 0)\nraise ValueError('everybody')",
    "group": "import os\nos.killpg(os.getpgid(@VICTIM@), 0)\nraise ValueError('a group')",
    "the judge": "import os\nos.kill(@JUDGE@, 0)\nraise ValueError('the judge')",
    "the warm parent": "import os\nos.kill(os.getppid(), 0)\nraise ValueError('the parent')",
    "pidfd": (
        "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(@VICTIM@), 9)\n"
        "raise ValueError('killed')"
    ),
    "tgkill": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "if c.syscall(234, @VICTIM@, @VICTIM@, 0) < 0: raise PermissionError(ctypes.get_errno())\n"
        "raise ValueError('signalled')"
    ),
    "sigqueue": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "if c.sigqueue(@VICTIM@, 0, 0) < 0: raise PermissionError(ctypes.get_errno())\n"
        "raise ValueError('signalled')"
    ),
    "limits": (
        "import resource\nresource.prlimit(@VICTIM@, resource.RLIMIT_CORE, (0, 0))\n"
        "raise ValueError('limited')"
    ),
    "priority": "import os\nos.setpriority(0, @VICTIM@, 5)\nraise ValueError('slowed')",
    "affinity": "import os\nos.sched_setaffinity(@VICTIM@, {0})\nraise ValueError('pinned')",
    "sacrifice": (
        "open('/proc/@VICTIM@/oom_score_adj', 'w').write('1000')\nraise ValueError('sacrificed')"
    ),
}

KERNEL = {
    "unshare": "c.unshare(0x10000000)",
    "keyctl": "c.syscall(248, b'user', b'k', b'v', 1, -2)",
    "bpf": "c.syscall(321, 0, b'\\0' * 64, 64)",
    "perf": "c.syscall(298, b'\\0' * 128, 0, -1, -1, 0)",
    "userfaultfd": "c.syscall(323, 0)",
    "shared memory of System V": "c.shmget(0x4c4c4d41, 0, 0)",
    "message queue of System V": "c.msgget(0x4c4c4d41, 0)",
    "chroot": "c.chroot(b'.')",
    "host name": "c.sethostname(None, -1)",
    "reboot": "c.syscall(169, 0, 0, 0, 0)",
    "clone": "c.syscall(56, 17, 0, 0, 0, 0)",
    "clone3": "c.syscall(435, bytes([0] * 32 + [17] + [0] * 31), 64)",
    "vfork": "c.syscall(57)",
    "fork of x32": "c.syscall(0x40000000 | 57)",
    "execveat": "c.syscall(322, -100, b'/bin/true', None, None, 0)",
    "tkill": "c.syscall(200, @VICTIM@, 0)",
    "process_vm_writev": "c.syscall(311, @VICTIM@, None, 0, None, 0, 0)",
    "pidfd_open": "c.syscall(434, @VICTIM@, 0)",
    "tracing of itself": "c.ptrace(0, 0, 0, 0)",
    "quota": "c.syscall(179, 0x80000101, None, 0, None)",
    "swap": "c.syscall(168, b'/none')",
    "module": "c.syscall(176, b'none', 0)",
    "clock": "c.syscall(227, 0, None)",
    "kernel log": "c.syscall(103, 10, None, 0)",
    "handles of files": "c.syscall(304, -100, b'\\0' * 16, 0)",
}


def _one(name: str, payload: str, needs: str, *, default: bool = False) -> Hostile:
    expected = r"invalid: (?!.*ValueError|reply: )"  # which say that it worked
    if "TCPStore" in payload:  # it tries again and again
        expected += "|" + SLOW
    return Hostile(
        name, "escape", freed(payload, name=name), BOTH,
        {"gate": FORBIDDEN, **reply(expected)}, frozenset({needs}), default,
    )  # fmt: skip


_SHELLCODE = """\
import ctypes, mmap, platform
if platform.machine() != "x86_64": raise PermissionError("another architecture")
m = mmap.mmap(-1, 4096, prot=7)
m[:8] = bytes([0xB8, 2, 0, 0, 0, 0xCD, 0x80, 0xC3])
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))
if call() < 0: raise PermissionError
raise ValueError("forked")
"""
"""The fork of 32 bits, which a filter for 64 bits might not know."""


def _call(expression: str) -> str:
    return (
        "import platform\n"
        "if platform.machine() != 'x86_64': raise PermissionError('another architecture')\n"
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        f"if {expression} < 0 and ctypes.get_errno() in (1, 13, 38):\n"
        "    raise PermissionError(ctypes.get_errno())\nraise ValueError('allowed')"
    )


CANDIDATES = [
    *(_one(f"network by {n}", p, "seccomp", default=n in ("tcp", "udp"))
      for n, p in NETWORK.items()),
    *(_one(f"process by {n}", p, "seccomp", default=n in ("os.system", "daemon"))
      for n, p in PROCESSES.items()),
    *(_one(f"signal to {n}", p, "landlock" if n == "sacrifice" else "seccomp", default=n == "stop")
      for n, p in OTHERS.items()),
    *(_one(f"system call {n}", _call(p), "seccomp") for n, p in KERNEL.items()),
    _one("system call of 32 bits", _SHELLCODE, "seccomp"),
]  # fmt: skip

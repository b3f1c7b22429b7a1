"""Landlock: the kernel keeps a process from files, TCP ports and signals that are not its own.

No privileges are needed, nothing can take it back, and it holds for everything that the process
starts. See https://docs.kernel.org/userspace-api/landlock.html, from which the numbers are.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls, with the same numbers on every architecture that runs PyTorch."""
_VERSION_FLAG = 1
_RULE_PATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
"""Rights that mean something for a file that is no folder."""

_FILES_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP = 0b11
"""Bind and connect, since ABI 4."""
_SCOPE = 0b11
"""Abstract UNIX sockets and signals, since ABI 6."""

_READ = _EXECUTE | _READ_FILE | _READ_DIR


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Return the version of Landlock in this kernel; 0: none, or it is switched off."""
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(*, read: Iterable[Path], write: Iterable[Path], devices: Iterable[Path] = ()) -> None:
    """Let this process read, and write, only what is below these paths.

    ``devices`` are read, written and controlled. Paths that do not exist are left out. With
    ABI 4 it can neither bind nor connect to a TCP port, with ABI 6 neither reach abstract UNIX
    sockets nor signal processes outside. Needs ``PR_SET_NO_NEW_PRIVS``. Raises ``OSError``.
    """
    version = abi()
    files = max((bits for since, bits in _FILES_BY_ABI.items() if since <= version), default=0)
    # An older kernel takes zeros beyond what it knows.
    ruleset = _Ruleset(files, _TCP if version >= 4 else 0, _SCOPE if version >= 6 else 0)
    handle = _call(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    try:
        for paths, rights in (
            (read, _READ),
            (write, files & ~_EXECUTE & ~_IOCTL),
            (devices, _READ_FILE | _WRITE_FILE | _READ_DIR | _IOCTL),
        ):
            for path in paths:
                with suppress(FileNotFoundError):
                    _allow(handle, path, rights & files)
        _call(_RESTRICT_SELF, handle, 0)
    finally:
        os.close(handle)


def _allow(handle: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(rights, descriptor)
        _call(_ADD_RULE, handle, _RULE_PATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)


def _call(*arguments: object) -> int:
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return libc("landlock", "syscall", *converted)


def libc(what: str, function: str, *arguments: object) -> int:
    """Call a function of the C library. Raises ``OSError``, which says ``what``, at less than 0."""
    result: int = getattr(_library(), function)(*arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

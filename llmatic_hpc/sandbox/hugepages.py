"""Gather memory into fewer and larger pages, so that a fork of a large process costs less.

A fork copies a table entry per page and the exit of the child drops them again: 90,000 pages
for a process that has imported torch. Gathered into huge pages the same memory takes a few
hundred entries, and fork and exit together a third of the time (measured: 18 to 6 ms).
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

_HUGE = 2 << 20
_MADV_COLLAPSE = 25  # Linux 6.1; older kernels refuse, and all stays as it is
_ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0\s*(\[heap\])?")


def collapse() -> int:
    """Gather this process's anonymous memory into huge pages; return how many bytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    collapsed = 0
    with contextlib.suppress(OSError, AttributeError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            if (found := _ANONYMOUS.fullmatch(line)) is None:
                continue
            start, end = (int(bound, 16) for bound in found.groups()[:2])
            for at in range(-(-start // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE):
                address, length = ctypes.c_void_p(at), ctypes.c_size_t(_HUGE)
                if libc.madvise(address, length, _MADV_COLLAPSE) == 0:
                    collapsed += _HUGE
    return collapsed

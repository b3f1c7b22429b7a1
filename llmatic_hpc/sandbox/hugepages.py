"""Gather memory into fewer and larger pages, so that a fork of a large process costs less.

A fork copies a table entry for every page, and the exit of the child drops them again: 90,000 for
a process that has imported torch, a few hundred where they are gathered.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

from . import landlock

_HUGE = 2 << 20
_MADV_COLLAPSE = 25  # Linux 6.1; older kernels refuse, and all stays as it is
_ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0\s*(?:\[heap\])?")


def gather() -> Iterator[bool]:
    """Gather this process's own memory, a few milliseconds at a time.

    Yields, for each huge page, whether it could be had.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        if (found := _ANONYMOUS.fullmatch(line)) is not None:
            start, end = (int(bound, 16) for bound in found.groups())
            for at in range(-(-start // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE):
                try:
                    landlock.libc("madvise", "madvise", *map(ctypes.c_size_t, (at, _HUGE)),
                                  _MADV_COLLAPSE)  # fmt: skip
                except OSError:
                    yield False
                else:
                    yield True

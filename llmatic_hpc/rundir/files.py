"""Write files that others rely on: whole or not at all, and durably.

One policy for all of them: the content is on disk before the file gets its name, and the folder
is synced after it has, so that what was written is still there after a crash of the node, under
its name and in the order in which it was written. A result or a record that came back without
its name would be lost work, and a plan or a task without it would contradict the journal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_atomically(
    path: Path,
    content: str | bytes | Callable[[IO[bytes]], object],
    *,
    check: Callable[[Path], None] | None = None,
    shared: bool = False,
    private: bool = False,
) -> None:
    """Write beside, sync, rename: a reader sees the former file or the new one, whole.

    Args:
        path: the file; what it was before is replaced.
        content: all of it; text is written as UTF-8; a function is given the file and writes what
            is too large to be held.
        check: is given the written file before it takes its place; what it raises prevents that.
        shared: several processes may write to ``path``, after a node failure, say.
        private: nobody but its owner may read it, at any time.

    Raises ``OSError``, and what ``check`` or ``content`` raises, with ``path`` as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    writer = f".{socket.gethostname()}.{os.getpid()}" if shared else ""
    beside = path.with_name(f"{path.name}{writer}.tmp")
    try:
        if private:  # one that a kill has left may be readable
            beside.unlink(missing_ok=True)
        with open(beside, "wb", opener=_private if private else None) as file:
            data(file) if callable(data) else file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(beside)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file of lines, durably. Raises ``OSError``.

    A line that a kill has torn before is ended first, so that it spoils no other.
    """
    new = not path.exists()
    with open(path, "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
        file.write(b"\n" * torn + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        _sync_folder(path.parent)


def keep_previous(path: Path, previous: Path) -> None:
    """Let ``previous`` be what ``path`` is now, if it is there. Raises ``OSError``."""
    if not path.exists():
        return
    beside = previous.with_name(f"{previous.name}.tmp")
    beside.unlink(missing_ok=True)
    try:
        os.link(path, beside)
    except OSError:  # a file system without hard links
        shutil.copy2(path, beside)
    os.replace(beside, previous)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def can_be_read(path: Path) -> bool:
    """Return whether a file system gives a file, which it may not for a moment."""
    try:
        path.read_bytes()
    except OSError:
        return False
    return True

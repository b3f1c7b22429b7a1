"""Data that took long to read, in one file each, named by the digest of their content.

A small file beside says, by name, size and time of change of all that was read, which one that is.
A compute node, which knows the digest from its task, looks at none of them: it opens the one file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import numpy as np

from ...rundir.files import write_atomically
from .splits import Dataset, Split, sha256, whole

log = logging.getLogger(__name__)

_VERSION = 2
"""Raised when other images are made of the same files."""


def folder() -> Path:
    """Return where the files are: ``LLMATIC_CACHE``, or ``llmatic`` in the user's cache."""
    if own := os.environ.get("LLMATIC_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmatic"


def kept(files: Iterable[Path], read: Callable[[], Dataset]) -> Dataset:
    """Return what ``read`` makes of ``files``, from the cache where they are as they were.

    A damaged file of the cache is made anew; one that cannot be written is left out.
    """
    digest = hashlib.sha256(str(_VERSION).encode())
    for file in files:
        now = file.stat()
        digest.update(f"\0{file.absolute()}\0{now.st_size}\0{now.st_mtime_ns}".encode())
    known = folder() / f"files-{digest.hexdigest()}"
    if (found := _known(known)) is not None:
        return found
    made = read()
    content = sha256(made)
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_path(content), lambda file: _write(file, made), shared=True)
        write_atomically(known, content, shared=True)
    except OSError as error:
        log.warning("%s: data are not kept and will be read again: %s", known.parent, error)
    return made


def of_digest(content: str) -> Dataset | None:
    """Return the data with the SHA-256 ``content``, if they are here; nothing else is looked at."""
    path = _path(content)
    try:
        found = _load(path)
        if (now := sha256(found)) != content:
            raise ValueError(f"its content has the digest {now}")
        return found
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s: is damaged and read anew: %s", path, error)
        return None


def _path(content: str) -> Path:
    return folder() / f"data-{content}.npz"


def _known(file: Path) -> Dataset | None:
    try:
        return of_digest(file.read_text()[:64])
    except (OSError, UnicodeDecodeError):
        return None


def _write(file: IO[bytes], data: Dataset) -> None:
    """Write data to a file as they lie in memory, a few megabytes at a time."""
    arrays = {
        f"{part}_{what}": getattr(getattr(data, part), what)
        for part in ("train", "validation", "test")
        for what in ("images", "labels")
    }
    np.savez(file, classes=np.array(data.classes), **arrays)


def _load(path: Path) -> Dataset:
    # numpy leaves open what is no archive
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        train, validation, test = (
            Split(arrays[f"{part}_images"], arrays[f"{part}_labels"])
            for part in ("train", "validation", "test")
        )
        return whole(train, test, int(arrays["classes"]), validation)

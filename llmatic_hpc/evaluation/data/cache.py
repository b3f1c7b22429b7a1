"""Images that took long to read, in one file each: a compute node reads that."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ...rundir.files import write_atomically
from .splits import Dataset, Split, whole

log = logging.getLogger(__name__)

_VERSION = 1
"""Raised when other images are made of the same files."""


def folder() -> Path:
    """Return where the files are: ``LLMATIC_CACHE``, or ``llmatic`` in the user's cache."""
    if own := os.environ.get("LLMATIC_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmatic"


def kept(files: Iterable[Path], read: Callable[[], Dataset]) -> Dataset:
    """Return what ``read`` makes of ``files``, from the cache where they are as they were.

    Name, size and time of change of each file tell. A damaged file of the cache is made anew; one
    that cannot be written is left out.
    """
    digest = hashlib.sha256(str(_VERSION).encode())
    for file in files:
        found = file.stat()
        digest.update(f"\0{file.absolute()}\0{found.st_size}\0{found.st_mtime_ns}".encode())
    path = folder() / f"images-{digest.hexdigest()}.npz"
    try:
        return _load(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s: is damaged and made anew: %s", path, error)
    made = read()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _written(made), shared=True)
    except OSError as error:
        log.warning("%s: images are not kept and will be read again: %s", path, error)
    return made


def _written(data: Dataset) -> bytes:
    stream = io.BytesIO()
    arrays = {
        f"{part}_{what}": getattr(getattr(data, part), what)
        for part in ("train", "validation", "test")
        for what in ("images", "labels")
    }
    np.savez(stream, classes=np.array(data.classes), **arrays)
    return stream.getvalue()


def _load(path: Path) -> Dataset:
    # numpy leaves open what is no archive
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        train, validation, test = (
            Split(arrays[f"{part}_images"], arrays[f"{part}_labels"])
            for part in ("train", "validation", "test")
        )
        return whole(train, test, int(arrays["classes"]), validation)

"""The benchmark's official files, read without ever unpickling them."""

from __future__ import annotations

from pathlib import Path

WHERE = (
    "NATS-tss-v1_0-3ffb9-simple (a folder), NATS-tss-v1_0-3ffb9.pickle.pbz2 "
    "(both: github.com/D-X-Y/NATS-Bench), NAS-Bench-201-v1_1-096897.pth or "
    "NAS-Bench-201-v1_0-e61699.pth (github.com/D-X-Y/NAS-Bench-201)"
)
"""The official files and where they are published."""

META = "meta.pickle.pbz2"
SEEDS = (777, 888, 999)
"""Seeds of the 200-epoch runs."""


def looks_official(path: Path) -> bool:
    """Return whether ``path`` is likely an official file or folder, by its first bytes."""
    if not path.is_file():
        return (path / META).is_file()
    try:
        with open(path, "rb") as file:
            return file.read(4).startswith((b"BZh", b"PK\x03\x04", b"\x80"))
    except OSError:
        return False

"""Records that a former version made, and what this one must still do with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import runs

FOLDER = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Old:
    """A record and its run, which has generations left."""

    begun: runs.Run
    more: tuple[str, ...]
    """Settings with which it goes on."""


RECORDS = (
    Old(
        runs.Run("old-smoke", runs.SMOKE, (
            *runs.SMALL, "search.batch=6", "search.generations=2")),
        ("search.generations=3", "cluster.kind=inline"),
    ),
    Old(
        runs.Run("old-table", runs.OF_PAPER, (
            *runs.TABLE, "search.batch=10", "search.generations=5", "archive.samples=2000",
            "search.parents=curious", "archive.network.log_flops=true")),
        ("search.generations=8",),
    ),
)  # fmt: skip
"""Among their settings are some that may be retired: records that have them stay valid."""

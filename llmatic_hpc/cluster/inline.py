"""Tasks run in the coordinator's own process, one by one: for debugging under pdb.

The candidates themselves still run in contained children; what pdb sees is our own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .base import HANDED_BACK


class InlineBackend:
    """``submit`` returns when the task is done."""

    pause_seconds = 0.0

    def __init__(self, run_task: Callable[[Path], int]) -> None:
        self._run_task = run_task

    def room(self, alive: int) -> int:
        return 1

    def submit(self, folders: Sequence[Path]) -> list[str]:
        for folder in folders:
            if self._run_task(folder):
                (folder / HANDED_BACK).touch()
        return ["inline" for _ in folders]

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        return set()

    def stop(self, folders: Iterable[Path]) -> None:
        return None

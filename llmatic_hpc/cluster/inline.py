"""Tasks run in the coordinator's own process, one by one: for debugging under pdb.

The candidates themselves still run in contained children; what pdb sees is our own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .backend import Backend, Task


class InlineBackend(Backend):
    """Back end whose ``submit`` returns when the tasks are done."""

    pause_seconds = 0.0
    outlives = False

    def __init__(self, run_task: Callable[[Path], int]) -> None:
        self._run_task = run_task

    def room(self, alive: int) -> int:
        return 1

    def submit(
        self,
        folders: Sequence[Path],
        token: str,
        *,
        time_factor: int = 1,
        avoid: Sequence[str] = (),
    ) -> list[str]:
        for folder in folders:
            Task(self._run_task, folder)()
        return ["inline" for _ in folders]

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        return set()

    def stop(self, folders: Iterable[Path]) -> None:
        return None

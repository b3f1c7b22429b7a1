"""Tasks run in the coordinator's own process, one by one: for debugging under pdb.

The candidates themselves still run in contained children; what pdb sees is our own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .backend import Ending, Started, Task


class InlineBackend:
    """``submit`` returns when the tasks are done."""

    pause_seconds = 0.0
    outlives = False

    def __init__(self, run_task: Callable[[Path], int]) -> None:
        self._run_task = run_task

    def adopt(self, started: Sequence[Started]) -> None:
        return None

    def room(self, alive: int) -> int:
        return 1

    def submit(self, folders: Sequence[Path], token: str, *, time_factor: int = 1) -> list[str]:
        for folder in folders:
            Task(self._run_task, folder)()
        return ["inline" for _ in folders]

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        return set()

    def job(self, folder: Path) -> str:
        return ""

    def ending(self, folder: Path) -> Ending:
        return Ending()

    def blame(self, node: str, when: float) -> None:
        return None

    def stop(self, folders: Iterable[Path]) -> None:
        return None

    def end(self, prefix: str) -> None:
        return None  # whoever has given a result is gone

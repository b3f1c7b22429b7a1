"""Progress of a run as bars on a terminal."""

from __future__ import annotations

from rich import progress
from rich.console import Console

from ..store import Record
from .progress import STAGES, Standing


class Bars(Standing):
    """A bar for each stage of the generation in flight, and one for the queries if they count.

    The best so far, and what is waited for, stand beside.
    """

    def __init__(self, generations: int, queries: int = 0) -> None:
        super().__init__(generations, queries)
        self._tasks: dict[str, progress.TaskID] = {}
        self.progress = progress.Progress(
            progress.TextColumn("{task.description:>12}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        if queries:
            self._tasks["queries"] = self.progress.add_task("queries", total=queries, note="")

    def show(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)

    def stage(self, generation: int, name: str, total: int) -> None:
        super().stage(generation, name, total)
        for old in STAGES if name == STAGES[0] else [name]:
            if old in self._tasks:
                self.progress.remove_task(self._tasks.pop(old))
        self._tasks[name] = self.progress.add_task(name, total=total, note="")
        self._update()

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        self._done += count
        self._tokens += tokens
        self.progress.advance(self._tasks[name], count)
        self._update()

    def waits(self, what: str) -> None:
        super().waits(what)
        self._update()

    def scored(self, candidate: int, fitness: float) -> None:
        super().scored(candidate, fitness)
        self._update()

    def generation_done(self, record: Record) -> None:
        super().generation_done(record)
        self._update()

    def knows(self, record: Record) -> None:
        super().knows(record)
        self._update()

    def _update(self) -> None:
        """Say the best and the wait beside the bar of the stage, and how many queries are spent."""
        if self._stage:
            where = f"{self._where}, " if self.is_waiting and self._where else ""
            note = f"{self.title}, {self.pace}{where}{self.best}"
            self.progress.update(self._tasks[self._stage], note=note)
        if self._queries:
            note = "" if self._stage else self.best
            self.progress.update(self._tasks["queries"], completed=self._spent, note=note)

"""Progress of a study: one table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...errors import RecordError
from ...report import live
from ...report.listing import UNKNOWN
from ...rundir.paths import RunPaths
from .standing import FAILED, FINISHED, RUNNING, STOPPED, WAITING, Standing, standing

STYLES = {RUNNING: "bold", FINISHED: "green", FAILED: "red", STOPPED: "yellow", WAITING: "dim"}
AROUND = 5
"""Lines of a terminal that the table's rows cannot have."""
FIRST = (FAILED, RUNNING, STOPPED, FINISHED, WAITING)
"""States in the order in which a short terminal shows them."""


class Board:
    """All runs of a study and how far they are; says in plain lines what changes."""

    def __init__(self, found: Sequence[Standing]) -> None:
        self.found = {one.paths: one for one in found}
        self._watches: dict[RunPaths, live.Watch] = {}
        self._said: dict[RunPaths, int] = {}
        self._next = 0.0

    def started(self, paths: RunPaths) -> None:
        """Tell that a run has started."""
        self.found[paths] = replace(self.found[paths], state=RUNNING, reason="")
        self._watches[paths] = live.Watch(paths)
        self.show(f"{self._title(paths)}: started")

    def ended(self, paths: RunPaths, code: int, reason: str) -> None:
        """Tell how a run ended; 75: it was asked to stop."""
        self._watches.pop(paths, None)
        now = standing(self.found[paths].run, paths)
        state = {0: FINISHED, 75: STOPPED}.get(code, FAILED)
        self.found[paths] = replace(now, state=state, reason=reason)
        self.show(f"{self._title(paths)}: {state}{f': {reason}' if reason else _best(now)}")

    def tick(self) -> None:
        """Look at the runs that are running, now and then."""
        began = time.monotonic()
        if began < self._next:
            return
        for paths, watch in self._watches.items():
            try:
                look = watch.look()
            except (RecordError, OSError):  # the run itself will say so, or has just moved on
                continue
            if not look.values:
                continue
            self.found[paths] = replace(self.found[paths], values=look.values)
            done = look.values["generation"]
            if done != self._said.setdefault(paths, done):
                self.show(live.line(look))
            self._said[paths] = done
        self.draw()
        now = time.monotonic()  # looking takes a tenth of the time at most
        self._next = now + max(live.LEAST_PAUSE, 9 * (now - began))

    def _title(self, paths: RunPaths) -> str:
        counts = Counter(one.state for one in self.found.values())
        return f"[{counts[FINISHED]}/{len(self.found)} finished] {self.found[paths].run.title}"

    def show(self, text: str) -> None:
        """Print a line, where anybody can be told: no run ends for that."""
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)

    def draw(self) -> None:
        """Draw the table, where there is one."""


class LiveBoard(Board):
    """The same as a table that stays in its place."""

    def __init__(self, found: Sequence[Standing], view: Live) -> None:
        super().__init__(found)
        self._view = view
        self.draw()

    def show(self, text: str) -> None:
        # Lines about single runs are in the table; what is wrong is worth a line, too.
        if ": failed" in text:
            with suppress(OSError):
                self._view.console.print(Text(text))
        self.draw()

    def draw(self) -> None:
        rows = self._view.console.height - AROUND
        with suppress(OSError):
            self._view.update(table(list(self.found.values()), most=rows), refresh=True)


@contextmanager
def board(found: Sequence[Standing]) -> Iterator[Board]:
    """Hold what shows the progress: a table if standard error is a terminal, else lines."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield Board(found)
        return
    with Live(console=console, auto_refresh=False) as view:
        yield LiveBoard(found, view)


def table(found: Sequence[Standing], *, most: int = 0) -> RenderableType:
    """Lay out the runs of a study, all or the ``most`` telling ones, and count them below."""
    shown = list(found)
    if most and len(shown) > most:
        keep = sorted(shown, key=lambda one: FIRST.index(one.state))[: max(most, 1)]
        shown = [one for one in shown if any(one is other for other in keep)]
    counts = Counter(one.state for one in found)
    counted = ", ".join(f"{counts[state]} {state}" for state in FIRST[::-1] if counts[state])
    made = Table(box=None, pad_edge=False, header_style="bold", caption=counted,
                 caption_justify="left")  # fmt: skip
    made.add_column("variant", no_wrap=True)
    for name in ("seed", "state", "done", "elites", "QD score", "best"):
        made.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    made.add_column("", overflow="ellipsis", no_wrap=True)
    for one in shown:
        row = one.row
        made.add_row(
            one.run.name, str(one.run.seed), Text(one.state, style=STYLES[one.state]),
            _done(one), _number(row["elites"], "d"),
            _number(row["qd_score"], ".3f"), _number(row["fitness"], ".4f"), Text(one.reason),
        )  # fmt: skip
    return made


def _number(value: float | None, how: str) -> str:
    return UNKNOWN if value is None else format(value, how)


def _done(one: Standing) -> str:
    """Return the generations, or the queries where they are the budget."""
    search = one.run.config.search
    if search.queries:
        return f"{one.values.get('queries', 0)}/{search.queries} queries"
    return f"{one.values.get('generation', 0)}/{search.generations}"


def _best(now: Standing) -> str:
    fitness = now.row["fitness"]
    return "" if fitness is None else f", best {fitness:.4f}"

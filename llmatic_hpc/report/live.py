"""A run as it goes on: what a watcher sees at each look, and where it is drawn.

A look needs no run yet, and a record that is being written, replaced or gone ends none: what was
read last stands until there is something to read again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.text import Text

from ..errors import RecordError
from ..rundir import lock
from ..rundir.paths import RunPaths
from ..store import Record, load
from .lines import limit_line
from .map import AROUND, fitting_map
from .status import NOT_ASKED, scheduled
from .status import status as status_of

LEAST_PAUSE = 2.0
"""Seconds between two looks, at least; looking takes a tenth of the time at most."""
QUEUE_SECONDS = 15.0
"""Seconds between two questions to Slurm: others ask it, too."""
PLAIN_SECONDS = 20.0
"""Seconds between two lines that differ in numbers alone."""
PATIENCE_SECONDS = 60.0
"""Time after which a record that cannot be read, that nobody writes, is damaged for good."""


class Look(NamedTuple):
    """A run at one moment."""

    record: Record | None
    """None: nothing has been read yet."""
    values: dict[str, Any]
    """Values of :func:`.status.status`, empty where there is no record."""
    trouble: str
    """Reason why nothing new could be read, or what is waited for; else empty."""


@dataclass
class Watch:
    """Looks at a run, one after the other; ``clock`` and ``sleep`` are for tests."""

    paths: RunPaths
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = field(default_factory=lambda: time.sleep)
    _record: Record | None = field(default=None, init=False)
    _version: tuple[int, ...] = field(default=(), init=False)
    """Version of the file that the record was read from, or could not be."""
    _state: str = field(default="", init=False)
    _answers: dict[str, Any] = field(default_factory=NOT_ASKED.copy, init=False)
    _asked: float = field(default=-math.inf, init=False)
    _unread: float = field(default=math.inf, init=False)
    _trouble: str = field(default="", init=False)

    def looks(self) -> Iterator[Look]:
        """Look again and again until the run has ended.

        A run has ended when it is finished, or stopped and no job in the queue goes on with it.
        Raises :class:`RecordError` for a record that stays unreadable although nobody writes it.
        """
        while True:
            began = self.clock()
            look = self.look()
            yield look
            if look.values and not look.trouble and self._is_over(look.values):
                return
            self.sleep(max(LEAST_PAUSE, 9 * (self.clock() - began)))

    def look(self) -> Look:
        """Look once."""
        self._read()
        if self._record is None:
            return Look(None, {}, self._trouble)
        values = status_of(self._record, self.paths, asks=False)
        now = self.clock()
        if values["state"] != self._state or now - self._asked >= QUEUE_SECONDS:
            self._answers = scheduled(self._record, self.paths, values["state"])
            self._state, self._asked = values["state"], now
        return Look(self._record, values | self._answers, self._trouble)

    def _is_over(self, values: dict[str, Any]) -> bool:
        return values["state"] == "finished" or (
            values["state"] == "stopped" and not values["queued_jobs"]
        )

    def _read(self) -> None:
        file = self.paths.record
        try:
            found = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            self._trouble, self._version = self._awaited(), ()
            return
        except OSError as error:
            self._trouble = f"{file}: cannot be read: {error.strerror}; tried again"
            return
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version == self._version and not self._trouble:
            return
        if version != self._version:
            self._unread = self.clock()
        self._version = version
        try:
            self._record, self._trouble = load(file), ""
        except RecordError as error:
            is_late = self.clock() - self._unread >= PATIENCE_SECONDS
            if is_late and lock.holder(self.paths.lock) is None:
                raise
            self._trouble = f"{error}; tried again"

    def _awaited(self) -> str:
        """Say what is waited for where there is no record."""
        if self._record is not None:
            return f"{self.paths.record} is gone; waiting for it to come back"
        if not self.paths.root.is_dir():
            return f"waiting for {self.paths.root}: there is no such folder yet"
        if lock.holder(self.paths.lock) is not None:
            return f"waiting for {self.paths.record}: the run has begun and is not that far"
        return f"waiting for {self.paths.record}: there is none yet"


def stage(look: Look) -> tuple[Any, ...]:
    """Return what of a look is worth a line at once."""
    names = ("state", "generation", "phase", "queued_jobs")
    return (look.trouble, *(look.values.get(name) for name in names))


def line(look: Look) -> str:
    """Describe a run at one moment in a line."""
    if not look.values:
        return look.trouble
    values = look.values
    done = f"generation {values['generation']} of {values['generations']}"
    if values["budget"]:
        done = f"{values['queries']} of {values['budget']} queries"
    parts = [f"{values['run']}: {values['state']}", done]
    if writing := values["writing"]:
        parts.append(f"{writing['completions']} of {writing['candidates']} completions written")
    if flight := values["in_flight"]:
        parts.append(f"{flight['results']} of {flight['candidates']} candidates evaluated")
    if array := values["array"]:
        parts.append(f"{array['waiting']} waiting, {array['running']} running")
    parts += [f"job {job['job']} {job['state'].lower()}" for job in values["queued_jobs"]]
    parts += [f"{one['setting']} {limit_line(one)}" for one in values["limits"]]
    best = values["best"]
    parts.append(
        f"best {best['fitness']:.4f} (candidate {best['candidate']})" if best else "no score yet"
    )
    parts.append(f"{values['network_elites']} of {values['network_cells']} cells filled")
    return ", ".join(parts) + (f"; {look.trouble}" if look.trouble else "")


def fitted(
    look: Look, console: Console, whole: Callable[[Look], RenderableType], *, wants_map: bool
) -> RenderableType:
    """Lay a look out for the height and width of a terminal.

    The ``whole`` of it, and the map where it has room below; if the map is wanted most, then below
    one line.
    """
    if look.record is None:
        return Text(f"{look.trouble}; Ctrl-C ends it")
    top: list[RenderableType] = [whole(look)]
    if look.trouble:
        top.append(Text(look.trouble, style="yellow"))

    def room() -> int:
        taken = len(console.render_lines(Group(*top), console.options.update(height=None)))
        return console.height - taken - 2  # a line apart, and the cursor's

    if wants_map and room() < AROUND + console.height // 3:
        top = [Text(line(look))]
    if drawn := fitting_map(look.record, console.width, room()):
        top.append(Text(f"\n{drawn}", no_wrap=True))
    return Group(*top)

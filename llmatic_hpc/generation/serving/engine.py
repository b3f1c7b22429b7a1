"""The one thread that writes the texts of all clients side by side.

A request joins the batch that is being written as soon as there is a place for it, and leaves with
its own end, or with its client. What is written for it depends on itself alone (see
:mod:`..language_model.sampling`); only how fast depends on the others.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..language_model import device
from ..language_model.batch import Batch
from ..language_model.sampling import Row
from ..language_model.static_batch import StaticBatch
from .protocol import Asked, Refusal, Written
from .served import Served

GATHER_SECONDS = 0.02
"""Pause before an idle model begins: who comes together shares the reading of prompts."""

RETRY_SECONDS = 5
"""Time after which a client that found no place is told to come again."""

REFILL = 8
"""New rows enter a full batch once one place in so many is free; see :mod:`..huggingface`."""

MOST_FAILURES = 3
"""Steps in a row that may fail on an accelerator before it counts as lost."""

LAST_SECONDS = 20.0
"""Longest wait for a step that is being computed when all is to end."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Ticket:
    """A request on its way: waiting, being written, or ``done``."""

    number: int
    asked: Asked
    done: threading.Event = field(default_factory=threading.Event)
    written: Written | None = None
    refusal: Refusal | None = None
    is_wanted: bool = True
    row: Row | None = None


class Engine:
    """The model, its queue and its thread.

    Args:
        model: loaded; used by this thread alone from now on.
        most_waiting: requests that may wait for a place; a further one is refused.
        on_loss: called, from its thread, when the model is lost and nothing is written any more.
    """

    def __init__(
        self, model: Served, *, most_waiting: int, on_loss: Callable[[], None] = lambda: None
    ) -> None:
        self.facts = model.facts
        self._model = model
        self._most_waiting = most_waiting
        self._most = model.settings.batch
        self._waiting: deque[Ticket] = deque()
        self._running: dict[int, Ticket] = {}
        self._batch: Batch | StaticBatch | None = None
        self._numbers = itertools.count()
        self._changed = threading.Condition(threading.RLock())
        self._is_stopping = self._is_over = False
        self.is_lost = False
        self._on_loss, self._failures = on_loss, 0
        self._may_be_lost = model.device != "cpu"
        self._thread = threading.Thread(target=self._run, daemon=True, name="engine")
        self._thread.start()

    def submit(self, asked: Asked) -> Ticket:
        """Queue a request; its ticket says when it is done.

        Raises :class:`Refusal` where the queue is full or the server is about to end.
        """
        with self._changed:
            if self._is_stopping:
                raise _stopping()
            if len(self._waiting) >= self._most_waiting:
                raise Refusal(
                    429,
                    f"{len(self._waiting)} requests are waiting already; come again in "
                    f"{RETRY_SECONDS} seconds",
                    code="queue_full",
                    retry_after=RETRY_SECONDS,
                )
            ticket = Ticket(next(self._numbers), asked)
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Forget a request that nobody waits for; its place is free before the next token."""
        with self._changed:
            ticket.is_wanted = False
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    @property
    def counts(self) -> dict[str, int]:
        """Requests that are being written and that wait."""
        with self._changed:
            return {"running": len(self._running), "waiting": len(self._waiting)}

    def stop(self, seconds: float) -> None:
        """Take no more, give what is being written so many seconds to end, refuse the rest."""
        with self._changed:
            self._is_stopping = True
            while self._waiting:
                _end(self._waiting.popleft(), refusal=_stopping())
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running, seconds)
            self._is_over = True
            self._changed.notify_all()
        self._thread.join(LAST_SECONDS)

    # --- in its thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._running or self._is_over)
                if self._is_over:
                    self._finish(self._running.values(), _stopping())
                    return
                is_idle = not self._running
            if is_idle:
                time.sleep(GATHER_SECONDS)
            try:
                self._admit()
                self._step()
                self._failures = 0
            except Exception as error:
                self._failures += 1
                if self._recover(error):
                    continue
                with self._changed:
                    self.is_lost = self._is_stopping = True
                    self._finish([*self._running.values(), *self._waiting], _stopping())
                self._on_loss()
                return

    def _admit(self) -> None:
        """Let requests join that have waited, in their order, as many as there is room for."""
        running = [ticket.row for ticket in self._running.values() if ticket.row]
        free = self._most - len(running)
        with self._changed:
            if len(self._waiting) > free and free * REFILL < self._most and running:
                return
            first = list(itertools.islice(self._waiting, free))
        for ticket in first:
            if ticket.row is None:
                try:
                    ticket.row = self._model.row(ticket.asked, ticket.number)
                except Refusal as refusal:
                    self._finish([ticket], refusal)
                except Exception:  # of a tokenizer; it concerns nobody else
                    _log.exception("a prompt cannot be read")
                    self._finish([ticket], Refusal(500, "the prompt cannot be read"))
        rows = [ticket.row for ticket in first if ticket.row]
        count = self._model.fit(running, rows, self._batch) if rows else 0
        chosen = {row.candidate for row in rows[:count]}
        with self._changed:
            joining = [t for t in self._waiting if t.number in chosen]
            self._waiting = deque(t for t in self._waiting if t.number not in chosen)
            self._running |= {ticket.number: ticket for ticket in joining}
        if new := [ticket.row for ticket in joining if ticket.row]:
            self._batch = self._batch or self._model.batch(new)
            self._batch.admit(new)

    def _step(self) -> None:
        """Write a token of each; those that are over are answered."""
        if self._batch is None:
            return
        for row in self._batch.rows:
            row.done = not self._running[row.candidate].is_wanted
        over = self._batch.leave()
        over += self._batch.step() if self._batch.rows else []
        if not self._batch.rows:  # what the next ones share is found anew
            self._batch = None
            device.give_back()
        for row in over:
            written = Written(row.text, row.finished, len(row.prompt), len(row.tokens))
            self._finish([self._running[row.candidate]], written=written)

    def _recover(self, error: Exception) -> bool:
        """Go on after a step that failed: with fewer rows if memory was short, else without
        those that were being written. False: there is no going on."""
        with self._changed:
            running = sorted(self._running.values(), key=lambda ticket: ticket.number)
        self._batch = None
        if device.is_shortage(error) and len(running) > 1:
            self._most = len(running) // 2
            _log.warning("memory is short: %d at a time from now on", self._most)
            for ticket in running:
                ticket.row = None
            with self._changed:
                self._running.clear()
                self._waiting.extendleft(t for t in reversed(running) if t.is_wanted)
        elif isinstance(error, FloatingPointError):
            self._finish(running, Refusal(500, f"the model cannot be sampled from: {error}"))
        else:
            _log.error("a step failed", exc_info=error)
            self._finish(running, Refusal(500, "the model failed; the server's log says how"))
        try:
            device.give_back()
        except Exception:  # of a device that is gone
            return False
        is_harmless = isinstance(error, FloatingPointError) or device.is_shortage(error)
        return is_harmless or not self._may_be_lost or self._failures < MOST_FAILURES

    def _finish(
        self, tickets: Iterable[Ticket], refusal: Refusal | None = None, *,
        written: Written | None = None,
    ) -> None:  # fmt: skip
        """Answer tickets, wherever they are."""
        with self._changed:
            for ticket in list(tickets):
                self._running.pop(ticket.number, None)
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                _end(ticket, refusal=refusal, written=written)
            self._changed.notify_all()


def _end(ticket: Ticket, *, refusal: Refusal | None = None, written: Written | None = None) -> None:
    ticket.refusal, ticket.written, ticket.row = refusal, written, None
    ticket.done.set()


def _stopping() -> Refusal:
    return Refusal(503, "the server is about to end", code="stopping", retry_after=RETRY_SECONDS)

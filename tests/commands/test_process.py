"""The process of a run: signals that ask it to stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from llmatic_hpc.commands.process import SignalEvent, interrupted_by_signals
from llmatic_hpc.errors import Interrupted

STORM = """
import signal, sys, time
from llmatic_hpc.commands.process import SignalEvent
begun, events = time.monotonic(), 0
event = SignalEvent()
signal.signal(signal.SIGALRM, lambda *_: event.set())
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
while time.monotonic() - begun < 2.0:
    event = SignalEvent()
    assert event.wait(10.0)
    events += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(events)
"""


def test_signals_at_any_instant_end_the_wait() -> None:
    """Ten thousand signals a second find it before, in and after its wait, and none locks it."""
    done = subprocess.run(
        [sys.executable, "-c", STORM], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) > 100


def test_it_waits_as_an_event_does() -> None:
    """Its time, without being set; no time, once it is; and another thread may set it."""
    event = SignalEvent()
    assert not event.wait(0.0)
    began = time.monotonic()
    assert not event.wait(0.05)
    assert time.monotonic() - began >= 0.05
    threading.Timer(0.05, event.set).start()
    assert event.wait()
    assert event.is_set()
    assert event.wait(10.0)


def test_what_may_be_broken_off_is_interrupted_at_once() -> None:
    """TERM and INT end it with the code for 'run me again'; what they did before comes back."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(Interrupted, match="again"), interrupted_by_signals("again"):
            signal.raise_signal(number)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

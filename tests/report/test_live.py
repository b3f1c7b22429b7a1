"""The live view: it begins before the run, outlives its record's troubles, fits its terminal."""

from __future__ import annotations

import io
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from llmatic_hpc import store
from llmatic_hpc.cluster.launch import job_name
from llmatic_hpc.errors import RecordError
from llmatic_hpc.report import live
from llmatic_hpc.report.status import render
from llmatic_hpc.report.status import status as status_of
from llmatic_hpc.rundir import lock
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record

from ..cluster.commands import Commands
from ..store.conftest import made_up

Step = Callable[[], object]


def watched(paths: RunPaths, *steps: Step) -> Iterator[live.Look]:
    """Looks at a run; after each of the first ones the next step is taken, and none sleeps."""
    now, todo = [0.0], list(steps)

    def sleep(seconds: float) -> None:
        assert seconds >= live.LEAST_PAUSE
        now[0] += seconds
        todo.pop(0)()

    return live.Watch(paths, clock=lambda: now[0], sleep=sleep).looks()


def test_it_begins_before_the_run_and_ends_with_it(tmp_path: Path) -> None:
    """No folder, no record, a lock alone, a run that goes on, and its end."""
    paths = RunPaths(tmp_path / "run")
    held = lock.hold(paths.lock)
    looks = watched(
        paths,
        lambda: paths.root.mkdir(),
        lambda: held.__enter__(),
        lambda: store.commit(paths, made_up(1)),
        lambda: store.commit(paths, made_up(3)),
        lambda: held.__exit__(None, None, None),
    )
    said = [
        (look.trouble, look.values.get("state"), look.values.get("generation")) for look in looks
    ]
    assert said == [
        (f"waiting for {paths.root}: there is no such folder yet", None, None),
        (f"waiting for {paths.record}: there is none yet", None, None),
        (f"waiting for {paths.record}: the run has begun and is not that far", None, None),
        ("", "running", 1),
        ("", "running", 3),
        ("", "finished", 3),
    ]


def test_a_record_in_trouble_ends_nothing(tmp_path: Path) -> None:
    """One that is torn, gone, or replaced by a folder: the last one read stands meanwhile."""
    paths = RunPaths(tmp_path)
    store.commit(paths, made_up(2))
    whole = paths.record.read_bytes()

    def folder() -> None:
        paths.record.mkdir()

    def mended() -> None:
        paths.record.rmdir()
        store.commit(paths, made_up(3))

    with lock.hold(paths.lock):
        looks = watched(
            paths,
            lambda: paths.record.write_bytes(whole[:5000]),
            lambda: paths.record.unlink(),
            folder,
            mended,
        )
        found = [next(looks) for _ in range(5)]
    assert [look.values["generation"] for look in found] == [2, 2, 2, 2, 3]
    troubles = [look.trouble for look in found]
    assert troubles[0] == troubles[4] == ""
    assert "damaged, truncated" in troubles[1]
    assert troubles[1].endswith("; tried again")
    assert troubles[2] == f"{paths.record} is gone; waiting for it to come back"
    assert "damaged, truncated" in troubles[3]


def test_what_nobody_mends_is_an_error(tmp_path: Path) -> None:
    """A file that is no record, that stays as it is and nobody writes, is not waited for."""
    paths = RunPaths(tmp_path)
    paths.record.write_bytes(b"not a record")
    looks = watched(paths, *[lambda: None] * 40)
    assert next(looks).trouble
    with pytest.raises(RecordError, match="damaged, truncated"):
        list(looks)
    with lock.hold(paths.lock):  # somebody may write it
        looks = watched(paths, *[lambda: None] * 40)
        assert all(next(looks).trouble for _ in range(40))


def test_a_job_in_the_queue_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped run has not ended while its coordinator is in the queue; Slurm is asked rarely."""
    commands = Commands(tmp_path / "slurm")
    monkeypatch.setenv("PATH", commands.search_path)
    paths = RunPaths(tmp_path / "run")
    paths.logs.mkdir(parents=True)
    (paths.logs / "slurm-7.log").touch()
    store.commit(paths, made_up(2))
    name = job_name(paths.root.resolve())
    commands.queue(f"8|PENDING||{name}|Priority")
    looks = list(watched(paths, *[lambda: None] * 3, commands.queue, *[lambda: None] * 20))
    assert looks[0].values["queued_jobs"] == [
        {"job": "8", "state": "PENDING", "reason": "Priority"}
    ]
    assert "job 8 pending" in live.line(looks[0])
    assert looks[-1].values["queued_jobs"] == []
    assert len(commands.calls("squeue")) == 2 < len(looks)


def shown(record: Record, folder: Path, *, width: int, height: int, wants_map: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)

    def whole(look: live.Look) -> RenderableType:
        return render(look.values)

    look = live.Look(record, status_of(record, RunPaths(folder)), "")
    console.print(live.fitted(look, console, whole, wants_map=wants_map))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "height", "wants_map", "has_table", "has_map"),
    [
        (100, 60, False, True, True),
        (100, 18, False, True, False),
        (100, 24, True, False, True),
        (44, 24, True, False, True),
        (20, 24, True, False, False),
        (100, 60, True, True, True),
    ],
)
def test_the_map_is_there_where_it_fits(
    tmp_path: Path, width: int, height: int, wants_map: bool, has_table: bool, has_map: bool
) -> None:
    """All of it within the terminal: no line is longer, and the map is never cut."""
    lines = shown(made_up(), tmp_path, width=width, height=height, wants_map=wants_map)
    assert any(one.startswith("coordinator") for one in lines) == has_table
    rows = [one for one in lines if one.rstrip().endswith("|")]
    assert bool(rows) == has_map
    assert len({one.index("|") for one in rows} | {len(one.rstrip()) for one in rows}) in (0, 2)
    assert max(map(len, lines)) <= width
    if has_map or not has_table:
        assert len(lines) < height


def test_nothing_read_yet_is_said(tmp_path: Path) -> None:
    """Before there is a record the view is one line."""
    console = Console(file=io.StringIO(), width=80)
    drawn = live.fitted(
        live.Look(None, {}, "waiting"), console, lambda look: Text(), wants_map=True
    )
    assert str(drawn) == "waiting; Ctrl-C ends it"


@pytest.mark.slow
def test_on_a_real_terminal(tmp_path: Path) -> None:
    """It waits, draws, and on Ctrl-C leaves the terminal as it was, with the signal's exit code."""
    paths = RunPaths(tmp_path / "run")
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "llmatic_hpc", "status", str(paths.root), "--watch"]
    size = {"TERM": "xterm", "COLUMNS": "200", "LINES": "50"}
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **size}
    )
    os.close(theirs)
    text = ""

    def until(wanted: str) -> None:
        nonlocal text
        while wanted not in text:
            text += os.read(ours, 65536).decode()

    until("there is no such folder yet")
    paths.root.mkdir()
    with lock.hold(paths.lock):
        store.commit(paths, made_up(2))
        until("no elite")
        shutil.rmtree(paths.root)
        until("is gone; waiting")
        process.send_signal(signal.SIGINT)
        until("no longer watching")
    assert process.wait(timeout=30) == 128 + signal.SIGINT
    assert "Traceback" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    os.close(ours)

"""A worker for the tests of the dispatcher: does at each candidate what the test says."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from llmatic_hpc.evaluation import worker

from ..slurm.tasks import run_made_up

LOST = {
    "kernel": "line 9: AcceleratorError: CUDA error: an illegal memory access was encountered",
    "launch": "line 9: AcceleratorError: CUDA error: unspecified launch failure",
}
"""Failures after which a process can no longer use its device."""


def run_task(folder: Path) -> int:
    """Each item says what happens to it: see the branches."""
    spec = json.loads((folder / "task.json").read_text())
    results = Path(spec["results"])
    for candidate, attempt, how in spec["items"]:
        with open(results.parent / "evaluated.log", "a") as file:
            file.write(f"{candidate}.{attempt}\n")
        target = results / f"{candidate:05d}.{attempt}.json"
        if how == "die" or (how == "die once" and attempt == 1):
            os._exit(9)
        elif how == "garbage once" and attempt == 1:
            target.write_text("{")
            os._exit(9)
        elif how == "raise":
            raise RuntimeError("no worker could be started")
        elif how == "hand back" and attempt < 6:
            return 75
        elif how == "broken machine" or (how == "broken once" and attempt == 1):
            write(target, candidate, attempt, "infrastructure")
        elif how in LOST or (how == "lost once" and attempt == 1):
            write(target, candidate, attempt, "infrastructure", LOST.get(how, LOST["kernel"]))
        else:
            if how in ("wait", "die late"):
                (results.parent / f"{candidate}.waiting").touch()
                while not (results.parent / "go").exists():
                    time.sleep(0.02)
            if how == "die late":
                os._exit(9)
            write(target, candidate, attempt, "scored")
    return 0


def write(
    target: Path, candidate: int, attempt: int, status: str, failure: str = "disk on fire"
) -> None:
    beside = target.with_suffix(".tmp")
    values = {"candidate": candidate, "attempt": attempt, "status": status, "failure": failure}
    beside.write_text(json.dumps(values))
    os.replace(beside, target)


HELD_BACK = 3


def run_held_back(folder: Path) -> int:
    """A real worker of candidate ``HELD_BACK``, which begins only when RUN/go exists.

    The others' scores are made up: a worker each, whose import of PyTorch takes longest.
    """
    spec = json.loads((folder / "task.json").read_text())
    if all(c["candidate"] != HELD_BACK for c in spec["candidates"]):
        return run_made_up(folder)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    go = Path(spec["results"]).parents[1] / "go"
    while not go.exists():
        time.sleep(0.02)
    return worker.run_task(folder / "task.json")


def tell_device(folder: Path) -> int:
    """Write down which device this task has, and stay until it may go."""
    (folder / "seen").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    while not (folder / "go").exists():
        time.sleep(0.02)
    return 0

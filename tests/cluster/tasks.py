"""A worker for the tests of the dispatcher: does at each candidate what the test says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


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
        elif how == "hand back" and attempt < 6:
            return 75
        elif how == "broken machine" or (how == "broken once" and attempt == 1):
            write(target, candidate, attempt, "infrastructure")
        else:
            if how == "wait":
                (results.parent / f"{candidate}.waiting").touch()
                while not (results.parent / "go").exists():
                    time.sleep(0.02)
            write(target, candidate, attempt, "scored")
    return 0


def write(target: Path, candidate: int, attempt: int, status: str) -> None:
    beside = target.with_suffix(".tmp")
    beside.write_text(json.dumps({"candidate": candidate, "attempt": attempt, "status": status}))
    os.replace(beside, target)

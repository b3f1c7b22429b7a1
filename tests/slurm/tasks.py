"""Tasks of the tests' arrays: no PyTorch, whose import takes longer than all else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


def run_task(folder: Path) -> int:
    """Writes the results of its candidates; with "wait" in its task, when the test says go."""
    spec = json.loads((folder / "task.json").read_text())
    results = Path(spec["results"])
    while spec["wait"] and not (results.parent / "go").exists():
        time.sleep(0.02)
    for candidate, attempt in spec["items"]:
        with open(results.parent / "evaluated.log", "a") as file:
            file.write(f"{candidate}.{attempt}\n")
        target = results / f"{candidate:05d}.{attempt}.json"
        beside = target.with_suffix(".tmp")
        beside.write_text(json.dumps({"candidate": candidate, "attempt": attempt}))
        os.replace(beside, target)
    return 0


def run_made_up(folder: Path) -> int:
    """A worker's task, each candidate with a made-up score."""
    from llmatic_hpc.evaluation.tasks import TaskSpec, write_result
    from llmatic_hpc.types import Outcome, Result

    path = folder / "task.json"
    spec = TaskSpec.from_json(path.read_text(), origin=str(path))
    for item in spec.candidates:
        fitness = (item.training_seed % 1000) / 1000
        outcome = Outcome("scored", fitness=fitness, test_accuracy=fitness, epochs=1)
        result = Result(spec.run_id, item.candidate, item.attempt, item.source_sha256, outcome)
        write_result(Path(spec.results) / f"{item.candidate:05d}.{item.attempt}.json", result)
    return 0

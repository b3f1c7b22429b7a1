"""A node whose driver is of no use: run by test_driver.py, where /dev has a GPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llmatic_hpc.commands import doctor
from llmatic_hpc.config import Config, accelerators, override
from llmatic_hpc.errors import LLMaticError
from llmatic_hpc.evaluation import selftest, worker
from llmatic_hpc.rundir.paths import RunPaths

from ..evaluation.helpers import INITIAL

CONFIG = override(Config(), ["problem.train_images=64", "problem.test_images=32"])


def main(root: Path) -> None:
    """Tell as JSON what doctor and a worker make of it."""
    try:
        found = doctor._gpu(CONFIG, thorough=False).found
    except LLMaticError as error:
        found = str(error)
    # As if this node had been fine before: its candidates have to find out by themselves.
    selftest.once = lambda *_: None  # type: ignore[assignment]
    paths = RunPaths(root)
    candidate = worker.CandidateSpec(0, 1, INITIAL, "0" * 64, training_seed=7, epochs=1)
    spec = worker.TaskSpec(
        "run", str(paths.results), str(paths.checkpoints), CONFIG.problem, CONFIG.training,
        CONFIG.containment, seed=0, threads=1, candidates=(candidate,),
    )  # fmt: skip
    root.mkdir()
    (root / "task.json").write_text(spec.to_json())
    worker.run_task(root / "task.json")
    outcome = json.loads(paths.result(0, 1).read_text())["outcome"]
    told = {key: outcome[key] for key in ("status", "failure", "device")}
    print(json.dumps({"expected": accelerators.expected(), "doctor": found, **told}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

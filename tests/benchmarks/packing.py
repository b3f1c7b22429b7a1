"""Gain of packing candidates into tasks: 100 that do nothing, on two slots.

    python -m tests.benchmarks.packing                   # worker processes on this machine
    python -m tests.benchmarks.packing --backend slurm   # arrays of slurm/testbed, two at once

A candidate that does nothing is the initial network, not trained and judged on 50 images: the
worker imports PyTorch, starts a contained child and reads predictions all the same. Once each
task has one candidate, once 50. Both in one run; the dispatcher, the back end and the workers
are the real ones. Exit code 1 where packing is less than ``--at-least`` times faster.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from llmatic_hpc.cluster import Backend, Dispatcher, LocalBackend, SlurmBackend, Work
from llmatic_hpc.cluster.site import ArrayResources, Environment, Site
from llmatic_hpc.config import ClusterSettings, Config, ProblemSettings, TrainingSettings
from llmatic_hpc.evaluation import data, worker
from llmatic_hpc.evaluation.worker import TASK_FILE
from llmatic_hpc.evaluation.worker import run_folder as run_task
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.types import Result

ROOT = Path(__file__).parents[2]
COUNT, SLOTS = 100, 2
PROBLEM = ProblemSettings(train_images=50, test_images=50)
TRAINING = TrainingSettings(epochs=0, device="cpu")


def back_end(kind: str, settings: ClusterSettings) -> Backend:
    """Two tasks at once."""
    if kind == "local":
        return LocalBackend(run_task, parallelism=SLOTS, time_minutes=60, pause_seconds=0.1)
    site = Site(
        array=ArrayResources(cpus=1, mem="2G"),
        environment=Environment(python=sys.executable, variables=(f"PYTHONPATH={ROOT}",)),
    )
    return SlurmBackend(run_task, settings, site)


def seconds(kind: str, per_task: int, root: Path) -> float:
    """From the first submission to the last result."""
    shape, classes = data.describe(PROBLEM)
    source = image_classification(
        input_shape=shape, classes=classes, settings=PROBLEM
    ).initial_source
    digest = hashlib.sha256(source.encode()).hexdigest()
    settings = ClusterSettings(
        array_parallelism=SLOTS, candidates_per_task=per_task, poll_seconds=0.1
    )
    paths = RunPaths(root)

    def write_task(folder: Path, items: Sequence[tuple[Work, int]]) -> None:
        spec = worker.TaskSpec(
            run_id="run",
            results=str(paths.results),
            checkpoints=str(paths.checkpoints),
            problem=PROBLEM,
            training=TRAINING,
            containment=Config().containment,
            seed=0,
            threads=1,
            candidates=tuple(
                worker.CandidateSpec(
                    candidate=work.candidate,
                    attempt=attempt,
                    source=source,
                    source_sha256=work.source_sha256,
                    training_seed=work.candidate,
                    epochs=0,
                )
                for work, attempt in items
            ),
        )
        (folder / TASK_FILE).write_text(spec.to_json())

    def read_result(path: Path, work: Work) -> Result | None:
        return worker.read_result(
            path, run_id="run", candidate=work.candidate, source_sha256=work.source_sha256
        )

    dispatcher = Dispatcher(
        paths,
        back_end(kind, settings),
        settings,
        name=f"packing-{per_task}",
        parallelism=SLOTS,
        write_task=write_task,
        read_result=read_result,
        wait=threading.Event().wait,
    )
    work = [Work(candidate=n, source_sha256=digest, flops=1e4) for n in range(COUNT)]
    began = time.monotonic()
    done = dispatcher.run(work)
    took = time.monotonic() - began
    statuses = {gathered.result.outcome.status for gathered in done.values()}
    assert (len(done), statuses) == (COUNT, {"scored"}), statuses
    return took


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", choices=("local", "slurm"), default="local")
    parser.add_argument("--at-least", type=float, default=8.0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="llmatic-packing-", ignore_cleanup_errors=True) as root:
        packed = seconds(options.backend, COUNT // SLOTS, Path(root) / "packed")
        print(f"{COUNT} candidates, {COUNT // SLOTS} to a task: {packed:.1f} s", flush=True)
        single = seconds(options.backend, 1, Path(root) / "single")
        print(f"{COUNT} candidates, 1 to a task:  {single:.1f} s")
    print(f"packed is {single / packed:.1f} times faster ({options.backend}, {SLOTS} at once)")
    return 0 if single / packed >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())

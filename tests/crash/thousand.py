"""A thousand candidates where an array has 401 elements at most: split, gathered, once each.

    slurm/testbed/up.sh
    python -m tests.crash.thousand            # a run whose elements do not train: minutes
    python -m tests.crash.thousand --real     # a run of llmatic that evaluates them: half an hour

Prints what happened and 'passed' or 'FAILED'; exit code 1 for the latter.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from llmatic_hpc import store
from llmatic_hpc.cluster import SlurmBackend
from llmatic_hpc.config import load
from llmatic_hpc.coordinator.loop import Coordinator
from llmatic_hpc.report.progress import observer
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.types import Result

from ..slurm.arrays import SITE as ARRAYS
from ..slurm.arrays import submissions
from ..slurm.bed import Bed, Slurm
from ..slurm.tasks import run_made_up
from .slurm_faults import ROOT, SITE, llmatic

COUNT, MAX_ARRAY = 1000, 401

CONFIG = """\
extends = "{root}/configs/smoke.toml"
[search]
generations = 1
batch = {count}
start_elites = 4
[problem]
train_images = 100
test_images = 100
[cluster]
kind = "slurm"
candidates_per_task = {each}
"""


class MadeUp(Coordinator):
    """Everything real but the training."""

    sizes: dict[str, int]

    def _on_result(self, result: Result) -> None:
        self.sizes = sizes(self.paths)


def made_up_run(folder: Path) -> dict[str, int]:
    """A whole run in this process, its elements without PyTorch; verified."""
    folder.mkdir()
    config = folder / "config.toml"
    config.write_text(CONFIG.format(root=ROOT, count=COUNT, each=1))
    paths = RunPaths(folder / "run")
    with observer(1) as watch:
        settings = load(config)
        backend = SlurmBackend(run_made_up, settings.cluster, ARRAYS)
        coordinator = MadeUp(settings, paths, watch, threading.Event(), backend=backend)
        record = coordinator.run()
    assert list(store.verify(record)) == []
    assert record.rows == COUNT
    table = record.candidates
    assert b"infrastructure" not in table["status"]
    assert b"pending" not in table["status"]
    assert table["attempts"].max() == 1, "evaluated twice"
    return coordinator.sizes


def real_run(folder: Path, each: int) -> dict[str, int]:
    """A run by the command line, its coordinator a job."""
    folder.mkdir()
    config, site, run = folder / "config.toml", folder / "site.toml", folder / "run"
    config.write_text(CONFIG.format(root=ROOT, count=COUNT, each=each))
    site.write_text(SITE.format(root=ROOT, python=sys.executable, path=ROOT))
    job = llmatic("submit", config, run, "--site", site).stdout.strip()
    slurm = Slurm()
    found: dict[str, int] = {}

    def ended() -> bool:
        if RunPaths(run).journal.exists():
            found.update(sizes(RunPaths(run)))
        return slurm.state(job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")

    slurm.wait_until(ended, "the run's end", seconds=5400)
    assert slurm.state(job) == "COMPLETED", (run / "logs" / f"slurm-{job}.log").read_text()[-2000:]
    verified = json.loads(llmatic("verify", run, "--json").stdout)
    assert (verified["ok"], verified["candidates"]) == (True, COUNT)
    table = store.load(RunPaths(run).record).candidates
    assert b"infrastructure" not in table["status"]
    assert table["attempts"].max() == 1, "evaluated twice"
    return found


def sizes(paths: RunPaths) -> dict[str, int]:
    """Elements of each array, by its job."""
    return {
        next(iter(jobs.values())).split("_")[0]: len(jobs) for jobs in submissions(paths) if jobs
    }


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--real", action="store_true", help="with PyTorch, through llmatic submit")
    parser.add_argument("--each", type=int, default=1, help="candidates of an element, if real")
    options = parser.parse_args(arguments)
    bed = Bed()
    bed.up(SLURM_TB_MAX_ARRAY=str(MAX_ARRAY))
    bed.kill("slurmctld", signal.SIGTERM)  # it reads MaxArraySize at its start only
    bed.up(SLURM_TB_MAX_ARRAY=str(MAX_ARRAY))
    folder = Path(tempfile.mkdtemp(prefix="llmatic-thousand-"))
    began = time.monotonic()
    try:
        if options.real:
            found = real_run(folder / "real", options.each)
        else:
            found = made_up_run(folder / "run")
        assert len(found) > 1, found
        assert max(found.values()) <= MAX_ARRAY, found
    except AssertionError as error:
        print(f"FAILED after {time.monotonic() - began:.0f} s: {error}; see {folder}")
        return 1
    finally:
        bed.up()
        bed.kill("slurmctld", signal.SIGTERM)
        bed.mend()
    print(f"{COUNT} candidates in {time.monotonic() - began:.0f} s, elements of arrays: {found}")
    print("passed")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A dispatcher on arrays of the test bed, with tasks that do next to nothing."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from llmatic_hpc.cluster import Dispatcher, SlurmBackend, Work
from llmatic_hpc.cluster.backend import Backend
from llmatic_hpc.cluster.site import ArrayResources, Environment, Site
from llmatic_hpc.config import ClusterSettings
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.types import Outcome, Result

from .tasks import run_task

ROOT = Path(__file__).parents[2]
SETTINGS = ClusterSettings(
    kind="slurm", candidates_per_task=1, poll_seconds=0.1, absence_seconds=5.0
)
SITE = Site(
    array=ArrayResources(cpus=1, mem="500M", time="10"),
    environment=Environment(python=sys.executable, variables=(f"PYTHONPATH={ROOT}",)),
)


def back_end(site: Site = SITE, settings: ClusterSettings = SETTINGS) -> SlurmBackend:
    """Arrays on the test bed."""
    return SlurmBackend(run_task, settings, site)


def dispatcher(
    paths: RunPaths,
    name: str,
    *,
    backend: Backend | None = None,
    settings: ClusterSettings = SETTINGS,
    stop: threading.Event | None = None,
    wait: bool = False,
) -> Dispatcher:
    """``wait``: tasks end when the file ``go`` is there."""

    def write_task(folder: Path, items: Sequence[tuple[Work, int]]) -> None:
        pairs = [(work.candidate, attempt) for work, attempt in items]
        spec = {"results": str(paths.results), "items": pairs, "wait": wait}
        (folder / "task.json").write_text(json.dumps(spec))

    def read_result(path: Path, work: Work) -> Result | None:
        try:
            values = json.loads(path.read_text())
        except ValueError:
            return None
        return Result("run", values["candidate"], values["attempt"], "", Outcome("scored"))

    return Dispatcher(
        paths,
        backend or back_end(settings=settings),
        settings,
        name=name,
        parallelism=1,
        write_task=write_task,
        read_result=read_result,
        wait=(stop or threading.Event()).wait,
    )


def work(count: int) -> list[Work]:
    """Candidates 0 to ``count`` - 1."""
    return [Work(candidate=n, source_sha256="", flops=1.0) for n in range(count)]


def evaluated(paths: RunPaths) -> list[str]:
    """CANDIDATE.ATTEMPT of each evaluation that was started."""
    log = paths.generation / "evaluated.log"
    return log.read_text().split() if log.exists() else []


def submissions(paths: RunPaths) -> list[dict[str, str]]:
    """The job of each task, submission by submission, as the journal has it."""
    events = [json.loads(line) for line in paths.journal.read_text().splitlines()]
    return [event["jobs"] for event in events if event["event"] == "submitted"]

"""Coordinators of a study as Slurm jobs: a job a run, so many of them at once.

Each waits for the end of the job that many places before it. An array of coordinators with a
throttle would take up what comes next a little sooner, but its elements share one name, and a run's
job is found by its name: by ``llmatic cancel`` and ``status``, by the next ``--submit``, and by
Slurm itself, which runs one job of a name at a time. Neither way holds a node while it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...cluster import launch, scheduler
from ...cluster.site import Site
from ...errors import ClusterError
from ...rundir import lock
from ...rundir.paths import RunPaths, StudyPaths
from .running import write_config
from .standing import Standing, due


def queued_jobs(found: Sequence[Standing]) -> dict[RunPaths, str]:
    """Return the jobs in the queue by their runs.

    Raises :class:`ClusterError` where squeue does not answer: a job might be there twice.
    """
    queue = scheduler.queue()
    if queue is None:
        raise ClusterError(
            "squeue does not answer, so what is queued already is not known. Nothing was "
            "submitted; submit from a login node of a cluster, or run the study here, without "
            "--submit"
        )
    by_name = {job.name: job.job for job in queue.values() if not job.is_leaving}
    names = {one.paths: launch.job_name(one.paths.root.resolve()) for one in found}
    return {paths: by_name[name] for paths, name in names.items() if name in by_name}


def submit_server(paths: StudyPaths, site: Site, site_file: Path | None) -> str:
    """Return the job of the study's server, submitted unless it is in the queue."""
    if running := launch.running_server(paths.root):
        return running
    planned = launch.plan_server(paths.server_config, paths.root, site, site_file=site_file)
    return launch.submit(planned, paths.root)


def submit(
    found: Sequence[Standing],
    paths: StudyPaths,
    *,
    at_once: int,
    site: Site,
    site_file: Path | None,
    tell: Callable[[str], None],
    server: str = "",
) -> tuple[int, int]:
    """Submit every run that is neither finished, nor in the queue, nor held by a coordinator.

    None begins before the job ``server``, if there is one. Returns how many were submitted, and how
    many were on their way already. Raises :class:`ClusterError` where sbatch refuses; what was
    submitted before stays so, and the same command submits the rest.
    """
    wanted = due(found)
    known = queued_jobs(wanted)
    jobs = list(known.values())
    submitted = 0
    for one in wanted:
        if one.paths in known or lock.holder(one.paths.lock) is not None:
            continue
        file = paths.config(one.run.name, one.run.seed)
        write_config(file, one.run.config)
        after = f",afterany:{jobs[-at_once]}" if len(jobs) >= at_once else ""
        planned = launch.plan(
            file, one.paths.root, site, site_file=site_file,
            more=(f"--dependency=singleton{f',after:{server}' * bool(server)}{after}",),
        )  # fmt: skip
        jobs.append(launch.submit(planned, one.paths.root))
        submitted += 1
        tell(f"{one.run.title}: job {jobs[-1]}{after.replace(',afterany:', ', after job ')}")
    return submitted, len(wanted) - submitted

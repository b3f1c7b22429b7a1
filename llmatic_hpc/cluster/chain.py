"""A coordinator that leaves while its array trains, and comes back as a new job.

Its successor is the same job again, submitted with ``--dependency=afterany:ARRAY,singleton``: it
starts when the last element has ended, however it ended, and goes through the same door as after
a preemption. slurm/launch.sh makes a folder for the two of them, LLMATIC_HANDOVER: ``arguments``
(its own, each ended by a NUL) to submit again, ``successor`` (a job id) as the sign that the job
needs no requeue.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import ClusterError
from ..rundir.paths import RunPaths
from . import launch, scheduler
from .site import Resources, Site, site_of_job

ARGUMENTS, SUCCESSOR = "arguments", "successor"


def hand_over(jobs: Iterable[str], paths: RunPaths, environ: Mapping[str, str] = os.environ) -> str:
    """Make sure that a job continues the run when ``jobs`` have ended; returns its id.

    Raises :class:`ClusterError` where this is no job of slurm/launch.sh or Slurm refuses: then
    the coordinator has to stay.
    """
    folder, own = environ.get("LLMATIC_HANDOVER", ""), environ.get("SLURM_JOB_ID", "")
    arrays = sorted({job.split("_")[0] for job in jobs if job}, key=int)
    if not folder or not own or not arrays:
        raise ClusterError(
            "cluster.chain: this coordinator is no job of slurm/launch.sh, or has no array to wait "
            "for; it stays and waits for the results itself"
        )
    arguments = (Path(folder) / ARGUMENTS).read_text().rstrip("\0").split("\0")
    shown = scheduler.answer("scontrol", "--oneliner", "show", "job", own) or ""
    name = _field(shown, "JobName") or environ.get("SLURM_JOB_NAME", "")
    after = f"afterany:{':'.join(arrays)},singleton"
    # A name given by hand may be another run's, too.
    ours = name if name == launch.job_name(paths.root.resolve()) else ""
    job = _waiting(successor_of(paths), own, ours, after)
    if not job:
        config, run, *options = arguments
        site, file = site_of_job(environ)
        if file is None:
            site = Site(coordinator=resources_of(shown))
        more = [f"--dependency={after}"]
        # Where the log of a job goes is known by its own: the successor's differs in the number.
        log_file = Path(_field(shown, "StdOut").replace("%", "%%"))
        if log_file.name:
            more.append(f"--output={log_file.with_name(log_file.name.replace(own, '%j'))}")
        submission = launch.plan(
            Path(config), Path(run), site,
            site_file=file, options=options, environ=environ, name=name, more=more,
        )  # fmt: skip
        job = launch.submit(submission, Path(run), environ=environ)
    paths.successor.write_text(job)
    (Path(folder) / SUCCESSOR).write_text(job)
    return job


def successor_of(paths: RunPaths) -> str:
    """Return the job that a chained coordinator left behind; empty if there is none."""
    try:
        return paths.successor.read_text().strip()
    except OSError:
        return ""


def _waiting(previous: str, own: str, ours: str, after: str) -> str:
    """Tell a successor that an earlier start left behind to wait for ``after``; return its id."""
    for queued in (scheduler.queue() or {}).values():
        known = queued.job == previous or (ours and queued.name == ours)
        if known and queued.job != own and queued.is_waiting:
            update = ("scontrol", "update", f"jobid={queued.job}", f"dependency={after}")
            if scheduler.answer(*update) is not None:
                return queued.job
    return ""


def resources_of(shown: str) -> Resources:
    """Read what a job asked for from the line that ``scontrol --oneliner show job`` prints."""
    memory, per_cpu = _field(shown, "MinMemoryNode"), _field(shown, "MinMemoryCPU")
    cpus = _field(shown, "CPUs/Task")
    return Resources(
        partition=_field(shown, "Partition"),
        account=_field(shown, "Account"),
        qos=_field(shown, "QOS"),
        gres=_field(shown, "TresPerNode").removeprefix("gres:"),
        constraint=_field(shown, "Features"),
        time=_field(shown, "TimeLimit"),
        cpus=int(cpus) if cpus.isdecimal() else 0,
        mem=memory,
        exclude=_field(shown, "ExcNodeList"),
        extra=(f"--mem-per-cpu={per_cpu}",) if per_cpu and not memory else (),
    )


def _field(shown: str, name: str) -> str:
    """Return a field of scontrol's answer; empty where it stands for nothing."""
    found = re.search(rf"(?:^|\s){re.escape(name)}=(\S*)", shown)
    value = found[1] if found else ""
    return "" if value in ("(null)", "N/A", "UNLIMITED", "0", "n/a") else value

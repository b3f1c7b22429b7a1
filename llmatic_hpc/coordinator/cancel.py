"""Stop a run from outside: its coordinator first, then workers that have none.

The coordinator goes first, because it would take its workers' end for a failure and start them
again. Jobs of Slurm are found by what they are called: an array by the run it belongs to, a
coordinator by the run directory (:func:`~.cluster.launch.job_name`), and, where it was submitted
by hand, by the lock that it holds or the hint that a chained one left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

from .. import store
from ..cluster import scheduler, stop_orphans, submission_prefix
from ..cluster.backend import wait_until
from ..cluster.chain import successor_of
from ..cluster.launch import job_name, server_name
from ..cluster.scheduler import Queued
from ..errors import LLMaticError
from ..rundir import lock
from ..rundir.paths import RunPaths

PAUSE_SECONDS = 0.1
QUEUE_SECONDS = 1.0


def cancel(paths: RunPaths, *, wait_seconds: float) -> str:
    """Ask the coordinator and all workers to save and leave; returns what was done, in words.

    Raises :class:`LLMaticError` when the coordinator runs on another machine or as somebody
    else's job (the message says how to end it), or does not end within ``wait_seconds``.
    """
    who = lock.holder(paths.lock)
    done = []
    if uses_slurm(paths, who):
        done += _cancel_jobs(paths, who, wait_seconds)
        who = lock.holder(paths.lock)
    if who is not None:
        if job := who.get("slurm_job"):
            raise LLMaticError(
                f"{paths.root}: held by {lock.describe(who)}, which is not among your jobs here. "
                f"End it, which saves first, on its own cluster: scancel {job}"
            )
        if who.get("host") != socket.gethostname():
            how = f"run this command on {who.get('host')}"
            raise LLMaticError(f"{paths.root}: held by {lock.describe(who)}: {how}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(who["pid"]), signal.SIGTERM)
        if not wait_until(lambda: lock.holder(paths.lock) is None, wait_seconds, PAUSE_SECONDS):
            raise LLMaticError(
                f"{paths.root}: asked process {who['pid']} to stop, but it has not ended within "
                f"{wait_seconds:.0f} s. It ends once its present step is done (a batch of "
                "sampling can take minutes); or run the command again with a longer --wait"
            )
        done.append(f"coordinator {who['pid']} has stopped")
        if uses_slurm(paths, who):  # its arrays go on without it
            done += _cancel_jobs(paths, None, wait_seconds)
    if orphans := stop_orphans(paths.generation):
        if not wait_until(lambda: stop_orphans(paths.generation) == 0, wait_seconds, PAUSE_SECONDS):
            raise LLMaticError(
                f"{paths.root}: workers are still running after {wait_seconds:.0f} s"
            )
        done.append(f"{orphans} workers without a coordinator have stopped")
    if not done:
        return f"{paths.root}: nothing was running"
    return f"{paths.root}: {' and '.join(done)}; everything is saved, 'llmatic run' continues it"


def uses_slurm(paths: RunPaths, who: Mapping[str, Any] | None) -> bool:
    """Return whether jobs of the run may be in a queue, as one that waits for its first start."""
    arrays = any(at.submissions.exists() for at in paths.at_rungs())
    if (who and who.get("slurm_job")) or arrays or paths.successor.exists():
        return True
    names = (job_name(paths.root.resolve()), server_name(paths.root.resolve()))
    queue = scheduler.queue()
    if queue is None:  # one that waits for its start might be there; a process needs no queue
        return who is None and shutil.which("squeue") is not None
    return any(queued.name in names for queued in queue.values())


def _cancel_jobs(paths: RunPaths, who: Mapping[str, Any] | None, wait_seconds: float) -> list[str]:
    """End the run's jobs: coordinators, and once they are gone its arrays."""
    known = {str(who.get("slurm_job", "")) if who else "", successor_of(paths)}
    name = job_name(paths.root.resolve())
    done = []
    if ended := _end(paths, lambda q: q.name == name or q.job in known, wait_seconds):
        done.append(f"coordinator job {', '.join(ended)} has ended")
    server = server_name(paths.root.resolve())
    if ended := _end(paths, lambda q: q.name == server, wait_seconds):
        done.append(f"server job {', '.join(ended)} has ended")
    # A local coordinator would submit again what is ended here: it goes first, by its process.
    arrays_too = who is None or bool(who.get("slurm_job"))
    if arrays_too and paths.record.exists():
        prefix = submission_prefix(store.load(paths.record).run_id)
        if ended := _end(paths, lambda q: q.name.startswith(prefix), wait_seconds):
            count = f"{len(ended)} array {'element' if len(ended) == 1 else 'elements'}"
            done.append(f"{count} ({', '.join(sorted({j.split('_')[0] for j in ended}))}) ended")
    return done


def _end(paths: RunPaths, is_ours: Callable[[Queued], bool], wait_seconds: float) -> list[str]:
    """Cancel the jobs in the queue that are ours and wait until they have left it."""

    def present() -> list[Queued]:
        queue = scheduler.queue()
        if queue is None:
            raise LLMaticError(
                f"{paths.root}: squeue does not answer, so its jobs cannot be found; run the "
                "command again when it does"
            )
        return [queued for queued in queue.values() if is_ours(queued)]

    jobs = [queued.job for queued in present() if not queued.is_leaving]
    scheduler.cancel(jobs)
    # One that is leaving may still be saving.
    if not wait_until(lambda: not present(), wait_seconds, QUEUE_SECONDS):
        raise LLMaticError(
            f"{paths.root}: jobs {', '.join(q.job for q in present()[:5])} are still there after "
            f"{wait_seconds:.0f} s: run the command again with a longer --wait, or look at them "
            "with 'squeue --me'"
        )
    return jobs

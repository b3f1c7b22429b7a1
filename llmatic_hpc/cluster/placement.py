"""Choice of the back end and of the sizes of tasks by a run's settings, and their packing."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..config import ClusterSettings, Config, accelerators
from .backend import Backend, Work
from .local import InlineBackend, LocalBackend
from .site import site_of_job
from .slurm import SlurmBackend

LOCAL_MINUTES = 24 * 60

FIXED_COST_FLOPS = 2e6
"""Cost of a candidate beside its own arithmetic, in FLOPs: loading, forking, scoring."""


def kind_of(cluster: ClusterSettings) -> str:
    """Return ``cluster.kind``; for ``auto`` it is slurm inside a Slurm job, else local."""
    if cluster.kind == "auto":
        return "slurm" if os.environ.get("SLURM_JOB_ID") else "local"
    return cluster.kind


def back_end(config: Config, run_task: Callable[[Path], int]) -> Backend:
    """Make the back end of ``cluster.kind``, whose tasks run ``run_task`` on their folder.

    Raises :class:`ConfigError` for a bad site file.
    """
    cluster, kind = config.cluster, kind_of(config.cluster)
    if kind == "slurm":
        site, file = site_of_job()
        return SlurmBackend(run_task, cluster, site, site_file=file)
    if kind == "inline":
        return InlineBackend(run_task)
    return LocalBackend(
        run_task,
        parallelism=tasks_at_once(config),
        time_minutes=cluster.time_minutes or LOCAL_MINUTES,
        pause_seconds=cluster.poll_seconds,
    )


def tasks_at_once(config: Config) -> int:
    """Return how many tasks run at once on this machine."""
    if kind_of(config.cluster) == "inline":
        return 1
    on_cpu = config.training.device == "cpu" or not accelerators.expected()
    gpus = 0 if on_cpu else len(accelerators.visible())
    return config.cluster.array_parallelism or gpus or available_cores()


def threads_per_task(config: Config) -> int:
    """Return the CPU threads of a task; 0: the cores that it finds itself given."""
    if config.training.threads or kind_of(config.cluster) == "slurm":
        return config.training.threads
    return max(1, available_cores() // tasks_at_once(config))


def packing(config: Config, train_seconds: float) -> ClusterSettings:
    """Return the cluster's settings with a definite ``candidates_per_task``.

    ``target_task_minutes`` goes by ``train_seconds``, a candidate's training time; while that is
    0, not known yet, and without it, an element of an array has one candidate.
    """
    cluster = config.cluster
    if cluster.candidates_per_task:
        return cluster
    if cluster.target_task_minutes and train_seconds > 0:
        side_by_side = cluster.workers_per_task
        fit = int(60 * cluster.target_task_minutes / train_seconds * side_by_side)
        return replace(cluster, candidates_per_task=max(side_by_side, fit))
    if kind_of(cluster) == "slurm":
        return replace(cluster, candidates_per_task=cluster.workers_per_task)
    return cluster


def available_cores() -> int:
    """Count the cores that this process may use: in a job or container not all."""
    return len(os.sched_getaffinity(0))


def task_count(items: int, *, parallelism: int, per_task: int) -> int:
    """Return how many tasks ``items`` candidates make; ``per_task`` 0 spreads them evenly."""
    return -(-items // per_task) if per_task else min(parallelism, items)


def pack(work: Sequence[Work], tasks: int, *, most: int = 0) -> list[list[Work]]:
    """Pack balanced tasks by longest processing time first.

    ``most``: candidates of a task at most; 0: any number. ``tasks`` must be enough for it.

    R. L. Graham, Bounds on multiprocessing timing anomalies (1969): at most 4/3 of the
    optimum's length. Ties keep the order of the candidates.
    """
    loads = [(0.0, 0, number) for number in range(tasks)]
    packed: list[list[Work]] = [[] for _ in range(tasks)]
    for item in sorted(work, key=lambda w: (-w.flops, w.candidate)):
        load, count, number = heapq.heappop(loads)
        packed[number].append(item)
        if count + 1 != most:
            heapq.heappush(loads, (load + item.flops + FIXED_COST_FLOPS, count + 1, number))
    return [items for items in packed if items]

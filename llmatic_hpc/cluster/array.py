"""Resources and script of a job array of candidates. No decisions, no state."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import clean_env
from submitit.slurm.slurm import _make_sbatch_string

from ..config import ClusterSettings
from ..errors import ClusterError
from ..rundir.paths import RunPaths
from . import refusals, scheduler
from .site import ArrayResources, Site, minutes

DEFAULT_MINUTES = 60
WARNING_SECONDS = 120
"""An element gets USR2 so long before its time limit: it saves and hands back."""

# What the coordinator's own job has for itself. Slurm sets it anew for an element.
_OWN = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "OMP_NUM_THREADS",
        "LLMATIC_SETUP", "LLMATIC_HANDOVER")  # fmt: skip


@dataclass(frozen=True)
class Array:
    """Settings of a run's arrays: the site's, where the run's own do not say otherwise."""

    resources: ArrayResources
    minutes: int
    at_once: int
    """Elements that run at once; 0: as many as the cluster has room for."""
    site_file: Path | None = None

    def explain(self, said: str) -> str:
        """Say what to change, after sbatch refused an array with ``said``."""
        key, help_ = refusals.advice(said)
        if not key:
            return f"sbatch refused an array: {said}"
        file = self.site_file or "a site file (llmatic submit --site, or LLMATIC_SITE)"
        where = f"array.{key} in {file}"
        by_setting = f"cluster.{key}, or " if key in _SETTINGS else ""
        return (
            f"sbatch refused an array: {said}. Change {by_setting}{where}; {help_}. Nothing is "
            "lost: the same command continues the run"
        )


_SETTINGS = ("partition", "account", "qos", "gres")


def array_of(cluster: ClusterSettings, site: Site, site_file: Path | None = None) -> Array:
    """Combine the run's settings with the site's; the run's own win."""
    own = {name: value for name in _SETTINGS if (value := getattr(cluster, name))}
    if "gres" in own:
        own["gpus_per_task"] = ""
    resources = dataclasses.replace(site.array, **own)
    limit = cluster.time_minutes or (minutes(resources.time) if resources.time else DEFAULT_MINUTES)
    return Array(resources, limit, cluster.array_parallelism, site_file)


def parameters(array: Array, site: Site, token: str, *, time_factor: int,
               exclude: Sequence[str]) -> dict[str, Any]:  # fmt: skip
    """Return submitit's parameters for an array of the name ``token``."""
    limit = array.minutes * time_factor
    more: dict[str, Any] = {
        # To the batch shell: without srun there is no step to signal.
        "signal": f"B:USR2@{min(WARNING_SECONDS, 60 * limit // 4)}",
        "requeue": True,
        **array.resources.parameters(),
    }
    more.pop("time", None)
    if exclude:
        more["exclude"] = ",".join(filter(None, [str(more.get("exclude", "")), *exclude]))
    return {
        "job_name": token,
        "time": limit,
        "use_srun": False,
        "stderr_to_stdout": True,
        "setup": site.environment.lines(),
        "array_parallelism": array.at_once or sys.maxsize,
        "additional_parameters": more,
    }


@contextlib.contextmanager
def make_executor(
    folder: Path,
    site: Site,
    array: Array,
    token: str,
    time_factor: int,
    exclude: Sequence[str],
) -> Iterator[submitit.SlurmExecutor]:
    """Hold submitit's executor, in an environment from which arrays can be submitted.

    Inside a job, variables that describe that job would be taken for the array's. What says
    where the cluster is stays (submitit's clean_env takes it, too).
    """
    kept = {name: os.environ[name] for name in scheduler.WHERE if name in os.environ}
    with clean_env(extra_names=_OWN):
        os.environ.update(kept)
        try:
            executor = submitit.SlurmExecutor(folder, python=_python(site))
        except RuntimeError as error:
            raise ClusterError(f"submitit finds no Slurm here: {error}") from None
        executor.update_parameters(
            **parameters(array, site, token, time_factor=time_factor, exclude=exclude)
        )
        yield executor


def script(array: Array, site: Site, elements: int, token: str) -> str:
    """Return the script of an array of the run in ``RUN``, as submitit writes it.

    By submitit's own function: its executor, which is public, wants a Slurm to be there.
    """
    folder = submission_folder(RunPaths(Path("/RUN")).tasks / "task", token)
    text: str = _make_sbatch_string(
        command=f"{_python(site)} -u -m submitit.core._submit {folder}",
        folder=folder,
        map_count=elements if elements > 1 else None,
        **parameters(array, site, token, time_factor=1, exclude=()),
    )
    return text.replace("/RUN/", "RUN/")


def _python(site: Site) -> str:
    """Return the command that turns the batch shell into Python, which then gets its signals."""
    return f"exec {shlex.quote(site.environment.python or sys.executable)}"


def submission_folder(task: Path, token: str) -> Path:
    """Return where submitit keeps its files of a submission, one of whose tasks is in ``task``."""
    return RunPaths(task.parents[2]).submissions / token

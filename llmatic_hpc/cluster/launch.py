"""All that sbatch is given, the coordinator's job and its arrays, and what to say if it refuses.

For the coordinator there is one script, ``slurm/launch.sh``, whether it is submitted by hand or
from here. A site's resources go onto sbatch's command line and its environment into variables
that the script reads, so nothing is rendered from a template.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import clean_env
from submitit.slurm.slurm import _make_sbatch_string

from ..config import ClusterSettings, Config
from ..errors import ClusterError
from ..rundir.paths import RunPaths
from . import refusals, scheduler
from .site import ArrayResources, Resources, Site, minutes

SBATCH_SECONDS = 300.0
"""sbatch itself waits and retries while the controller is busy; longer than this is no answer."""


@dataclass(frozen=True)
class Submission:
    """One call of sbatch."""

    command: tuple[str, ...]
    variables: Mapping[str, str]
    """Additions to its environment; the job inherits them, requeued or not."""
    dropped: tuple[str, ...]
    """Variables that are taken out of its environment."""
    job_name: str
    site_file: Path | None
    section: str = "coordinator"
    """Table of the site file with its resources."""

    def __str__(self) -> str:
        """Return the command as a shell takes it."""
        words = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items()]
        if self.dropped:
            words += ["env", *(f"-u {name}" for name in self.dropped)]
        return " ".join([*words, shlex.join(self.command)])


def launch_script() -> Path:
    """Find ``slurm/launch.sh``; in the package it is a link, in an installation a file."""
    return Path(str(resources.files(__package__) / "launch.sh")).resolve()


def job_name(run: Path) -> str:
    """Name the coordinator's job of the run in a resolved path, unlike that of any other run.

    The script asks for ``--dependency=singleton``, so of one name one job runs at a time.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", run.name)
    return f"llmatic-{readable}-{hashlib.sha256(os.fsencode(run)).hexdigest()[:8]}"


def server_name(run: Path) -> str:
    """Name the job of the server of the run in a resolved path."""
    return f"{job_name(run)}-serve"


def inherited_variables(environ: Iterable[str]) -> tuple[str, ...]:
    """Return the names in ``environ`` that a job submitted from a job must not inherit."""
    prefixes = ("SLURM_", "SLURMD_", "SRUN_")
    return tuple(sorted(n for n in environ if n.startswith(prefixes) and n not in scheduler.WHERE))


def plan(
    config: Path,
    run: Path,
    site: Site,
    *,
    site_file: Path | None = None,
    options: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    name: str = "",
    more: Sequence[str] = (),
) -> Submission:
    """Plan the submission of a run's coordinator; ``options`` are those of ``llmatic run``.

    ``name`` of the job, if it has one already; ``more`` options of sbatch, which come last.
    """
    run = run.resolve()  # one directory, one name, however it is spelt
    name = name or job_name(run)
    # '%' begins a pattern in the names of Slurm's logs.
    log = str(RunPaths(run).logs / "slurm-").replace("%", "%%") + "%j.log"
    variables = {"LLMATIC_PYTHON": site.environment.python or sys.executable}
    if lines := site.environment.lines():
        variables["LLMATIC_SETUP"] = "\n".join(lines)
    if site_file is not None:
        variables["LLMATIC_SITE"] = str(site_file.absolute())
    command = (
        "sbatch",
        "--parsable",
        f"--job-name={name}",
        f"--output={log}",
        "--export=ALL",  # the variables above must arrive, whatever SBATCH_EXPORT says
        *site.coordinator.options(),
        *more,
        str(launch_script()),
        str(config.absolute()),
        str(run),
        *options,
    )
    return Submission(command, variables, inherited_variables(environ), name, site_file)


SERVER_WARNING = "--signal=B:USR1@60"
"""A server has nothing to save: a minute before its limit is early enough to begin elsewhere."""


def plan_server(
    config: Path,
    run: Path,
    site: Site,
    *,
    site_file: Path | None = None,
    options: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Submission:
    """Plan the submission of a server beside a run's coordinator; ``options`` of llmatic serve.

    It is given what the site's ``[serve]`` says; where there is none, what a coordinator is.
    """
    own = site.serve if site.serve != Resources() else site.coordinator
    planned = plan(
        config, run, dataclasses.replace(site, coordinator=own), site_file=site_file,
        options=options, environ=environ, name=server_name(run.resolve()), more=[SERVER_WARNING],
    )  # fmt: skip
    section = "serve" if site.serve != Resources() else "coordinator"
    variables = {**planned.variables, "LLMATIC_SERVE": RunPaths(run.resolve()).server.name}
    return dataclasses.replace(planned, variables=variables, section=section)


def beside_server(submission: Submission, job: str) -> Submission:
    """Return a coordinator's submission that starts after the server's job and ends it at last."""
    command = list(submission.command)
    command.insert(command.index(str(launch_script())), f"--dependency=singleton,after:{job}")
    variables = {**submission.variables, "LLMATIC_SERVER_JOB": job}
    return dataclasses.replace(submission, command=tuple(command), variables=variables)


def running_server(run: Path) -> str:
    """Return the job of the run's server that is in the queue already; empty if there is none.

    Raises :class:`ClusterError` where squeue does not answer: a server might be there twice.
    """
    name = server_name(run.resolve())
    queue = scheduler.queue()
    if queue is None:
        raise ClusterError(
            "squeue does not answer, so it is not known whether the model's server is in the queue "
            "already. Nothing was submitted; the same command, when 'squeue --me' answers again"
        )
    return next((q.job for q in queue.values() if q.name == name and not q.is_leaving), "")


def preview(submission: Submission, config: Config, site: Site) -> str:
    """Show all that would be submitted: command line, script, arrays."""
    file, rule = launch_script(), "-" * 60
    script = file.read_text(encoding="utf-8")
    job = f"# --- command {rule}\n{submission}\n\n# --- {file} {rule}\n{script}\n"
    return job + array_preview(config, site)


def array_preview(config: Config, site: Site) -> str:
    """Show the scripts of a generation's arrays, as the coordinator would submit them."""
    cluster = config.cluster
    if cluster.kind not in ("auto", "slurm"):
        return f"# no arrays: cluster.kind = {cluster.kind!r}, in the coordinator's own job"
    each = cluster.candidates_per_task or cluster.workers_per_task
    elements = -(-config.search.batch // each)
    largest = site.array.max_array_size or scheduler.limits().array_size or elements
    sizes = [largest] * (elements // largest) + [elements % largest] * (elements % largest > 0)
    array = array_of(cluster, site)
    parts = []
    for size in sorted(set(sizes), reverse=True):
        count = sizes.count(size)
        arrays = "1 array" if count == 1 else f"{count} arrays"
        head = f"# --- {arrays} a generation, {size} elements, {each} candidates in each "
        # RUN and TOKEN stand for what is known only when it is submitted.
        parts.append(head + "-" * 12 + "\n" + array.script(size, "TOKEN"))
    return "\n".join(parts)


def submit(
    submission: Submission,
    run: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    seconds: float = SBATCH_SECONDS,
) -> str:
    """Call sbatch and return the job id.

    Raises :class:`ClusterError`, which says what to change, when there is no sbatch, when it
    refuses, or when it does not answer within ``seconds``.
    """
    logs = RunPaths(run).logs
    try:
        logs.mkdir(parents=True, exist_ok=True)  # Slurm does not make the folder of a log
    except OSError as error:
        raise ClusterError(f"{logs}: cannot be made: {error.strerror}") from error
    kept = {n: v for n, v in environ.items() if n not in submission.dropped}
    try:
        done = subprocess.run(
            submission.command,
            env=kept | dict(submission.variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except FileNotFoundError:
        raise ClusterError(
            "sbatch: there is no such command here. Submit from a login node of the cluster (or "
            "load its Slurm module first). Without a cluster: 'llmatic run' searches on this "
            "machine, and slurm/testbed/up.sh makes a small Slurm of it"
        ) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(_unsure(submission, f"no answer for {seconds:.0f} s")) from None
    if done.returncode:
        raise ClusterError(explain(done.stderr, submission))
    job = done.stdout.strip().split(";")[0]  # ID, or ID;CLUSTER
    if not job.isdecimal():
        raise ClusterError(_unsure(submission, f"expected a job id, got {done.stdout.strip()!r}"))
    return job


def explain(stderr: str, submission: Submission) -> str:
    """Say what to change, after sbatch failed with ``stderr``."""
    said = refusals.sentence(stderr)
    if refusals.is_unsure(said):
        return _unsure(submission, said)
    key, help_ = refusals.advice(said)
    if not key:
        return f"sbatch refused: {said}. It was called as: {submission}"
    if submission.site_file is None:
        place = f"Set {submission.section}.{key} in a site file and name it with --site"
    else:
        option = f"--{'cpus-per-task' if key == 'cpus' else key}="
        given = (word for word in submission.command if word.startswith(option))
        now = next((f" (now {word.removeprefix(option)})" for word in given), "")
        place = f"Change {submission.section}.{key}{now} in {submission.site_file}"
    return f"sbatch refused: {said}. {place}; {help_}"


def _unsure(submission: Submission, said: str) -> str:
    """Say what to do where sbatch failed after the controller may have taken the job."""
    return (
        f"sbatch: {said}. The job may have been accepted all the same: look with 'squeue --me "
        f"--name={submission.job_name}', and submit again if it is not there. Twice does no harm: "
        "of jobs with one name, one runs at a time"
    )


# --- arrays of candidates ------------------------------------------------------------------------

DEFAULT_MINUTES = 60
WARNING_SECONDS = 120
"""An element gets USR2 so long before its time limit: it saves and hands back."""

# What the coordinator's own job has for itself. Slurm sets it anew for an element.
_OWN = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "OMP_NUM_THREADS",
        "LLMATIC_SETUP", "LLMATIC_HANDOVER")  # fmt: skip


@dataclass(frozen=True)
class Array:
    """Arrays of a run on a site: the site's settings, where the run's own do not differ."""

    site: Site
    resources: ArrayResources
    minutes: int
    at_once: int
    """Elements that run at once; 0: as many as the cluster has room for."""
    site_file: Path | None = None

    def parameters(
        self, token: str, *, time_factor: int = 1, exclude: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return submitit's parameters for an array of the name ``token``."""
        limit = self.minutes * time_factor
        more: dict[str, Any] = {
            # To the batch shell: without srun there is no step to signal.
            "signal": f"B:USR2@{min(WARNING_SECONDS, 60 * limit // 4)}",
            "requeue": True,
            **self.resources.parameters(),
        }
        more.pop("time", None)
        if exclude:
            more["exclude"] = ",".join(filter(None, [str(more.get("exclude", "")), *exclude]))
        return {
            "job_name": token,
            "time": limit,
            "use_srun": False,
            "stderr_to_stdout": True,
            "setup": self.site.environment.lines(),
            "array_parallelism": self.at_once or sys.maxsize,
            "additional_parameters": more,
        }

    @contextlib.contextmanager
    def executor(self, folder: Path, **parameters: Any) -> Iterator[submitit.SlurmExecutor]:
        """Hold submitit's executor, in an environment from which arrays can be submitted.

        Inside a job, variables that describe that job would be taken for the array's. What says
        where the cluster is stays (submitit's clean_env takes it, too).
        """
        kept = {name: os.environ[name] for name in scheduler.WHERE if name in os.environ}
        with clean_env(extra_names=_OWN):
            os.environ.update(kept)
            try:
                executor = submitit.SlurmExecutor(folder, python=self._python)
            except RuntimeError as error:
                raise ClusterError(f"submitit finds no Slurm here: {error}") from None
            executor.update_parameters(**parameters)
            yield executor

    def script(self, elements: int, token: str) -> str:
        """Return the script of an array of the run in ``RUN``, as submitit writes it.

        By submitit's own function: its executor, which is public, wants a Slurm to be there.
        """
        folder = submission_folder(RunPaths(Path("/RUN")).tasks / "task", token)
        text: str = _make_sbatch_string(
            command=f"{self._python} -u -m submitit.core._submit {folder}",
            folder=folder,
            map_count=elements if elements > 1 else None,
            **self.parameters(token),
        )
        return text.replace("/RUN/", "RUN/")

    @property
    def _python(self) -> str:
        """Command that turns the batch shell into Python, which then gets its signals."""
        return f"exec {shlex.quote(self.site.environment.python or sys.executable)}"

    def explain(self, said: str) -> str:
        """Say what to change, after sbatch refused an array with ``said``."""
        key, help_ = refusals.advice(said)
        if not key:
            return f"sbatch refused an array: {said}"
        file = self.site_file or "a site file (llmatic submit --site, or LLMATIC_SITE)"
        by_setting = f"cluster.{key}, or " if key in _SETTINGS else ""
        return (
            f"sbatch refused an array: {said}. Change {by_setting}array.{key} in {file}; {help_}. "
            "Nothing is lost: the same command continues the run"
        )


_SETTINGS = ("partition", "account", "qos", "gres")


def array_of(cluster: ClusterSettings, site: Site, site_file: Path | None = None) -> Array:
    """Combine the run's settings with the site's; the run's own win."""
    own = {name: value for name in _SETTINGS if (value := getattr(cluster, name))}
    if "gres" in own:
        own["gpus_per_task"] = ""
    resources = dataclasses.replace(site.array, **own)
    limit = cluster.time_minutes or (minutes(resources.time) if resources.time else DEFAULT_MINUTES)
    return Array(site, resources, limit, cluster.array_parallelism, site_file)


def submission_folder(task: Path, token: str) -> Path:
    """Return where submitit keeps its files of a submission, one of whose tasks is in ``task``."""
    return RunPaths.submission(task, token)

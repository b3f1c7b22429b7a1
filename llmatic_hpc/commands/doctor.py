"""Check beforehand what a run needs of this machine, and say what to do about each fault."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .. import problems
from ..cluster import scheduler, site_of_job
from ..config import Config, GeneratorSettings
from ..coordinator import environment
from ..errors import DataError, LLMaticError
from ..evaluation import selftest
from ..evaluation.screen import Screener
from ..generation import ModelUnavailable
from ..problems.images.kind import image_classification
from ..sandbox import confine, landlock
from ..sandbox.container import Container
from ..types import PENDING

OK, WARNING, FAULT = "ok", "warning", "fault"

MOST_SECONDS = 10.0
"""Longest wait for a server that is found by its file."""

LEAST_FREE_BYTES = 2 << 30
"""A run of a thousand candidates with its checkpoints takes about a gigabyte."""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    what: str
    state: str
    """``ok``; ``warning``: a run works without it; ``fault``: it would fail."""
    found: str
    advice: str = ""


def examine(config: Config, folder: Path, *, gpu: bool = False) -> Iterator[Finding]:
    """Check, one after the other, everything that a run of ``config`` in ``folder`` needs.

    ``gpu``: train on it, too, and compare with the CPU.
    """
    kind = problems.kind_of(config)
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "packages": lambda: [_packages()],
        "containment": lambda: _layers(config),
        "a contained child": lambda: [_child(config)],
        "data": lambda: [Finding("data", OK, kind.data(config))],
        "model": lambda: _models(config),
        "GPU": lambda: [_gpu(config, thorough=gpu)],
        "file system": lambda: _file_system(folder),
        "Slurm": _slurm,
    }
    for what, check in checks.items():
        if what in ("containment", "a contained child") and not kind.contained:
            continue
        try:
            yield from check()
        except LLMaticError as error:
            yield Finding(what, FAULT, str(error))
        except OSError as error:
            yield Finding(what, FAULT, f"{type(error).__name__}: {error}")


def _packages() -> Finding:
    versions = environment.describe()["packages"]
    missing = [name for name, version in versions.items() if version == "not installed"]
    python = f"Python {sys.version.split()[0]}"
    if missing:
        advice = "pip install llmatic-hpc installs them all"
        return Finding("packages", FAULT, f"{python}; without {', '.join(missing)}", advice)
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Finding("packages", OK, f"{python}, {listed}")


def _layers(config: Config) -> Iterator[Finding]:
    release, version, available = os.uname().release, landlock.abi(), confine.available()
    layers = (
        ("landlock", f"ABI {version} of Linux {release}", "files",
         "boot a kernel from 5.13 on, with landlock among its lsm="),
        ("seccomp", "libseccomp", "processes and sockets",
         "install libseccomp2 (Debian), libseccomp (Red Hat)"),
    )  # fmt: skip
    for name, told, keeps, advice in layers:
        if name in available:
            yield Finding(name, OK, told)
            continue
        state = FAULT if name in config.containment.require else WARNING
        lacking = f"not here: the kernel does not keep candidates from {keeps}"
        yield Finding(name, state, lacking, advice)
    if 0 < version < 6:
        without = "signals and abstract sockets" + (", TCP ports" if version < 4 else "")
        lacking = f"ABI {version} does not keep candidates from {without}"
        advice = "seccomp does; newer kernels (6.12) do both"
        yield Finding("landlock", WARNING, lacking, advice)
    if os.geteuid() == 0:
        advice = "run as an ordinary user; seccomp holds for both"
        yield Finding("user", WARNING, "root: limits on processes do not hold for it", advice)


def _child(config: Config) -> Finding:
    what = "problem.initial" if config.problem.initial else "a contained child"
    try:
        problem = problems.problem_of(config)
    except DataError:  # that is told where the data are looked at
        what, problem = (
            "a contained child",
            image_classification(input_shape=(3, 32, 32), classes=10),
        )
    began = time.monotonic()
    with Container(config.containment, kind="measure") as container:
        screener = Screener(
            input_shape=problem.input_shape,
            classes=problem.classes,
            containment=config.containment,
            container=container,
        )
        first = screener.screen([problem.initial_source])[0]
    if first.status != PENDING:
        return Finding(what, FAULT, f"{first.status}: {first.failure}")
    seconds = time.monotonic() - began
    return Finding("a contained child", OK, f"measured a network {seconds:.1f} s after its start")


def _models(config: Config) -> Iterator[Finding]:
    for name, writer in config.generator.by_name().items():
        what = f"model of writer {name}" if name else "model"
        try:
            yield Finding(what, OK, model_of(config, writer, download=False))
        except LLMaticError as error:
            falls_back = writer.fallback and isinstance(error, ModelUnavailable)
            state = WARNING if falls_back else FAULT
            advice = "'llmatic prefetch CONFIG' fetches it where the network is"
            if writer.kind == "endpoint":
                advice = (
                    "a run waits for a server that its file names" if writer.address_file else ""
                )
            yield Finding(what, state, str(error), advice)


def model_of(config: Config, settings: GeneratorSettings, *, download: bool = True) -> str:
    """Check the model of one writer, ask one behind a server for a token, and say where it is.

    Raises :class:`LLMaticError` where it cannot be had or is damaged.
    """
    if settings.kind == "procedural":
        return "none is needed (generator.kind = 'procedural')"
    if settings.kind == "replay":
        from ..generation import Replay

        Replay(settings.replay)
        return f"none is needed, completions are in {settings.replay}"
    if settings.kind == "endpoint":
        from ..generation.endpoint import Endpoint

        if settings.address_file:  # a run would wait; whoever asks here wants to know
            seconds = min(settings.request_seconds, MOST_SECONDS)
            settings = replace(settings, request_seconds=seconds, retries=0)
        endpoint = Endpoint(settings, problems.problem_of(config))
        endpoint.close()
        facts = [str(endpoint.served[k]) for k in ("digest", "precision") if k in endpoint.served]
        which = f" ({', '.join(facts)})" if facts else ""
        return f"{settings.model}{which} answers at {settings.url}"
    from ..generation.language_model import adapter, model_loading

    location = model_loading.locate(settings.model, download=download)
    size = model_loading.check(location)
    with_adapter = f", with {adapter.name(settings.adapter)}" if settings.adapter else ""
    return f"{location} ({size / 1e9:,.2f} GB){with_adapter}"


def _gpu(config: Config, *, thorough: bool) -> Finding:
    wanted = config.training.device
    selftest.require(wanted)
    if not thorough:
        if because := selftest.due(wanted):
            return Finding("GPU", OK, f"{because}, and torch can use it")
        where = "training.device = 'cpu'" if wanted == "cpu" else "none is to be expected here"
        return Finding("GPU", OK, f"{where}; --gpu tries what there is")
    # The paper's, for one of the user's own fits the user's data alone.
    problem = image_classification(input_shape=(3, 32, 32), classes=10)
    found = selftest.compare(config.containment, wanted, problem.initial_source)
    if found.device == "cpu":
        advice = "ask Slurm for one (array.gres of the site file), or --set training.device=cuda"
        return Finding("GPU", WARNING, "none here: candidates train on the CPU", advice)
    return Finding(
        "GPU",
        OK,
        f"{found.device} trains the initial network as the CPU does: {selftest.STEPS} steps in "
        f"{found.seconds:.1f} s with its start, {found.cpu_seconds:.1f} s on the CPU; it took "
        f"{found.device_bytes / 1e6:,.0f} MB",
    )


def _file_system(folder: Path) -> Iterator[Finding]:
    what, place = "file system", folder.resolve()
    while not place.exists():
        place = place.parent
    with tempfile.TemporaryDirectory(dir=place, prefix=".llmatic-doctor-") as name:
        first, second = Path(name) / "a", Path(name) / "b"
        first.write_bytes(b"x")
        with first.open("rb") as stream:
            os.fsync(stream.fileno())
        first.rename(second)
        with second.open("rb") as one, second.open("rb") as other:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                advice = "start a run from one job only"
                yield Finding(what, WARNING, f"{place}: locks are not kept", advice)
            except BlockingIOError:
                pass
    free, stat = shutil.disk_usage(place).free, os.statvfs(place)
    inodes = f", {stat.f_favail:,} files" if stat.f_files else ""
    found = f"{place}: {free / 1e9:,.1f} GB{inodes} free"
    if free >= LEAST_FREE_BYTES:
        yield Finding(what, OK, found)
    else:
        yield Finding(what, WARNING, found, "make room, or choose another --run-dir")


def _slurm() -> Iterator[Finding]:
    if missing := [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]:
        found = f"no {', '.join(missing)} here: local workers only"
        advice = "on a cluster, load its module or log in to a node that has them"
        yield Finding("Slurm", WARNING, found, advice)
        return
    queue = scheduler.queue()
    if queue is None:
        advice = "is the controller (slurmctld) up? 'scontrol ping' says"
        yield Finding("Slurm", FAULT, "squeue does not answer", advice)
        return
    for queued in queue.values():
        if queued.is_held and queued.name.startswith("llmatic"):
            found = f"job {queued.job} ({queued.name}) is held: {queued.reason}"
            advice = f"'scontrol release {queued.job}' lets it start, once its node is well"
            yield Finding("Slurm", WARNING, found, advice)
    limits = scheduler.limits()
    size = limits.array_size - 1 if limits.array_size else "?"
    submitted = limits.submitted or "no limit that it tells"
    yield Finding("Slurm", OK, f"arrays of up to {size}, jobs submitted at once: {submitted}")
    if shutil.which("sacct") is None:
        yield Finding("Slurm", WARNING, "no sacct: why a job ended is told by its output alone")
    _, file = site_of_job()
    yield Finding("Slurm", OK, f"site file: {file or 'none, defaults of the cluster'}")

"""Check beforehand what a run needs of this machine, and say what to do about each fault."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import problems
from ..cluster import scheduler, site_of_job
from ..config import Config
from ..coordinator import environment
from ..errors import LLMaticError
from ..evaluation.screen import Screener
from ..problems.images.problem import image_classification_of
from ..sandbox import confine, landlock
from ..sandbox.container import Container
from ..types import PENDING
from .prefetch import model_of

OK, WARNING, FAULT = "ok", "warning", "fault"

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


def examine(config: Config, folder: Path) -> Iterator[Finding]:
    """Check, one after the other, everything that a run of ``config`` in ``folder`` needs."""
    kind = problems.kind_of(config)
    contained: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("containment", lambda: _layers(config)),
        ("a contained child", lambda: _child(config)),
    )
    looks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("packages", _packages),
        *(contained if kind.contained else ()),
        ("data", lambda: iter([Finding("data", OK, kind.data(config))])),
        ("model", lambda: _model(config)),
        ("GPU", lambda: _gpu(config)),
        ("file system", lambda: _file_system(folder)),
        ("Slurm", _slurm),
    )
    for what, look in looks:
        try:
            yield from look()
        except LLMaticError as error:
            yield Finding(what, FAULT, str(error))
        except OSError as error:
            yield Finding(what, FAULT, f"{type(error).__name__}: {error}")


def _packages() -> Iterator[Finding]:
    versions = environment.describe()["packages"]
    missing = [name for name, version in versions.items() if version == "not installed"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    python = f"Python {sys.version.split()[0]}"
    if missing:
        yield Finding(
            "packages",
            FAULT,
            f"{python}; without {', '.join(missing)}",
            "pip install llmatic-hpc installs them all",
        )
    else:
        yield Finding("packages", OK, f"{python}, {listed}")


def _layers(config: Config) -> Iterator[Finding]:
    release, version, found = os.uname().release, landlock.abi(), confine.available()
    required = config.containment.require
    lacking = (
        ("landlock", "files", "boot a kernel from 5.13 on, with landlock among its lsm="),
        ("seccomp", "processes and sockets", "install libseccomp2 (Debian), libseccomp (Red Hat)"),
    )
    for name, keeps, advice in lacking:
        if name in found:
            told = {"landlock": f"ABI {version} of Linux {release}"}.get(name, "libseccomp")
            yield Finding(name, OK, told)
        else:
            state = FAULT if name in required else WARNING
            yield Finding(
                name, state, f"not here: the kernel does not keep candidates from {keeps}", advice
            )
    if 0 < version < 6:
        without = "signals and abstract sockets" + (", TCP ports" if version < 4 else "")
        yield Finding(
            "landlock",
            WARNING,
            f"ABI {version} does not keep candidates from {without}",
            "seccomp does; newer kernels (6.12) do both",
        )
    if os.geteuid() == 0:
        yield Finding(
            "user",
            WARNING,
            "root: limits on processes do not hold for it",
            "run as an ordinary user; seccomp holds for both",
        )


def _child(config: Config) -> Iterator[Finding]:
    shape, classes = (3, 32, 32), 10
    source = image_classification_of(config.problem, shape, classes).initial_source
    began = time.monotonic()
    with Container(config.containment, kind="measure") as container:
        screener = Screener(
            input_shape=shape, classes=classes, containment=config.containment, container=container
        )
        first = screener.screen([source])[0]
    seconds = time.monotonic() - began
    if first.status == PENDING:
        yield Finding(
            "a contained child", OK, f"measured a network {seconds:.1f} s after its start"
        )
    else:
        yield Finding("a contained child", FAULT, f"{first.status}: {first.failure}")


def _model(config: Config) -> Iterator[Finding]:
    try:
        yield Finding("model", OK, model_of(config, download=False))
    except LLMaticError as error:
        state = WARNING if config.generator.fallback else FAULT
        advice = "'llmatic prefetch CONFIG' fetches it where the network is"
        yield Finding("model", state, str(error), advice)


def _gpu(config: Config) -> Iterator[Finding]:
    wanted = config.training.device
    code = "import torch; print(torch.cuda.device_count(), torch.zeros(1, device={!r}).device)"
    device = "cuda" if wanted == "auto" else wanted
    done = subprocess.run(  # a process of its own: a broken driver may hang or crash
        [sys.executable, "-c", code.format(device)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode == 0:
        yield Finding("GPU", OK, f"{done.stdout.split()[0]} here; training runs on {device}")
    elif wanted == "auto":
        yield Finding(
            "GPU",
            WARNING,
            "none here: candidates train on the CPU",
            "on a login node that is as it should be; training.device = 'cuda' makes a "
            "node without one a fault",
        )
    else:
        lines = done.stderr.strip().splitlines() or ["no message"]
        yield Finding(
            "GPU",
            FAULT,
            f"training.device = {wanted!r}: {lines[-1]}",
            "ask Slurm for a GPU (array.gres of the site file), or set it to 'auto'",
        )


def _file_system(folder: Path) -> Iterator[Finding]:
    place = folder.resolve()
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
                locks = False
            except BlockingIOError:
                locks = True
    free = shutil.disk_usage(place).free
    stat = os.statvfs(place)
    if not locks:
        yield Finding(
            "file system", WARNING, f"{place}: locks are not kept", "start a run from one job only"
        )
    state = OK if free >= LEAST_FREE_BYTES else WARNING
    inodes = f", {stat.f_favail:,} files" if stat.f_files else ""
    yield Finding(
        "file system",
        state,
        f"{place}: {free / 1e9:,.1f} GB{inodes} free",
        "" if state == OK else "make room, or choose another --run-dir",
    )


def _slurm() -> Iterator[Finding]:
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        yield Finding(
            "Slurm",
            WARNING,
            f"no {', '.join(missing)} here: local workers only",
            "on a cluster, load its module or log in to a node that has them",
        )
        return
    if scheduler.queue() is None:
        yield Finding(
            "Slurm",
            FAULT,
            "squeue does not answer",
            "is the controller (slurmctld) up? 'scontrol ping' says",
        )
        return
    limits = scheduler.limits()
    submitted = limits.submitted or "no limit that it tells"
    yield Finding(
        "Slurm",
        OK,
        f"arrays of up to {limits.array_size - 1 if limits.array_size else '?'}"
        f", jobs submitted at once: {submitted}",
    )
    if shutil.which("sacct") is None:
        yield Finding("Slurm", WARNING, "no sacct: why a job ended is told by its output alone")
    _, file = site_of_job()
    yield Finding("Slurm", OK, f"site file: {file or 'none, defaults of the cluster'}")

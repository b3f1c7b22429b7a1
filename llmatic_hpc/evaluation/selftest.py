"""Find out, before candidates are judged by it, whether this machine's accelerator computes."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ContainmentSettings, accelerators
from ..errors import ContainmentError
from ..rundir.files import write_atomically
from ..sandbox.container import Container, Job

SOURCE = """
import torch.nn as nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10))
"""
"""Network that nodes are tried with: every kind of kernel that most candidates need."""
STEPS = 8
_IMAGES, _CLASSES, _SECONDS = 32, 10, 300.0
_TOLERANCE = 0.01
"""Largest relative difference of the mean loss; single precision alone gives 1e-5."""


@dataclass(frozen=True)
class Compared:
    """A training of a few steps on an accelerator, which agrees with that on the CPU."""

    device: str
    seconds: float
    cpu_seconds: float
    device_bytes: int


def due(wanted: str) -> str:
    """Say why ``training.device = wanted`` must not be the CPU here; empty where it may be."""
    if wanted == "auto":
        return accelerators.expected() or ""
    return "" if wanted == "cpu" else f"training.device = {wanted!r}"


def require(wanted: str) -> None:
    """Raise :class:`ContainmentError` where a device is due and torch cannot use it.

    In a process of its own: a broken driver may hang or crash, and nothing here imports torch.
    """
    if not due(wanted):
        return
    command = [sys.executable, "-m", "llmatic_hpc.evaluation.device", wanted, due(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        said = done.stderr.strip().splitlines() or [f"torch ended with code {done.returncode}"]
        failure = said[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"{due(wanted)}, but torch did not start it within {_SECONDS:g} s"
    if failure:
        raise ContainmentError(
            f"{socket.gethostname()}: {failure}. 'llmatic doctor --gpu' says more; to train on "
            "the CPU, set training.device = 'cpu' or CUDA_VISIBLE_DEVICES=''"
        )


def compare(
    containment: ContainmentSettings, wanted: str, source: str = SOURCE, *, device: str = ""
) -> Compared:
    """Train a network for :data:`STEPS` on the device and on the CPU, contained as candidates are.

    ``device``: which one, by its name in the environment; empty: the first.
    Raises :class:`ContainmentError` where it cannot be done or the two differ.
    """
    draw = np.random.default_rng(0)
    shape = (_IMAGES * STEPS, 3, 32, 32)
    images = draw.integers(0, 256, shape, dtype=np.uint8)
    arrays: dict[str, NDArray[Any]] = {
        "train_images": images,
        "train_labels": draw.integers(0, _CLASSES, len(images)),
        "validation_images": images[:_IMAGES],
        "test_images": images[:0],
    }
    with Container(containment, arrays=arrays, devices=[device] if device else []) as container:
        replies = [container.run(_job(source, place, due(place))) for place in (wanted, "cpu")]
    for reply in replies:
        if reply.status != "trained":
            raise ContainmentError(f"the device's own test: {reply.failure or reply.status}")
    found, control = replies
    losses = [float(reply.values["train_loss"] or math.nan) for reply in replies]
    if not math.isclose(*losses, rel_tol=_TOLERANCE):
        raise ContainmentError(
            f"{found.device} computes wrongly: a loss of {losses[0]:.6g} after {STEPS} steps, "
            f"{losses[1]:.6g} on the CPU"
        )
    used = int(found.values.get("device_bytes") or 0)
    return Compared(found.device, found.seconds, control.seconds, used)


def once(containment: ContainmentSettings, wanted: str, folder: Path) -> None:
    """Run :func:`compare` on each device here that no task of the run has tried; keep its findings.

    Raises :class:`ContainmentError` as that does, and ``OSError`` where nothing can be kept.
    """
    if not due(wanted):
        return
    devices = accelerators.visible() or ("",)
    # Under Slurm's constraints every element may know its only device as number 0.
    given = os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS") or ""
    names = given.split(",") if given.count(",") == len(devices) - 1 else devices
    for device, name in zip(devices, names, strict=True):
        known = re.sub(r"[^\w.-]", "_", f"{node_name()}-{name}".rstrip("-"))
        kept = folder / f"device-{known}.json"
        if not kept.exists():
            found = compare(containment, wanted, device=device)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, json.dumps(asdict(found)) + "\n")


def node_name() -> str:
    """Return what Slurm, else the system, calls this machine."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _job(source: str, device: str, expected: str) -> Job:
    recipe = {
        "epochs": 1, "batch": _IMAGES, "learning_rate": 0.01, "momentum": 0.9, "seed": 0,
        "checkpoint_seconds": math.inf, "evaluation_batch": _IMAGES,
    }  # fmt: skip
    return Job(
        kind="train",
        source=source,
        seconds=_SECONDS,
        limit=f"{_SECONDS:g} s",
        parameters={
            "recipe": recipe, "classes": _CLASSES, "device": device, "expected": expected,
            "identity": "", "weights": "", "losses": 0,
        },
        success="trained",
        payload_bytes=8 * _IMAGES,
    )  # fmt: skip

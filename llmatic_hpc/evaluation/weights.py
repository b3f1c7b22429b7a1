"""Train one network for use elsewhere: its weights, and the network as ONNX, as files.

Whatever runs the network runs in contained children, as a candidate's training does.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ..config import Config
from ..rundir.files import write_atomically
from ..sandbox.container import Job
from ..types import PENDING, Outcome, Screened
from .stop import Stop
from .worker import bench

WEIGHTS = "weights.safetensors"
ONNX = "network.onnx"
"""Files in the folder of a training."""
_MOST_HEADER = 1 << 24
"""Bytes of the longest header of a checkpoint that is read."""


@dataclass(frozen=True)
class Made:
    """Files of a trained network, as far as they came to be, in the folder of its training."""

    screened: Screened
    outcome: Outcome
    """Result of the training: ``scored`` where there are weights."""
    same: float = math.nan
    """Share of its predictions, of validation and test examples together, that another process
    makes, too, which builds it again and loads the weights."""
    reloading: str = ""
    """Why the weights could not be loaded again; empty where they could."""
    onnx: str = ""
    """Why there is no ONNX that was asked for; empty where there is."""
    onnx_batch: int = 0
    """Examples at a time that the ONNX takes; 0: any number."""


def make(source: str, config: Config, *, seed: int, folder: Path, onnx: bool, stop: Stop) -> Made:
    """Train a source text in ``folder``, or continue there, and write its weights.

    They are then loaded in another process, which is compared in what it predicts, and of ``onnx``
    a third one writes the network with them. What comes of it once ``stop`` was asked for is
    nothing to go by. Raises :class:`~llmatic_hpc.errors.DataError` and
    :class:`~llmatic_hpc.errors.ContainmentError`.
    """
    with bench(config) as (container, trainer, screener), stop.tells(container):
        (screened,) = screener.screen([source])
        if screened.status != PENDING:
            return Made(screened, Outcome(screened.status, screened.failure))
        epochs = config.training.in_full
        job = trainer.job(source, seed=seed, epochs=epochs, folder=folder, write=WEIGHTS)
        outcome, predictions = trainer.run(job)
        if outcome.status != "scored":
            return Made(screened, outcome)
        # By another seed, as whoever builds the network elsewhere has one.
        job = trainer.job(source, seed=seed ^ 1, epochs=0, folder=folder, begin=WEIGHTS)
        again, others = trainer.run(job)
        same, why = math.nan, again.failure or again.status
        if again.status == "scored":
            equal = sum(predictions[at : at + 8] == others[at : at + 8]
                        for at in range(0, len(predictions), 8))  # fmt: skip
            same, why = 8 * equal / len(predictions), ""
        made = Made(screened, outcome, same, why)
        if not onnx:
            return made
        reply = container.run(
            Job(
                kind="onnx", source=source, seconds=config.containment.wall_seconds,
                limit="containment.wall_seconds", success="written", scratch=folder,
                parameters={"begin": WEIGHTS, "write": ONNX}, threads=job.threads,
            )
        )  # fmt: skip
        if reply.status != "written":
            return replace(made, onnx=reply.failure or reply.status)
        return replace(made, onnx_batch=int(reply.values["batch"] or 0))


def take(source: Path, target: Path) -> None:
    """Copy a file that a child wrote, whole or not at all; never what it made a link to.

    Raises ``OSError``.
    """
    with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as reader:

        def copy(writer: IO[bytes]) -> None:
            shutil.copyfileobj(reader, writer)

        write_atomically(target, copy)


def progress(state: Path) -> tuple[int, float] | None:
    """Return the epochs that a checkpoint has behind it, and the mean loss over the last.

    None where there is no epoch yet. A child wrote it: whatever is odd about it is no progress.
    """
    try:
        with open(os.open(state, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= _MOST_HEADER else {}
        values = json.loads(header["__metadata__"]["values"])
        epoch, loss = int(values["epoch"]), float(values["train_loss"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return (epoch, loss) if epoch > 0 else None

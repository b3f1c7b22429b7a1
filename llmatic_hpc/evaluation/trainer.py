"""Train candidates in a container, by the settings of a run, and judge what they predict."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from dataclasses import replace
from pathlib import Path

from ..config import ContainmentSettings, TrainingSettings, accelerators
from ..errors import ContainmentError
from ..sandbox.container import Container, Job, Reply
from ..types import Outcome
from . import data, score, selftest

SECONDS = "seconds"
"""File of a checkpoint folder with the seconds that earlier attempts took."""
_RECIPE = (
    "batch", "learning_rate", "momentum", "checkpoint_seconds", "evaluation_batch", "precision",
    "channels_last", "graph", "optimizer", "weight_decay", "schedule", "label_smoothing",
    "class_weights", "augmentation",
)  # fmt: skip
"""Settings of a training that the child is told."""
_LATER = {
    name: getattr(TrainingSettings(), name)
    for name in (
        "optimizer", "weight_decay", "schedule", "label_smoothing", "class_weights", "augmentation",
    )
}  # fmt: skip
"""Settings with values that say what a checkpoint of an earlier version means without them."""


class Trainer:
    """Trains candidates in one container with its data."""

    def __init__(
        self,
        container: Container,
        dataset: data.Dataset,
        training: TrainingSettings,
        containment: ContainmentSettings,
        threads: int,
    ) -> None:
        self._container, self._dataset = container, dataset
        self._training, self._containment, self._threads = training, containment, threads
        self._fingerprint = _fingerprint(dataset)
        self._limit = containment.wall_seconds * self._slowness()

    def _slowness(self) -> float:
        """Return how long this device takes for what takes a second on the reference device."""
        reference = self._containment.reference_seconds
        if not reference:
            return 1.0
        wanted = {"device": self._training.device, "precision": self._training.precision}
        job = Job(
            kind="calibrate", source="", seconds=self._containment.wall_seconds,
            limit="calibration", success="calibrated", threads=self._threads,
            parameters={**wanted, "expected": accelerators.expected() or ""},
        )  # fmt: skip
        reply = self._container.run(job)
        seconds = reply.values.get("seconds") or 0.0
        if reply.status != "calibrated" or seconds <= 0:
            raise ContainmentError(f"the device could not be calibrated: {reply.failure}")
        return seconds / reference

    def evaluate(self, source: str, *, seed: int, epochs: int, folder: Path) -> Outcome:
        """Train in ``folder``, or continue there. Status ``checkpointed``: not finished."""
        return self.run(self.job(source, seed=seed, epochs=epochs, folder=folder))[0]

    def run(self, job: Job) -> tuple[Outcome, bytes]:
        """Run what :meth:`job` made; return also the predictions as they came, by :mod:`.score`."""
        reply = self._container.run(job) if job.seconds > 0 else None
        predictions = reply.payload[: score.payload_bytes(self._dataset, 0)] if reply else b""
        return self.outcome(job, reply), predictions

    def job(
        self,
        source: str,
        *,
        seed: int,
        epochs: int,
        folder: Path,
        until: int = 0,
        write: str = "",
        begin: str = "",
    ) -> Job:
        """Return the training as a job; with no ``seconds`` left there is nothing to run.

        ``until``: train up to so many of the ``epochs`` only, and leave the state in ``folder``.
        ``write``, ``begin``: files there for the weights at the end, and with those to begin with.
        """
        training = self._training
        differs = self._limit != self._containment.wall_seconds
        here = f", {self._limit:.3g} on this device" if differs else ""
        recipe = {name: getattr(training, name) for name in _RECIPE}
        recipe |= {"epochs": epochs, "seed": seed}
        identity = {
            "source": source,
            "data": self._fingerprint,
            "recipe": {
                **{key: value for key, value in recipe.items() if value != _LATER.get(key)},
                "checkpoint_seconds": None,
                "evaluation_batch": None,
                "graph": None,
            },
        }
        recipe["until"] = until  # the same training whatever the rung
        losses = min(until or epochs, score.MOST_LOSSES)
        return Job(
            kind="train",
            source=source,
            seconds=self._limit - _seconds_used(folder),
            limit=f"containment.wall_seconds = {self._containment.wall_seconds:g}{here}",
            parameters={
                "recipe": recipe,
                "classes": self._dataset.classes,
                "device": training.device,
                "expected": selftest.due(training.device),
                "identity": hashlib.sha256(
                    json.dumps(identity, sort_keys=True).encode()
                ).hexdigest(),
                "write": write,
                "begin": begin,
                "losses": losses,
            },
            success="trained",
            payload_bytes=score.payload_bytes(self._dataset, losses),
            scratch=folder,
            threads=self._threads,
        )

    def outcome(self, job: Job, reply: Reply | None) -> Outcome:
        """Turn the reply to a job into an outcome; None: there was no time to run it."""
        assert job.scratch is not None
        used = self._limit - job.seconds
        if reply is None:
            return Outcome("too_slow", f"it ran out of time ({job.limit})", train_seconds=used)
        seconds = used + reply.seconds
        if reply.status == "checkpointed":
            with contextlib.suppress(OSError):
                (job.scratch / SECONDS).write_text(f"{seconds:.3f}")
        reply = replace(reply, seconds=seconds)
        outcome = score.outcome(
            reply,
            self._dataset,
            fitness_split=self._training.fitness_split,
            losses=job.parameters["losses"],
        )
        return replace(outcome, device=reply.device)


def _seconds_used(folder: Path) -> float:
    try:
        seconds = float((folder / SECONDS).read_text()[:40])
    except (OSError, ValueError):
        return 0.0
    return seconds if seconds > 0 else 0.0


def _fingerprint(dataset: data.Dataset) -> str:
    crc = 0
    for split in (dataset.train, dataset.validation, dataset.test):
        crc = zlib.crc32(split.labels.data, crc)
        crc = zlib.crc32(split.images.data, crc)
    return f"{len(dataset.train)} {dataset.input_shape} {dataset.classes} {crc:08x}"

"""Score predictions. Numpy only: here are the labels, and nothing that a model wrote."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..sandbox.container import Reply
from ..types import LARGEST, Outcome
from .data import Dataset

BYTES_PER_NUMBER = 8
"""A prediction is a class as a little-endian int64, a loss a little-endian float64."""

MOST_LOSSES = 1000
"""Epochs, from the first on, whose losses are told."""


def accuracy(predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the fraction of ``predictions`` that equal their label, both (N,); NaN for N = 0."""
    if predictions.shape != labels.shape:
        raise ValueError(f"{predictions.shape} predictions for {labels.shape} labels")
    return float(np.mean(predictions == labels)) if len(labels) else float("nan")


def payload_bytes(dataset: Dataset, losses: int) -> int:
    """Return the length of a reply: predictions of the validation images, then the test images,
    then the ``losses`` of as many epochs."""
    return BYTES_PER_NUMBER * (len(dataset.validation) + len(dataset.test) + losses)


def outcome(reply: Reply, dataset: Dataset, *, fitness_split: str, losses: int = 0) -> Outcome:
    """Turn the reply of a training child, into an outcome.

    Fitness is the accuracy on the split that ``training.fitness_split`` names. Predictions
    that are no classes are the candidate's fault, thus ``invalid``. ``losses`` is their number.
    """
    if reply.status != "trained":
        return Outcome(reply.status, reply.failure, train_seconds=reply.seconds)
    end = payload_bytes(dataset, 0)
    predictions = np.frombuffer(reply.payload[:end], "<i8").astype(np.int64)
    curve = np.frombuffer(reply.payload[end:], "<f8")
    loss, trained, milliseconds = map(reply.values.get, ("train_loss", "epochs", "milliseconds"))
    if isinstance(loss, float) and loss > LARGEST:
        failure = f"the training loss is {loss:.3g}"
        return Outcome("diverged", failure, train_seconds=reply.seconds)
    fault = ""
    if len(reply.payload) != payload_bytes(dataset, losses):
        fault = f"it has {len(reply.payload)} bytes of predictions"
    elif len(predictions) and not 0 <= predictions.min() <= predictions.max() < dataset.classes:
        fault = f"its predictions are not classes 0 to {dataset.classes - 1}"
    elif type(trained) is not int or trained < 0:
        fault = "its number of epochs is none"
    elif (loss is None) != (trained == 0) or (loss is not None and loss < 0):
        fault = "its training loss is none"
    elif ((curve < 0) | (curve > LARGEST)).any():
        fault = "the loss of an epoch is none"
    elif milliseconds is None or not 0 < milliseconds <= LARGEST:
        fault = "its time of a batch is none"
    if fault or type(trained) is not int or milliseconds is None:
        return Outcome("invalid", f"reply: {fault}", train_seconds=reply.seconds)
    valid, test = np.split(predictions, [len(dataset.validation)])
    valid_accuracy = accuracy(valid, dataset.validation.labels)
    test_accuracy = accuracy(test, dataset.test.labels)
    return Outcome(
        "scored",
        fitness=valid_accuracy if fitness_split == "validation" else test_accuracy,
        valid_accuracy=valid_accuracy,
        test_accuracy=test_accuracy,
        train_loss=float("nan") if loss is None else float(loss),
        epochs=trained,
        train_seconds=reply.seconds,
        milliseconds=float(milliseconds),
        train_curve=tuple(float(f"{one:.6g}") for one in curve.tolist()),
    )

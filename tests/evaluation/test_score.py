"""Scores from predictions, and what is no score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmatic_hpc.evaluation import score
from llmatic_hpc.evaluation.data import Dataset, Split
from llmatic_hpc.sandbox.wire import Reply


def split(*labels: int) -> Split:
    return Split(np.zeros((len(labels), 2, 2, 1), np.uint8), np.array(labels, np.int64))


DATASET = Dataset(split(0, 1, 2), split(0, 1, 2, 2), split(2, 1), 3)


def trained(*classes: int, **values: float | None) -> Reply:
    payload = np.array(classes, "<i8").tobytes()
    known = {"train_loss": 0.5, "epochs": 2, "milliseconds": 7.0}
    return Reply("trained", "", {**known, **values}, payload, 9.0)


def test_a_loss_that_no_result_may_hold_has_diverged() -> None:
    """A result file that is refused would be taken for the machine's fault."""
    found = score.outcome(
        trained(0, 1, 2, 0, 2, 2, train_loss=6e302), DATASET, fitness_split="validation"
    )
    assert (found.status, found.failure) == ("diverged", "the training loss is 6e+302")


def test_accuracy_is_the_fraction_of_hits() -> None:
    """By argmax and labels; NaN where there is nothing to count."""
    assert score.accuracy(np.array([1, 2, 0]), np.array([1, 2, 2])) == pytest.approx(2 / 3)
    assert math.isnan(score.accuracy(np.empty(0, np.int64), np.empty(0, np.int64)))
    with pytest.raises(ValueError, match="predictions for"):
        score.accuracy(np.array([1]), np.array([1, 2]))


def test_fitness_is_the_accuracy_of_the_split_that_the_settings_name() -> None:
    """The other is recorded beside it."""
    reply = trained(0, 1, 2, 0, 2, 2)
    found = score.outcome(reply, DATASET, fitness_split="validation")
    assert (found.fitness, found.valid_accuracy, found.test_accuracy) == (0.75, 0.75, 0.5)
    assert (found.status, found.train_loss, found.epochs, found.train_seconds) == (
        "scored", 0.5, 2, 9.0,
    )  # fmt: skip
    assert score.outcome(reply, DATASET, fitness_split="test").fitness == 0.5


def test_without_a_validation_split_there_is_no_validation_accuracy() -> None:
    """NaN, and the test accuracy as fitness."""
    dataset = Dataset(DATASET.train, split(), DATASET.test, 3)
    found = score.outcome(trained(2, 2), dataset, fitness_split="test")
    assert math.isnan(found.valid_accuracy)
    assert found.fitness == found.test_accuracy == 0.5


@pytest.mark.parametrize(
    "reply",
    [
        trained(0, 1, 2, 0, 2, 3),
        trained(0, 1, 2, 0, 2, -1),
        trained(0, 1, 2),
        trained(0, 1, 2, 0, 2, 2, 2),
        trained(0, 1, 2, 0, 2, 2, train_loss=None),
        trained(0, 1, 2, 0, 2, 2, train_loss=-1.0),
        trained(0, 1, 2, 0, 2, 2, milliseconds=None),
        trained(0, 1, 2, 0, 2, 2, milliseconds=0.0),
        trained(0, 1, 2, 0, 2, 2, milliseconds=1e301),
        trained(0, 1, 2, 0, 2, 2, epochs=-1),
        trained(0, 1, 2, 0, 2, 2, epochs=1.5),
        trained(0, 1, 2, 0, 2, 2, epochs=None),
    ],
)
def test_odd_replies_are_invalid(reply: Reply) -> None:
    """Classes that are none, counts that are none, losses that are none."""
    found = score.outcome(reply, DATASET, fitness_split="test")
    assert (found.status, math.isnan(found.fitness)) == ("invalid", True)
    assert found.failure.startswith("reply: ")


def test_without_epochs_there_is_no_loss() -> None:
    """An untrained network is scored."""
    reply = trained(0, 1, 2, 0, 2, 2, train_loss=None, epochs=0)
    found = score.outcome(reply, DATASET, fitness_split="test")
    assert (found.status, found.epochs, math.isnan(found.train_loss)) == ("scored", 0, True)


def test_failures_pass_through() -> None:
    """With their status, their line and the time they took."""
    found = score.outcome(
        Reply("too_slow", "it ran out of time", seconds=3.0), DATASET, fitness_split="test"
    )
    assert (found.status, found.failure, found.train_seconds) == (
        "too_slow", "it ran out of time", 3.0,
    )  # fmt: skip

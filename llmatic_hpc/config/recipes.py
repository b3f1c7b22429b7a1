"""Named recipes for the training of a network that is to be used: ``llmatic export --weights``."""

from __future__ import annotations

from collections.abc import Mapping

RUN = "run"
"""The training that the run's record tells of, by its own settings and seed."""

_UNHURRIED = ("containment.wall_seconds=604800", "containment.reference_seconds=0",
              "training.checkpoint_seconds=10")  # fmt: skip
"""Nobody else waits: no limit but a week, and a checkpoint every ten seconds."""

_ANEW = ("training.rungs=[]", "training.threads=0")

RECIPES: Mapping[str, tuple[str, ...]] = {
    RUN: _UNHURRIED,
    "paper": (
        *_UNHURRIED, *_ANEW,
        "training.epochs=50", "training.batch=32", "training.optimizer=sgd",
        "training.learning_rate=0.001", "training.momentum=0.9", "training.weight_decay=0",
        "training.schedule=constant", "training.label_smoothing=0", "training.class_weights=none",
        "training.augmentation=[]",
    ),
    "long": (
        *_UNHURRIED, *_ANEW,
        "training.epochs=200", "training.batch=64", "training.optimizer=adamw",
        "training.learning_rate=0.001", "training.weight_decay=0.05", "training.schedule=cosine",
        "training.augmentation=['flip', 'crop']",
    ),
}  # fmt: skip
"""Settings of each, as ``--set`` takes them, in place of the run's."""

LEAST_PIXELS = 16
"""Images of less height or width are too small to be shifted by four pixels."""


def settings_of(recipe: str, input_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the settings of a recipe for data of ``input_shape``: only images of 16 by 16 pixels
    and more are flipped and shifted, unless the run says so."""
    given = RECIPES[recipe]
    if recipe == RUN or (len(input_shape) == 3 and min(input_shape[1:]) >= LEAST_PIXELS):
        return given
    return (*given, "training.augmentation=[]")

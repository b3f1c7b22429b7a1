"""Training of a record's candidates, in words."""

from __future__ import annotations

import numpy as np

from ..config import TrainingSettings
from ..config.fields import merge
from ..errors import ConfigError
from ..store import Record


def recipe(record: Record, candidate: int | slice = slice(None)) -> str:
    """Return ``sgd, batch 32, ...``, by which a candidate, or any, was trained.

    Empty where none was, which is where there is no loss, and for settings of a newer version.
    """
    if not np.isfinite(record.candidates["train_loss"][candidate]).any():
        return ""
    try:
        settings = merge(TrainingSettings(), record.config["training"], "run.h5", "training.")
    except ConfigError:
        return ""
    return str(settings.recipe())

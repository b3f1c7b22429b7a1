"""Settings that a record's candidates were trained by."""

from __future__ import annotations

import numpy as np

from ..config import TrainingSettings
from ..config.fields import merge
from ..errors import ConfigError
from ..store import Record


def trained_by(record: Record, candidate: int | slice = slice(None)) -> TrainingSettings | None:
    """Return the settings by which a candidate, or any of all, was trained.

    None where none was, which is where there is no loss, and for settings of a newer version.
    """
    if not np.isfinite(record.candidates["train_loss"][candidate]).any():
        return None
    try:
        found: TrainingSettings = merge(TrainingSettings(), record.config["training"], "run.h5")
    except ConfigError:
        return None
    return found

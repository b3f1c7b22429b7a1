"""Facts of the task that go into requests, settled when a run starts."""

from __future__ import annotations

from typing import Any

from ..config import Config
from ..problems.evaluator import Evaluator


def facts(config: Config, evaluator: Evaluator) -> dict[str, Any]:
    """Return what requests and further tries are made of beyond the settings; often nothing."""
    if not config.generator.repeats:
        return {}
    (initial,) = evaluator.examine([evaluator.problem.initial_source], repair=False)
    return {"initial_sha256": initial.screened.canonical_sha256}

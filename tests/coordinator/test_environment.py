"""The writer of a run, from its record: of this version, and of those before."""

from __future__ import annotations

from typing import Any

import pytest

from llmatic_hpc.coordinator.environment import generator_kind

CONTROL = "procedural (control without a language model)"


@pytest.mark.parametrize(
    ("recorded", "kind"),
    [
        ({}, ""),
        ({"generator": None}, ""),
        ({"generator": CONTROL}, "procedural"),
        ({"generator": CONTROL[:-1] + "; fallback: a/b: not in the cache)"}, "procedural"),
        ({"generator": "huggingface:owner/the-fallback-control"}, "huggingface"),
        ({"generator": "endpoint:small"}, "endpoint"),
        ({"generator": "replay:0123456789ab"}, "replay"),
        ({"generator": "in whatever words", "generator_kind": "endpoint"}, "endpoint"),
    ],
)
def test_the_kind_is_on_the_record(recorded: dict[str, Any], kind: str) -> None:
    """Records of version 0.1 have a displayed name alone; a model's own name decides nothing."""
    assert generator_kind(recorded) == kind

"""The writer of a run, from its record: of this version, and of those before."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmatic_hpc.coordinator.environment import commit, generator_kind

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


def test_the_commit_is_that_of_a_checkout(tmp_path: Path) -> None:
    """With changes to tracked files or without; of an installation there is none."""
    assert commit(tmp_path) == ""
    git = ("git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x")
    (tmp_path / "setup.cfg").write_text("")
    for words in (("init", "-q"), ("add", "setup.cfg"), ("commit", "-qm", "one")):
        subprocess.run([*git, *words], check=True)
    clean = commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (tmp_path / "setup.cfg").write_text("changed")
    assert commit(tmp_path) == f"{clean} with changes"

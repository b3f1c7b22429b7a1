"""Completions from a file: line n for candidate n, and errors that name the line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmatic_hpc.errors import GeneratorError
from llmatic_hpc.generation import Replay
from llmatic_hpc.types import REWRITING, Completion, Request

Ask = Callable[..., Request]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    lines = [
        {
            "completion": "\n    pass",
            "form": "completion",
            "prompt_tail": "\nclass Net(nn.Module):",
        },
        {"completion": "```python\n```", "form": "chat", "tokens": 7, "finished": False},
        {"completion": "x"},
    ]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "\n\n")
    return path


def test_candidates_take_their_lines(file: Path, ask: Ask) -> None:
    """Candidates take lines by number, so that a continued run goes on at the right one."""
    replay = Replay(file)
    assert list(replay.generate([ask(1), ask(0), ask(2)])) == [
        Completion(1, "```python\n```", "chat", "", 7, False),
        Completion(0, "\n    pass", "completion", "class Net(nn.Module):"),
        Completion(2, "x", "completion", "class Net(nn.Module):"),
    ]
    assert next(iter(replay.generate([ask(2)]))).text == "x"
    assert replay.form == "completion"
    replay.close()


def test_new_prompts_have_lines_of_their_own(tmp_path: Path, ask: Ask) -> None:
    """They are not counted among those of candidates, wherever they stand; too few are said."""
    path = tmp_path / "c.jsonl"
    lines = [{"rewriting": "Widen it a bit"}, {"completion": "x"}, {"rewriting": "Deepen it so"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    replay = Replay(path)
    assert replay.writes_prose
    assert next(iter(replay.generate([ask(0)]))).text == "x"
    wanted = replace(ask(0), operator=REWRITING, number=1)
    assert list(replay.generate([wanted])) == [Completion(0, "Deepen it so", "chat")]
    with pytest.raises(GeneratorError, match="has 2 lines of rewriting, but new prompt 3 is"):
        next(iter(replay.generate([replace(wanted, number=2)])))
    path.write_text('{"rewriting": 3}\n')
    with pytest.raises(GeneratorError, match="line 1: rewriting must be a text"):
        Replay(path)


def test_name_is_the_content(file: Path) -> None:
    """The record can tell one file of completions from another."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert Replay(file).name == f"replay:{digest[:12]}"


def test_too_few_lines(file: Path, ask: Ask) -> None:
    """Said before anything is taken, with the line that is wanting."""
    with pytest.raises(GeneratorError, match=r"has 3 completions.* candidate 3 needs line 4"):
        next(iter(Replay(file).generate([ask(0), ask(3)])))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2 is not JSON"),
        ("", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("[1]", "line 2 must be an object"),
        ('{"form": "chat"}', "line 2 must be an object"),
        ('{"completion": 3}', "line 2: completion must be a text, got 3"),
        ('{"completion": "", "form": "prose"}', "line 2: form must be completion or chat"),
        ('{"completion": "", "tokens": true}', "line 2: tokens must be a whole number"),
        ('{"completion": "", "finished": 1}', "line 2: finished must be true or false"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, complaint: str) -> None:
    """At the start, not in the middle of a run."""
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"completion": ""}}\n{line}\n{{"completion": ""}}\n')
    with pytest.raises(GeneratorError, match=complaint):
        Replay(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Missing, a folder, or not text."""
    with pytest.raises(GeneratorError, match="no such file"):
        Replay(tmp_path / "none.jsonl")
    with pytest.raises(GeneratorError, match="cannot be read"):
        Replay(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"completion": "\xe9"}')
    with pytest.raises(GeneratorError, match="line 1 is not JSON"):
        Replay(tmp_path / "latin.jsonl")


def test_an_empty_file(tmp_path: Path, ask: Ask) -> None:
    """Has no line for anybody."""
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(GeneratorError, match="has 0 completions"):
        list(Replay(tmp_path / "empty.jsonl").generate([ask(0)]))


def test_real_completions(test_data: Path, ask: Ask) -> None:
    """Every real file can be replayed to its last line."""
    for path in sorted((test_data / "completions").glob("*.jsonl")):
        count = len(path.read_text().splitlines())
        assert len(list(Replay(path).generate([ask(n) for n in range(count)]))) == count

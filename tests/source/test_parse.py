"""The one parser: every reader of what a model wrote has its limits."""

from __future__ import annotations

import pytest

from llmatic_hpc.generation.extract import extract
from llmatic_hpc.generation.procedural.read import read
from llmatic_hpc.source import gate, parse
from llmatic_hpc.source.chunks import Chunk

NET = """import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(SIZE, 10)

    def forward(self, x):
        return self.fc(x.flatten(1))
"""


def accepted(source: str) -> dict[str, bool]:
    """Readers that take a source."""
    return {
        "parser": parse.try_parse(source) is not None,
        "gate": "nested" not in gate.check(source, max_bytes=100_000).failure,
        "extraction": bool(extract(source, form="chat").source),
        "chunk": not isinstance(Chunk(source, last=False).parsed, str),
        "control": read(source) is not None,
    }


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ("(" * 70 + "3072" + ")" * 70, True),
        ("(" * 99 + "3072" + ")" * 99, True),  # and the call's own bracket
        ("(" * 100 + "3072" + ")" * 100, False),
        ("len('" + "(" * 110 + "')", True),
        ("3072  # " + "[" * 110 + "\n        ", True),
    ],
    ids=["70", "limit", "beyond", "in a string", "in a comment"],
)
def test_all_readers_have_the_same_limit_on_brackets(size: str, fits: bool) -> None:
    """Brackets count where they are code, and count for everybody alike."""
    assert set(accepted(NET.replace("SIZE", size)).values()) == {fits}


def test_all_readers_have_the_same_limit_on_length() -> None:
    """Beyond ``MAX_CHARACTERS`` there is no tree."""
    source = NET.replace("SIZE", "3072") + "#" * parse.MAX_CHARACTERS
    with pytest.raises(parse.SourceError, match="longer than 200000 characters"):
        parse.parse(source)
    assert read(source) is None


@pytest.mark.parametrize(
    ("source", "read_as_it_is"),
    [
        ("# coding: latin-1\nx = 1", False),
        ("\n# coding: latin-1\nx = 1", False),
        ("# a network\n# coding: latin-1\nx = 1", False),
        ("x = 1\n# positional encoding: learned", True),
        ("# coding: utf-8\nx = 1", True),
    ],
)
def test_a_declared_encoding_counts_where_python_looks_for_it(
    source: str, read_as_it_is: bool
) -> None:
    """In the first line, or in the second below a blank line or a comment."""
    assert (parse.try_parse(source) is not None) == read_as_it_is

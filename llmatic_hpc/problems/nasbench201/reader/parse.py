"""A source's syntax tree, for any text whatsoever, in bounded time and without running it."""

from __future__ import annotations

import ast
import re
import warnings

from .values import NotACell

MAX_CHARACTERS = 50_000
"""The canonical source of a cell has at most 1,500."""

MAX_BRACKETS = 40
"""Deepest nesting of brackets that is handed to the parser."""

MAX_LINE = 2_000
"""Longest line."""

MAX_INDENT = 80
"""Deepest indentation, in characters."""

_BRACKET = re.compile(r"[()\[\]{}]")
_INDENT = re.compile(r"^[ \t\f]*", re.MULTILINE)


def parse(source: str) -> ast.Module:
    """The syntax tree of ``source``. Raises :class:`NotACell` where there is none.

    What could exhaust the parser (deep nesting, long lines) is refused before it sees it.
    """
    if len(source) > MAX_CHARACTERS:
        raise NotACell(f"longer than {MAX_CHARACTERS} characters")
    if "\0" in source:
        raise NotACell("does not parse: a NUL character")
    if any(len(line) > MAX_LINE for line in source.split("\n")):
        raise NotACell(f"a line is longer than {MAX_LINE} characters")
    if any(len(found) > MAX_INDENT for found in _INDENT.findall(source)):
        raise NotACell("nested too deeply")
    depth = 0
    for match in _BRACKET.finditer(source):
        depth = max(0, depth + (1 if match[0] in "([{" else -1))
        if depth > MAX_BRACKETS:
            raise NotACell("nested too deeply")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        what = " ".join(str(error.msg).split())[:120]
        raise NotACell(f"does not parse: line {error.lineno or 1}: {what}") from None
    except (RecursionError, MemoryError):
        raise NotACell("nested too deeply") from None
    except ValueError as error:  # a lone surrogate, say
        raise NotACell(f"does not parse: {str(error)[:80]}") from None


class Lines:
    """What stands where in a source."""

    def __init__(self, source: str) -> None:
        self._lines = source.split("\n")

    def line(self, number: int) -> str:
        """A line by its number (from 1), without its indentation."""
        return self._lines[number - 1].strip() if 0 < number <= len(self._lines) else ""

    def text(self, node: ast.expr) -> str:
        """The characters of an expression, in one short line."""
        start, end = node.lineno, node.end_lineno or node.lineno
        lines = [line.encode() for line in self._lines[start - 1 : min(end, start + 5)]]
        if end - start < len(lines):
            lines[end - start] = lines[end - start][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        found = " ".join(b" ".join(lines).decode(errors="replace").split())
        return found if len(found) <= 60 else found[:57] + "..."

"""Find and replace places in a source text by means of its syntax tree. Pure."""

from __future__ import annotations

import ast
import difflib
import functools
import re
from collections.abc import Iterable
from typing import Any, TypeGuard

from ...source.nodes import children, walk
from ...source.parse import parse

Place = tuple[int, int]
"""Line and column of a character, as ``ast`` counts: lines from 1, columns in bytes from 0."""

Span = tuple[int, int, int, int]
"""Place of the first character, and of the one behind the last."""

Splice = tuple[Span, str]
"""A span, and the text to put in its place."""


class NotApplicableError(ValueError):
    """Raised where a rule does not fit the place that a finding names."""


def start_of(node: ast.AST) -> Place:
    """Return the place of a node's first character."""
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def end_of(node: ast.AST) -> Place:
    """Return the place behind a node's last character."""
    return node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]


def span_of(node: ast.AST) -> Span:
    """Return the span of a node."""
    return start_of(node) + end_of(node)


def is_own(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Return whether a node is ``self.something``."""
    match node:
        case ast.Attribute(ast.Name("self")):
            return True
    return False


def methods(owner: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """Return the methods of a class by name, the last one where several share it."""
    return {s.name: s for s in owner.body if isinstance(s, ast.FunctionDef)}


@functools.lru_cache(maxsize=4)
def text_of(source: str) -> Text:
    """Return a source with its syntax tree, which nobody changes. Raises as :class:`Text`."""
    return Text(source)


class Text:
    """A source with its syntax tree; every line of it ends in a newline alone.

    Raises :class:`~llmatic_hpc.source.parse.SourceError` where it has none.
    """

    def __init__(self, source: str) -> None:
        self.source = re.sub(r"\r\n?", "\n", source)  # as Python's tokenizer reads it
        self.tree = parse(self.source)
        self.lines = [line.encode() for line in self.source.split("\n")]
        self.parents = {child: node for node in walk(self.tree) for child in children(node)}

    def node(self, at: Span | None, *kinds: type[ast.AST]) -> Any:
        """Return the node of one of the ``kinds`` that fills the span, or None."""
        nodes = (node for node in walk(self.tree) if isinstance(node, kinds))
        return next((node for node in nodes if span_of(node) == at), None)

    def above(self, node: ast.AST, kind: type[ast.AST]) -> Any:
        """Return the nearest node of a kind that ``node`` stands in, or None."""
        found = self.parents.get(node)
        while found is not None and not isinstance(found, kind):
            found = self.parents.get(found)
        return found

    def segment(self, node: ast.AST) -> str:
        """Return the characters of a node."""
        line, column, end_line, end_column = span_of(node)
        lines = self.lines[line - 1 : end_line]
        lines[-1] = lines[-1][:end_column]
        lines[0] = lines[0][column:]
        return b"\n".join(lines).decode()

    def indent(self, statement: ast.stmt) -> str:
        """Return the white space before a statement that begins its line."""
        before = self.lines[statement.lineno - 1][: statement.col_offset].decode()
        if before.strip():
            raise NotApplicableError("two statements on one line")
        return before

    def spliced(self, splices: Iterable[Splice]) -> str:
        """Return the source with other text in place of some spans."""
        lines = list(self.lines)
        for (line, column, end_line, end_column), text in sorted(splices, reverse=True):
            joined = lines[line - 1][:column] + text.encode() + lines[end_line - 1][end_column:]
            lines[line - 1 : end_line] = joined.split(b"\n")
        return b"\n".join(lines).decode()


def difference(before: str, after: str) -> tuple[str, str]:
    """Return the lines that only one of two texts has, without their indentation.

    Where lines only change places, all from the first to the last of them.
    """
    old, new = ([line.strip() for line in text.split("\n")] for text in (before, after))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    changes = [code[1:] for code in matcher.get_opcodes() if code[0] != "equal"]
    gone = [line for i, j, _, _ in changes for line in old[i:j]]
    come = [line for _, _, k, l in changes for line in new[k:l]]  # noqa: E741
    if sorted(gone) == sorted(come) and changes:
        first, last = changes[0], changes[-1]
        gone, come = old[first[0] : last[1]], new[first[2] : last[3]]
    return "\n".join(gone), "\n".join(come)

"""Find and replace places in a source text by means of its syntax tree. Pure."""

from __future__ import annotations

import ast
import difflib
from typing import Any

Span = tuple[int, int, int, int]
"""Line and column of the first character, and of the one behind the last, as ``ast`` counts:
lines from 1, columns in bytes from 0."""

Splice = tuple[Span, str]
"""A span, and the text to put in its place."""


class NotApplicableError(ValueError):
    """Raised where a rule does not fit the place that a finding names."""


def span_of(node: ast.AST) -> Span:
    """Return the span of a node."""
    return (
        node.lineno,  # type: ignore[attr-defined]
        node.col_offset,  # type: ignore[attr-defined]
        node.end_lineno,  # type: ignore[attr-defined]
        node.end_col_offset,  # type: ignore[attr-defined]
    )


class Text:
    """A source with its syntax tree."""

    def __init__(self, source: str, tree: ast.Module) -> None:
        self.tree = tree
        self.lines = [line.encode() for line in source.split("\n")]
        self.parents = {
            child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }

    def node(self, at: Span, *kinds: type[ast.AST]) -> Any:
        """Return the node of one of the ``kinds`` that fills the span."""
        for node in ast.walk(self.tree):
            if isinstance(node, kinds) and span_of(node) == tuple(at):
                return node
        names = " or ".join(kind.__name__ for kind in kinds)
        raise NotApplicableError(f"no {names} at {at}")

    def segment(self, node: ast.AST) -> str:
        """Return the characters of a node."""
        line, column, end_line, end_column = span_of(node)
        if line == end_line:
            return self.lines[line - 1][column:end_column].decode()
        inner = self.lines[line : end_line - 1]
        first, last = self.lines[line - 1][column:], self.lines[end_line - 1][:end_column]
        return b"\n".join([first, *inner, last]).decode()

    def above(self, node: ast.AST, kind: type[ast.AST]) -> Any:
        """Return the nearest node of a kind that ``node`` stands in."""
        while (found := self.parents.get(node)) is not None:
            if isinstance(found, kind):
                return found
            node = found
        raise NotApplicableError(f"not inside a {kind.__name__}")

    def method(self, inside: ast.AST, name: str) -> ast.FunctionDef:
        """Return a method of the class that ``inside`` is or stands in, the last of its name."""
        owner = inside if isinstance(inside, ast.ClassDef) else self.above(inside, ast.ClassDef)
        for statement in reversed(owner.body):
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                return statement
        raise NotApplicableError(f"class {owner.name} has no method {name}")

    def indent(self, statement: ast.stmt) -> str:
        """Return the white space before a statement that begins its line."""
        before = self.lines[statement.lineno - 1][: statement.col_offset].decode()
        if before.strip():
            raise NotApplicableError("two statements on one line")
        return before

    def spliced(self, splices: list[Splice]) -> str:
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

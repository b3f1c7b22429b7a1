"""The one parser of text that a model wrote; nothing is executed."""

from __future__ import annotations

import ast
import re
import warnings

MAX_BRACKETS = 100
"""Deepest nesting of brackets; CPython's own limit is 200."""


_BRACKET = re.compile(r"[()\[\]{}]")


_CODING = re.compile(r"(?:[^\n\r]*[\n\r]+)?[ \t\f]*#[^\n\r]*coding[:=][ \t]*([-\w.]+)")


class SourceError(ValueError):
    """The source is not a Python module that could be looked at; the message says where."""


def parse(source: str) -> ast.Module:
    """The syntax tree of ``source``; nothing is executed and no warning leaves.

    Raises :class:`SourceError` for whatever the parser cannot take: syntax errors, NUL bytes,
    lone surrogates, nesting that would exhaust it.
    """
    if "\0" in source:
        raise SourceError(f"line {_line(source, source.index(chr(0)))}: NUL character")
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"line {_line(source, error.start)}: not valid Unicode") from None
    coding = _CODING.match(source)
    if coding and coding.group(1).lower() not in ("utf-8", "utf8", "ascii", "us-ascii"):
        # A file of it would be read as something else than what is looked at here.
        raise SourceError(f"coding {coding.group(1)[:40]} is not UTF-8")
    depth = 0
    for match in _BRACKET.finditer(source):
        depth += 1 if match.group() in "([{" else -1
        if depth > MAX_BRACKETS:
            line = _line(source, match.start())
            raise SourceError(f"line {line}: more than {MAX_BRACKETS} nested brackets")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        what = " ".join(str(error.msg).split())[:200]
        raise SourceError(f"line {error.lineno or 1}: SyntaxError: {what}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"the parser gave up: {type(error).__name__}") from None


def _line(source: str, index: int) -> int:
    return source.count("\n", 0, index) + 1

"""The one parser of text that a model wrote, and its limits; nothing is executed.

What could exhaust Python's parser is refused before it sees it, and whatever the parser then
raises becomes a :class:`SourceError`. Brackets within strings and comments do not count.
"""

from __future__ import annotations

import ast
import re
import symtable
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

MAX_CHARACTERS = 200_000
"""Longest text that is parsed; a network takes about a thousand characters."""

MAX_BRACKETS = 100
"""Deepest nesting of brackets; CPython's own limit is 200."""

T = TypeVar("T")

# An unterminated string counts to the end of its line, so that no character is read twice.
_TOKEN = re.compile(
    r'(?P<triple>"""|\'\'\')'
    r'|"(?:\\.|[^"\\\n])*"?'
    r"|'(?:\\.|[^'\\\n])*'?"
    r"|\#[^\n]*"
    r"|(?P<open>[(\[{])"
    r"|(?P<close>[)\]}])"
    r"|(?P<newline>\n)"
)
# These never stand at the start of a line inside brackets: what was open there is broken.
_BREAKS = re.compile(r"(?:class|def|import)\s|@\w|from\s+[\w.]+\s+import\b")
# Python looks for it in the second line only where the first one is blank or a comment.
_CODING = re.compile(
    r"(?:[ \t\f]*(?:#[^\n\r]*)?[\n\r]+)?[ \t\f]*#[^\n\r]*coding[:=][ \t]*([-\w.]+)"
)


class SourceError(ValueError):
    """A text is not a Python module that could be looked at; the message says where and why."""

    def __init__(self, reason: str, *, line: int = 0, kind: str = "") -> None:
        where = f"line {line}: " if line else ""
        super().__init__(f"{where}{kind}{reason}")
        self.line = line
        """Line of the text, from 1; 0 where no line is to blame."""
        self.brief = f"{where}{reason}"
        """The message without the name of Python's exception."""


def parse(source: str) -> ast.Module:
    """Return the syntax tree of ``source``; no warning leaves.

    Raises :class:`SourceError` for whatever the parser cannot take: syntax errors, NUL bytes,
    lone surrogates, another encoding than UTF-8, nesting or length that would exhaust it.
    """
    if len(source) > MAX_CHARACTERS:
        raise SourceError(f"longer than {MAX_CHARACTERS} characters")
    if "\0" in source:
        raise SourceError("NUL character", line=_line(source, source.index("\0")))
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise SourceError("not valid Unicode", line=_line(source, error.start)) from None
    coding = _CODING.match(source)
    if coding and coding.group(1).lower() not in ("utf-8", "utf8", "ascii", "us-ascii"):
        # A file of it would be read as something else than what is looked at here.
        raise SourceError(f"coding {coding.group(1)[:40]} is not UTF-8")
    if line := scan(source).too_deep:
        raise SourceError(f"more than {MAX_BRACKETS} nested brackets", line=line)
    return _guarded(lambda: ast.parse(source))


def try_parse(source: str) -> ast.Module | None:
    """Return the syntax tree of ``source``, or None where :func:`parse` refuses it."""
    try:
        return parse(source)
    except SourceError:
        return None


def symbols(source: str) -> symtable.SymbolTable:
    """Return which names of ``source``, a text that :func:`parse` takes, belong to which scope.

    Raises :class:`SourceError` for a syntax tree that Python would not compile.
    """
    return _guarded(lambda: symtable.symtable(source, "<text>", "exec"))


def _guarded(read: Callable[[], T]) -> T:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except SyntaxError as error:
        reason = " ".join(str(error.msg).split())[:200]
        raise SourceError(reason, line=error.lineno or 1, kind="SyntaxError: ") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"the parser gave up: {type(error).__name__}") from None


def _line(source: str, index: int) -> int:
    return source.count("\n", 0, index) + 1


@dataclass(frozen=True)
class Scan:
    """Brackets and strings of a text, line by line."""

    fresh: list[bool]
    """True where a statement may start at that line: not inside a bracket or a string."""
    too_deep: int
    """First line with more than ``MAX_BRACKETS`` nested brackets; 0: none has."""
    unclosed: bool
    """True where the text ends inside a bracket or a triple-quoted string."""


def scan(text: str) -> Scan:
    """Find brackets and strings in any text, a program or not, in linear time."""
    fresh, depth, nesting, position, unclosed, too_deep = [True], 0, 0, 0, False, 0
    hopeless: set[str] = set()  # triple quotes that nothing closes any more
    while match := _TOKEN.search(text, position):
        position = match.end()
        if quote := match["triple"]:
            if quote in hopeless:
                continue
            end = text.find(quote, position)
            if end < 0:
                hopeless.add(quote)
                unclosed = True
                continue
            fresh.extend([False] * text.count("\n", position, end))
            position = end + len(quote)
        elif match["open"]:
            depth, nesting = depth + 1, nesting + 1
            if nesting > MAX_BRACKETS and not too_deep:
                too_deep = len(fresh)
        elif match["close"]:
            depth, nesting = max(depth - 1, 0), max(nesting - 1, 0)
        elif match["newline"]:
            if depth and _BREAKS.match(text, position):
                depth = 0
            fresh.append(depth == 0)
    return Scan(fresh, too_deep, unclosed or depth > 0)

"""Cut what a language model wrote into statements, without running or trusting any of it.

A completion is rarely a program: it starts or stops in the middle, and prose, fences and
usage examples stand around what matters. So the text is first cut into *chunks*, each from
one line without indentation to the next, and only then is every chunk parsed by itself: one
that is broken spoils no other. Every step is linear in the length of the text.
"""

from __future__ import annotations

import ast
import re
import symtable
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from .parse import MAX_CHARACTERS, SourceError, parse, scan, symbols

MAX_LINE = 5_000
"""A longer line is not code that anybody meant; the text is taken to end before it."""

_TRANSLATION = dict.fromkeys(map(ord, "\x00\x0b\x0c\ufeff\u200b"))
_TRANSLATION[0xA0] = ord(" ")

_FENCE = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)
_CONTINUES = re.compile(r"[\s#)\]}]|(?:else|elif|except|finally)\b")
_HEADER = re.compile(r"class\s+(\w+)")


def clean(text: str) -> str:
    """Return ``text`` as the parser can take it: no NUL, no lone surrogate, spaces for tabs,
    ``\\n`` line ends, no trailing spaces, of bounded size."""
    text = text[:MAX_CHARACTERS].encode("utf-8", "ignore").decode("utf-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_TRANSLATION)
    lines = []
    for line in text.split("\n"):
        if len(line) > MAX_LINE:
            break
        body = line.lstrip(" \t")
        indent = line[: len(line) - len(body)].expandtabs(4)
        lines.append((indent + body).rstrip())
    return "\n".join(lines)


@dataclass(frozen=True)
class Chunk:
    """One statement without indentation, with all that is indented below it."""

    text: str
    last: bool
    """True where nothing follows it, not even a fence: it may have been cut off."""

    @property
    def class_name(self) -> str:
        """Name of the class that it is, or tries to be; empty otherwise."""
        for line in self.text.split("\n"):
            if not line.startswith("@"):
                match = _HEADER.match(line)
                return match[1] if match else ""
        return ""

    @cached_property
    def parsed(self) -> ast.Module | str:
        """The syntax tree, or why there is none."""
        return self._tree_and_table[0]

    @cached_property
    def _tree_and_table(self) -> tuple[ast.Module | str, symtable.SymbolTable | None]:
        try:
            return parse(self.text), symbols(self.text)
        except SourceError as error:
            return error.brief, None

    @cached_property
    def truncated(self) -> bool:
        """True where it does not parse because its end is missing."""
        if not self.last or not isinstance(self.parsed, str):
            return False
        lines = self.text.rstrip().split("\n")
        at = re.match(r"line (\d+)", self.parsed)
        return scan(self.text).unclosed or (at is not None and int(at[1]) >= len(lines) - 1)

    @cached_property
    def free_names(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names it needs from outside: when it is defined, and when it is called."""
        table = self._tree_and_table[1]
        if table is None:
            return frozenset(), frozenset()
        own = {s.get_name() for s in table.get_symbols() if s.is_assigned()}
        early = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
        late: set[str] = set()
        tables = table.get_children()
        while tables:
            inner = tables.pop()
            tables += inner.get_children()
            late |= {s.get_name() for s in inner.get_symbols() if s.is_global()}
        return frozenset(early), frozenset(late - own)


def chunks(text: str) -> list[Chunk]:
    """Return the chunks of clean ``text``; fences divide, comments between them are lost."""
    found: list[Chunk] = []
    fences = list(_FENCE.finditer(text))
    starts = [0, *(f.end() for f in fences)]
    ends = [*(f.start() for f in fences), len(text)]
    for start, end in zip(starts, ends, strict=True):
        # Without the indentation that all lines share (a block inside a list, say).
        parts = list(_split(textwrap.dedent(text[start:end])))
        final = end == len(text)
        found += [Chunk(p, last=final and n == len(parts)) for n, p in enumerate(parts, start=1)]
    return found


def _split(text: str) -> Iterator[str]:
    lines, fresh = text.split("\n"), scan(text).fresh
    chunk: list[str] = []
    decorating = False
    for line, may_start in zip(lines, fresh, strict=True):
        if may_start and line and not _CONTINUES.match(line):
            if chunk and not decorating:
                yield "\n".join(chunk)
                chunk = []
            decorating = line.startswith("@")
        if chunk or (line and line[0] not in " #"):
            chunk.append(line)
    if chunk:
        yield "\n".join(chunk)


def without_last_statement(text: str) -> str:
    """Remove the last logical line, and the block headers that this leaves bare."""
    lines = text.rstrip().split("\n")
    starts = [
        i
        for i, fresh in enumerate(scan("\n".join(lines)).fresh)
        if fresh and lines[i] and not _CONTINUES.match(lines[i].lstrip(" "))
    ]
    if not starts:
        return ""
    end = starts.pop()
    while starts:
        statement = lines[starts[-1] : end]
        code = [s.split("#")[0].rstrip() for s in statement if s.split("#")[0].strip()]
        if not code[-1].endswith(":") and not code[0].lstrip().startswith("@"):
            break
        end = starts.pop()
    return "\n".join(lines[:end]).rstrip()


def always_returns(statements: list[ast.stmt]) -> bool:
    """Return whether every way through ``statements`` returns a value (loops set aside)."""
    for statement in statements:
        if isinstance(statement, ast.Return):
            return statement.value is not None
        if isinstance(statement, ast.If):
            if always_returns(statement.body) and always_returns(statement.orelse):
                return True
        elif isinstance(statement, ast.With) and always_returns(statement.body):
            return True
    return False

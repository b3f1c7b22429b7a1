"""End of the network that was asked for within a text."""

from __future__ import annotations

import re

_FORWARD = re.compile(r"^[ \t]+def forward\b", re.MULTILINE)
_DEDENTED = re.compile(r"^[^\s)\]}]", re.MULTILINE)
_RETURN = re.compile(r"^[ \t]+return\b", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_CLASS = re.compile(r"^[ \t]*class\s+\w", re.MULTILINE)


def end_of_class(text: str, *, form: str) -> int | None:
    """Return the index in ``text`` at which the network is over, or None while it is not.

    completion: at the first line without indentation after ``forward`` (a second class, the
    next instruction in triple quotes, an example of use; a comment only after a ``return``).
    chat: after the fence that closes a code block with a class and its ``forward``.
    """
    return _end_of_block(text) if form == "chat" else _end_of_body(text)


def _end_of_body(text: str) -> int | None:
    forward = _FORWARD.search(text)
    if forward is None:
        return None
    for line in _DEDENTED.finditer(text, forward.end()):
        body = text[forward.end() : line.start()]
        if body.count('"""') % 2 or body.count("'''") % 2:
            continue  # inside a docstring
        if text[line.start()] != "#" or _RETURN.search(body):
            return line.start()
    return None


def _end_of_block(text: str) -> int | None:
    opened: int | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence.end()
            continue
        block = text[opened : fence.start()]
        if _CLASS.search(block) and _FORWARD.search(block):
            return fence.end()
        opened = None
    return None

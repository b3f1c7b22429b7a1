"""Reading of a prompt that a model wrote: a text that nobody trusts, which later requests carry.

It is taken if it is one short paragraph of prose that is none of the known prompts; else the reason
is told. What is allowed is listed, not what is forbidden: a request must not be able to
end the docstring or the turn of a chat that it stands in, nor to pass for code.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

LONGEST, SHORTEST = 300, 10
"""Characters of a prompt."""
FEWEST_WORDS = 3
MARKS = " .,;:!?()'/%+*&-\N{EN DASH}\N{EM DASH}\N{MULTIPLICATION SIGN}" + (
    "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
    "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
)
"""Characters that a prompt may have beside letters and digits."""

_LABEL = re.compile(r"^(?:the |a )?(?:new |rewritten )?(?:instruction|prompt)\s*:\s*", re.I)
_QUOTES = {'"': '"', "'": "'", "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}"}
# A call, an attribute of what networks are written with, the head of a statement.
_CODE = re.compile(
    r"[\w.]\((?!s\))|\b(?:self|torch|nn|F)\.\w|'''|"
    r"\b(?:import|def|class|lambda|return)\s+\w+\s*[(:.]|^(?:import|from|def|class|return|#)\s"
)
_WORD = re.compile(r"[^\W\d_]{2,}")


class Read(NamedTuple):
    """A prompt, or why there is none."""

    text: str
    failure: str
    """Empty where the text may be a prompt."""


def read(completion: str, known: Iterable[str], *, finished: bool = True) -> Read:
    """Read a prompt from what a model wrote, as it is.

    ``known``: all prompts so far; ``finished``: False where the model was cut off.
    """
    text = _bare(completion)
    return Read(text, _failure(text, known, finished))


def _bare(completion: str) -> str:
    """Strip control and other invisible characters, a label, and quotes around the whole."""
    seen = (one for one in completion if one.isspace() or unicodedata.category(one)[0] != "C")
    text = _LABEL.sub("", "".join(seen).strip()).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    paragraphs = re.split(r"\n[^\S\n]*\n", text)
    text = "\n\n".join(" ".join(one.split()) for one in paragraphs if one.strip())
    return text.replace('"', "'")  # one that continues text is asked in triple double quotes


def _failure(text: str, known: Iterable[str], finished: bool) -> str:
    """Say why a text is no prompt; empty: it is one."""
    if not text:
        return "nothing was written"
    if not finished:
        return "it was cut off (generator.max_new_tokens)"
    if "\n" in text:
        return "more than one paragraph"
    if len(text) > LONGEST:
        return f"{len(text)} characters, {LONGEST} are allowed"
    if foreign := sorted({one for one in text if not (one.isalnum() or one in MARKS)}):
        return f"has {' '.join(map(repr, foreign[:5]))}, which no prompt has: code or mark-up"
    if _CODE.search(text):
        return "reads like code"
    if len(text) < SHORTEST or len(_WORD.findall(text)) < FEWEST_WORDS:
        return f"fewer than {FEWEST_WORDS} words"
    if any(_plain(text) == _plain(other) for other in known):
        return "repeats a prompt"
    return ""


def _plain(text: str) -> str:
    """Return letters and digits alone: case, marks and articles make no prompt another one."""
    words = re.findall(r"[^\W_]+", text.casefold())
    return "".join(word for word in words if word not in ("a", "an", "the"))

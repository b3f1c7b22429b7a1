"""Requests as templates: a text with fields, of which the least useful go where room is short.

A template is plain text with fields such as ``$parents``; ``$$`` is a dollar. A paragraph, which
blank lines end, is left out where one of its fields has nothing to say. Rendering is a pure
function of template and fields, so that the same record gives the same request again.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..errors import ConfigError
from ..types import REWRITING

NAMES = ("mutation", "crossover", "random")
"""A template for each operator, ``NAME.txt``."""

NEEDED = ("parents", "instruction", "advice")
"""Fields that are never left out."""

LEAST_USEFUL = ("examples", "layers", "tried", "failures", "score", "target", "task")
"""The other fields, in the order in which they are left out where room is short."""

OF_REWRITING = ("instruction", "others", "task")
"""Fields of ``rewriting.txt``, which asks for a new prompt: the prompt that is rewritten, which is
needed; the other prompts; the task."""

_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_+|\n+|[ \t]{2,}")
_LETTERS = 4


@dataclass(frozen=True)
class Part:
    """Content of a field: a line, or a head and lines below it, the most useful first."""

    head: str
    lines: Sequence[str] = ()
    is_list: bool = False
    """True where the head means nothing without a line."""

    @property
    def text(self) -> str:
        """Return what stands in place of the field; empty: nothing is to be said."""
        if self.is_list and not self.lines:
            return ""
        return "\n".join([self.head, *(f"- {line}" for line in self.lines)])


def tokens(text: str) -> int:
    """Estimate how many tokens a model takes a text for, without the model.

    A piece of up to four letters, a digit and a mark count as one each, which is rather more than
    models of code need.
    """
    pieces = _PIECES.findall(text)
    return sum(math.ceil(len(p) / _LETTERS) if p[0].isalpha() else 1 for p in pieces)


def load(folder: str, names: Sequence[str] = NAMES) -> dict[str, str]:
    """Read templates by their names: those of ``folder``, and the shipped ones it has not.

    Raises :class:`ConfigError` where one cannot be read, has an unknown field or lacks the one
    that it is about.
    """
    shipped = resources.files(__package__) / "templates"
    if folder and not Path(folder).is_dir():
        raise ConfigError(f"generator.templates: {folder} is no folder")
    found = {}
    for name in names:
        own = Path(folder, f"{name}.txt") if folder else None
        try:
            place = own if own is not None and own.exists() else shipped / f"{name}.txt"
            found[name] = place.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"generator.templates: {own} cannot be read: {error}") from error
        where = str(own if own is not None and own.exists() else f"{name}.txt")
        if name == REWRITING:
            _check(found[name], where, OF_REWRITING, "instruction")
        else:
            _check(found[name], where, (*NEEDED, *reversed(LEAST_USEFUL)), "parents")
    return found


def _check(template: str, where: str, known: Sequence[str], needed: str) -> None:
    """Refuse a template without the field that is ``needed``, or with one that there is not."""
    fields = set()
    for match in string.Template.pattern.finditer(template):
        if match.group("escaped") is not None:
            continue
        if match.group("invalid") is not None:
            line = template.count("\n", 0, match.start()) + 1
            raise ConfigError(f"generator.templates: {where}: line {line}: a $ alone; write $$")
        fields.add(match.group("named") or match.group("braced"))
    if unknown := sorted(fields - {*known}):
        raise ConfigError(
            f"generator.templates: {where}: unknown field ${unknown[0]}; there are "
            f"{', '.join(f'${name}' for name in known)}"
        )
    if needed not in fields:
        raise ConfigError(f"generator.templates: {where}: the field ${needed} is missing")


def least(template: str, needed: Mapping[str, str]) -> int:
    """Return the estimated tokens of a request that says only what it must."""
    return tokens(_filled(template, dict(needed)))


def render(template: str, needed: Mapping[str, str], parts: Mapping[str, Part], most: int) -> str:
    """Make the text of a request.

    Args:
        template: one that :func:`load` returned.
        needed: texts of the fields :data:`NEEDED`.
        parts: those of :data:`LEAST_USEFUL`; a missing one has nothing to say.
        most: the estimated tokens that it may have; where that is too few for what is needed, the
            needed is all there is.
    """
    left = dict(parts)
    text = _filled(template, {**{name: part.text for name, part in left.items()}, **needed})
    for name in LEAST_USEFUL:
        while name in left and tokens(text) > most:
            part = left.pop(name)
            if len(part.lines) > 1:
                left[name] = Part(part.head, part.lines[:-1], part.is_list)
            text = _filled(template, {**{n: one.text for n, one in left.items()}, **needed})
    return text


def rewriting(template: str, instruction: str, others: Sequence[str], task: str) -> str:
    """Make the text of a request for a new prompt in place of ``instruction``."""
    listed = "\n".join(f"- {other}" for other in others)
    return _filled(template, {"instruction": instruction, "others": listed, "task": task})


def _filled(template: str, values: Mapping[str, str]) -> str:
    paragraphs = re.split(r"\n[ \t]*\n", template)
    known = {name: values.get(name, "") for name in (*NEEDED, *LEAST_USEFUL, *OF_REWRITING)}
    kept = [
        string.Template(paragraph).substitute(known)
        for paragraph in paragraphs
        if all(known[name] or name == "advice" for name in _fields(paragraph))
    ]
    return "\n\n".join(kept).strip()


def _fields(paragraph: str) -> list[str]:
    found = string.Template.pattern.finditer(paragraph)
    names = (match.group("named") or match.group("braced") for match in found)
    return [name for name in names if name]

"""Extraction of one network from what a model wrote, or of the reason why there is none.

Nothing is executed. Any text whatsoever is answered, in time linear in its length.
"""

from __future__ import annotations

import ast
import builtins
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..source import chunks
from ..source.chunks import Chunk
from ..source.network import STANDARD_NAMES, Ancestry, ancestry, dotted, imports, names_in, returned
from ..source.parse import try_parse
from ..types import Completion, Request
from .prompts import shown

STANDARD_IMPORTS = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
"""At the top of every candidate, as in the paper."""

_FORGOTTEN = {
    "math": "import math",
    "OrderedDict": "from collections import OrderedDict",
    "Tensor": "from torch import Tensor",
    "np": "import numpy as np",
}
"""Imports that models take for granted."""

_THOUGHTS = re.compile(r"^</think>", re.MULTILINE)
"""End of a reasoning model's thoughts, after which its answer begins."""

NO_CLASS = "no class that derives from nn.Module"
CUT_OFF = "the class is cut off"


@dataclass(frozen=True)
class Extracted:
    """A candidate's source, or an empty one and what is missing."""

    source: str
    failure: str = ""


def extract(text: str, *, form: str, prefix: str = "", context: Sequence[str] = ()) -> Extracted:
    """Extract the network in ``text``, normalised.

    The source starts with the imports of torch, goes on with the helpers that the network
    uses (wherever they stood) and ends with the network, its last class. Everything else, such
    as prints, optimisers and examples of use, is left out.

    Args:
        text: what the model wrote.
        form: ``completion``, ``chat``, or ``source``, a network that is left as it is. In a
            completion the class that the prompt began is the network if it is complete;
            otherwise, and in a chat, it is the last complete class that derives from nn.Module
            and that no other class uses.
        prefix: what of the prompt ``text`` continues, in the completion form.
        context: sources that the model was shown: helpers and imports that the network uses
            and ``text`` does not define are taken from there.
    """
    if not text.strip():
        return Extracted("", "the completion is empty")
    if form == "source":
        return Extracted(text)
    text = chunks.clean(text)
    if form == "completion":
        text = prefix + text
    else:
        text = _THOUGHTS.split(text)[-1]
    try:
        shown = [c for source in context for c in chunks.chunks(chunks.clean(source))]
        return _Reader(shown, chunks.chunks(text)).network(first=form == "completion")
    except RecursionError:  # the walks over a tree that just passed the parser
        return Extracted("", "expressions are nested too deeply")


def extracted_from(completion: Completion, request: Request, helpers: str = "") -> Extracted:
    """The network in a completion; what it lacks is taken from what the model was shown, or from
    the problem's ``helpers``."""
    return extract(
        completion.text,
        form=completion.form,
        prefix=completion.prefix,
        context=() if completion.form == "source" else (helpers, shown(request)),
    )


class _Reader:
    """Definitions by name over the chunks of the context and of the text, in that order."""

    def __init__(self, shown: list[Chunk], written: list[Chunk]) -> None:
        self.chunks = shown + written
        self.own = len(shown)
        """Chunks from here on are the model's."""
        self.definitions: dict[str, list[int]] = defaultdict(list)
        self.imports: dict[str, str] = {}
        self.origins: dict[str, str] = dict(STANDARD_NAMES)
        self.stars: list[str] = []
        self.classes: dict[int, ast.ClassDef] = {}
        for number, chunk in enumerate(self.chunks):
            self._index(number, chunk)

    def _index(self, number: int, chunk: Chunk) -> None:
        if not isinstance(chunk.parsed, ast.Module):
            return
        for node in chunk.parsed.body:
            match node:
                case ast.Import() | ast.ImportFrom():
                    self._index_import(node)
                case ast.ClassDef(name) | ast.FunctionDef(name):
                    self.definitions[name].append(number)
                    if isinstance(node, ast.ClassDef):
                        self.classes[number] = node
                case ast.Assign() | ast.AnnAssign():
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    for name in (name for target in targets for name in names_in(target)):
                        self.definitions[name].append(number)

    def _index_import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.ImportFrom) and (node.level or node.module in (None, "__future__")):
            return
        for alias in node.names:
            single: ast.stmt = ast.Import([alias])
            if isinstance(node, ast.ImportFrom):
                single = ast.ImportFrom(node.module, [alias], 0)
            statement = ast.unparse(single)
            for name, origin in imports([single]).items():
                if name != "*":
                    self.imports[name] = statement
                    self.origins.setdefault(name, origin)
                elif origin.startswith("torch.") and statement not in self.stars:
                    self.stars.append(statement)

    def network(self, *, first: bool) -> Extracted:
        """Choose the network; ``first``: the first class is it, if it can be."""
        written = range(self.own, len(self.chunks))
        tries = [n for n in written if self.chunks[n].class_name]
        complete = [n for n in tries if not self._flaw(n)]
        if first and complete and complete[0] == tries[0]:
            return self._compose(complete[0])
        used = self._used(tries)
        free = [n for n in complete if self.chunks[n].class_name not in used]
        if free:
            return self._compose(free[-1])
        if tries and (salvaged := self._salvage(tries[-1])):
            self.chunks[tries[-1]] = Chunk(salvaged, last=False)
            return self._compose(tries[-1])
        if complete and not any(self.chunks[n].truncated for n in tries):
            return self._compose(complete[-1])
        flaws = [flaw for n in tries if (flaw := self._flaw(n)) not in ("", NO_CLASS)]
        if flaws:
            return Extracted("", flaws[0 if first else -1])
        return Extracted("", CUT_OFF if complete else NO_CLASS)

    def _used(self, classes: Iterable[int]) -> set[str]:
        """Return the names of classes that another network class, even a cut-off one, needs."""
        used: set[str] = set()
        for number in classes:
            chunk = self.chunks[number]
            if self._flaw(number) == NO_CLASS:
                continue
            if chunk.truncated:  # by its body: what a torso derives from may be a network
                body = " ".join(s for s in chunk.text.split("\n") if s.startswith(" "))
                names = set(re.findall(r"\w+", body))
            else:
                names = set().union(*chunk.free_names)
            used |= names - {chunk.class_name}
        return used

    def _flaw(self, number: int) -> str:
        """Return why the class in a chunk is not a complete network; empty if it is one."""
        chunk = self.chunks[number]
        if isinstance(chunk.parsed, str):
            if not self._header_derives(chunk):
                return NO_CLASS
            if chunk.truncated:
                return CUT_OFF
            return f"class {chunk.class_name} does not parse: {chunk.parsed}"
        node = self.classes[number]
        inherited = self._ancestry(number, node)
        if inherited is None:
            return NO_CLASS
        forward = next(
            (s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "forward"), None
        )
        if not inherited.has_forward:
            return CUT_OFF if chunk.last else f"class {node.name} has no forward method"
        if forward is not None and not any(returned(forward)):
            return CUT_OFF if chunk.last else f"forward of class {node.name} returns nothing"
        return ""

    def _header_derives(self, chunk: Chunk) -> bool:
        header = next(s for s in chunk.text.split("\n") if s.startswith("class"))
        parsed = try_parse(header + " pass") if header.endswith(":") else None
        if parsed is None or not parsed.body:
            return "Module" in header
        node = parsed.body[0]
        return isinstance(node, ast.ClassDef) and bool(self._ancestry(len(self.chunks), node))

    def _ancestry(self, number: int, node: ast.ClassDef) -> Ancestry | None:
        """Return what the class in chunk ``number`` inherits; None: it is no class of torch.nn."""
        places = {id(node): number}

        def path(base: ast.expr) -> str | None:
            name = base.id if isinstance(base, ast.Name) else ""
            if (known := dotted(base, self.origins)) is not None or not name:
                return known
            return f"torch.nn.{name}" if name == "Module" or self.stars else None

        def find(current: ast.ClassDef, name: str) -> ast.ClassDef | None:
            place = self._find(name, places[id(current)])
            if place is None or place not in self.classes:
                return None
            places.setdefault(id(self.classes[place]), place)
            return self.classes[place]

        return ancestry(node, path, find)

    def _find(self, name: str, number: int) -> int | None:
        """Find the chunk that defines ``name`` for chunk ``number``: the last one before it, else
        (unless it is a class of that name) the first after it, else one that the model was shown.
        """
        places = self.definitions.get(name, [])
        middle = bisect_left(places, number)
        if middle and (places[middle - 1] >= self.own or number < self.own):
            return places[middle - 1]
        later = [p for p in places[middle : middle + 2] if p != number]
        if later and name != self.chunks[number].class_name:
            return later[0]
        return places[middle - 1] if middle else None

    def _salvage(self, number: int) -> str:
        """Return a cut-off class without its unfinished statement, if that completes it."""
        chunk = self.chunks[number]
        if not chunk.truncated or not self._header_derives(chunk):
            return ""
        text = chunks.without_last_statement(chunk.text)
        if _is_whole(text):
            return text
        node = _only_class(text)
        if node is None or not isinstance(method := node.body[-1], ast.FunctionDef):
            return ""
        # The method that was being written goes, too: what stands before it may do.
        first = min([method.lineno, *(d.lineno for d in method.decorator_list)])
        text = "\n".join(text.split("\n")[: first - 1]).rstrip()
        return text if _is_whole(text) else ""

    def _compose(self, target: int) -> Extracted:
        """Join imports, the helpers that ``target`` needs, and it."""
        needed, statements, unknown = {target}, set[str](), False
        todo = [target]
        while todo:
            number = todo.pop()
            chunk = self.chunks[number]
            early, late = chunk.free_names
            for name in sorted(early | late):
                if name in STANDARD_NAMES:
                    continue
                if (found := self._find(name, number)) is not None:
                    if found not in needed:
                        needed.add(found)
                        todo.append(found)
                elif name == chunk.class_name:
                    continue
                elif statement := self.imports.get(name) or _FORGOTTEN.get(name):
                    statements.add(statement)
                elif not hasattr(builtins, name):
                    unknown = True
        if unknown:
            statements.update(self.stars)
        parts = [_statement(self.chunks[n]) for n in [*sorted(needed - {target}), target]]
        plain = sorted(s for s in statements if s.startswith("import "))
        others = sorted(statements - set(plain))
        head = "".join(f"{s}\n" for s in plain) + STANDARD_IMPORTS
        head += "".join(f"{s}\n" for s in others)
        source = "\n\n".join([head, *(f"{p}\n" for p in parts)])
        flaw = Chunk(source, last=False).parsed
        return (
            Extracted("", f"does not parse: {flaw}") if isinstance(flaw, str) else Extracted(source)
        )


def _only_class(text: str) -> ast.ClassDef | None:
    parsed = Chunk(text, last=False).parsed
    node = parsed.body[-1] if isinstance(parsed, ast.Module) and parsed.body else None
    return node if isinstance(node, ast.ClassDef) else None


def _is_whole(text: str) -> bool:
    """Return whether what is left of a class has its constructor and a forward that returns."""
    node = _only_class(text)
    methods = {s.name: s for s in node.body if isinstance(s, ast.FunctionDef)} if node else {}
    return (
        "__init__" in methods
        and "forward" in methods
        and chunks.always_returns(methods["forward"].body)
    )


def _statement(chunk: Chunk) -> str:
    """Return a chunk's text without the comments that trail its statement."""
    assert isinstance(chunk.parsed, ast.Module)
    end = chunk.parsed.body[-1].end_lineno
    return "\n".join(chunk.text.split("\n")[:end])

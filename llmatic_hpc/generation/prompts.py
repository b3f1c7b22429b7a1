"""Prompts for a model: the paper's, for models that continue text, and a chat."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from ..source import chunks
from ..source.parse import try_parse
from ..types import REWRITING, Problem, Request

PREFIX = "class Net(nn.Module):"
"""The last line of a completion prompt, which the model continues."""

SYSTEM = "You write PyTorch networks. Answer with one Python code block only."


SYSTEM_OF_PROMPTS = "You write instructions for changing PyTorch networks. Answer with one only."


IMPORTS = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F"

LONGEST_ERROR = 400
"""Characters of an error that a model is shown."""


def shown(request: Request) -> str:
    """Return the source text that stands above the instruction.

    One parent stands there as it is. Several are joined as in appendix A of the paper: the
    imports once, then the networks, renamed to ``Net1``, ``Net2`` and so on; a helper that
    two parents define differently gets the number of its network, too, and one that they define
    alike stands there once.
    """
    if request.operator != "crossover" or len(request.parents) < 2:
        return request.parents[0].strip()
    imports: list[str] = []
    bodies: list[str] = []
    helpers: set[str] = set()
    taken: set[str] = set()
    for number, parent in enumerate(request.parents, start=1):
        body: list[str] = []
        for chunk in chunks.chunks(chunks.clean(parent)):
            if chunk.text.startswith(("import ", "from ")):
                statement = _without_trailing_comments(chunk.text)
                imports += [statement] if statement not in imports else []
            elif (definition := _without_trailing_comments(chunk.text)) not in helpers:
                body.append(definition)
        helpers |= set(body[:-1])
        text = "\n\n".join(body)
        names = _defined(text)
        renamed = {name: f"{name}{number}" for name in names if name in taken}
        if classes := [name for name, node in names.items() if isinstance(node, ast.ClassDef)]:
            renamed[classes[-1]] = f"Net{number}"
        bodies.append(rename(text, renamed))
        taken |= set(_defined(bodies[-1]))
    return "\n\n".join(["\n".join(imports), *bodies])


def completion_prompt(request: Request) -> str:
    """Return the paper's prompt (appendix A), with the start of the class to be written.

    An informed request stands above the class as a text of Python. What was written before and does
    not fit follows as code, with its error.
    """
    if request.text:
        told = request.text.replace('"""', "'''")
        asked = f'"""\n{told}\n"""\n\n{IMPORTS}'
    else:
        asked = f'{shown(request)}\n\n"""{request.instruction}"""'
    if request.error:
        answered = f"{PREFIX}{request.answered}".rstrip()
        asked += f'\n\n{answered}\n\n"""{corrected(request)}"""'
    return f"{asked}\n\n{PREFIX}"


def chat_messages(request: Request, problem: Problem) -> list[dict[str, str]]:
    """Return the messages for a model with a chat template, with the shapes said explicitly.

    Small models get most shapes wrong, told or not, and short advice helps them most. From
    Qwen2.5-Coder-0.5B (three completions to each of the paper's prompts, temperature 0.7) 10 of
    39 networks fit; advice that also explained what pooling does to the size left 3 of 39.
    A request for a new prompt (operator ``rewriting``) has its whole text with it.
    """
    if request.operator == REWRITING:
        return [
            {"role": "system", "content": SYSTEM_OF_PROMPTS},
            {"role": "user", "content": request.text},
        ]
    user = request.text or (
        f"```python\n{shown(request)}\n```\n\n"
        f"{request.instruction.rstrip('.')}.\n\n"
        "Write the complete new class `Net` with its imports in one Python code block. "
        f"{problem.advice or shapes(problem)}"
    )
    asked = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]
    if not request.error:
        return asked
    return [
        *asked,
        {"role": "assistant", "content": request.answered or "(nothing)"},
        {"role": "user", "content": corrected(request)},
    ]


def corrected(request: Request) -> str:
    """Say the error of what was written before, and ask for it once more."""
    error = " ".join(request.error.split())[:LONGEST_ERROR]
    return (
        f"That network does not work: {error}. Write the complete corrected class `Net` with its "
        "imports in one Python code block."
    )


def shapes(problem: Problem) -> str:
    """Say the shapes of input and output, and how to keep count in between."""
    size = ", ".join(map(str, problem.input_shape))
    said = f"Shapes: the input is (N, {size}), the output is (N, {problem.classes})."
    if len(problem.input_shape) != 3:
        return said
    _, height, width = problem.input_shape
    return (
        f"{said} Convolutions have kernel size 3 with padding 1, or kernel size 1. The first "
        f"Linear layer takes channels * {height} * {width} features; flatten right before it."
    )


def rename(source: str, names: Mapping[str, str]) -> str:
    """``source`` with top-level definitions renamed wherever they are used, by position in the
    syntax tree (so that neither texts nor attributes are touched); as it is if it does not
    parse."""
    tree = try_parse(source)
    if tree is None:
        return source
    lines = [line.encode() for line in source.split("\n")]  # columns count bytes
    spots: set[tuple[int, int, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            spots.add((node.lineno - 1, node.col_offset, node.id))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in names:
            header = lines[node.lineno - 1]
            at = re.compile(rb"(?:class|def)\s+").match(header)
            if at:
                spots.add((node.lineno - 1, at.end(), node.name))
    for line, column, name in sorted(spots, reverse=True):
        text, end = lines[line], column + len(name.encode())
        if text[column:end] == name.encode():  # before Python 3.12 f-strings misplace names
            lines[line] = text[:column] + names[name].encode() + text[end:]
    return b"\n".join(lines).decode()


def _without_trailing_comments(text: str) -> str:
    lines = text.split("\n")
    while lines and (not lines[-1] or lines[-1].startswith("#")):
        lines.pop()
    return "\n".join(lines)


def _defined(text: str) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """Return what ``text`` defines at its top level, by name."""
    tree = try_parse(text)
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)} if tree else {}

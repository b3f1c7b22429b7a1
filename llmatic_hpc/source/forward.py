"""Tell from the text of a network what its forward pass does beside computing. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .allowlist import MODULE_CLASSES, words
from .network import live
from .parse import parse

_FACTORIES = MODULE_CLASSES | words("""
    tensor as_tensor scalar_tensor from_numpy zeros ones full empty arange linspace logspace eye
    rand randn randint randperm normal tril_indices triu_indices hann_window hamming_window
    fftfreq rfftfreq vander Tensor FloatTensor LongTensor BoolTensor
    generate_square_subsequent_mask Parameter Buffer
""")
_SPOIL = words("""
    item tolist cpu cuda numpy nonzero unique unique_consecutive masked_select setattr next iter
    random np rand randn randint randperm rand_like randn_like randint_like normal normal_ uniform_
    bernoulli bernoulli_ multinomial gumbel_softmax random_ fractional_max_pool2d
    fractional_max_pool3d append extend insert pop remove clear update setdefault add_module
    register_buffer register_parameter appendleft popleft train eval
""")
"""Names of what reads from a device, draws, or keeps something outside of tensors."""
_BRANCHES = (ast.If, ast.IfExp, ast.While, ast.Assert)
_SPOILING = (ast.Global, ast.Nonlocal, ast.Try, ast.Raise, ast.Delete, ast.Match)


def makes_tensors(source: str) -> bool:
    """Return whether the forward pass makes tensors or layers, which needs to be told where."""
    calls = (node for node in _reached(source) if isinstance(node, ast.Call))
    return any(_last_name(call.func) in _FACTORIES for call in calls)


def repeats_itself(source: str) -> bool:
    """Return whether a step does the same to whatever images, so that it may be recorded once.

    Only a sieve, and a fine one: what it lets through is compared with plain steps.
    """
    return all(map(_is_plain, _reached(source)))


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, _BRANCHES):  # on what a network was made with, such as self.shortcut
        names = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
        return names <= {"self"} and not any(isinstance(n, ast.Call) for n in ast.walk(node.test))
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
        return not any(isinstance(n, ast.Name) and n.id == "self" for n in ast.walk(node))
    return not isinstance(node, _SPOILING) and _last_name(node) not in _SPOIL


def _reached(source: str) -> Iterator[ast.AST]:
    """Yield the nodes of all functions that ``forward`` reaches by name, and of all lambdas."""
    nodes = list(ast.walk(live(parse(source))))
    functions: dict[str, list[ast.AST]] = {}
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            functions.setdefault(node.name, []).append(node)
    due = [*functions.pop("forward", []), *(n for n in nodes if isinstance(n, ast.Lambda))]
    while due:
        for node in ast.walk(due.pop()):
            due += functions.pop(_last_name(node), [])
            yield node


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(name):
            return name
    return ""

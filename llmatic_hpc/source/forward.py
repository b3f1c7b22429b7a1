"""Tell from the text of a network what its forward pass does beside computing. Pure.

What counts are the functions that ``forward`` reaches by name, and every lambda and function
within a function; what only ``__init__`` calls does not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from . import allowlist
from .allowlist import words
from .network import live
from .parse import parse

_FACTORIES = words("""
    tensor as_tensor scalar_tensor from_numpy zeros ones full empty arange linspace logspace eye
    rand randn randint randperm normal tril_indices triu_indices hann_window hamming_window
    fftfreq rfftfreq vander Tensor FloatTensor LongTensor BoolTensor
    generate_square_subsequent_mask Parameter Buffer
""")
_READS = words("item tolist cpu cuda numpy nonzero unique unique_consecutive masked_select")
_DRAWS = words("""
    random np numpy rand randn randint randperm rand_like randn_like randint_like normal normal_
    uniform_ bernoulli bernoulli_ multinomial gumbel_softmax random_ fractional_max_pool2d
    fractional_max_pool3d
""")
_CHANGES = words("""
    append extend insert pop remove clear update setdefault add_module register_buffer
    register_parameter register_module appendleft popleft rotate train eval requires_grad_
""")
_NAMES = words("setattr next iter globals vars")
_SHAPES = words("shape ndim size dim numel training dtype device is_cuda")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def makes_tensors(source: str) -> bool:
    """Return whether the forward pass makes tensors or layers, for which a device is named."""
    made = _FACTORIES | allowlist.MODULE_CLASSES
    return any(
        isinstance(node, ast.Call) and _last_name(node.func) in made for node in _reached(source)
    )


def repeats_itself(source: str) -> bool:
    """Return whether a step does the same to whatever images, so that it may be recorded once.

    Nothing is read from a device, drawn or kept outside of tensors, and no branch depends on
    values. Only a sieve: what it lets through is compared with plain steps.
    """
    return all(map(_is_plain, _reached(source)))


def _reached(source: str) -> Iterator[ast.AST]:
    """Yield the nodes of all functions that a forward pass may call."""
    functions: dict[str, list[ast.AST]] = {}
    inner: list[ast.AST] = []
    for node in ast.walk(live(parse(source))):
        if isinstance(node, _FUNCTIONS):
            functions.setdefault(node.name, []).append(node)
            inner += [n for n in ast.walk(node) if n is not node and isinstance(n, _FUNCTIONS)]
        elif isinstance(node, ast.Lambda):
            inner.append(node)
    due = [*functions.pop("forward", []), *inner]
    functions.pop("__init__", None)
    seen: set[int] = set()
    while due:
        for node in ast.walk(due.pop()):
            if id(node) not in seen:
                seen.add(id(node))
                due += functions.pop(_last_name(node), [])
                yield node


def _is_plain(node: ast.AST) -> bool:
    match node:
        case ast.Global() | ast.Nonlocal() | ast.Try() | ast.Raise() | ast.Delete():
            return False
        case ast.Assign(targets=targets):
            return not any(map(_is_own, targets))
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return not _is_own(target)
        case (
            ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test)
        ):
            return _is_fixed(test)
        case ast.comprehension(ifs=tests):
            return all(map(_is_fixed, tests))
        case ast.Call(func=ast.Attribute(attr=name, value=owner)) if name in _CHANGES:
            return not _is_own(owner)
        case ast.Name() | ast.Attribute():
            return _last_name(node) not in _READS | _DRAWS | _NAMES
    return True


def _is_fixed(test: ast.AST) -> bool:
    """Return whether a condition looks at shapes, modes and constants alone."""
    match test:
        case ast.Name():
            return False
        case ast.Attribute(attr=name):
            return name in _SHAPES or _is_own(test)
        case ast.Call(func=ast.Name("len" | "isinstance" | "hasattr")):
            return True
        case ast.Call(func=function):
            return _last_name(function) in _SHAPES
        case ast.Compare(ops=ops) if all(isinstance(op, ast.Is | ast.IsNot) for op in ops):
            return True
    return all(_is_fixed(n) for n in ast.iter_child_nodes(test) if isinstance(n, ast.expr))


def _is_own(node: ast.AST) -> bool:
    """Return whether it is an attribute of ``self``, or a part of one."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
        if isinstance(node, ast.Name):
            return node.id == "self"
    return isinstance(node, ast.Tuple | ast.List) and any(map(_is_own, node.elts))


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(name):
            return name
    return ""

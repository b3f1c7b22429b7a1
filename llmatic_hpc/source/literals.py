"""Refuse constants, arithmetic and formats that are large whatever the variables hold."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable

from .nodes import walk

MAX_INT = (1 << 31) - 1
MAX_REPEAT = 1 << 16
MAX_EXPONENT = 64

_WIDE = re.compile(r"%[^%a-zA-Z]*(\*|\d{4})")


def excess(op: ast.operator, left: ast.expr | None, right: ast.expr) -> str:
    """Return why ``left op right`` is refused; empty if it is not. ``left`` may be unknown."""
    a, b = (None if left is None else fold(left)), fold(right)
    if isinstance(op, ast.Pow):
        if any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow) for n in walk(right)):
            return "a power of a power is not allowed"
        if b is not None and abs(b) > MAX_EXPONENT and type(a) is not float:
            return f"an exponent beyond {MAX_EXPONENT}"
    if isinstance(op, ast.LShift) and b is not None and b > MAX_EXPONENT:
        return f"a shift by more than {MAX_EXPONENT}"
    if isinstance(op, ast.Mult):
        for side, times in ((left, b), (right, a)):
            if _is_sequence(side) and times is not None and times > MAX_REPEAT:
                return f"a sequence repeated more than {MAX_REPEAT} times"
    text = left.value if isinstance(left, ast.Constant) else None
    if isinstance(op, ast.Mod) and isinstance(text, str) and _WIDE.search(text):
        return "a format this wide is not allowed"
    if left is not None:
        return too_large(fold(ast.BinOp(left, op, right)))
    return ""


def too_large(value: object) -> str:
    """Return why a constant is refused; empty if it is not."""
    if type(value) is int and abs(value) > MAX_INT:
        return f"an integer beyond {MAX_INT}"
    return ""


def bad_format(text: str) -> str:
    """Return why ``text.format(...)`` is refused: its fields must not look into the arguments."""
    try:
        fields = list(string.Formatter().parse(text))
    except ValueError:
        return "not a valid format"
    for _, name, spec, _ in fields:
        if re.search(r"[.\[]", name or "") or re.search(r"[{]|\d{4}", spec or ""):
            return "a format that looks into its arguments is not allowed"
    return ""


def _is_sequence(node: ast.expr | None) -> bool:
    text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return text or isinstance(node, (ast.List, ast.Tuple, ast.JoinedStr))


def fold(node: ast.expr) -> float | None:
    """Compute an arithmetic expression of small constants; None for anything else."""
    if isinstance(node, ast.Constant):
        value = node.value
        return value if isinstance(value, (int, float)) and type(value) is not bool else None
    if isinstance(node, ast.UnaryOp):
        operand = fold(node.operand)
        return -operand if operand is not None and isinstance(node.op, ast.USub) else operand
    if not isinstance(node, ast.BinOp):
        return None
    a, b = fold(node.left), fold(node.right)
    return None if a is None or b is None else arithmetic(node.op, a, b)


def arithmetic(op: ast.operator, a: float, b: float) -> float | None:
    """Compute ``a op b``, both within MAX_INT; None where that is not possible or not supported."""
    operation = _FOLDS.get(type(op))
    try:
        # An exponent is at most MAX_EXPONENT, so this is at most a few hundred bytes.
        return operation(a, b) if operation else None
    except (ArithmeticError, ValueError, TypeError):
        return None


def _shift(a: float, b: float) -> float:
    return int(a) << int(b) if 0 <= b <= MAX_EXPONENT else 0


def _power(a: float, b: float) -> float:
    value = a**b if abs(b) <= MAX_EXPONENT else 0
    return value if isinstance(value, (int, float)) else 0


_FOLDS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: _power,
    ast.LShift: _shift,
}

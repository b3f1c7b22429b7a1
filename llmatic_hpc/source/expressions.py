"""Check expressions, and targets of assignments, for the gate."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from . import allowlist, literals, network
from .literals import fold
from .scopes import Names, Refused, quoted

MAX_RANGE = 1 << 20


class Expressions(Names):
    """One walk over expressions; raises :class:`.Refused` at what is not allowed."""

    def expression(self, node: ast.expr) -> None:
        handler = _EXPRESSIONS.get(type(node))
        if handler is None:
            raise Refused(node, f"{kind(node)} is not allowed")
        handler(self, node)

    def _optional(self, node: ast.expr | None) -> None:
        if node is not None:
            self.expression(node)

    def _annotation(self, node: ast.expr | None) -> None:
        """Check what is removed before anything runs: here, and only here, typing may be used."""
        self.annotating = True
        self._optional(node)
        self.annotating = False

    def _children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expression(child)

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, (bytes, complex)):
            raise Refused(node, f"constants of type {type(value).__name__} are not allowed")
        self._refuse(node, literals.too_large(value))

    def _refuse(self, node: ast.AST, why: str) -> None:
        if why:
            raise Refused(node, why)

    def _binary(self, node: ast.BinOp) -> None:
        self.expression(node.left)
        self.expression(node.right)
        self._refuse(node, literals.excess(node.op, node.left, node.right))

    def _call(self, node: ast.Call) -> None:
        if self.annotating:
            raise Refused(node, "a call in an annotation is not allowed")
        function = node.func
        name = function.id if isinstance(function, ast.Name) else ""
        self.called.add(id(function))
        if isinstance(function, ast.Attribute) and function.attr == "type":
            self.called.update(map(id, node.args))
        if name in _SPECIAL_CALLS and not self.local(name) and name not in self.globals:
            _SPECIAL_CALLS[name](self, node)
        elif isinstance(function, ast.Attribute) and function.attr == "__init__":
            self._initialize(function)
        elif isinstance(function, ast.Attribute) and function.attr == "format":
            text = function.value
            if not isinstance(text, ast.Constant) or not isinstance(text.value, str):
                raise Refused(node, "format is only allowed of a constant string")
            self._refuse(node, literals.bad_format(text.value))
        else:
            self.expression(function)
        for argument in node.args:
            self.expression(argument)
        tensor = network.dotted(function, self.paths) in allowlist.TENSOR_CLASSES
        for keyword in node.keywords:
            name = keyword.arg or ""
            if name.startswith("__") or name == "cdata":
                raise Refused(node, f"the keyword {quoted(name)} is not allowed")
            if tensor and not name:
                raise Refused(node, "** is not allowed in making a tensor")
            self.expression(keyword.value)

    def _super(self, node: ast.Call) -> None:
        names = all(isinstance(a, ast.Name) for a in node.args)
        if len(node.args) not in (0, 2) or not names or node.keywords or self.self_name is None:
            raise Refused(node, "super is only allowed as super() in a method")

    def _print(self, node: ast.Call) -> None:
        if any(k.arg not in ("sep", "end", "flush") for k in node.keywords):
            raise Refused(node, "print may only print")

    def _iter(self, node: ast.Call) -> None:
        if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
            raise Refused(node, "iter is only allowed with one argument")

    def _hasattr(self, node: ast.Call) -> None:
        name = node.args[1] if len(node.args) == 2 else None
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str) or node.keywords:
            raise Refused(node, "hasattr is only allowed with a constant name")
        if allowlist.ESCAPES.fullmatch(name.value):
            raise Refused(node, f"the attribute .{quoted(name.value)} is not allowed")

    def _isinstance(self, node: ast.Call) -> None:
        for kinds in node.args[1:]:
            self.called.add(id(kinds))
            self.called.update(map(id, getattr(kinds, "elts", ())))

    def _range(self, node: ast.Call) -> None:
        for argument in node.args:
            value = fold(argument)
            if value is not None and abs(value) > MAX_RANGE:
                raise Refused(node, f"a range beyond {MAX_RANGE}")

    def _initialize(self, function: ast.Attribute) -> None:
        """Check a call of a base class's ``__init__``, by ``super()`` or by its name."""
        base = function.value
        if self.self_name is None:
            raise Refused(function, "__init__ is only called in a method")
        if (
            isinstance(base, ast.Call)
            and isinstance(base.func, ast.Name)
            and base.func.id == "super"
        ):
            self.expression(base)
        elif not (isinstance(base, ast.Name) and base.id in self.classes) and (
            network.dotted(base, self.paths) not in allowlist.TORCH_BASES
        ):
            raise Refused(function, "__init__ is only called of a base class")

    def _formatted(self, node: ast.FormattedValue) -> None:
        self.expression(node.value)
        for part in getattr(node.format_spec, "values", []):
            if not isinstance(part, ast.Constant) or re.search(r"\d{4}", str(part.value)):
                raise Refused(node, "a format that varies or is this wide is not allowed")

    def _lambda(self, node: ast.Lambda) -> None:
        self._signature(node.args)
        parameters = [a.arg for a in network.parameters(node.args)]
        self_name = None if self.self_name in parameters else self.self_name
        with self.scope(parameters, self_name=self_name):
            self.expression(node.body)

    def _comprehension(self, node: Any) -> None:
        first = node.generators[0]
        self.expression(first.iter)
        names = {
            n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)
        }
        if self.self_name in names:
            raise Refused(node, f"{self.self_name} is bound again")
        with self.scope(names, self_name=self.self_name):
            for generator in node.generators:
                if generator.is_async:
                    raise Refused(node, "async is not allowed")
                if generator is not first:
                    self.expression(generator.iter)
                self.target(generator.target)
                for condition in generator.ifs:
                    self.expression(condition)
            for part in ("key", "value", "elt"):
                self._optional(getattr(node, part, None))

    def _signature(self, arguments: ast.arguments) -> None:
        for argument in network.parameters(arguments):
            if argument.arg.startswith("__"):
                raise Refused(argument, f"the name {quoted(argument.arg)} is not allowed")
            self._annotation(argument.annotation)
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            self._optional(default)

    def target(self, node: ast.expr) -> None:
        """Check a target of an assignment. Names are bound by their scopes already."""
        if isinstance(node, ast.Name):
            constants_of_class = node.id == "__constants__" and self.class_scope is not None
            if node.id.startswith("__") and not constants_of_class:
                raise Refused(node, f"the name {quoted(node.id)} is not allowed")
        elif isinstance(node, (ast.Tuple, ast.List)):
            for element in node.elts:
                self.target(element)
        elif isinstance(node, ast.Starred):
            self.target(node.value)
        elif isinstance(node, ast.Attribute):
            self.assignable(node)
        elif isinstance(node, ast.Subscript):
            root: ast.expr = node
            while isinstance(root, (ast.Attribute, ast.Subscript)):
                root = root.value
            if isinstance(root, ast.Name) and root.id in self.paths and not self.local(root.id):
                raise Refused(node, "assignment into torch is not allowed")
            self.expression(node)
        else:
            raise Refused(node, f"assignment to {kind(node)} is not allowed")


def kind(node: ast.AST) -> str:
    names = {"Try": "try", "TryStar": "try", "NamedExpr": ":=", "Match": "match"}
    return names.get(type(node).__name__, type(node).__name__.lower())


_EXPRESSIONS: dict[type[ast.expr], Callable[[Expressions, Any], None]] = {
    ast.Name: Expressions.name,
    ast.Attribute: Expressions.attribute,
    ast.Constant: Expressions._constant,
    ast.BinOp: Expressions._binary,
    ast.Call: Expressions._call,
    ast.Lambda: Expressions._lambda,
    ast.FormattedValue: Expressions._formatted,
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp), Expressions._comprehension),
    ast.GeneratorExp: Expressions._comprehension,
    **dict.fromkeys((ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp), Expressions._children),
    **dict.fromkeys((ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred), Expressions._children),
    **dict.fromkeys((ast.Subscript, ast.Slice, ast.JoinedStr), Expressions._children),
}

_SPECIAL_CALLS: dict[str, Callable[[Expressions, ast.Call], None]] = {
    "super": Expressions._super,
    "print": Expressions._print,
    "iter": Expressions._iter,
    "hasattr": Expressions._hasattr,
    "isinstance": Expressions._isinstance,
    "range": Expressions._range,
}

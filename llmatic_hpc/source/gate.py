"""The gate: whether a source may be run at all. It reads; it never executes or imports.

This is an allow-list, of kinds of syntax, of imports, of names and of attributes
(:mod:`.allowlist`), so that what nobody thought of is refused. The rules:

- Only what a network needs of Python: classes at the top level, functions, ``for``, ``if``,
  comprehensions, lambdas, ``assert`` and ``raise``. A ``while`` only if its body changes what
  its condition looks at. No ``try``, ``global``, ``yield``, ``await``, ``match``, ``:=``.
- A name is a parameter or variable that its scope binds, an import, a definition, or an
  allowed builtin. Names of imports are never bound again.
- Behind an import, the whole dotted path must be allowed; a module is never a value. Names
  of ``typing`` are for annotations, which nothing ever evaluates, and for aliases of those.
- Classes of tensors are called, or asked for by ``isinstance``; they are no values either.
- Behind any other value, an attribute must be one of tensors and modules that is allowed, or
  one that the source itself assigns or defines. What it may assign excludes the interface
  of ``nn.Module`` and every refused attribute of a tensor.
- No name with two leading underscores, save ``__init__``, ``__repr__`` and ``__constants__``
  of a class, and ``__name__`` in ``if __name__ == "__main__"``.
- Constants, constant arithmetic, ranges and repeated lists are bounded, and so are the number
  and depth of nodes.

What the gate cannot see is what values do at run time: memory, time and shapes are bounded by
the containment that a candidate runs in, which does not rely on the gate.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..types import PENDING
from . import allowlist, literals, network
from .literals import fold
from .parse import SourceError, parse
from .scopes import Names, Refused, quoted

MAX_NODES = 20_000
MAX_DEPTH = 120
MAX_RANGE = 1 << 20


@dataclass(frozen=True)
class Verdict:
    """``pending`` (let in), ``invalid``, ``forbidden`` or ``too_large``, and one line why."""

    status: str
    failure: str = ""


def check(source: str, *, max_bytes: int) -> Verdict:
    """Looks at ``source`` and decides; raises nothing, whatever ``source`` is.

    - ``too_large``: longer than ``max_bytes`` in UTF-8.
    - ``invalid``: not Python, uses a name that is nowhere defined, or has no network
      (:func:`.network.network_class`).
    - ``forbidden``: does something outside of the rules above; the failure names what and
      the line.
    - ``pending``: fit to be run by a contained child.
    """
    size = len(source) if len(source) > max_bytes else len(source.encode(errors="replace"))
    if size > max_bytes:
        return Verdict(
            "too_large", f"{size} bytes, more than containment.source_bytes = {max_bytes}"
        )
    try:
        tree = parse(source)
        _check_size(tree)
        _Gate(tree).check()
    except SourceError as error:
        return Verdict("invalid", str(error))
    except Refused as refused:
        return Verdict(refused.status, f"line {refused.line}: {refused.what}")
    except (RecursionError, MemoryError) as error:
        return Verdict("invalid", f"too deeply nested to be looked at: {type(error).__name__}")
    if network.network_class(tree) is None:
        return Verdict("invalid", allowlist.NO_NETWORK)
    return Verdict(PENDING)


def _check_size(tree: ast.Module) -> None:
    """Bounds the number of nodes and their depth, without recursion."""
    level: list[ast.AST] = [tree]
    count = depth = 0
    while level:
        count += len(level)
        depth += 1
        if count > MAX_NODES:
            raise Refused(level[0], f"more than {MAX_NODES} syntax nodes")
        if depth > MAX_DEPTH:
            raise Refused(level[0], f"syntax nested more than {MAX_DEPTH} deep")
        level = [child for node in level for child in ast.iter_child_nodes(node)]


class _Gate(Names):
    """One walk over one tree."""

    def check(self) -> None:
        self.declare()
        for statement in self.tree.body:
            self.statement(statement)

    def _function(self, node: ast.FunctionDef) -> None:
        method = self.class_scope is not None
        if getattr(node, "type_params", None):
            raise Refused(node, "type parameters are not allowed")
        for decorator in node.decorator_list:
            plain = decorator.id if isinstance(decorator, ast.Name) else ""
            known = plain in ("property", "staticmethod")
            if not known or self.local(plain) or plain in self.globals:
                raise Refused(node, "only @property and @staticmethod are allowed")
        name = node.name
        if name.startswith("__") and not (method and name in allowlist.METHODS):
            raise Refused(node, f"a function of the name {quoted(name)} is not allowed")
        arguments = node.args
        self._signature(arguments)
        self._annotation(node.returns)
        parameters = [a.arg for a in network.parameters(arguments)]
        bound = {name for s in node.body for name in network.bindings(s)}
        self_name = (
            None if self.self_name in parameters or self.self_name in bound else self.self_name
        )
        static = any(
            isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list
        )
        if method:
            positional = [*arguments.posonlyargs, *arguments.args]
            first = positional[0].arg if positional and not static else None
            self_name = None if first in bound else first
        with self.scope([*parameters, *bound], self_name=self_name):
            for statement in node.body:
                self.statement(statement)

    def _signature(self, arguments: ast.arguments) -> None:
        for argument in network.parameters(arguments):
            if argument.arg.startswith("__"):
                raise Refused(argument, f"the name {quoted(argument.arg)} is not allowed")
            self._annotation(argument.annotation)
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            self._optional(default)

    def _class(self, node: ast.ClassDef) -> None:
        if self.scopes or self.class_scope is not None:
            raise Refused(node, "classes are only allowed at the top level")
        if node.decorator_list or node.keywords or getattr(node, "type_params", None):
            raise Refused(node, "decorators and keywords of a class are not allowed")
        for base in node.bases:
            path = network.dotted(base, self.paths)
            local = isinstance(base, ast.Name) and (
                base.id in self.classes
                or (base.id in allowlist.PYTHON_BASES and base.id not in self.globals)
            )
            if not local and path not in allowlist.TORCH_BASES:
                self.expression(base)
                what = quoted(path or ast.unparse(base))
                raise Refused(node, f"a class may not derive from {what}")
        bound = {name for s in node.body for name in network.bindings(s)}
        for name in bound:
            self.bindable(name, node)
            if name in allowlist.RESERVED:
                raise Refused(node, f"{quoted(name)} belongs to nn.Module")
            if name not in allowlist.METHODS and allowlist.ESCAPES.fullmatch(name):
                raise Refused(node, f"the attribute .{quoted(name)} is not allowed")
            if name in allowlist.HIDDEN:
                raise Refused(node, f"the attribute .{quoted(name)} is not allowed")
        self.class_scope = bound
        for statement in node.body:
            self.statement(statement)
        self.class_scope = None

    # --- statements ----------------------------------------------------------------------

    def statement(self, node: ast.stmt) -> None:
        handler = _STATEMENTS.get(type(node))
        if handler is None:
            raise Refused(node, f"{_kind(node)} is not allowed")
        handler(self, node)

    def _body(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def _import_statement(self, node: ast.stmt) -> None:
        if node not in self.tree.body:
            raise Refused(node, "imports are only allowed at the top level")

    def _assign(self, node: ast.Assign) -> None:
        if any(isinstance(t, ast.Name) and t.id in self.hints for t in node.targets):
            return self._annotation(node.value)
        self.expression(node.value)
        for target in node.targets:
            self.target(target)
        return None

    def _augmented(self, node: ast.AugAssign) -> None:
        self.expression(node.value)
        self._refuse(node, literals.excess(node.op, None, node.value))
        self.target(node.target)
        if isinstance(node.target, ast.Name):
            self.name(node.target)

    def _annotated(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        if node.value is not None:
            self.expression(node.value)
            self.target(node.target)
        elif not isinstance(node.target, ast.Name):
            self.target(node.target)

    def target(self, node: ast.expr) -> None:
        """Something that is assigned to. Names are bound by their scopes already."""
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
            raise Refused(node, f"assignment to {_kind(node)} is not allowed")

    def _for(self, node: ast.For) -> None:
        self.expression(node.iter)
        self.target(node.target)
        self._body([*node.body, *node.orelse])

    def _while(self, node: ast.While) -> None:
        looked_at = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
        changed = {name for s in node.body for name in network.bindings(s)}
        if not looked_at & changed:
            raise Refused(node, "a while whose condition nothing in it changes is not allowed")
        self.expression(node.test)
        self._body([*node.body, *node.orelse])

    def _if(self, node: ast.If) -> None:
        if not (network.is_main_guard(node) and node in self.tree.body):
            self.expression(node.test)
        self._body([*node.body, *node.orelse])

    def _with(self, node: ast.With) -> None:
        for item in node.items:
            call = item.context_expr
            path = network.dotted(call.func, self.paths) if isinstance(call, ast.Call) else None
            if path not in ("torch.no_grad", "torch.enable_grad") or item.optional_vars:
                raise Refused(node, "with is only allowed for torch.no_grad()")
            self.expression(call)
        self._body(node.body)

    def _raise(self, node: ast.Raise) -> None:
        self._optional(node.exc)
        self._optional(node.cause)

    def _assert(self, node: ast.Assert) -> None:
        self.expression(node.test)
        self._optional(node.msg)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not (isinstance(target, ast.Name) and self.scopes and target.id in self.scopes[-1]):
                raise Refused(node, "del is only allowed for a variable of the function")
            self.target(target)

    def _nothing(self, node: ast.AST) -> None:
        pass

    # --- expressions ---------------------------------------------------------------------

    def expression(self, node: ast.expr) -> None:
        handler = _EXPRESSIONS.get(type(node))
        if handler is None:
            raise Refused(node, f"{_kind(node)} is not allowed")
        handler(self, node)

    def _optional(self, node: ast.expr | None) -> None:
        if node is not None:
            self.expression(node)

    def _annotation(self, node: ast.expr | None) -> None:
        """It is removed before anything runs; so here, and only here, typing may be used."""
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
        """``__init__`` of a base class: ``super().__init__()``, ``nn.Module.__init__(self)``."""
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


def _kind(node: ast.AST) -> str:
    names = {"Try": "try", "TryStar": "try", "NamedExpr": ":=", "Match": "match"}
    return names.get(type(node).__name__, type(node).__name__.lower())


_STATEMENTS: dict[type[ast.stmt], Callable[[_Gate, Any], None]] = {
    ast.FunctionDef: _Gate._function,
    ast.ClassDef: _Gate._class,
    ast.Import: _Gate._import_statement,
    ast.ImportFrom: _Gate._import_statement,
    ast.Assign: _Gate._assign,
    ast.AugAssign: _Gate._augmented,
    ast.AnnAssign: _Gate._annotated,
    ast.For: _Gate._for,
    ast.While: _Gate._while,
    ast.If: _Gate._if,
    ast.With: _Gate._with,
    ast.Raise: _Gate._raise,
    ast.Assert: _Gate._assert,
    ast.Delete: _Gate._delete,
    ast.Return: _Gate._children,
    ast.Expr: _Gate._children,
    ast.Pass: _Gate._nothing,
    ast.Break: _Gate._nothing,
    ast.Continue: _Gate._nothing,
}

_EXPRESSIONS: dict[type[ast.expr], Callable[[_Gate, Any], None]] = {
    ast.Name: _Gate.name,
    ast.Attribute: _Gate.attribute,
    ast.Constant: _Gate._constant,
    ast.BinOp: _Gate._binary,
    ast.Call: _Gate._call,
    ast.Lambda: _Gate._lambda,
    ast.FormattedValue: _Gate._formatted,
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp), _Gate._comprehension),
    ast.GeneratorExp: _Gate._comprehension,
    **dict.fromkeys((ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp), _Gate._children),
    **dict.fromkeys((ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred), _Gate._children),
    **dict.fromkeys((ast.Subscript, ast.Slice, ast.JoinedStr), _Gate._children),
}

_SPECIAL_CALLS: dict[str, Callable[[_Gate, ast.Call], None]] = {
    "super": _Gate._super,
    "print": _Gate._print,
    "iter": _Gate._iter,
    "hasattr": _Gate._hasattr,
    "isinstance": _Gate._isinstance,
    "range": _Gate._range,
}

"""Decide whether a source may be run at all. The gate reads; it never executes or imports.

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
from collections.abc import Callable, Iterable
from typing import Any

from ..types import PENDING, Screened
from . import allowlist, literals, network
from .expressions import Expressions, kind
from .parse import SourceError, parse
from .scopes import Refused, quoted

MAX_NODES = 20_000
MAX_DEPTH = 120


def check(source: str, *, max_bytes: int) -> Screened:
    """Return what the text alone decides; raises nothing, whatever ``source`` is.

    - ``too_large``: longer than ``max_bytes`` in UTF-8.
    - ``invalid``: not Python, uses a name that is nowhere defined, or has no network
      (:func:`.network.network_class`).
    - ``forbidden``: does something outside of the rules above; the failure names what and
      the line.
    - ``pending``: fit to be run by a contained child.
    """
    size = len(source) if len(source) > max_bytes else len(source.encode(errors="replace"))
    if size > max_bytes:
        return Screened(
            "too_large", f"{size} bytes, more than containment.source_bytes = {max_bytes}"
        )
    try:
        tree = parse(source)
        _check_size(tree)
        _Gate(tree).check()
    except SourceError as error:
        return Screened("invalid", str(error))
    except Refused as refused:
        return Screened(refused.status, f"line {refused.line}: {refused.what}")
    except (RecursionError, MemoryError) as error:
        return Screened("invalid", f"too deeply nested to be looked at: {type(error).__name__}")
    if network.network_class(tree) is None:
        return Screened("invalid", allowlist.NO_NETWORK)
    return Screened(PENDING)


def _check_size(tree: ast.Module) -> None:
    """Bound the number of nodes and their depth, without recursion."""
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


class _Gate(Expressions):
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
            raise Refused(node, f"{kind(node)} is not allowed")
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

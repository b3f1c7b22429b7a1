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
import re
from collections.abc import Iterable
from dataclasses import replace

from ..types import PENDING, Screened
from . import allowlist, canonical, literals, network
from .nodes import children
from .parse import SourceError, parse
from .scopes import Names, Refused, quoted

MAX_NODES = 20_000
MAX_DEPTH = 120
MAX_RANGE = 1 << 20


def check(source: str, *, max_bytes: int, digest: bool = False) -> Screened:
    """Return what the text alone decides; raises nothing, whatever ``source`` is.

    - ``too_large``: longer than ``max_bytes`` in UTF-8.
    - ``invalid``: not Python, uses a name that is nowhere defined, or has no network
      (:func:`.network.network_class`).
    - ``forbidden``: does something outside of the rules above; the failure names what and
      the line.
    - ``pending``: fit to be run by a contained child.

    With ``digest``, whatever it is that can be parsed has its canonical one.
    """
    size = len(source) if len(source) > max_bytes else len(source.encode(errors="replace"))
    if size > max_bytes:
        return Screened(
            "too_large", f"{size} bytes, more than containment.source_bytes = {max_bytes}"
        )
    try:
        tree = parse(source)
    except SourceError as error:
        return Screened("invalid", str(error))
    verdict = _verdict(tree)
    return (
        replace(verdict, canonical_sha256=canonical.canonical_sha256(tree)) if digest else verdict
    )


def _verdict(tree: ast.Module) -> Screened:
    try:
        _check_size(tree)
        _Gate(tree).check()
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
        level = [child for node in level for child in children(node, operators=True)]


_AS_ITS_PARTS = (
    *(ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice, ast.JoinedStr),
    *(ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred),
    *(ast.Return, ast.Expr, ast.Assert, ast.Raise, ast.Pass, ast.Break, ast.Continue),
)
"""Kinds of syntax that are allowed if the expressions in them are."""


class _Gate(Names):
    """One walk over one tree; raises :class:`.Refused` at what is not allowed."""

    def check(self) -> None:
        self.declare()
        self._all(self.tree.body)

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _AS_ITS_PARTS):
            raise Refused(node, f"{_kind(node)} is not allowed")
        for child in children(node):
            if isinstance(child, ast.expr):
                self.visit(child)

    def _all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    # --- statements ----------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        method = self.class_scope is not None
        if getattr(node, "type_params", None):
            raise Refused(node, "type parameters are not allowed")
        plain = [d.id if isinstance(d, ast.Name) else "" for d in node.decorator_list]
        for name in plain:
            known = name in ("property", "staticmethod")
            if not known or self.local(name) or name in self.globals:
                raise Refused(node, "only @property and @staticmethod are allowed")
        if node.name.startswith("__") and not (method and node.name in allowlist.METHODS):
            raise Refused(node, f"a function of the name {quoted(node.name)} is not allowed")
        self._signature(node.args)
        self._annotation(node.returns)
        parameters = [a.arg for a in network.parameters(node.args)]
        bound = set(network.bindings(*node.body))
        self_name = self.self_name
        if method:
            positional = [a.arg for a in [*node.args.posonlyargs, *node.args.args]]
            self_name = positional[0] if positional and "staticmethod" not in plain else None
        elif self_name in parameters:
            self_name = None
        with self.scope([*parameters, *bound], None if self_name in bound else self_name):
            self._all(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
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
                self.visit(base)
                what = quoted(path or ast.unparse(base))
                raise Refused(node, f"a class may not derive from {what}")
        bound = dict.fromkeys(network.bindings(*node.body))
        for name in bound:  # in the order of the source: of two faults the first is told
            self.bindable(name, node)
            if name in allowlist.RESERVED:
                raise Refused(node, f"{quoted(name)} belongs to nn.Module")
            if name not in allowlist.METHODS:
                self.hidden(name, node)
        self.class_scope = set(bound)
        self._all(node.body)
        self.class_scope = None

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        if node not in self.tree.body:
            raise Refused(node, "imports are only allowed at the top level")

    visit_ImportFrom = visit_Import

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(t, ast.Name) and t.id in self.hints for t in node.targets):
            self._annotation(node.value)
        else:
            self.visit(node.value)
            for target in node.targets:
                self._target(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self._bounded(node, literals.excess(node.op, None, node.value))
        self._target(node.target)
        if isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)
        if node.value is not None or not isinstance(node.target, ast.Name):
            self._target(node.target)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._target(node.target)
        self._all([*node.body, *node.orelse])

    def visit_While(self, node: ast.While) -> None:
        if network.names_in(node.test).isdisjoint(network.bindings(*node.body)):
            raise Refused(node, "a while whose condition nothing in it changes is not allowed")
        self._all([node.test, *node.body, *node.orelse])

    def visit_If(self, node: ast.If) -> None:
        guard = network.is_main_guard(node) and node in self.tree.body
        self._all([*([] if guard else [node.test]), *node.body, *node.orelse])

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            call = item.context_expr
            path = network.dotted(call.func, self.paths) if isinstance(call, ast.Call) else None
            if path not in ("torch.no_grad", "torch.enable_grad") or item.optional_vars:
                raise Refused(node, "with is only allowed for torch.no_grad()")
            self.visit(call)
        self._all(node.body)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not (isinstance(target, ast.Name) and self.scopes and target.id in self.scopes[-1]):
                raise Refused(node, "del is only allowed for a variable of the function")
            self._target(target)

    # --- expressions ---------------------------------------------------------------------

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, (bytes, complex)):
            name = type(node.value).__name__
            raise Refused(node, f"constants of type {name} are not allowed")
        self._bounded(node, literals.too_large(node.value))

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._all([node.left, node.right])
        self._bounded(node, literals.excess(node.op, node.left, node.right))

    def visit_Call(self, node: ast.Call) -> None:
        if self.annotating:
            raise Refused(node, "a call in an annotation is not allowed")
        function = node.func
        self.called.add(id(function))
        match function:
            case ast.Name(name) if not self.local(name) and name not in self.globals:
                self._named_call(name, node)
            case ast.Attribute(attr="__init__"):
                self._initialize(function)
            case ast.Attribute(text, "format"):
                if not isinstance(text, ast.Constant) or not isinstance(text.value, str):
                    raise Refused(node, "format is only allowed of a constant string")
                self._bounded(node, literals.bad_format(text.value))
            case _:
                if isinstance(function, ast.Attribute) and function.attr == "type":
                    self.called.update(map(id, node.args))
                self.visit(function)
        self._all(node.args)
        tensor = network.dotted(function, self.paths) in allowlist.TENSOR_CLASSES
        for keyword in node.keywords:
            name = keyword.arg or ""
            if name.startswith("__") or name == "cdata":
                raise Refused(node, f"the keyword {quoted(name)} is not allowed")
            if tensor and not name:
                raise Refused(node, "** is not allowed in making a tensor")
            self.visit(keyword.value)

    def _named_call(self, name: str, node: ast.Call) -> None:
        """Check a call of a name that the source does not bind; some builtins have own rules."""
        match name, node.args:
            case "super", arguments:
                names = all(isinstance(a, ast.Name) for a in arguments)
                plain = len(arguments) in (0, 2) and names and not node.keywords
                if not plain or self.self_name is None:
                    raise Refused(node, "super is only allowed as super() in a method")
            case "print", _:
                if any(k.arg not in ("sep", "end", "flush") for k in node.keywords):
                    raise Refused(node, "print may only print")
            case "iter", arguments:
                if len(arguments) != 1 or node.keywords or isinstance(arguments[0], ast.Starred):
                    raise Refused(node, "iter is only allowed with one argument")
            case "hasattr", [_, ast.Constant(str(attr))] if not node.keywords:
                if allowlist.ESCAPES.fullmatch(attr):
                    raise Refused(node, f"the attribute .{quoted(attr)} is not allowed")
            case "hasattr", _:
                raise Refused(node, "hasattr is only allowed with a constant name")
            case "isinstance", arguments:
                for kinds in arguments[1:]:
                    self.called.update(map(id, [kinds, *getattr(kinds, "elts", ())]))
            case "range", bounds:
                if any(abs(literals.fold(bound) or 0) > MAX_RANGE for bound in bounds):
                    raise Refused(node, f"a range beyond {MAX_RANGE}")
            case _:
                self.visit(node.func)

    def _initialize(self, function: ast.Attribute) -> None:
        """Check a call of a base class's ``__init__``, by ``super()`` or by its name."""
        if self.self_name is None:
            raise Refused(function, "__init__ is only called in a method")
        match function.value:
            case ast.Call(ast.Name("super")) as base:
                self.visit(base)
            case ast.Name(name) if name in self.classes:
                pass
            case base if network.dotted(base, self.paths) not in allowlist.TORCH_BASES:
                raise Refused(function, "__init__ is only called of a base class")

    def visit_FormattedValue(self, node: ast.FormattedValue) -> None:
        self.visit(node.value)
        for part in getattr(node.format_spec, "values", []):
            if not isinstance(part, ast.Constant) or re.search(r"\d{4}", str(part.value)):
                raise Refused(node, "a format that varies or is this wide is not allowed")

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._signature(node.args)
        parameters = [a.arg for a in network.parameters(node.args)]
        with self.scope(parameters, None if self.self_name in parameters else self.self_name):
            self.visit(node.body)

    def visit_ListComp(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        first = node.generators[0]
        self.visit(first.iter)
        names = network.names_in(*(g.target for g in node.generators))
        if self.self_name in names:
            raise Refused(node, f"{self.self_name} is bound again")
        with self.scope(names, self.self_name):
            for generator in node.generators:
                if generator.is_async:
                    raise Refused(node, "async is not allowed")
                if generator is not first:
                    self.visit(generator.iter)
                self._target(generator.target)
                self._all(generator.ifs)
            self._all(getattr(node, part, None) for part in ("key", "value", "elt"))

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    # --- parts of both -------------------------------------------------------------------

    def _annotation(self, node: ast.expr | None) -> None:
        """Check what is removed before anything runs: here, and only here, typing may be used."""
        self.annotating = True
        self._all([node])
        self.annotating = False

    def _bounded(self, node: ast.AST, excess: str) -> None:
        if excess:
            raise Refused(node, excess)

    def _signature(self, arguments: ast.arguments) -> None:
        for argument in network.parameters(arguments):
            if argument.arg.startswith("__"):
                raise Refused(argument, f"the name {quoted(argument.arg)} is not allowed")
            self._annotation(argument.annotation)
        self._all(network.defaults(arguments))

    def _target(self, node: ast.expr) -> None:
        """Check a target of an assignment. Names are bound by their scopes already."""
        match node:
            case ast.Name(name):
                constants_of_class = name == "__constants__" and self.class_scope is not None
                if name.startswith("__") and not constants_of_class:
                    raise Refused(node, f"the name {quoted(name)} is not allowed")
            case ast.Tuple(elements) | ast.List(elements):
                for element in elements:
                    self._target(element)
            case ast.Starred(value):
                self._target(value)
            case ast.Attribute():
                self.assignable(node)
            case ast.Subscript():
                if self.imported(network.root(node)):
                    raise Refused(node, "assignment into torch is not allowed")
                self.visit(node)
            case _:
                raise Refused(node, f"assignment to {_kind(node)} is not allowed")


def _kind(node: ast.AST) -> str:
    names = {"Try": "try", "TryStar": "try", "NamedExpr": ":=", "Match": "match"}
    return names.get(type(node).__name__, type(node).__name__.lower())

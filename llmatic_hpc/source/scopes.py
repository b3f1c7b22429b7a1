"""Resolve names and attributes of a source for the gate, and refuse what is not allowed."""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

from . import allowlist, network
from .nodes import walk

_PYTHON_NAMES = frozenset(vars(builtins))
_KNOWN_MODULES = ("torch.nn", "torch.nn.functional", "torch.nn.init", "math", "typing")
"""Modules of which all names are known: those that are allowed, and those that are not."""

_NAMING = ("add_module", "register_buffer", "register_module", "register_parameter")
"""Methods whose first argument becomes an attribute."""


class Refused(Exception):  # noqa: N818 (a verdict, not a fault)
    def __init__(self, node: ast.AST, what: str, *, status: str = "forbidden") -> None:
        super().__init__(what)
        self.line = getattr(node, "lineno", 1)
        self.what = what
        self.status = status


def quoted(name: str) -> str:
    """Shorten a name of the source for a message."""
    return name if len(name) <= 80 else name[:77] + "..."


class Names(ast.NodeVisitor):
    """The scopes of one tree while it is walked, and the rules for names and attributes."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.paths: dict[str, str] = {}
        self.unused: set[str] = set()
        self.globals: set[str] = set()
        self.classes: dict[str, set[str]] = {}
        self.instances: set[str] = set()
        """Variables of the top level that hold nothing but an instance of a class here."""
        self.hints: set[str] = set()
        """Variables of the top level that hold nothing but a type hint."""
        self.annotating = False
        self.called: set[int] = set()
        """Nodes that are called, or asked for by ``isinstance``."""
        self.own, self.prefixes = _own_attributes(tree)
        self.scopes: list[set[str]] = []
        self.class_scope: set[str] | None = None
        self.self_name: str | None = None

    def declare(self) -> None:
        """Note what the top level imports and binds."""
        self._imports()
        for statement in self.tree.body:
            if isinstance(statement, network.IMPORTS):
                continue
            for name in network.bindings(statement):
                self.bindable(name, statement)
                self.globals.add(name)
            if isinstance(statement, ast.ClassDef):
                methods = [m for m in statement.body if isinstance(m, ast.FunctionDef)]
                self.classes[statement.name] = {m.name for m in methods if not m.decorator_list}
        bound = Counter(network.bindings(*self.tree.body))
        for statement in self.tree.body:
            match statement:
                case ast.Assign(targets, ast.Subscript(of)) if all(
                    isinstance(t, ast.Name) and bound[t.id] == 1 for t in targets
                ):
                    if (network.dotted(of, self.paths) or "").startswith("typing."):
                        self.hints.update(t.id for t in targets if isinstance(t, ast.Name))
                case ast.Assign([ast.Name(target), *_], ast.Call(ast.Name(made))):
                    if made in self.classes and bound[target] == bound[made] == 1:
                        self.instances.add(target)

    def _imports(self) -> None:
        modules = allowlist.MODULES | allowlist.UNUSED_MODULES
        for node in self.tree.body:
            if not isinstance(node, network.IMPORTS):
                continue
            if isinstance(node, ast.ImportFrom) and (node.level or node.module not in modules):
                where = "." * node.level + (node.module or "")
                raise Refused(node, f"import from {quoted(where)} is not allowed")
            for alias in node.names:
                name, path = network.imported(node, alias)
                self._import(node, name, path)
                whole = isinstance(node, ast.Import) and alias.name not in modules
                future = path.startswith("__future__.") and alias.name != "annotations"
                if whole or future:
                    raise Refused(node, f"import of {quoted(alias.name)} is not allowed")

    def _import(self, node: ast.stmt, name: str, path: str) -> None:
        """Note that ``name`` stands for ``path``."""
        if name == "*":
            raise Refused(node, "import * is not allowed")
        if name.startswith("__") or name in _PYTHON_NAMES:
            raise Refused(node, f"import as {quoted(name)} is not allowed")
        if self.paths.setdefault(name, path) != path:
            raise Refused(node, f"{quoted(name)} is imported twice, as different things")
        if path in allowlist.PATHS | allowlist.NAMESPACES | {"__future__.annotations"}:
            return
        unused = allowlist.UNUSED_MODULES | allowlist.UNUSED_NAMES
        if path not in unused and path.split(".")[0] not in ("torchvision", "numpy"):
            raise Refused(node, f"import of {quoted(path)} is not allowed")
        self.unused.add(name)

    def bindable(self, name: str, node: ast.AST) -> None:
        """Refuse to bind, outside of functions, what else the name could have meant."""
        if name.startswith("__") and name not in allowlist.METHODS:
            raise Refused(node, f"the name {quoted(name)} is not allowed")
        if name in self.paths:
            raise Refused(node, f"the imported name {quoted(name)} is bound again")
        harmless = allowlist.BUILTINS - allowlist.CALL_ONLY | allowlist.BINDABLE
        if name in _PYTHON_NAMES and name not in harmless:
            raise Refused(node, f"the builtin name {quoted(name)} is bound again")

    def local(self, name: str) -> bool:
        return any(name in scope for scope in [*self.scopes, self.class_scope or ()])

    def imported(self, node: ast.expr) -> TypeGuard[ast.Name]:
        """Return whether it is a name of an import."""
        return isinstance(node, ast.Name) and node.id in self.paths and not self.local(node.id)

    def visit_Name(self, node: ast.Name) -> None:
        """Check a name that is read."""
        name = node.id
        if self.local(name):
            return
        if name in self.unused:
            raise Refused(node, f"{quoted(self.paths[name])} may be imported, but not used")
        if name in self.paths:
            if self.paths[name] not in allowlist.PATHS:
                raise Refused(node, f"the module {self.paths[name]} may not be used as a value")
            self._class_of_others(node, self.paths[name])
        elif name in self.hints:
            self._class_of_others(node, f"typing: {name}")
        elif name in self.globals:
            return
        elif name in allowlist.CALL_ONLY:
            raise Refused(node, f"{name} may only be called")
        elif name not in allowlist.BUILTINS:
            if name.startswith("__") or name in _PYTHON_NAMES:
                raise Refused(node, f"the name {quoted(name)} is not allowed")
            raise Refused(node, f"name {quoted(name)!r} is not defined", status="invalid")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Check an attribute that is read."""
        chain: list[ast.Attribute] = []
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            chain.insert(0, root)
            root = root.value
        if self.imported(root):
            if root.id in self.unused:
                return self.visit_Name(root)
            path = self.paths[root.id]
            while path not in allowlist.PATHS:
                if path not in allowlist.NAMESPACES:
                    raise _unknown_path(node, path)
                if not chain:
                    raise Refused(node, f"the module {path} may not be used as a value")
                path = f"{path}.{chain.pop(0).attr}"
            if not chain or path.startswith("typing"):
                self._class_of_others(node, path)
        else:
            if (
                isinstance(root, ast.Name)
                and not self.local(root.id)
                and chain[0].attr in self.classes.get(root.id, ())
            ):
                raise Refused(node, f"the method {quoted(chain[0].attr)} needs an instance")
            self.visit(root)
        for link in chain:
            self._readable(link, link.attr)
        return None

    def _class_of_others(self, node: ast.AST, path: str) -> None:
        if self.annotating:
            return
        # As values they lead to eval: Union["source"] holds code and knows how to run it.
        if path.startswith("typing"):
            raise Refused(node, f"{quoted(path)} is only allowed in annotations")
        # Whoever holds one could change all tensors, or make one of a pointer.
        if path in allowlist.TENSOR_CLASSES and id(node) not in self.called:
            raise Refused(node, f"{quoted(path)} may only be called or asked for by isinstance")

    def hidden(self, attr: str, node: ast.AST) -> None:
        """Refuse an attribute that leads out of the network, read or bound."""
        if allowlist.ESCAPES.fullmatch(attr) or attr in allowlist.HIDDEN:
            raise Refused(node, f"the attribute .{quoted(attr)} is not allowed")

    def _readable(self, node: ast.AST, attr: str) -> None:
        self.hidden(attr, node)
        if attr in allowlist.ATTRIBUTES or attr in self.own:
            return
        if attr in allowlist.RESERVED:
            raise Refused(node, f"the attribute .{quoted(attr)} is not allowed")
        if not attr.startswith(tuple(self.prefixes)):
            what = f"the attribute .{quoted(attr)} is neither assigned in the source nor known"
            raise Refused(node, what, status="invalid")

    def assignable(self, node: ast.Attribute) -> None:
        """Check an attribute that is assigned."""
        attr = node.attr
        self.hidden(attr, node)
        if attr in allowlist.RESERVED or attr in ("forward", "reset_parameters"):
            raise Refused(node, f"the attribute .{quoted(attr)} belongs to nn.Module")
        root = network.root(node)
        name = root.id if isinstance(root, ast.Name) else ""
        instances = () if self.scopes else self.instances
        mine = name in (self.self_name, *instances)
        known = self.local(name) or name in instances
        if not known or not (mine or attr in allowlist.ASSIGNABLE):
            raise Refused(node, f"assignment to .{quoted(attr)} of what is not its own")
        self.visit(node.value)

    @contextmanager
    def scope(self, names: Iterable[str], self_name: str | None) -> Iterator[None]:
        """Bind ``names`` within; ``self_name`` is the method's own instance there."""
        before = self.class_scope, self.self_name
        self.class_scope, self.self_name = None, self_name
        self.scopes.append(set(names))
        yield
        self.scopes.pop()
        self.class_scope, self.self_name = before


def _unknown_path(node: ast.AST, path: str) -> Refused:
    """Return the refusal of a name of torch: not allowed, or not known at all."""
    module, _, name = path.rpartition(".")
    if module == "torch":
        exists = name not in allowlist.CONFUSED
    else:
        exists = name in allowlist.REFUSED or name.startswith("_") or module not in _KNOWN_MODULES
    if exists:
        return Refused(node, f"{quoted(path)} is not allowed")
    return Refused(node, f"{quoted(path)} is not known", status="invalid")


def _own_attributes(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Return the attributes that a source makes for itself, and beginnings of such names.

    Those that it assigns, defines in its classes, asks for by ``hasattr``, or names in strings
    for ``add_module`` and its like or as keys of an ``OrderedDict`` or ``ModuleDict``.
    """
    own: set[str] = set()
    prefixes: set[str] = set()

    def named(node: ast.AST | None) -> None:
        match node:
            case ast.Constant(str(text)):
                own.add(text)
            case ast.JoinedStr([ast.Constant(head), *_]):
                prefixes.add(str(head))
            # "conv%d" % i, "conv" + str(i), "conv{}".format(i)
            case ast.BinOp(ast.Constant(str(text))) | ast.Call(
                ast.Attribute(ast.Constant(str(text)))
            ):
                prefixes.add(re.split(r"[%{]", text)[0])

    for node in walk(tree):
        match node:
            case ast.Attribute(_, attr, ast.Store()):
                own.add(attr)
            case ast.ClassDef():
                own.update(network.bindings(*node.body))
            case ast.Call(ast.Attribute(_, attr), [name, *_]) if attr in _NAMING:
                named(name)
            case ast.Call(ast.Name("hasattr"), [*_, name]):
                named(name)
            case ast.Subscript(_, name, ast.Store()) | ast.Tuple([name, _]):
                named(name)
            case ast.Dict(keys):
                for key in keys:
                    named(key)
    refused = allowlist.RESERVED | allowlist.HIDDEN
    own = {n for n in own - refused if not allowlist.ESCAPES.fullmatch(n)}
    return own, {p for p in prefixes if len(p) > 1 and not any(r.startswith(p) for r in refused)}

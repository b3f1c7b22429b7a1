"""Tell which class of a source is the network, and which statements it needs.

A candidate is a module of Python whose *network* is the last class at the top level that
derives from ``torch.nn.Module``, has a ``forward`` and needs no argument to be constructed.
Only what that class needs is ever run (:func:`live`): code under
``if __name__ == "__main__"``, a ``net = Net()`` or ``print(...)`` after the class, unused
helpers and unused imports are dropped, and so are docstrings and annotations. The canonical
form digests the very statements that the builder runs, so equal digests mean equal networks.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def imports(statements: Iterable[ast.stmt]) -> dict[str, str]:
    """Return what the imports among ``statements`` bind: names to dotted paths."""
    bound: dict[str, str] = {}
    for statement in statements:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                root = alias.name.partition(".")[0]
                bound[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                bound[alias.asname or alias.name] = f"{statement.module}.{alias.name}"
    return bound


def dotted(node: ast.expr, names: Mapping[str, str]) -> str | None:
    """Return the path that a chain of attributes on an imported name spells, or None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return None
    return ".".join([names[node.id], *reversed(parts)])


def is_main_guard(statement: ast.stmt) -> bool:
    """Return whether it is ``if __name__ == "__main__":`` without an else."""
    return (
        isinstance(statement, ast.If)
        and not statement.orelse
        and isinstance(statement.test, ast.Compare)
        and isinstance(statement.test.left, ast.Name)
        and statement.test.left.id == "__name__"
        and len(statement.test.ops) == 1
        and isinstance(statement.test.ops[0], ast.Eq)
        and isinstance(statement.test.comparators[0], ast.Constant)
        and statement.test.comparators[0].value == "__main__"
    )


STANDARD_NAMES = {"nn": "torch.nn", "F": "torch.nn.functional", "torch": "torch"}
"""Names under which every network knows torch, with what they stand for; where several have a
function, the first is meant."""

MAX_ANCESTORS = 32
"""Classes that are looked at for one class; bounds the time that a hostile text can take."""


@dataclass(frozen=True)
class Ancestry:
    """A class that derives from one of ``torch.nn``, with what it inherits."""

    classes: list[ast.ClassDef]
    """The class and those of the source that it derives from, in the order of lookup."""
    torch_class: str
    """Dotted path of the class of torch below them."""

    @property
    def method(self) -> dict[str, ast.FunctionDef]:
        """Methods of the source by name, its own before inherited ones."""
        found: dict[str, ast.FunctionDef] = {}
        for node in reversed(self.classes):
            found.update({m.name: m for m in node.body if isinstance(m, ast.FunctionDef)})
        return found

    @property
    def has_forward(self) -> bool:
        """True where its instances can be called, by the source's doing or by torch's."""
        return self.torch_class.rpartition(".")[2] != "Module" or "forward" in self.method

    @property
    def needs_arguments(self) -> bool:
        """True where it cannot be constructed without arguments."""
        if (constructor := self.method.get("__init__")) is None:
            return self.torch_class.rpartition(".")[2] not in ("Module", "Sequential")
        given = constructor.args
        required = len(given.posonlyargs) + len(given.args) - len(given.defaults) - 1
        return required > 0 or None in given.kw_defaults


def ancestry(
    node: ast.ClassDef,
    path: Callable[[ast.expr], str | None],
    find: Callable[[ast.ClassDef, str], ast.ClassDef | None],
) -> Ancestry | None:
    """Return what a class inherits, or None where it does not derive from a class of torch.nn.

    Args:
        node: the class.
        path: tells the dotted path that a base stands for; None: not one of an import.
        find: tells which class of the source a name among the bases of a class means.
    """
    found: list[ast.ClassDef] = []
    roots: list[str] = []
    todo = [node]
    while todo and len(found) <= MAX_ANCESTORS:
        current = todo.pop(0)
        if current in found:
            continue
        found.append(current)
        local = [find(current, b.id) if isinstance(b, ast.Name) else None for b in current.bases]
        todo = [c for c in local if c is not None] + todo
        for base, own in zip(current.bases, local, strict=True):
            if own is None and _is_layer_class(root := path(base) or ""):
                roots.append(root)
    # nn.Module is the base of all others, so any other comes before it in the order of lookup.
    roots.sort(key=lambda root: root.rpartition(".")[2] == "Module")
    return Ancestry(found, roots[0]) if roots else None


def _is_layer_class(path: str) -> bool:
    name = path.rpartition(".")[2]
    return path.startswith("torch.nn.") and name[:1].isupper() and name != "Parameter"


def network_class(
    tree: ast.Module, *, assumed: Mapping[str, str] | None = None, constructible: bool = True
) -> ast.ClassDef | None:
    """Return the class that a candidate is about, or None.

    The last class statement at the top level whose name is not bound again below, that
    derives from a class of ``torch.nn`` (directly or through classes of the source), has a
    ``forward``, and whose ``__init__`` has no parameter without a default. ``assumed``:
    imports that count as made; ``constructible=False``: the constructor may need arguments.
    """
    names = {**(assumed or {}), **imports(tree.body)}
    final: dict[str, ast.stmt] = {}
    classes: dict[str, ast.ClassDef] = {}
    chosen: list[ast.ClassDef] = []
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            found = ancestry(statement, lambda b: dotted(b, names), lambda _, n: classes.get(n))
            classes[statement.name] = statement
            if found and found.has_forward and not (constructible and found.needs_arguments):
                chosen.append(statement)
        for name in bindings(statement):
            final[name] = statement
    return next((c for c in reversed(chosen) if final[c.name] is c), None)


# --- what is run ------------------------------------------------------------------------------


def live(tree: ast.Module) -> ast.Module:
    """Return the statements of ``tree`` that its network needs, in their order.

    Kept are the network's class and, transitively, what binds a name that a kept statement
    mentions; further statements that mention a kept *variable* and may change it. Of several
    definitions of a function or class only the last is kept, unless one is needed while the
    module is still being executed. Docstrings and annotations are removed (``tree`` itself
    is changed). Without a network, every statement is kept.
    """
    tree = _Plain().visit(tree)
    network = network_class(tree)
    body = [s for s in tree.body if not is_main_guard(s)]
    if network is None:
        return ast.Module(body=body, type_ignores=[])
    body = _without_overridden(body)
    bound = [set(bindings(s)) for s in body]
    mentioned = [free_names(s) for s in body]
    wanted = {network.name}
    variables: set[str] = set()
    kept: set[int] = set()
    grown = True
    while grown:
        grown = False
        for i, statement in enumerate(body):
            if i in kept:
                continue
            changes = not isinstance(statement, _DEFINING) and mentioned[i] & variables
            if bound[i] & wanted or changes:
                kept.add(i)
                wanted |= mentioned[i]
                if not isinstance(statement, (*_DEFINITIONS, ast.Import, ast.ImportFrom)):
                    variables |= bound[i]
                grown = True
    return ast.Module(body=[_needed(body[i], wanted) for i in sorted(kept)], type_ignores=[])


_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_DEFINING = (*_DEFINITIONS, ast.Import, ast.ImportFrom, ast.Assign)


def _needed(statement: ast.stmt, wanted: set[str]) -> ast.stmt:
    """Return an import without the names that nobody wants; anything else as it is."""
    if isinstance(statement, ast.Import):
        kept = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) in wanted]
        return ast.copy_location(ast.Import(names=kept), statement)
    if isinstance(statement, ast.ImportFrom):
        kept = [a for a in statement.names if (a.asname or a.name) in wanted]
        return ast.copy_location(
            ast.ImportFrom(module=statement.module, names=kept, level=statement.level), statement
        )
    return statement


def _without_overridden(body: list[ast.stmt]) -> list[ast.stmt]:
    """Drop definitions whose name is defined again before anyone could have used them."""
    count = Counter(name for s in body for name in bindings(s))
    early = {name for s in body for name in early_names(s)}
    last = {name: i for i, s in enumerate(body) for name in bindings(s)}
    return [
        s
        for i, s in enumerate(body)
        if not isinstance(s, _DEFINITIONS)
        or count[s.name] == 1
        or s.name in early
        or last[s.name] == i
    ]


def children(node: ast.AST) -> list[ast.AST]:
    """Return the child nodes without contexts (Load, Store); faster than ``ast``'s function."""
    if isinstance(node, (ast.Name, ast.Constant)):
        return []
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if type(value) is list:
            found += [inner for inner in value if isinstance(inner, ast.AST)]
        elif name != "ctx" and isinstance(value, ast.AST):
            found.append(value)
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all below it, in no particular order; see :func:`children`."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack += children(node)


def bindings(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds in the scope that it stands in."""
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imports([node])
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                yield node.id
        elif not isinstance(node, (ast.Lambda, *_COMPREHENSIONS)) and not (
            isinstance(node, ast.AnnAssign) and node.value is None
        ):
            stack += children(node)


def early_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that are looked up while the module is executed, not in later calls."""
    if isinstance(statement, _FUNCTIONS):
        early: list[ast.expr | None] = [*statement.decorator_list, *statement.args.defaults]
        for node in [*early, *statement.args.kw_defaults]:
            if node is not None:
                yield from _names(node)
    elif isinstance(statement, ast.ClassDef):
        for node in [*statement.bases, *statement.decorator_list]:
            yield from _names(node)
        for inner in statement.body:
            yield from early_names(inner)
    elif not isinstance(statement, (ast.Import, ast.ImportFrom)):
        yield from _names(statement)


def _names(node: ast.AST) -> Iterator[str]:
    """Yield every name that occurs in ``node``."""
    for child in walk(node):
        if isinstance(child, ast.Name):
            yield child.id


def free_names(node: ast.AST) -> set[str]:
    """Return the names in ``node`` that are looked up outside of the functions within it."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
        body = node.body if isinstance(node.body, list) else [node.body]
        inside = {name for child in body for name in free_names(child)}
        own = {a.arg for a in parameters(node.args)}
        if not isinstance(node, ast.Lambda):
            own |= {name for child in node.body for name in bindings(child)}
        outside = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
        outside += [] if isinstance(node, ast.Lambda) else node.decorator_list
        return (inside - own).union(*map(free_names, outside))
    names = {name for child in children(node) for name in free_names(child)}
    if isinstance(node, _COMPREHENSIONS):
        names -= {n for g in node.generators for n in _names(g.target)}
        names |= free_names(node.generators[0].iter)
    return names


def parameters(arguments: ast.arguments) -> list[ast.arg]:
    """Return every parameter of a function, in order."""
    found = [*arguments.posonlyargs, *arguments.args]
    found += [arguments.vararg] if arguments.vararg else []
    found += arguments.kwonlyargs
    found += [arguments.kwarg] if arguments.kwarg else []
    return found


def returned(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Yield what a function itself returns, not those inside it."""
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            yield node.value
        if not isinstance(node, (*_DEFINITIONS, ast.Lambda)):
            todo.extend(children(node))


class _Plain(ast.NodeTransformer):
    """Removes docstrings, other constants that stand as a statement, and annotations."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        return None if isinstance(node.value, ast.Constant) else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if node.value is None:
            return None
        assign = ast.Assign(targets=[node.target], value=node.value, type_comment=None)
        return ast.copy_location(assign, node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, _FUNCTIONS):
            node.returns = None
        if isinstance(node, ast.stmt) and getattr(node, "body", None) == []:
            node.body = [ast.copy_location(ast.Pass(), node)]  # type: ignore[attr-defined]
        return node

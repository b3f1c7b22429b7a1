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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from .nodes import children, walk

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FIXED = (*_DEFINITIONS, *IMPORTS)
_OWN_SCOPE = {ast.Lambda, *COMPREHENSIONS}


def imported(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> tuple[str, str]:
    """Return the name that a part of an import binds, and the dotted path that it stands for."""
    if isinstance(statement, ast.ImportFrom):
        return alias.asname or alias.name, f"{statement.module}.{alias.name}"
    path = alias.name if alias.asname else alias.name.partition(".")[0]
    return alias.asname or path, path


def imports(statements: Iterable[ast.stmt]) -> dict[str, str]:
    """Return what the imports among ``statements`` bind: names to dotted paths."""
    return dict(imported(s, a) for s in statements if isinstance(s, IMPORTS) for a in s.names)


def root(node: ast.expr) -> ast.expr:
    """Return the expression of which ``node`` takes attributes and elements."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node


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
    match statement:
        case ast.If(
            test=ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]),
            orelse=[],
        ):
            return True
    return False


STANDARD_NAMES = {"nn": "torch.nn", "F": "torch.nn.functional", "torch": "torch"}
"""Names under which every network knows torch, with what they stand for; where several have a
function, the first is meant."""

MAX_ANCESTORS = 32
"""Classes that are looked at for one class; bounds the time that a hostile text can take."""


@dataclass(frozen=True)
class Ancestry:
    """Inheritance of a class that derives from one of ``torch.nn``."""

    methods: dict[str, ast.FunctionDef]
    """Methods of the source by name, its own before inherited ones."""
    torch_class: str
    """Name in ``torch.nn`` of the first class that is not of the source."""

    @property
    def has_forward(self) -> bool:
        """True where its instances can be called, by the source's doing or by torch's."""
        return self.torch_class != "Module" or "forward" in self.methods

    @property
    def needs_arguments(self) -> bool:
        """True where it cannot be constructed without arguments."""
        if (constructor := self.methods.get("__init__")) is None:
            return self.torch_class not in ("Module", "Sequential")
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
            spelled = (own is None and path(base)) or ""
            name = spelled.rpartition(".")[2]
            if spelled.startswith("torch.nn.") and name[:1].isupper() and name != "Parameter":
                roots.append(name)
    if not roots:
        return None
    in_order = (m for c in reversed(found) for m in c.body if isinstance(m, ast.FunctionDef))
    # nn.Module is the base of all others, so any other comes before it in the order of lookup.
    return Ancestry({m.name: m for m in in_order}, min(roots, key=lambda name: name == "Module"))


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
    final = definitions(tree.body)
    classes: dict[str, ast.ClassDef] = {}
    chosen: list[ast.ClassDef] = []
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            found = ancestry(statement, lambda b: dotted(b, names), lambda _, n: classes.get(n))
            classes[statement.name] = statement
            if found and found.has_forward and not (constructible and found.needs_arguments):
                chosen.append(statement)
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
    _make_plain(tree)
    network = network_class(tree)
    body = [s for s in tree.body if not is_main_guard(s)]
    if network is None:
        return ast.Module(body=body, type_ignores=[])
    # A definition whose name is defined again before anyone could have used it is none.
    last = definitions(body)
    early = names_in(*(part for s in body for part in early_parts(s)))
    body = [
        s for s in body if not isinstance(s, _DEFINITIONS) or s.name in early or last[s.name] is s
    ]
    bound = [set(bindings(s)) for s in body]
    mentioned = [free_names(s) for s in body]
    may_change = [not isinstance(s, (*_FIXED, ast.Assign)) for s in body]

    def needed(i: int) -> bool:
        return bool(bound[i] & wanted or (may_change[i] and mentioned[i] & variables))

    wanted = {network.name}
    variables: set[str] = set()
    rest = set(range(len(body)))
    while found := set(filter(needed, rest)):
        rest -= found
        wanted.update(*(mentioned[i] for i in found))
        variables.update(*(bound[i] for i in found if not isinstance(body[i], _FIXED)))
    kept = [statement for i, statement in enumerate(body) if i not in rest]
    for statement in kept:
        if isinstance(statement, IMPORTS):
            statement.names = [a for a in statement.names if imported(statement, a)[0] in wanted]
    return ast.Module(body=kept, type_ignores=[])


def bindings(*statements: ast.stmt) -> Iterator[str]:
    """Yield the names that statements bind in the scope that they stand in, each time."""
    stack: list[ast.AST] = [*reversed(statements)]
    while stack:
        node = stack.pop()
        if type(node) is ast.Name:
            if type(node.ctx) is not ast.Load:
                yield node.id
        elif isinstance(node, _DEFINITIONS):
            yield node.name
        elif isinstance(node, IMPORTS):
            yield from imports([node])
        elif type(node) not in _OWN_SCOPE and not (
            isinstance(node, ast.AnnAssign) and node.value is None
        ):
            stack += children(node)


def definitions(statements: Iterable[ast.stmt]) -> dict[str, ast.stmt]:
    """Return the last of the statements that binds each name."""
    return {name: s for s in statements for name in bindings(s)}


def early_parts(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the parts of a statement that are executed with it, not in later calls."""
    if isinstance(statement, _FUNCTIONS):
        yield from statement.decorator_list
        yield from defaults(statement.args)
    elif isinstance(statement, ast.ClassDef):
        yield from [*statement.bases, *statement.decorator_list]
        for inner in statement.body:
            yield from early_parts(inner)
    else:
        yield statement


def names_in(*nodes: ast.AST) -> set[str]:
    """Return every name that occurs in ``nodes``."""
    return {n.id for n in walk(*nodes) if isinstance(n, ast.Name)}


def free_names(*nodes: ast.AST) -> set[str]:
    """Return the names in ``nodes`` that are looked up outside of the functions within them."""
    found: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Lambda):
            found |= free_names(node.body) - {a.arg for a in parameters(node.args)}
            stack += defaults(node.args)
        elif isinstance(node, _FUNCTIONS):
            own = {a.arg for a in parameters(node.args)}.union(bindings(*node.body))
            found |= free_names(*node.body) - own
            stack += [*defaults(node.args), *node.decorator_list]
        elif isinstance(node, COMPREHENSIONS):
            own = names_in(*(g.target for g in node.generators))
            found |= free_names(*children(node)) - own
            stack.append(node.generators[0].iter)
        else:
            stack += children(node)
    return found


def parameters(arguments: ast.arguments) -> list[ast.arg]:
    """Return every parameter of a function, in order."""
    before = [*arguments.posonlyargs, *arguments.args, arguments.vararg]
    return [a for a in [*before, *arguments.kwonlyargs, arguments.kwarg] if a is not None]


def defaults(arguments: ast.arguments) -> list[ast.expr]:
    """Return the defaults of a function's parameters, in order."""
    return [d for d in [*arguments.defaults, *arguments.kw_defaults] if d is not None]


def returned(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Yield what a function itself returns, not those inside it."""
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            yield node.value
        if not isinstance(node, (*_DEFINITIONS, ast.Lambda)):
            todo += children(node)


def _make_plain(tree: ast.Module) -> None:
    """Remove docstrings, other constants that stand as a statement, and annotations."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        for name in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, name, None), list):
                setattr(node, name, [p for s in statements if (p := _plain(s)) is not None])
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, _FUNCTIONS):
            node.returns = None
        if isinstance(node, ast.stmt) and getattr(node, "body", None) == []:
            node.body = [ast.copy_location(ast.Pass(), node)]  # type: ignore[attr-defined]
        stack += children(node)


def _plain(statement: ast.stmt) -> ast.stmt | None:
    """Return a statement without its annotation; None where nothing is left of it."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return None
    if isinstance(statement, ast.AnnAssign):
        if statement.value is None:
            return None
        assign = ast.Assign(targets=[statement.target], value=statement.value, type_comment=None)
        return ast.copy_location(assign, statement)
    return statement

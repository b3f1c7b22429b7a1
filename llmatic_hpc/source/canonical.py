"""Digest a network, with one digest however it is spelled.

Two sources have the same digest only if they are the same network *with the same random
initialisation*. What does not count: comments, docstrings, annotations, layout; names of
classes, functions, variables, parameters and attributes (renamed in order of first use); how
torch is imported and abbreviated; unused definitions, imports and whatever else is never run
(:func:`.network.live`); the order of definitions; and whether the arguments of common layers
are given by position or by keyword. Everything else counts, above all every layer and
argument, the order of calls, and the order in which ``__init__`` assigns its layers: that
order is the order in which they draw their random weights.

The form is sound rather than complete: where a name could matter (attributes of torch, names
that occur in strings or as keywords, subclasses of layers) it is kept as it is. Only a network
that computed with the text of itself, ``str(self)``, could tell two spellings apart.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from . import allowlist, network
from .nodes import walk
from .parse import SourceError, parse

Scopes = tuple[dict[str, str], ...]
"""Canonical names by the source's, of the functions around, the innermost last."""

VERSION = "1"
"""Version of the form; part of the digest."""


def canonical_sha256(source: str | ast.Module) -> str:
    """Return the SHA-256, hexadecimal, of the canonical syntax tree; empty where there is none.

    Never raises. A source that the gate lets in always has one. A ``source`` that was parsed
    already is changed.
    """
    try:
        tree = parse(source) if isinstance(source, str) else source
        form = _Form(network.live(tree))
        text = "\n".join([VERSION, *form.lines()])
    except (SourceError, RecursionError, MemoryError):
        return ""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


SIGNATURES = {
    f"torch.nn.{name}": tuple(signature.split())
    for names, signature in (
        ("Linear", "in_features out_features bias"),
        ("Conv?d", "in_channels out_channels kernel_size stride padding dilation groups bias"),
        ("MaxPool?d AvgPool?d", "kernel_size stride padding"),
        ("BatchNorm?d", "num_features eps momentum affine track_running_stats"),
        ("Dropout Dropout?d", "p inplace"),
        ("ReLU ReLU6 SiLU SELU", "inplace"),
        ("LeakyReLU", "negative_slope inplace"),
        ("Flatten", "start_dim end_dim"),
        ("LayerNorm", "normalized_shape eps elementwise_affine bias"),
        ("GroupNorm", "num_groups num_channels eps affine"),
        ("AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool2d", "output_size"),
        ("Softmax LogSoftmax", "dim"),
    )
    for name in allowlist.words(names)
}
"""Leading parameters of layers; the tests hold them against torch."""

_BY_NAME = allowlist.words("""
    hasattr named_parameters named_modules named_children named_buffers _modules
    add_module register_module register_buffer register_parameter ParameterDict ModuleDict
""")
"""Names by which attributes may also be reached by their names as strings."""


class _Form:
    """The canonical lines of one module."""

    def __init__(self, tree: ast.Module) -> None:
        self._paths = network.imports(tree.body)
        self._body = [s for s in tree.body if not isinstance(s, network.IMPORTS)]
        self._network = network.network_class(tree)
        self._global: dict[str, str] = {}
        self._count = itertools.count(1)
        self._attributes: dict[str, str] = defaultdict(lambda: f"a{next(self._count)}")
        self._bound = set(network.bindings(*self._body))
        nodes = walk(tree)
        keywords = {k.arg for n in nodes if isinstance(n, ast.Call) for k in n.keywords}
        # Names of parameters matter where keywords name them, or may do so unseen.
        self._keep_parameters = None in keywords or any(
            isinstance(n, ast.arguments) and n.kwarg for n in nodes
        )
        self._keywords = keywords
        self._renamed = _renamable(tree, nodes, self._paths)
        self._queue: list[str] = []

    def lines(self) -> Iterator[str]:
        """Yield one line for each statement of the top level."""
        if self._network is None or not self._movable():
            for statement in self._body:
                yield self._dump(statement, ())
            return
        definition = network.definitions(self._body)
        emitted: set[ast.stmt] = set()
        self._queue = [self._network.name]
        for name in self._queue:  # grows while it is walked
            if (statement := definition[name]) not in emitted:
                emitted.add(statement)
                yield self._dump(statement, ())

    def _movable(self) -> bool:
        """Return whether the order of the definitions cannot matter.

        Each name is bound once, by a definition or a plain assignment, before anything looks
        it up while the module is executed; and nothing of the source is called by then.
        """
        defined: set[str] = set()
        for statement in self._body:
            bound = list(network.bindings(statement))
            parts = [*network.early_parts(statement)]
            early = network.names_in(*parts)
            if isinstance(statement, ast.Assign):
                if not all(isinstance(target, ast.Name) for target in statement.targets):
                    return False
                early.difference_update(bound)
            elif not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                return False
            calls = any(isinstance(n, ast.Call) for n in walk(*parts))
            if calls or early & (self._bound - defined):
                return False
            if not defined.isdisjoint(bound) or len(set(bound)) < len(bound):
                return False
            defined.update(bound)
        return True

    # --- names ---------------------------------------------------------------------------

    def _name(self, name: str, scopes: Scopes) -> str:
        for scope in reversed(scopes):
            if name in scope:
                scope[name] = scope[name] or f"v{next(self._count)}"
                return scope[name]
        if name in self._paths:
            return f"={self._paths[name]}"
        if name in self._bound:
            if name not in self._global:
                self._global[name] = f"g{next(self._count)}"
                self._queue.append(name)
            return self._global[name]
        return f"={name}"

    def _attribute(self, name: str) -> str:
        return self._attributes[name] if name in self._renamed else f"={name}"

    # --- statements and expressions ------------------------------------------------------

    def _dump(self, node: Any, scopes: Scopes) -> str:
        """Write a node canonically; brackets make it unambiguous."""
        if isinstance(node, list):
            return "[" + ",".join(self._dump(child, scopes) for child in node) + "]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Constant):
            return f"{type(node.value).__name__}({node.value!r})"
        if isinstance(node, ast.Name):
            return self._name(node.id, scopes)
        if isinstance(node, ast.Attribute):
            path, root = network.dotted(node, self._paths), network.root(node)
            if path and not any(getattr(root, "id", "") in scope for scope in scopes):
                return f"={path}"
            return f"{self._dump(node.value, scopes)}.{self._attribute(node.attr)}"
        if isinstance(node, ast.Call):
            return self._call(node, scopes)
        if isinstance(node, ast.Lambda):
            return self._function(node, scopes, scopes)
        if isinstance(node, ast.FunctionDef):
            function = self._function(node, scopes, scopes)
            return f"{self._name(node.name, scopes)}={function}"
        if isinstance(node, ast.ClassDef):
            return self._class(node, scopes)
        if isinstance(node, network.COMPREHENSIONS):
            return self._comprehension(node, scopes)
        fields = [
            self._dump(value, scopes)
            for name, value in ast.iter_fields(node)
            if name not in ("ctx", "type_comment", "kind", "type_params")
        ]
        return f"{type(node).__name__}({','.join(fields)})"

    def _call(self, node: ast.Call, scopes: Scopes) -> str:
        function = self._dump(node.func, scopes)
        arguments = [("", argument) for argument in node.args]
        arguments += [(k.arg or "**", k.value) for k in node.keywords]
        signature = SIGNATURES.get(function[1:], ()) if function.startswith("=") else ()
        plain = not any(
            name == "**" or isinstance(inner, (ast.Starred, ast.Call))
            for name, value in arguments
            for inner in walk(value)
        )
        if signature and plain and len(node.args) <= len(signature):
            named = [(name or signature[i], value) for i, (name, value) in enumerate(arguments)]
            if len({name for name, _ in named}) == len(named):
                arguments = sorted(named, key=lambda pair: pair[0])
        dumped = [f"{name}:{self._dump(value, scopes)}" for name, value in arguments]
        return f"call {function}({','.join(dumped)})"

    def _function(self, node: ast.FunctionDef | ast.Lambda, scopes: Scopes, outside: Scopes) -> str:
        """Write a function in ``scopes``; defaults and decorators are looked up ``outside``."""
        arguments = node.args
        defaults = [self._dump(default, outside) for default in network.defaults(arguments)]
        body = node.body if isinstance(node.body, list) else [node.body]
        scope: dict[str, str] = {}
        if isinstance(node, ast.FunctionDef):
            scope = dict.fromkeys(network.bindings(*node.body), "")
        parameters = [a.arg for a in network.parameters(arguments)]
        for name in parameters:
            kept = self._keep_parameters or name in self._keywords
            scope[name] = f"={name}" if kept else f"v{next(self._count)}"
        shape = [
            len(arguments.posonlyargs), len(arguments.args), arguments.vararg is not None,
            len(arguments.kwonlyargs), arguments.kwarg is not None,
            [d is None for d in arguments.kw_defaults],
        ]  # fmt: skip
        dumped = [self._dump(statement, (*scopes, scope)) for statement in body]
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        head = self._dump(decorators, outside) if decorators else ""
        names = [scope[name] for name in parameters]
        return f"def{head}({shape},{names},{defaults})[{';'.join(dumped)}]"

    def _class(self, node: ast.ClassDef, scopes: Scopes) -> str:
        name = self._name(node.name, scopes)
        bases = [self._dump(base, scopes) for base in node.bases]
        # Within the class but outside of its methods, its attributes are variables.
        scope = {n: self._attribute(n) for n in network.bindings(*node.body)}
        inner = (*scopes, scope)
        body = []
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef):
                # The bodies of methods do not see the variables of the class.
                function = self._function(statement, scopes, inner)
                body.append(f"{self._attribute(statement.name)}={function}")
            else:
                body.append(self._dump(statement, inner))
        return f"class {name}({','.join(bases)})[{';'.join(body)}]"

    def _comprehension(self, node: Any, scopes: Scopes) -> str:
        first = self._dump(node.generators[0].iter, scopes)
        targets = network.names_in(*(g.target for g in node.generators))
        inner = (*scopes, dict.fromkeys(targets, ""))
        parts = []
        for i, generator in enumerate(node.generators):
            source = first if i == 0 else self._dump(generator.iter, inner)
            target = self._dump(generator.target, inner)
            parts.append(f"{target} in {source} if {self._dump(generator.ifs, inner)}")
        elements = [getattr(node, part, None) for part in ("key", "value", "elt")]
        dumped = self._dump([e for e in elements if e is not None], inner)
        return f"{type(node).__name__}({dumped},{';'.join(parts)})"


def _renamable(tree: ast.Module, nodes: list[ast.AST], paths: dict[str, str]) -> set[str]:
    """Return the attributes whose names cannot matter.

    A class of the source assigns or defines them; its classes are modules and not special
    layers; and no string says the name. A name that tensors or modules of torch have, too,
    must only ever follow the ``self`` of a method.
    """
    classes = [s for s in tree.body if isinstance(s, ast.ClassDef)]
    local = {c.name for c in classes} | {"object"}
    shadowed = set(_bound_in(nodes))
    modules = {name: path for name, path in paths.items() if name not in shadowed}
    attributes = [n for n in nodes if isinstance(n, ast.Attribute)]
    names = {n.id for n in nodes if isinstance(n, ast.Name)}
    if not _BY_NAME.isdisjoint(names | {n.attr for n in attributes}):
        return set()
    everywhere = Counter(n.attr for n in attributes if network.dotted(n, modules) is None)
    behind_self: Counter[str] = Counter()
    own = {n.attr for n in attributes if isinstance(n.ctx, ast.Store)}
    for c in classes:
        for base in c.bases:
            named = isinstance(base, ast.Name) and base.id in local
            if not named and network.dotted(base, paths) != "torch.nn.Module":
                return set()
        own.update(network.bindings(*c.body))
        for method in c.body:
            if isinstance(method, ast.FunctionDef):
                behind_self.update(_behind_self(method))
    said = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    fixed = allowlist.RESERVED | allowlist.HIDDEN | allowlist.METHODS | {"forward", "extra_repr"}
    return {
        name
        for name in own - fixed - said
        if name not in allowlist.ATTRIBUTES or everywhere[name] == behind_self[name]
    }


def _behind_self(method: ast.FunctionDef) -> list[str]:
    """Return the attributes that follow the first parameter, unless that may be something else."""
    within = walk(method)
    static = any(getattr(d, "id", "") == "staticmethod" for d in method.decorator_list)
    first = method.args.args[0].arg if method.args.args else ""
    if static or _bound_in(within).count(first) != 1:
        return []
    attributes = [n for n in within if isinstance(n, ast.Attribute)]
    return [n.attr for n in attributes if isinstance(n.value, ast.Name) and n.value.id == first]


def _bound_in(nodes: list[ast.AST]) -> list[str]:
    """Return the names that parameters and assignments among ``nodes`` bind, each time."""
    stored = [n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
    return stored + [n.arg for n in nodes if isinstance(n, ast.arg)]

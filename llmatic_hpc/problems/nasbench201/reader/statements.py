"""Running a source symbolically: the constructor binds modules, ``forward`` makes a graph.

A small part of Python, on the syntax tree alone: what networks are written with. Whatever lies
outside of it is refused. The work is bounded by a number of steps and a depth, so that a text
with loops or deep calls ends as any other.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from . import calls
from .expressions import Broken, Evaluator, Frame
from .parse import Lines
from .values import (
    Chain,
    Channels,
    Class,
    Exhausted,
    Function,
    Instance,
    NotACell,
    Opaque,
    Tensor,
    Torch,
    Value,
    show,
)

RUN_ON, _BREAK, _CONTINUE = object(), object(), object()
"""What a block ends with, other than a value that it returns."""


class Interpreter(Evaluator):
    """Of one source. Everything raises :class:`NotACell`, and nothing else."""

    def __init__(self, tree: ast.Module, lines: Lines) -> None:
        super().__init__(lines)
        self._tree = tree

    # --- the network -----------------------------------------------------------------------------

    def run(self) -> tuple[Instance, Value]:
        """The network and what its ``forward`` returns."""
        instance = self.network()
        return instance, self.forward(instance)

    def network(self) -> Instance:
        """The network, told the number of channels for whatever its constructor asks."""
        classes = self._top_level()
        network = next((c for c in reversed(classes) if c.torch_base()), None)
        if network is None:
            raise NotACell("no class that derives from nn.Module")
        self.where = "__init__"
        instance = Instance(network)
        init = network.find("__init__")
        if isinstance(init, Function):
            bound = Function(init.node, init.names, instance, init.home)
            self.enter(bound, [Channels()] * _required(init.node), {})
        return instance

    def forward(self, instance: Instance) -> Value:
        """What the network makes of its input."""
        self.where = "forward"
        x = self.tensor()
        forward = instance.kind.find("forward")
        if isinstance(forward, Function):
            bound = Function(forward.node, forward.names, instance, forward.home)
            return self.enter(bound, [x], {}, main=True)
        if instance.chain is None:
            raise NotACell(f"class {instance.kind.node.name} has no forward method")
        return self.apply(instance, x, instance.kind.node)

    def _top_level(self) -> list[Class]:
        frame = Frame(self.globals)
        classes = []
        for statement in self._tree.body:
            self.line = statement.lineno
            try:
                match statement:
                    case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef():
                        self.statement(statement, frame)
                    case ast.Assign() | ast.AnnAssign():
                        self.statement(statement, frame)
            except Exhausted:
                raise
            except NotACell as error:
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        self.globals[node.id] = Broken(str(error))
            if isinstance(statement, ast.ClassDef):
                made = self.globals.get(statement.name)
                classes += [made] if isinstance(made, Class) else []
        return classes

    # --- functions and classes -------------------------------------------------------------------

    def enter(
        self,
        function: Function,
        args: Sequence[Value],
        options: Mapping[str, Value],
        *,
        main: bool = False,
    ) -> Value:
        """What a function of the source returns."""
        node = function.node
        given = [function.owner, *args] if function.owner is not None else list(args)
        frame = Frame({}, function.names, function.owner, function.home, main)
        with self.deeper(6):
            self.bind(function, given, dict(options), frame)
            if isinstance(node, ast.Lambda):
                return self.value(node.body, frame)
            line = self.line
            ended = self._block(node.body, frame)
            self.line = line
            return None if ended in (RUN_ON, _BREAK, _CONTINUE) else ended

    def bind(
        self, function: Function, given: list[Value], options: dict[str, Value], frame: Frame
    ) -> None:
        parameters = function.node.args
        name = getattr(function.node, "name", "lambda")
        plain = [p.arg for p in (*parameters.posonlyargs, *parameters.args)]
        frame.names.update(zip(plain, given, strict=False))
        if parameters.vararg:
            frame.names[parameters.vararg.arg] = given[len(plain) :]
        elif len(given) > len(plain):
            self.refuse(f"{name} is given too many arguments")
        only = [p.arg for p in parameters.kwonlyargs]
        for key in [k for k in options if k in plain or k in only]:
            if key in frame.names:
                self.refuse(f"{name} is given {key} twice")
            frame.names[key] = options.pop(key)
        if parameters.kwarg:
            frame.names[parameters.kwarg.arg] = options
        elif options:
            self.refuse(f"{name} knows no argument {next(iter(options))}")
        outer = Frame({}, function.names)
        late = plain[len(plain) - len(parameters.defaults) :]
        defaults = [*zip(late, parameters.defaults, strict=True)]
        defaults += [
            (k, d) for k, d in zip(only, parameters.kw_defaults, strict=True) if d is not None
        ]
        for key, default in defaults:
            if key not in frame.names:
                frame.names[key] = self.value(default, outer)
        for key in (*plain, *only):
            if key not in frame.names:
                self.refuse(f"{name} is not given {key}")

    def instantiate(
        self, kind: Class, args: Sequence[Value], options: Mapping[str, Value], node: ast.AST
    ) -> Value:
        """An object of a class of the source."""
        instance = Instance(kind)
        init = kind.find("__init__")
        if isinstance(init, Function):
            self.enter(Function(init.node, init.names, instance, init.home), args, options)
        else:
            self.initialise(instance, list(args), dict(options), node)
        return instance

    def initialise(
        self, instance: Instance, args: list[Value], options: dict[str, Value], node: ast.AST
    ) -> None:
        """The constructor of the class of torch that an instance's class derives from."""
        base = instance.kind.torch_base()
        if base in ("", "Module"):
            if args or options:
                self.refuse(f"{instance.kind.node.name} is given too many arguments")
        elif base not in ("ModuleList", "ModuleDict"):
            module = calls.torch_call(self, Torch(f"torch.nn.{base}"), args, options, node)
            instance.chain = module if isinstance(module, Chain) else Chain((module,))

    # --- statements ------------------------------------------------------------------------------

    def _block(self, body: Sequence[ast.stmt], frame: Frame) -> Value:
        for statement in body:
            ended = self.statement(statement, frame)
            if ended is not RUN_ON:
                return ended
        return RUN_ON

    def statement(self, node: ast.stmt, frame: Frame) -> Value:
        self.step()
        self.line = node.lineno
        match node:
            case ast.Return():
                return None if node.value is None else self.value(node.value, frame)
            case ast.Assign():
                value = self.value(node.value, frame)
                for target in node.targets:
                    self.assign(target, value, frame)
            case ast.AnnAssign():
                if node.value is not None:
                    self.assign(node.target, self.value(node.value, frame), frame)
            case ast.AugAssign():
                old = self.value(node.target, frame)  # whatever its context says
                new = self.binary(node.op, old, self.value(node.value, frame))
                self.assign(node.target, new, frame)
            case ast.Expr():
                self.value(node.value, frame)
            case ast.If():
                branch = node.body if self.truth(node.test, frame) else node.orelse
                return self._block(branch, frame)
            case ast.For():
                return self._for(node, frame)
            case ast.FunctionDef():
                frame.names[node.name] = self._function(node, frame)
            case ast.ClassDef():
                frame.names[node.name] = self._class(node, frame)
            case ast.Import() | ast.ImportFrom():
                frame.names.update(_imports(node))
            case ast.Break():
                return _BREAK
            case ast.Continue():
                return _CONTINUE
            case ast.Pass() | ast.Assert() | ast.Global() | ast.Nonlocal():
                pass
            case _:
                self.refuse(f"a {type(node).__name__.lower()} statement is not understood")
        return RUN_ON

    def _for(self, node: ast.For, frame: Frame) -> Value:
        for item in self.items(self.value(node.iter, frame)):
            self.step()
            self.assign(node.target, item, frame)
            ended = self._block(node.body, frame)
            if ended is _BREAK:
                return RUN_ON
            if ended not in (RUN_ON, _CONTINUE):
                return ended
        return self._block(node.orelse, frame)

    def assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        match target:
            case ast.Name(id=name):
                frame.names[name] = value
                if frame.main and isinstance(value, Tensor):
                    value.names.append(name)
            case ast.Attribute():
                owner = self.value(target.value, frame)
                if not isinstance(owner, Instance):
                    self.refuse(f"sets an attribute of {show(owner)}")
                owner.attributes[target.attr] = value
                owner.lines[target.attr] = target.lineno
            case ast.Subscript():
                owner, key = self.value(target.value, frame), self.value(target.slice, frame)
                calls.set_item(self, owner, key, value)
            case ast.Tuple() | ast.List():
                values = self.items(value)
                if len(values) != len(target.elts):
                    self.refuse("takes a tuple of another length apart")
                for part, single in zip(target.elts, values, strict=True):
                    self.assign(part, single, frame)
            case _:
                self.refuse("a starred assignment is not understood")

    def _function(self, node: ast.FunctionDef, frame: Frame) -> Function:
        static = any(
            isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list
        )
        names = frame.names if not frame.outer else {**frame.outer, **frame.names}
        return Function(node, names, None, None if static else frame.home)

    def _class(self, node: ast.ClassDef, frame: Frame) -> Class:
        bases = []
        for base in node.bases:
            try:
                bases.append(self.value(base, frame))
            except NotACell:
                continue
        made = Class(node, tuple(bases))
        body = Frame(made.members, {**frame.outer, **frame.names}, home=made)
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef):
                function = self._function(statement, Frame(frame.names, frame.outer, home=made))
                made.members[statement.name] = function
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                self.statement(statement, body)
        return made


def _required(node: ast.FunctionDef | ast.Lambda) -> int:
    """Number of positional parameters without a default, ``self`` aside."""
    plain = [*node.args.posonlyargs, *node.args.args]
    return max(0, len(plain) - len(node.args.defaults) - 1)


def _imports(node: ast.Import | ast.ImportFrom) -> dict[str, Value]:
    """Names that an import binds, as far as they are torch's."""
    found: dict[str, Value] = {}
    for alias in node.names:
        root = alias.name.partition(".")[0]
        if isinstance(node, ast.ImportFrom):
            path = f"{node.module}.{alias.name}"
        else:
            path = alias.name if alias.asname else root
        if alias.name == "*":
            continue
        known = path.partition(".")[0] == "torch"
        name = alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else root)
        found[name] = Torch(path) if known else Opaque(path)
    return found

"""What calling something means to the interpreter: torch, Python's own functions, methods."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from .values import (
    FUNCTIONS,
    LARGEST,
    SIGNATURES,
    Builtin,
    Chain,
    Channels,
    Class,
    Function,
    Instance,
    Layer,
    Method,
    Opaque,
    Stack,
    Super,
    Tensor,
    Torch,
    Value,
    show,
)

if TYPE_CHECKING:
    from .expressions import Evaluator, Frame

Options = Mapping[str, Value]

_NAMESPACE = re.compile(r"^[\w.]*\.(?=\w)")

_SAME = ("clone", "contiguous", "to", "float", "requires_grad_", "type_as")
"""Methods of a tensor that change nothing that matters here."""


def call(
    run: Evaluator, function: Value, args: list[Value], options: Options, node: ast.Call
) -> Value:
    """``function(*args, **options)``."""
    match function:
        case Layer() | Chain() | Instance():
            return _call_module(run, function, args, options, node)
        case Function():
            return run.enter(function, args, options)
        case Class():
            return run.instantiate(function, args, options, node)
        case Torch():
            return torch_call(run, function, args, options, node)
        case Method():
            return _method(run, function, args, options, node)
        case Builtin():
            return _builtin(run, function.name, args, options, node)
        case Opaque():
            if function.text.endswith("OrderedDict") and len(args) <= 1:
                return dict(_pairs(run, args[0])) if args else {}
            return Opaque(function.text)
    return run.refuse(f"calls {show(function)}")


def _call_module(
    run: Evaluator, module: Value, args: list[Value], options: Options, node: ast.AST
) -> Value:
    if isinstance(module, Instance) and isinstance(module.kind.find("forward"), Function):
        forward = module.kind.find("forward")
        if len(args) == 1 and not options:
            return run.apply(module, args[0], node)
        return run.enter(Function(forward.node, forward.names, module, forward.home), args, options)
    values = [*args, *options.values()]
    if len(values) != 1:
        run.refuse(f"calls a layer with {len(values)} arguments")
    return run.apply(module, values[0], node)


# --- torch ---------------------------------------------------------------------------------------


def torch_call(
    run: Evaluator, function: Torch, args: list[Value], options: Options, node: ast.AST
) -> Value:
    """A call of something of torch: a module's constructor or a function."""
    name, path = function.name, function.path
    if path.startswith(("torch.nn.init.", "torch.manual_seed")):
        return None
    if path.startswith("torch.nn.") and not path.startswith("torch.nn.functional."):
        return _module(run, name, args, options, node)
    if path == "torch.Tensor":
        return Opaque("Tensor")
    return _function(run, name, args, options, node)


def _module(run: Evaluator, name: str, args: list[Value], options: Options, node: ast.AST) -> Value:
    match name:
        case "Sequential":
            return _sequential(run, args)
        case "ModuleList":
            return list(run.items(args[0])) if args else []
        case "ModuleDict":
            return dict(_pairs(run, args[0])) if args else {}
        case "Identity":
            return Layer("identity", "Identity()", _line(run, node))
        case "Parameter":
            return Opaque("Parameter")
    text = _text(run, node, name)
    if name in SIGNATURES:
        kind, signature = SIGNATURES[name]
        return Layer(kind, text, _line(run, node), run.bound(name, signature, args, options))
    return Layer("other", text, _line(run, node))


def _sequential(run: Evaluator, args: list[Value]) -> Chain:
    parts: Sequence[Value] = args
    if len(args) == 1 and isinstance(args[0], dict):
        parts = list(args[0].values())
    for part in parts:
        if not isinstance(part, Layer | Chain | Instance):
            run.refuse(f"nn.Sequential of {show(part)}")
    return Chain(tuple(parts))


def _function(
    run: Evaluator, name: str, args: list[Value], options: Options, node: ast.AST
) -> Value:
    options = dict(options)
    first = (
        args[0]
        if args
        else next((options.pop(key) for key in ("input", "tensors", "x") if key in options), None)
    )
    rest = args[1:]
    if name in ("zeros_like", "zeros") and first is not None:
        x = first.owner if isinstance(first, Opaque) else first
        return _zeros(run, x) if isinstance(x, Tensor) else Opaque(name)
    if name == "stack" and isinstance(first, list | tuple):
        dim = rest[0] if rest else options.get("dim", 0)
        return Stack(tuple(first)) if dim == 0 else run.refuse("stacks along another dimension")
    if name in ("cat", "concat", "concatenate"):
        return run.refuse("concatenates nodes; a node is a sum")
    if isinstance(first, Stack):
        return _summed(run, first, name, rest, options)
    if not isinstance(first, Tensor):
        second = rest[0] if rest else options.get("other")
        if name in ("add", "mul", "multiply") and isinstance(second, Tensor):
            return run.add(first, second) if name == "add" else run.multiply(first, second)
        return Opaque(name)
    return _of_tensor(run, name, first, rest, options, node)


def _of_tensor(
    run: Evaluator, name: str, x: Tensor, args: list[Value], options: Options, node: ast.AST
) -> Value:
    """A function or method of a tensor."""
    other = args[0] if args else options.get("other")
    if name in ("add", "add_"):
        if options.get("alpha", 1) != 1 or len(args) > 1:
            run.refuse("adds a multiple of a node")
        return run.add(x, other)
    if name in ("mul", "mul_", "multiply"):
        return run.multiply(x, other)
    if name in FUNCTIONS:
        kind, signature = FUNCTIONS[name]
        arguments = run.bound(name, signature, args, options)
        return run.tensor(Layer(kind, _text(run, node, name), run.line, arguments), x)
    return run.tensor(Layer("other", _text(run, node, name), run.line), x)


def _zeros(run: Evaluator, x: Tensor) -> Tensor:
    return run.tensor(Layer("zero", "zeros_like", run.line), x)


def _summed(run: Evaluator, stack: Stack, name: str, args: list[Value], options: Options) -> Value:
    dim = args[0] if args else options.get("dim", options.get("axis"))
    if name != "sum" or dim not in (0, [0], (0,)):
        return run.refuse(f"{name} of a stack; a node is the sum over its first dimension")
    return _sum(run, stack.tensors)


def _sum(run: Evaluator, values: Sequence[Value]) -> Value:
    total: Value = 0
    for value in values:
        if isinstance(total, Tensor) or isinstance(value, Tensor):
            total = run.add(total, value)
        elif isinstance(value, int | float) and isinstance(total, int | float):
            total += value
        else:
            return run.refuse(f"a sum of {show(value)}")
    return total


def _line(run: Evaluator, node: ast.AST) -> int:
    return getattr(node, "lineno", run.line)


def _text(run: Evaluator, node: ast.AST, name: str) -> str:
    text = run.lines.text(node) if isinstance(node, ast.Call) else name
    return _NAMESPACE.sub("", text)


# --- methods and Python's own --------------------------------------------------------------------


def _method(
    run: Evaluator, method: Method, args: list[Value], options: Options, node: ast.Call
) -> Value:
    owner, name = method.owner, method.name
    match owner, name:
        case Super(), "__init__":
            return _super(run, owner, args, options, node)
        case Super(), _:
            return run.refuse(f"super().{name} is not understood")
        case Tensor(), ("size" | "dim" | "numel" | "get_device"):
            return Opaque(name, owner)
        case Tensor(), "new_zeros":
            return _zeros(run, owner)
        case Tensor(), "zero_":
            return _zeros(run, owner)
        case Tensor(), _ if name in _SAME:
            return owner
        case Tensor(), _:
            return _of_tensor(run, name, owner, args, options, node)
        case Stack(), _:
            return _summed(run, owner, name, args, options)
        case list(), "append" if len(args) == 1:
            owner.append(args[0])
            return None if len(owner) <= LONGEST else run.refuse("a list that is too long")
        case list(), "extend" if len(args) == 1:
            owner.extend(run.items(args[0]))
            return None if len(owner) <= LONGEST else run.refuse("a list that is too long")
        case Instance(), ("add_module" | "register_module") if len(args) == 2:
            set_attribute(run, owner, args[0], args[1])
            return None
        case dict(), "items" if not args:
            return [tuple(pair) for pair in owner.items()]
        case dict(), "values" if not args:
            return list(owner.values())
        case dict(), "keys" if not args:
            return list(owner)
        case dict(), "get" if args:
            return owner.get(key(run, args[0]), args[1] if len(args) > 1 else None)
        case dict(), "update" if len(args) == 1:
            owner.update(_pairs(run, args[0]))
            return None
        case str(), "format" if not options and all(isinstance(a, int | str) for a in args):
            return _format(run, owner, args)
        case Opaque(), _:
            return Opaque(f"{owner.text}.{name}", owner.owner)
    return run.refuse(f"{run.lines.text(node)} is not understood")


LONGEST = 256
"""Most entries of a list."""


def _format(run: Evaluator, text: str, args: list[Value]) -> Value:
    parts = text.split("{}")
    if len(parts) != len(args) + 1 or "{" in "".join(parts):
        return run.refuse("a format that is not understood")
    words = [str(a)[:40] for a in args]
    made = "".join(a + b for a, b in zip(parts, [*words, ""], strict=True))
    return made if len(made) <= LONGEST else run.refuse("a text that is too long")


def _super(
    run: Evaluator, owner: Super, args: list[Value], options: Options, node: ast.AST
) -> Value:
    """The constructor of the class behind the one that the method stands in."""
    lineage = owner.owner.kind.lineage()
    behind = lineage[lineage.index(owner.home) + 1 :] if owner.home in lineage else []
    for base in behind:
        if isinstance(base, Class) and isinstance(base.members.get("__init__"), Function):
            init = base.members["__init__"]
            bound = Function(init.node, init.names, owner.owner, init.home)
            return run.enter(bound, args, options)
        if isinstance(base, Torch):
            break
    run.initialise(owner.owner, args, dict(options), node)
    return None


def _builtin(
    run: Evaluator, name: str, args: list[Value], options: Options, node: ast.Call
) -> Value:
    match name, args:
        case "range", [int(), *rest] if len(args) <= 3 and all(isinstance(a, int) for a in rest):
            if all(abs(a) < LARGEST for a in args) and (len(args) < 3 or args[2]):
                return range(*args)
        case "len", [list() | tuple() | dict() | str() | range() as value]:
            return len(value)
        case "len", [Chain(modules=modules)]:
            return len(modules)
        case "sum", [value, *start] if len(start) <= 1:
            return _sum(run, [*start, *run.items(value)])
        case (("list" | "tuple"), []):
            return [] if name == "list" else ()
        case (("list" | "tuple"), [value]):
            if isinstance(value, Opaque):
                return value
            return run.items(value) if name == "list" else tuple(run.items(value))
        case "reversed", [value]:
            return run.items(value)[::-1]
        case "dict", [] | [_]:
            pairs = dict(_pairs(run, args[0])) if args else {}
            return {**pairs, **options}
        case "zip", _:
            return list(zip(*(run.items(a) for a in args), strict=False))
        case "enumerate", [value, *start] if len(start) <= 1:
            first = start[0] if start else options.get("start", 0)
            if isinstance(first, int):
                return list(enumerate(run.items(value), first))
        case "str", [int() | str() as value]:
            return str(value) if not isinstance(value, int) or abs(value) < LARGEST else ""
        case "int", [int() | float() as value] if abs(value) < LARGEST:
            return int(value)
        case "print", _:
            return None
        case "getattr", [Instance() as owner, str() as attribute, *rest]:
            if attribute in owner.attributes:
                return owner.attributes[attribute]
            return rest[0] if rest else run.refuse(f"self.{attribute[:40]} is not defined")
        case "hasattr", [Instance() as owner, str() as attribute]:
            return attribute in owner.attributes
        case "setattr", [Instance() as owner, attribute, value]:
            return set_attribute(run, owner, attribute, value)
    return run.refuse(f"{run.lines.text(node)} is not understood")


def set_attribute(run: Evaluator, owner: Instance, name: Value, value: Value) -> None:
    """``setattr(owner, name, value)``."""
    if not isinstance(name, str):
        run.refuse(f"an attribute called {show(name)}")
    owner.attributes[name] = value
    owner.lines[name] = run.line


# --- containers ----------------------------------------------------------------------------------


def key(run: Evaluator, value: Value) -> Value:
    """``value`` as a key of a dictionary."""
    simple = isinstance(value, int | str) or (
        isinstance(value, tuple) and all(isinstance(v, int | str) for v in value)
    )
    return value if simple else run.refuse(f"{show(value)} as a key")


def item(run: Evaluator, owner: Value, node: ast.expr, frame: Frame) -> Value:
    """``owner[node]``."""
    if isinstance(owner, Tensor):
        whole = ast.Slice(None, None, None)
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        if all(isinstance(p, ast.Slice) and ast.dump(p) == ast.dump(whole) for p in parts):
            return owner
        return run.refuse("takes a part of a node")
    if isinstance(owner, Opaque):
        return Opaque("a value", owner.owner)
    if isinstance(node, ast.Slice):
        return _slice(run, owner, node, frame)
    index = run.value(node, frame)
    if isinstance(owner, Chain):
        owner = list(owner.modules)
    elif isinstance(owner, Instance) and owner.chain is not None:
        owner = list(owner.chain.modules)
    if isinstance(owner, list | tuple | range) and isinstance(index, int):
        if -len(owner) <= index < len(owner):
            return owner[index]
        return run.refuse(f"index {show(index)} of {len(owner)}")
    if isinstance(owner, dict):
        index = key(run, index)
        return owner[index] if index in owner else run.refuse(f"there is no key {index!r:.40}")
    return run.refuse(f"takes a part of {show(owner)}")


def _slice(run: Evaluator, owner: Value, node: ast.Slice, frame: Frame) -> Value:
    bounds = [None if p is None else run.value(p, frame) for p in (node.lower, node.upper)]
    plain = node.step is None and all(b is None or isinstance(b, int) for b in bounds)
    if isinstance(owner, list | tuple | str) and plain:
        return owner[bounds[0] : bounds[1]]
    return run.refuse(f"takes a part of {show(owner)}")


def set_item(run: Evaluator, owner: Value, index: Value, value: Value) -> None:
    """``owner[index] = value``."""
    if isinstance(owner, dict):
        owner[key(run, index)] = value
    elif isinstance(owner, list) and isinstance(index, int) and -len(owner) <= index < len(owner):
        owner[index] = value
    else:
        run.refuse(f"sets a part of {show(owner)}")


def _pairs(run: Evaluator, value: Value) -> list[tuple[Value, Value]]:
    pairs = list(value.items()) if isinstance(value, dict) else run.items(value)
    found = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            run.refuse(f"a dictionary of {show(pair)}")
        found.append((key(run, pair[0]), pair[1]))
    return found


def scaled(run: Evaluator, op: ast.operator, left: Value, right: Value) -> Value:
    """Arithmetic with the number of channels."""
    match left, op, right:
        case Channels(scale=scale), ast.Mult(), int():
            scale *= right
        case int(), ast.Mult(), Channels(scale=scale):
            scale *= left
        case Channels(scale=scale), ast.FloorDiv() | ast.Div(), int() if right:
            scale = Fraction(scale) / right
        case _:
            return run.refuse("an arithmetic of channels that is not understood")
    if not 0 < scale < LARGEST or scale.denominator >= LARGEST:
        return run.refuse("a huge number of channels")
    return Channels(scale)

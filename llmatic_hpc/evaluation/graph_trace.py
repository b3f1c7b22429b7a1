"""Follow one forward pass of a network: which layers, applied to what. For a contained child only.

Nothing is computed. Layers and functions that an edge of a cell may consist of, and sums, are
answered with a tensor of zeros that has the shape of what came in; so a layer of the wrong size is
reported like any other, and what is wrong with it is for the judge to say. Operations in place
count by their value and leave their argument as it was. Any other function that is applied to a
traced tensor is run, and reported as ``other``; a branch that depends on a value is refused.
"""

from __future__ import annotations
import __future__

import ast
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..source.parse import SourceError, parse
from . import build, graph
from .build import CANDIDATE_EXCEPTIONS, SOURCE_NAME, CandidateError
from .graph import Traced

SIZE = 8
"""Height and width of the input, pixels."""
MAX_CALLS = 1_000
"""Most calls of modules in one forward pass."""

_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
         "padding_mode")  # fmt: skip
_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_LAYERS: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {
    nn.ReLU: ("relu", ()),
    nn.Conv2d: ("conv", _CONV),
    nn.BatchNorm2d: ("bn", ("num_features",)),
    nn.AvgPool2d: ("pool", _POOL),
    nn.Identity: ("identity", ()),
}
_SAME = {"clone", "contiguous", "to", "float", "requires_grad_", "type_as"}
_VALUES = {"__bool__", "__float__", "__int__", "__index__", "__contains__", "item", "tolist",
           "numpy", "equal", "allclose", "is_nonzero"}  # fmt: skip
_OPERATIONS = {"sub", "rsub", "div", "truediv", "floordiv", "floor_divide", "matmul", "pow", "mod",
               "subtract", "divide", "maximum", "minimum"}  # fmt: skip


def trace(source: str, *, channels: int) -> bytes:
    """The encoded graph of the last class of ``source`` that derives from ``nn.Module``.

    Its constructor is told ``channels`` for every parameter without a default. Raises
    :class:`~.build.CandidateError` for whatever is wrong, with the line where it is known.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            tracer = Tracer()
            with torch.device("meta"):
                network = _network(source, channels)
            output = tracer.run(network, torch.zeros(2, channels, SIZE, SIZE))
            return graph.encode(tracer.tensors, output)
    except CANDIDATE_EXCEPTIONS as error:
        raise build.candidate_error(error) from None


def _network(source: str, channels: int) -> nn.Module:
    try:
        tree = parse(source)
    except SourceError as error:
        raise CandidateError("invalid", build.bounded(str(error))) from None
    names = build.namespace()
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    failed: BaseException | None = None
    for statement in tree.body:
        if isinstance(statement, kept):
            try:
                exec(_compiled(statement), names)
            except CANDIDATE_EXCEPTIONS as error:  # counts where the network needs it
                failed = failed or error
    classes = [s.name for s in reversed(tree.body) if isinstance(s, ast.ClassDef)]
    kinds = [k for name in classes if isinstance(k := names.get(name), type)]
    kind = next((k for k in kinds if issubclass(k, nn.Module)), None)
    if kind is None:
        raise failed or CandidateError("invalid", "no class that derives from nn.Module")
    network: nn.Module = kind(*[channels] * _required(kind))
    if "_parameters" not in vars(network):
        raise CandidateError("invalid", f"{kind.__name__} does not call super().__init__()")
    if type(network).forward is nn.Module.forward:
        raise CandidateError("invalid", f"class {kind.__name__} has no forward method")
    return network


def _compiled(statement: ast.stmt) -> Any:
    module = ast.Module([statement], type_ignores=[])
    flags = __future__.annotations.compiler_flag  # annotations are never evaluated
    return compile(module, SOURCE_NAME, "exec", flags=flags, dont_inherit=True)


def _required(kind: type) -> int:
    """Count the arguments that the constructor cannot do without."""
    init: Any = kind.__init__  # type: ignore[misc]
    code = getattr(init, "__code__", None)
    if code is None or code.co_filename != SOURCE_NAME:
        return 0
    return max(0, int(code.co_argcount) - len(init.__defaults__ or ()) - 1)


class Tracer(TorchFunctionMode):
    """While a network runs: knows which tensor was made from which."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Traced] = []
        """Tensors that the network made so far, in order."""
        self._made: list[Tensor] = []  # kept, so that no other gets their identity
        self._numbers: dict[int, int] = {}  # by id of a tensor
        self._stacks: dict[int, tuple[Tensor, list[Tensor]]] = {}
        self._labels: dict[int, str] = {}
        self._above: list[nn.Module] = []
        self._calls = 0
        self._bound: dict[str, int] = {}  # by variable of forward: id of its value

    def run(self, network: nn.Module, x: Tensor) -> int:
        """Run ``forward`` on ``x``; returns the number of the tensor that it returns."""
        self._labels = dict(_labels(network))
        self._new("input", (), x)
        forward = getattr(type(network).forward, "__code__", None)
        original = nn.Module.__call__
        nn.Module.__call__ = lambda module, *a, **k: self._call(original, module, a, k)  # type: ignore[method-assign]
        sys.settrace(lambda frame, *_: self._follow if frame.f_code is forward else None)
        try:
            with self:
                made = network(x)
        finally:
            sys.settrace(None)
            nn.Module.__call__ = original  # type: ignore[method-assign]
        if isinstance(made, Tensor) and not self._is_traced(made) and _is_zero(made):
            made = self._new("zero", [x])
        if not self._is_traced(made):
            kind = "None" if made is None else type(made).__name__
            what = f"forward returns {kind}, not what it made of its input"
            raise CandidateError("invalid", build.bounded(what))
        return self._numbers[id(made)]

    # --- tensors --------------------------------------------------------------------------------

    def _new(
        self, kind: str, origins: Sequence[Tensor], made: Tensor | None = None, text: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> Tensor:  # fmt: skip
        if len(self.tensors) >= graph.MAX_TENSORS:
            refuse("does more than any cell needs")
        if made is None:
            made = torch.zeros(origins[0].shape)
        numbers = tuple(self._numbers[id(origin)] for origin in origins)
        values = {name: _plain(value) for name, value in (arguments or {}).items()}
        self._numbers[id(made)] = len(self.tensors)
        self._made.append(made)
        self.tensors.append(Traced(kind, numbers, values, graph.short(text)))
        return made

    def _describe(self, number: int, *, label: str = "", name: str = "") -> None:
        """Give a tensor a label, or one more name."""
        known = self.tensors[number]
        names = graph.bounded_names((*known.names, name)) if name else known.names
        self.tensors[number] = replace(known, label=label or known.label, names=names)

    def _is_traced(self, value: object) -> bool:
        return isinstance(value, Tensor) and id(value) in self._numbers

    def _follow(self, frame: FrameType, event: str, _: object) -> Any:
        """Give tensors the names of the variables that a line of ``forward`` bound to them."""
        if event in ("line", "return"):
            known, bound = self._bound, {n: id(v) for n, v in frame.f_locals.items()}
            for name, value in bound.items():
                if known and known.get(name) != value and value in self._numbers:
                    self._describe(self._numbers[value], name=name)
            self._bound = bound
        return self._follow

    # --- modules --------------------------------------------------------------------------------

    def _call(self, original: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        self._calls += 1
        if self._calls > MAX_CALLS:
            refuse("does more than any cell needs")
        values = [*args, *kwargs.values()]
        inputs = [value for value in values if self._is_traced(value)]
        if inputs and self._above and _is_layer(module):
            if len(values) > 1:
                refuse(f"calls a layer with {len(values)} arguments")
            within = isinstance(module, nn.Identity) and _is_chain(self._above[-1])
            made = inputs[0] if within else self._layer(module, inputs[0])
        else:
            self._above.append(module)
            try:
                made = original(module, *args, **kwargs)
            finally:
                self._above.pop()
            if not inputs or not self._above:  # not of a node, or the network itself
                return made
            if made is inputs[0] and not _is_chain(self._above[-1]):
                made = self._new("identity", inputs[:1])
        if self._is_traced(made) and made is not inputs[0]:
            self._describe(self._numbers[id(made)], label=self._labels.get(id(module), ""))
        return made

    def _layer(self, module: nn.Module, x: Tensor) -> Tensor:
        for kind, (name, arguments) in _LAYERS.items():
            if type(module).forward is kind.forward:
                values = {argument: getattr(module, argument) for argument in arguments}
                return self._new(name, [x], arguments=values)
        base = next(c for c in type(module).__mro__ if c.__module__.startswith("torch.nn."))
        return self._new("other", [x], text=base.__name__)

    # --- functions ------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_flat((*args, *kwargs.values())))
        inputs = list(filter(self._is_traced, given))
        stacked = any(id(value) in self._stacks for value in given)
        if not inputs and not stacked:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__get__":  # an attribute: x.shape
            found = func(*args, **kwargs)
            return inputs[0] if inputs and isinstance(found, Tensor) and _is_data(func) else found
        plain = _plain_name(name)
        if stacked:
            return self._summed(plain, args, kwargs)
        if name in _SAME:
            return inputs[0]
        if name in _VALUES:
            return refuse("a branch that depends on the input")
        return self._applied(func, plain, inputs, args, kwargs)

    def _applied(self, func: Any, name: str, inputs: list[Tensor], args: Any, kwargs: Any) -> Any:
        x = inputs[0]
        match name:
            case "add" | "mul" | "multiply":
                pair = [*args, *(kwargs[key] for key in ("input", "other") if key in kwargs)]
                if len(pair) != 2 or kwargs.get("alpha", 1) != 1:
                    return refuse("adds a multiple of a node")
                return (self._add if name == "add" else self._multiply)(*pair)
            case "relu":
                return self._new("relu", [x])
            case "avg_pool2d":
                return self._pool(*args, **kwargs)
            case "conv2d":
                return self._conv(*args, **kwargs)
            case "batch_norm":
                sizes = [t.shape[0] for t in (*args[1:], *kwargs.values()) if isinstance(t, Tensor)
                         and t is not x and t.dim() == 1]  # fmt: skip
                features = sizes[0] if sizes else None
                return self._new("bn", [x], arguments={"num_features": features})
            case "zeros_like" | "new_zeros" | "zero":
                return self._new("zero", [x])
            case "stack":
                return self._stack(*args, **kwargs)
            case "cat" | "concat" | "concatenate":
                return refuse("concatenates nodes; a node is a sum")
            case "getitem":
                parts = args[1] if isinstance(args[1], tuple) else (args[1],)
                if all(part == slice(None) or part is Ellipsis for part in parts):
                    return x
                return refuse("takes a part of a node")
        if name in _OPERATIONS:
            return refuse(f"an operation on nodes other than a sum ({name})")
        return self._other(func, name, x, args, kwargs)

    def _other(self, func: Any, name: str, x: Tensor, args: Any, kwargs: Any) -> Any:
        """A function that no edge has: run for the shapes that it gives."""
        try:
            found = func(*args, **kwargs)
        except CANDIDATE_EXCEPTIONS:
            found = torch.zeros(x.shape)
        if isinstance(found, Tensor):
            made = found.clone() if self._is_traced(found) else found
            return self._new("other", [x], made, name)
        if isinstance(found, tuple) and any(isinstance(part, Tensor) for part in found):
            return tuple(self._new("other", [x], part.clone(), name) if isinstance(part, Tensor)
                         else part for part in found)  # fmt: skip
        return found

    def _add(self, left: Any, right: Any) -> Any:
        x, other = (left, right) if self._is_traced(left) else (right, left)
        if self._is_traced(other):
            return self._new("sum", [left, right])
        return x if _is_zero(other) else refuse(f"adds {_shown(other)} to a node")

    def _multiply(self, left: Any, right: Any) -> Any:
        x, factor = (left, right) if self._is_traced(left) else (right, left)
        if self._is_traced(factor):
            return refuse("multiplies two nodes")
        if _is_zero(factor):
            return self._new("zero", [x])
        is_one = isinstance(factor, int | float) and factor == 1
        return x if is_one else refuse(f"multiplies a node by {_shown(factor)}")

    def _pool(
        self, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
        ceil_mode: Any = False, count_include_pad: Any = True, divisor_override: Any = None,
    ) -> Tensor:  # fmt: skip
        values = (kernel_size, kernel_size if stride is None else stride, padding, ceil_mode,
                  count_include_pad, divisor_override)  # fmt: skip
        return self._new("pool", [input], arguments=dict(zip(_POOL, values, strict=True)))

    def _conv(
        self, input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: Any = 1,
    ) -> Tensor:  # fmt: skip
        values = (weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), stride,
                  padding, dilation, groups, "zeros")  # fmt: skip
        return self._new("conv", [input], arguments=dict(zip(_CONV, values, strict=True)))

    def _stack(self, tensors: Any, dim: int = 0) -> Tensor:
        if dim != 0 or not all(map(self._is_traced, tensors)):
            return refuse("stacks along another dimension")
        made = torch.zeros(len(tensors), *tensors[0].shape)
        self._stacks[id(made)] = made, list(tensors)
        return made

    def _summed(self, name: str, args: Any, kwargs: Any) -> Any:
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
        if name != "sum" or dim not in (0, [0], (0,)):
            return refuse(f"{name} of a stack; a node is the sum over its first dimension")
        _, (total, *rest) = self._stacks[id(args[0])]
        for tensor in rest:
            total = self._add(total, tensor)
        return total


# --- small pure parts -----------------------------------------------------------------------------


def refuse(reason: str) -> NoReturn:
    """Raises :class:`~.build.CandidateError` with the line of the source that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != SOURCE_NAME:
        frame = frame.f_back
    where = f"line {frame.f_lineno}: " if frame is not None else ""
    raise CandidateError("invalid", build.bounded(f"{where}{reason}"))


def _labels(network: nn.Module) -> Iterator[tuple[int, str]]:
    """Name the modules of a network, by their id; numbers are no names."""
    for holder in vars(network).values():
        if type(holder) is dict:
            for name, module in holder.items():
                if isinstance(module, nn.Module) and isinstance(name, str):
                    yield id(module), graph.short(name)
    for path, module in network.named_modules():
        name = path.rpartition(".")[2]
        if not name.isdigit():
            yield id(module), graph.short(name)


def _is_chain(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward


def _is_layer(module: nn.Module) -> bool:
    return type(module).forward.__module__.startswith("torch.nn.") and not _is_chain(module)


def _is_data(getter: Any) -> bool:
    return getattr(getattr(getter, "__self__", None), "__name__", "") == "data"


def _is_zero(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_meta and not bool(value.count_nonzero())
    return isinstance(value, int | float) and value == 0


def _plain_name(name: str) -> str:
    """``add`` for ``add_``, ``__iadd__`` and ``__radd__``."""
    plain = name.strip("_")
    return {"iadd": "add", "radd": "add", "imul": "mul", "rmul": "mul"}.get(plain, plain)


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, list | tuple) else (value,)


def _plain(value: Any) -> Any:
    """An argument of a layer as :func:`.graph.decode` accepts it."""
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, list | tuple) and all(isinstance(part, int) for part in value):
        if len(value) == 1:
            return int(value[0])
        return [int(part) for part in value] if len(value) == 2 else "sizes"
    return None if value is None else graph.short(str(value))


def _shown(value: object) -> str:
    return str(value)[:40] if isinstance(value, int | float) else type(value).__name__.lower()

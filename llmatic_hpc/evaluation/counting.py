"""Layers, width and multiply-adds of one forward pass, counted while it runs.

**Layers.** A layer is an executed call of a module that ``torch.nn`` defines and that is not
merely a container (``nn.ReLU``, ``nn.Conv2d``, ``nn.MultiheadAttention``), or a call of a
function of ``torch`` or ``torch.nn.functional`` or a tensor method that such a module stands
for, made outside of one: ``nn.ReLU``, ``F.relu``, ``torch.relu`` and ``x.relu()`` are one
layer each. So is a matrix product with a parameter, which is ``nn.Linear`` spelled out. A call
of a candidate's own module that has no children counts as the layers in it, at least as one.
What is executed n times counts n times; what is never executed does not count; neither do
``nn.Identity`` and empty containers. *Depth* is the number of layers.

**Width** is the largest number of output features or channels of any layer with weights of
its own, of any layer at all where none has weights: the last dimension behind linear,
recurrent, attention and embedding layers and layer norm, else dimension 1.

**FLOPs** are multiply-adds in the conventions of fvcore's ``FlopCountAnalysis``: a
multiply-add is one operation, biases, activations and pooling are free, a batch norm costs two
operations an element, other norms five (one and four without weights), ``adaptive_avg_pool2d``
one an element. Where fvcore counts nothing (LSTM, GRU, RNN and their cells, bilinear layers,
fused attention) or the wrong thing (matrix products that broadcast, of vectors), the products
in the definition of the operation are counted: a recurrent layer costs its weight matrices
once a step. The count is taken from the calls themselves, not from a trace, because tracing
takes longer than everything else together; the tests hold it against fvcore.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode

from .vocabulary import words

_Arguments = tuple[Any, ...]
_Options = dict[str, Any]

LAYERS = words(
    """
    linear bilinear embedding embedding_bag
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    multi_head_attention_forward scaled_dot_product_attention
    batch_norm instance_norm layer_norm group_norm rms_norm local_response_norm
    max_pool1d max_pool2d max_pool3d
    max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
    adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool3d
    fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices
    max_unpool1d max_unpool2d max_unpool3d
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout
    relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish glu sigmoid logsigmoid tanh
    hardtanh hardsigmoid hardswish hardshrink softshrink tanhshrink softplus softsign threshold
    softmax log_softmax softmin
    flatten unflatten pad constant_pad_nd interpolate upsample fold
    pixel_shuffle pixel_unshuffle channel_shuffle cosine_similarity
    """
)
"""Functions and tensor methods that a module of torch.nn stands for."""

_PRODUCTS = words("matmul mm bmm mv addmm baddbmm addmv einsum tensordot")

_LAST = (
    words(
        """
    linear bilinear embedding embedding_bag lstm gru rnn_tanh rnn_relu lstm_cell gru_cell
    rnn_tanh_cell rnn_relu_cell multi_head_attention_forward scaled_dot_product_attention
    layer_norm rms_norm
    Linear NonDynamicallyQuantizableLinear LazyLinear Bilinear Embedding EmbeddingBag
    LSTM GRU RNN LSTMCell GRUCell RNNCell MultiheadAttention LayerNorm RMSNorm
    """
    )
    | _PRODUCTS
)
"""Layers whose features are the last dimension of their output."""

_CONTAINERS = words(
    """
    Module Sequential ModuleList ModuleDict ParameterList ParameterDict Identity Container
    Transformer TransformerEncoder TransformerDecoder TransformerEncoderLayer
    TransformerDecoderLayer
    """
)

_CONVOLUTIONS = words("conv1d conv2d conv3d")

_RECURRENT = words("lstm gru rnn_tanh rnn_relu")

_FACTORIES = words(
    """
    empty zeros ones full rand randn randint randperm eye arange linspace logspace normal
    empty_strided new_empty new_zeros new_ones new_full tril_indices triu_indices
    """
)
_FILLS = words(
    """
    uniform_ normal_ trunc_normal_ xavier_uniform_ xavier_normal_ kaiming_uniform_
    kaiming_normal_ orthogonal_ sparse_
    """
)


class OverBudget(BaseException):
    """More work or memory than this attempt may take. No candidate can catch it."""


class Building(TorchFunctionMode):
    """While a network is built: allocates at most ``limit`` numbers, and draws none.

    Parameters are filled with a constant in place of random numbers, which for a large
    network take longer than all of its screening.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self._left = limit

    def __torch_function__(
        self, func: Any, types: Any, args: _Arguments = (), kwargs: _Options | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _FILLS:
            tensor: Tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if not tensor.is_meta:
                with torch.no_grad():
                    tensor.fill_(0.01)
            return tensor
        if name in _FACTORIES:
            self._left -= _size_of(func, args, kwargs)
            if self._left < 0:
                raise OverBudget
        return func(*args, **kwargs)


def _size_of(func: Any, args: _Arguments, kwargs: _Options) -> int:
    """How many numbers a call that makes a tensor would allocate."""
    sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args
    plain = func in (torch.empty, torch.zeros, torch.ones) and sizes
    if plain and all(type(size) is int for size in sizes):
        return math.prod(sizes)
    result: Tensor = func(*args, **{**kwargs, "device": "meta"})
    return result.numel()


class Running(TorchFunctionMode):
    """While a network runs on the meta device: recurrent layers cost nothing.

    torch decomposes them there into a Python loop over the steps, a second for a long
    sequence. Their outputs have the right shapes and hang in the autograd graph.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: _Arguments = (), kwargs: _Options | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _RECURRENT and args[0].is_meta and isinstance(args[2], (list, tuple)):
            return _recurrent(name, args)
        return func(*args, **(kwargs or {}))


def _recurrent(name: str, args: _Arguments) -> tuple[Tensor, ...]:
    """What ``torch.lstm`` and its like would return, as far as shapes and gradients go."""
    x, states, weights = args[0], args[1], args[2]
    states = states if name == "lstm" else (states,)
    # Products of the true shapes, so that a mismatch is still an error.
    torch.nn.functional.linear(x.reshape(-1, x.shape[-1])[:1], weights[0])
    directions = 2 if args[7] else 1
    link = sum((w.sum() for w in weights), start=x.sum())
    output = x.new_zeros((*x.shape[:-1], directions * states[0].shape[-1])) + link
    return (output, *(state + link for state in states))


class Counting(Running):
    """While a network runs: counts its layers, their widths and their multiply-adds.

    ``max_layers`` and ``max_flops`` end a run that goes beyond: :class:`TooMany` is raised.
    """

    def __init__(self, *, max_layers: float = math.inf, max_flops: float = math.inf) -> None:
        super().__init__()
        self.flops = 0
        self.depth = 0
        self._max_layers = max_layers
        self._max_flops = max_flops
        self._width_weighted = 0
        self._width_any = 0
        self._inside = 0
        self._before: list[int] = []
        self._handles: list[Any] = []

    @property
    def width(self) -> int:
        """Largest number of output features or channels so far."""
        return self._width_weighted or self._width_any

    def __enter__(self) -> Counting:
        self._handles = [
            module_hooks.register_module_forward_pre_hook(self._enter_module),
            module_hooks.register_module_forward_hook(self._leave_module),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: _Arguments = (), kwargs: _Options | None = None
    ) -> Any:
        name = getattr(func, "__name__", "").rstrip("_")
        kwargs = kwargs or {}
        early = _FROM_INPUTS.get(name)
        if early is not None:
            self._spend(early(args, kwargs))
        elif name in _CONVOLUTIONS and _about(args, kwargs) > 4 * (self._max_flops - self.flops):
            raise TooMany("flops")
        result = super().__torch_function__(func, types, args, kwargs)
        late = _FROM_OUTPUT.get(name)
        if late is not None:
            self._spend(late(args, kwargs, result))
        if not self._inside and (name in LAYERS or name in _PRODUCTS):
            weighted = _has_parameter(args) or _has_parameter(tuple(kwargs.values()))
            if weighted or name in LAYERS:
                self._layer(name, result, weighted)
        return result

    def _spend(self, flops: int) -> None:
        self.flops += flops
        if self.flops > self._max_flops:
            raise TooMany("flops")

    def _layer(self, kind: str, output: Any, weighted: bool) -> None:
        self.depth += 1
        if self.depth > self._max_layers:
            raise TooMany("layers")
        while isinstance(output, (tuple, list)) and output:
            output = output[0]
        if not isinstance(output, Tensor) or output.dim() < 2:
            return
        last = kind in _LAST or (output.dim() == 3 and not kind)
        width = output.shape[-1 if last else 1]
        self._width_any = max(self._width_any, width)
        if weighted:
            self._width_weighted = max(self._width_weighted, width)

    def _enter_module(self, module: nn.Module, _inputs: Any) -> None:
        if _torch_layer(type(module)):
            self._inside += 1
        self._before.append(self.depth)

    def _leave_module(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        before = self._before.pop()
        kind = _torch_layer(type(module))
        if kind:
            self._inside -= 1
        if self._inside:
            return
        own = not kind and type(module).__module__.partition(".")[0] != "torch"
        if kind or (own and self.depth == before and not module._modules):
            weighted = any(True for _ in module.parameters())
            with torch._C.DisableTorchFunction():
                self._layer(kind, output, weighted)


class TooMany(OverBudget):
    """A bound was passed: ``what`` is ``layers`` or ``flops``."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def _torch_layer(cls: type) -> str:
    """Name of the torch.nn class that makes modules of ``cls`` layers; empty for the others."""
    name = _KINDS.get(cls)
    if name is None:
        base = next(c for c in cls.__mro__ if c.__module__.startswith("torch.nn.modules."))
        name = _KINDS[cls] = "" if base.__name__ in _CONTAINERS else base.__name__
    return name


_KINDS: dict[type, str] = {}


def _has_parameter(values: _Arguments) -> bool:
    """Whether a parameter, or a view of one, is among the arguments of a call."""
    for value in values:
        if isinstance(value, Tensor):
            if isinstance(value, nn.Parameter) or isinstance(value._base, nn.Parameter):
                return True
        elif isinstance(value, (list, tuple)) and _has_parameter(tuple(value)):
            return True
    return False


# --- multiply-adds ----------------------------------------------------------------------------


def _argument(
    args: _Arguments, kwargs: _Options, index: int, name: str, default: Any = None
) -> Any:
    return args[index] if index < len(args) else kwargs.get(name, default)


def _linear(args: _Arguments, kwargs: _Options) -> int:
    x = _argument(args, kwargs, 0, "input")
    weight = _argument(args, kwargs, 1, "weight")
    return int(x.numel() * weight.numel() // max(1, weight.shape[-1]))


def _bilinear(args: _Arguments, kwargs: _Options) -> int:
    x = _argument(args, kwargs, 0, "input1")
    weight = _argument(args, kwargs, 2, "weight")
    return int(x.numel() // max(1, x.shape[-1]) * weight.numel())


def _recurrent_flops(args: _Arguments, kwargs: _Options) -> int:
    # Packed sequences put the sizes of the batches second and everything else one further.
    weights = args[2] if isinstance(args[2], (list, tuple)) else args[3]
    steps = args[0].numel() // max(1, args[0].shape[-1])
    return int(steps * sum(w.numel() for w in weights if w.dim() == 2))


def _cell(args: _Arguments, kwargs: _Options) -> int:
    steps = args[0].numel() // max(1, args[0].shape[-1])
    return int(steps * (args[2].numel() + args[3].numel()))


def _multi_head(args: _Arguments, kwargs: _Options) -> int:
    """Projections in and out, scores and weighted sum; inputs are (L, N, E) or (L, E)."""
    query, key, value = (
        _argument(args, kwargs, i, n) for i, n in enumerate(("query", "key", "value"))
    )
    embedding = query.shape[-1]
    length, source = query.shape[0], key.shape[0]
    batch = query.shape[1] if query.dim() == 3 else 1
    projections = embedding * (2 * query.numel() + key.numel() + value.numel())
    source += _argument(args, kwargs, 7, "bias_k") is not None
    source += bool(_argument(args, kwargs, 9, "add_zero_attn", False))
    return int(projections + 2 * batch * length * source * embedding)


def _convolution(args: _Arguments, kwargs: _Options, out: Any) -> int:
    weight = _argument(args, kwargs, 1, "weight")
    batch = out.shape[0] if out.dim() == weight.dim() else 1
    return int(batch * weight.numel() * math.prod(out.shape[2 - weight.dim() :]))


def _about(args: _Arguments, kwargs: _Options) -> float:
    """Roughly what a convolution is going to cost, to stop one that is far out of bounds."""
    x = _argument(args, kwargs, 0, "input")
    weight = _argument(args, kwargs, 1, "weight")
    stride = _argument(args, kwargs, 3, "stride", 1)
    steps = stride if isinstance(stride, (tuple, list)) else [stride] * (weight.dim() - 2)
    pixels = math.prod(x.shape[2 - weight.dim() :])
    return float(weight.numel() * pixels / max(1, math.prod(steps)))


def _convolution_transpose(args: _Arguments, kwargs: _Options) -> int:
    x = _argument(args, kwargs, 0, "input")
    weight = _argument(args, kwargs, 1, "weight")
    batch = x.shape[0] if x.dim() == weight.dim() else 1
    return int(batch * weight.numel() * math.prod(x.shape[2 - weight.dim() :]))


def _product(first: int) -> Callable[[_Arguments, _Options, Any], int]:
    """A (batched) matrix product whose left factor is argument ``first``."""

    def flops(args: _Arguments, kwargs: _Options, out: Any) -> int:
        left = _argument(args, kwargs, first, ("input", "mat1", "batch1")[first])
        return int(out.numel() * left.shape[-1])

    return flops


def _batch_product(args: _Arguments, kwargs: _Options, out: Any) -> int:
    left = _argument(args, kwargs, 1, "batch1")
    return int(out.numel() * left.shape[-1])


def _tensordot(args: _Arguments, kwargs: _Options, out: Any) -> int:
    # Free dimensions a and b, contracted k: the operands hold a*k and k*b, the output a*b.
    return math.isqrt(args[0].numel() * args[1].numel() * out.numel())


def _einsum(args: _Arguments, kwargs: _Options, out: Any) -> int:
    """Pairwise from left to right; a pair costs the product of the sizes of its labels."""
    if not isinstance(args[0], str):
        return 0
    operands = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
    inputs, _, output = args[0].replace(" ", "").replace("...", ".").partition("->")
    sizes: dict[str, int] = {}
    labels: list[str] = []
    for term, operand in zip(inputs.split(","), operands, strict=False):
        labels.append(term)
        shape = list(operand.shape)
        head, dots, tail = term.partition(".")
        named = [(head, shape[: len(head)]), (tail, shape[len(shape) - len(tail) :])]
        for name, size in (
            (n, s) for part, dims in named for n, s in zip(part, dims, strict=False)
        ):
            sizes[name] = max(sizes.get(name, 1), size)
        if dots:
            rest = math.prod(shape[len(head) : len(shape) - len(tail)])
            sizes["."] = max(sizes.get(".", 1), rest)
    total, current = 0, labels[0]
    for i, term in enumerate(labels[1:], start=1):
        union = set(current) | set(term)
        total += math.prod(sizes[name] for name in union)
        later = set("".join(labels[i + 1 :])) | set(output)
        current = "".join(union & later) if "->" in args[0] else "".join(union)
    return total


def _norm(weight: int, plain: int, affine: int) -> Callable[[_Arguments, _Options], int]:
    def flops(args: _Arguments, kwargs: _Options) -> int:
        x = _argument(args, kwargs, 0, "input")
        has_weight = _argument(args, kwargs, weight, "weight") is not None
        return int(x.numel() * (affine if has_weight else plain))

    return flops


def _batch_norm(args: _Arguments, kwargs: _Options) -> int:
    training = bool(_argument(args, kwargs, 5, "training", False))
    return _norm(3, 4, 5)(args, kwargs) if training else _norm(3, 1, 2)(args, kwargs)


def _interpolate(args: _Arguments, kwargs: _Options, out: Any) -> int:
    mode = _argument(args, kwargs, 3, "mode", "nearest")
    per_output = {"nearest": 1, "bilinear": 4}.get(mode, 0)
    return int(out.numel() * per_output) if out.dim() == 4 else 0


def _attention(args: _Arguments, kwargs: _Options, out: Any) -> int:
    query = _argument(args, kwargs, 0, "query")
    key = _argument(args, kwargs, 1, "key")
    pairs = out.numel() // max(1, out.shape[-1]) * key.shape[-2]
    return int(pairs * (query.shape[-1] + out.shape[-1]))


_FROM_INPUTS: dict[str, Callable[[_Arguments, _Options], int]] = {
    "linear": _linear,
    "bilinear": _bilinear,
    "lstm": _recurrent_flops,
    "gru": _recurrent_flops,
    "rnn_tanh": _recurrent_flops,
    "rnn_relu": _recurrent_flops,
    "lstm_cell": _cell,
    "gru_cell": _cell,
    "rnn_tanh_cell": _cell,
    "rnn_relu_cell": _cell,
    "multi_head_attention_forward": _multi_head,
    "conv_transpose1d": _convolution_transpose,
    "conv_transpose2d": _convolution_transpose,
    "conv_transpose3d": _convolution_transpose,
    "batch_norm": _batch_norm,
    "instance_norm": _norm(3, 4, 5),
    "layer_norm": _norm(2, 4, 5),
    "rms_norm": _norm(2, 4, 5),
    "group_norm": _norm(2, 4, 5),
    "adaptive_avg_pool2d": lambda args, kwargs: int(_argument(args, kwargs, 0, "input").numel()),
}
"""Known before the call, so that a bound can stop it."""

_FROM_OUTPUT: dict[str, Callable[[_Arguments, _Options, Any], int]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "matmul": _product(0),
    "mm": _product(0),
    "bmm": _product(0),
    "mv": _product(0),
    "dot": _product(0),
    "inner": _product(0),
    "addmm": _product(1),
    "addmv": _product(1),
    "baddbmm": _batch_product,
    "tensordot": _tensordot,
    "einsum": _einsum,
    "interpolate": _interpolate,
    "upsample": _interpolate,
    "upsample_nearest": lambda args, kwargs, out: int(out.numel()),
    "upsample_bilinear": lambda args, kwargs, out: int(4 * out.numel()),
    "grid_sample": lambda args, kwargs, out: int(4 * out.numel()) if out.dim() == 4 else 0,
    "scaled_dot_product_attention": _attention,
}

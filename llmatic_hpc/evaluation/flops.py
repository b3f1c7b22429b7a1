"""Count the multiply-adds of one call, by name of the function.

The conventions are those of fvcore's ``FlopCountAnalysis``: a multiply-add is one operation;
biases, activations and pooling are free; a batch norm costs two operations an element, other
norms five (one and four without weights), ``adaptive_avg_pool2d`` one an element. Where fvcore
counts nothing (LSTM, GRU, RNN and their cells, bilinear layers, fused attention) or the wrong
thing (matrix products that broadcast, products of vectors), the products in the definition of
the operation are counted; a recurrent layer costs its weight matrices once a step.

The count is taken from the calls themselves and not from a trace, as fvcore's is, because
tracing takes longer than everything else together and fails on the meta device. The tests
hold it against fvcore, on networks of torchvision and of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..source.allowlist import words

Arguments = tuple[Any, ...]
Options = dict[str, Any]

CONVOLUTIONS = words("conv1d conv2d conv3d")
TRANSPOSED = words("conv_transpose1d conv_transpose2d conv_transpose3d")
RECURRENT = words("lstm gru rnn_tanh rnn_relu")
PRODUCTS = words("matmul mm bmm mv addmm baddbmm addmv einsum tensordot")


def argument(args: Arguments, kwargs: Options, index: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call, by its position or its name."""
    return args[index] if index < len(args) else kwargs.get(name, default)


def about(args: Arguments, kwargs: Options) -> float:
    """Estimate a convolution beforehand, to stop one that is far out of bounds."""
    x = argument(args, kwargs, 0, "input")
    weight = argument(args, kwargs, 1, "weight")
    stride = argument(args, kwargs, 3, "stride", 1)
    steps = stride if isinstance(stride, (tuple, list)) else [stride] * (weight.dim() - 2)
    pixels = math.prod(x.shape[2 - weight.dim() :])
    return float(weight.numel() * pixels / max(1, math.prod(steps)))


# --- from the arguments -------------------------------------------------------------------------


def _linear(*args: Any, **kwargs: Any) -> int:
    x, weight = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "weight")
    return int(x.numel() * weight.numel() // max(1, weight.shape[-1]))


def _bilinear(*args: Any, **kwargs: Any) -> int:
    x, weight = argument(args, kwargs, 0, "input1"), argument(args, kwargs, 2, "weight")
    return int(x.numel() // max(1, x.shape[-1]) * weight.numel())


def is_packed(args: Arguments) -> bool:
    """Return whether a recurrent layer is given a packed sequence: the sizes of its batches stand
    second then, and everything else one further."""
    return isinstance(args[3], (list, tuple))


def _recurrent(*args: Any, **_: Any) -> int:
    weights = args[3] if is_packed(args) else args[2]
    steps = args[0].numel() // max(1, args[0].shape[-1])
    return int(steps * sum(w.numel() for w in weights if w.dim() == 2))


def _cell(*args: Any, **_: Any) -> int:
    steps = args[0].numel() // max(1, args[0].shape[-1])
    return int(steps * (args[2].numel() + args[3].numel()))


def _multi_head(*args: Any, **kwargs: Any) -> int:
    """Count projections in and out, scores and weighted sum; inputs are (L, N, E) or (L, E)."""
    names = enumerate(("query", "key", "value"))
    query, key, value = (argument(args, kwargs, index, name) for index, name in names)
    embedding = query.shape[-1]
    length, source = query.shape[0], key.shape[0]
    batch = query.shape[1] if query.dim() == 3 else 1
    projections = embedding * (2 * query.numel() + key.numel() + value.numel())
    source += argument(args, kwargs, 7, "bias_k") is not None
    source += bool(argument(args, kwargs, 9, "add_zero_attn", False))
    return int(projections + 2 * batch * length * source * embedding)


def _kernel(images: Any, weight: Any) -> int:
    """Count a kernel once for every pixel of images, (N, C, ...) or one image alone."""
    batch = images.shape[0] if images.dim() == weight.dim() else 1
    return int(batch * weight.numel() * math.prod(images.shape[2 - weight.dim() :]))


def _convolution_transpose(*args: Any, **kwargs: Any) -> int:
    return _kernel(argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "weight"))


def _norm(weight: int, plain: int, affine: int) -> Callable[..., int]:
    """Return the counter of a norm whose weight is argument ``weight``."""

    def flops(*args: Any, **kwargs: Any) -> int:
        has_weight = argument(args, kwargs, weight, "weight") is not None
        x = argument(args, kwargs, 0, "input")
        return int(x.numel() * (affine if has_weight else plain))

    return flops


def _batch_norm(*args: Any, **kwargs: Any) -> int:
    training = argument(args, kwargs, 5, "training", False)
    return (_norm(3, 4, 5) if training else _norm(3, 1, 2))(*args, **kwargs)


FROM_INPUTS: dict[str, Callable[..., int]] = {
    "linear": _linear,
    "bilinear": _bilinear,
    **dict.fromkeys(RECURRENT, _recurrent),
    **dict.fromkeys(words("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"), _cell),
    "multi_head_attention_forward": _multi_head,
    **dict.fromkeys(TRANSPOSED, _convolution_transpose),
    "batch_norm": _batch_norm,
    "instance_norm": _norm(3, 4, 5),
    **dict.fromkeys(words("layer_norm rms_norm group_norm"), _norm(2, 4, 5)),
    "adaptive_avg_pool2d": lambda input, *_, **__: int(input.numel()),
}
"""Counts by name of the function, of its arguments: known before the call, so that a bound can
stop it."""

# --- from the output as well --------------------------------------------------------------------


def _convolution(out: Any, /, *args: Any, **kwargs: Any) -> int:
    return _kernel(out, argument(args, kwargs, 1, "weight"))


def _product(place: int, name: str) -> Callable[..., int]:
    """Return the counter of a (batched) matrix product, given which argument its left factor is."""
    return lambda out, /, *args, **kwargs: int(
        out.numel() * argument(args, kwargs, place, name).shape[-1]
    )


def _tensordot(out: Any, /, *args: Any, **_: Any) -> int:
    # Free dimensions a and b, contracted k: the operands hold a*k and k*b, the output a*b.
    return math.isqrt(args[0].numel() * args[1].numel() * out.numel())


def _einsum(_: Any, /, equation: Any, *operands: Any, **__: Any) -> int:
    """Count pair by pair from the left; a pair costs the product of the sizes of its labels."""
    if not isinstance(equation, str):
        return 0
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    inputs, arrow, output = equation.replace(" ", "").replace("...", ".").partition("->")
    sizes: dict[str, int] = {}
    labels = inputs.split(",")[: len(operands)]
    for term, operand in zip(labels, operands, strict=False):
        shape = list(operand.shape)
        head, dots, tail = term.partition(".")
        between = len(shape) - len(tail)
        known = [*zip(head, shape, strict=False), *zip(tail, shape[between:], strict=False)]
        if dots:
            known.append((dots, math.prod(shape[len(head) : between])))
        for name, size in known:
            sizes[name] = max(sizes.get(name, 1), size)
    total, current = 0, set(labels[0])
    for i, term in enumerate(labels[1:], start=2):
        union = current | set(term)
        total += math.prod(sizes[name] for name in union)
        current = union & set(output).union(*labels[i:]) if arrow else union
    return total


def _interpolate(out: Any, /, *args: Any, **kwargs: Any) -> int:
    mode = argument(args, kwargs, 3, "mode", "nearest")
    per_output = {"nearest": 1, "bilinear": 4}.get(mode, 0)
    return int(out.numel() * per_output) if out.dim() == 4 else 0


def _attention(out: Any, /, *args: Any, **kwargs: Any) -> int:
    query, key = argument(args, kwargs, 0, "query"), argument(args, kwargs, 1, "key")
    pairs = out.numel() // max(1, out.shape[-1]) * key.shape[-2]
    return int(pairs * (query.shape[-1] + out.shape[-1]))


FROM_OUTPUT: dict[str, Callable[..., int]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(words("matmul mm bmm mv dot inner"), _product(0, "input")),
    **dict.fromkeys(words("addmm addmv"), _product(1, "mat1")),
    "baddbmm": _product(1, "batch1"),
    "tensordot": _tensordot,
    "einsum": _einsum,
    **dict.fromkeys(words("interpolate upsample"), _interpolate),
    "upsample_nearest": lambda out, /, *_, **__: int(out.numel()),
    "upsample_bilinear": lambda out, /, *_, **__: int(4 * out.numel()),
    "grid_sample": lambda out, /, *_, **__: int(4 * out.numel()) if out.dim() == 4 else 0,
    "scaled_dot_product_attention": _attention,
}
"""Counts by name of the function, of its output and its arguments, one of which may be ``out``."""

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

Arguments = tuple[Any, ...]
Options = dict[str, Any]


def argument(args: Arguments, kwargs: Options, index: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call, by its position or its name."""
    return args[index] if index < len(args) else kwargs.get(name, default)


def _linear(args: Arguments, kwargs: Options) -> int:
    x = argument(args, kwargs, 0, "input")
    weight = argument(args, kwargs, 1, "weight")
    return int(x.numel() * weight.numel() // max(1, weight.shape[-1]))


def _bilinear(args: Arguments, kwargs: Options) -> int:
    x = argument(args, kwargs, 0, "input1")
    weight = argument(args, kwargs, 2, "weight")
    return int(x.numel() // max(1, x.shape[-1]) * weight.numel())


def _recurrent_flops(args: Arguments, kwargs: Options) -> int:
    # Packed sequences put the sizes of the batches second and everything else one further.
    weights = args[2] if isinstance(args[2], (list, tuple)) else args[3]
    steps = args[0].numel() // max(1, args[0].shape[-1])
    return int(steps * sum(w.numel() for w in weights if w.dim() == 2))


def _cell(args: Arguments, kwargs: Options) -> int:
    steps = args[0].numel() // max(1, args[0].shape[-1])
    return int(steps * (args[2].numel() + args[3].numel()))


def _multi_head(args: Arguments, kwargs: Options) -> int:
    """Count projections in and out, scores and weighted sum; inputs are (L, N, E) or (L, E)."""
    query, key, value = (
        argument(args, kwargs, i, n) for i, n in enumerate(("query", "key", "value"))
    )
    embedding = query.shape[-1]
    length, source = query.shape[0], key.shape[0]
    batch = query.shape[1] if query.dim() == 3 else 1
    projections = embedding * (2 * query.numel() + key.numel() + value.numel())
    source += argument(args, kwargs, 7, "bias_k") is not None
    source += bool(argument(args, kwargs, 9, "add_zero_attn", False))
    return int(projections + 2 * batch * length * source * embedding)


def _convolution(args: Arguments, kwargs: Options, out: Any) -> int:
    weight = argument(args, kwargs, 1, "weight")
    batch = out.shape[0] if out.dim() == weight.dim() else 1
    return int(batch * weight.numel() * math.prod(out.shape[2 - weight.dim() :]))


def about(args: Arguments, kwargs: Options) -> float:
    """Estimate a convolution beforehand, to stop one that is far out of bounds."""
    x = argument(args, kwargs, 0, "input")
    weight = argument(args, kwargs, 1, "weight")
    stride = argument(args, kwargs, 3, "stride", 1)
    steps = stride if isinstance(stride, (tuple, list)) else [stride] * (weight.dim() - 2)
    pixels = math.prod(x.shape[2 - weight.dim() :])
    return float(weight.numel() * pixels / max(1, math.prod(steps)))


def _convolution_transpose(args: Arguments, kwargs: Options) -> int:
    x = argument(args, kwargs, 0, "input")
    weight = argument(args, kwargs, 1, "weight")
    batch = x.shape[0] if x.dim() == weight.dim() else 1
    return int(batch * weight.numel() * math.prod(x.shape[2 - weight.dim() :]))


def _product(first: int) -> Callable[[Arguments, Options, Any], int]:
    """Return the counter of a (batched) matrix product whose left factor is argument ``first``."""

    def flops(args: Arguments, kwargs: Options, out: Any) -> int:
        left = argument(args, kwargs, first, ("input", "mat1", "batch1")[first])
        return int(out.numel() * left.shape[-1])

    return flops


def _batch_product(args: Arguments, kwargs: Options, out: Any) -> int:
    left = argument(args, kwargs, 1, "batch1")
    return int(out.numel() * left.shape[-1])


def _tensordot(args: Arguments, kwargs: Options, out: Any) -> int:
    # Free dimensions a and b, contracted k: the operands hold a*k and k*b, the output a*b.
    return math.isqrt(args[0].numel() * args[1].numel() * out.numel())


def _einsum(args: Arguments, kwargs: Options, out: Any) -> int:
    """Count pair by pair from the left; a pair costs the product of the sizes of its labels."""
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


def _norm(weight: int, plain: int, affine: int) -> Callable[[Arguments, Options], int]:
    def flops(args: Arguments, kwargs: Options) -> int:
        x = argument(args, kwargs, 0, "input")
        has_weight = argument(args, kwargs, weight, "weight") is not None
        return int(x.numel() * (affine if has_weight else plain))

    return flops


def _batch_norm(args: Arguments, kwargs: Options) -> int:
    training = bool(argument(args, kwargs, 5, "training", False))
    return _norm(3, 4, 5)(args, kwargs) if training else _norm(3, 1, 2)(args, kwargs)


def _interpolate(args: Arguments, kwargs: Options, out: Any) -> int:
    mode = argument(args, kwargs, 3, "mode", "nearest")
    per_output = {"nearest": 1, "bilinear": 4}.get(mode, 0)
    return int(out.numel() * per_output) if out.dim() == 4 else 0


def _attention(args: Arguments, kwargs: Options, out: Any) -> int:
    query = argument(args, kwargs, 0, "query")
    key = argument(args, kwargs, 1, "key")
    pairs = out.numel() // max(1, out.shape[-1]) * key.shape[-2]
    return int(pairs * (query.shape[-1] + out.shape[-1]))


FROM_INPUTS: dict[str, Callable[[Arguments, Options], int]] = {
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
    "adaptive_avg_pool2d": lambda args, kwargs: int(argument(args, kwargs, 0, "input").numel()),
}
"""Known before the call, so that a bound can stop it."""

FROM_OUTPUT: dict[str, Callable[[Arguments, Options, Any], int]] = {
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

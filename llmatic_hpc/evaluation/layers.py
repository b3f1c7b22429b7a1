"""Count layers, width and multiply-adds of one forward pass while it runs.

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

**FLOPs** are multiply-adds, by the conventions in :mod:`.flops`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode

from ..source.allowlist import words
from . import flops
from .building import CONSTRUCTORS, OverBudget
from .flops import PRODUCTS, RECURRENT, Arguments, Options, argument
from .memory import Alive

LAYERS = words(
    """
    linear bilinear embedding embedding_bag
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    multi_head_attention_forward scaled_dot_product_attention
    batch_norm instance_norm layer_norm group_norm rms_norm local_response_norm
    max_pool1d max_pool2d max_pool3d fractional_max_pool2d fractional_max_pool3d
    avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    max_unpool1d max_unpool2d max_unpool3d
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout
    relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish glu sigmoid log_sigmoid tanh
    hardtanh hardsigmoid hardswish hardshrink softshrink tanhshrink softplus softsign threshold
    softmax log_softmax softmin
    flatten unflatten pad constant_pad_nd interpolate upsample fold
    pixel_shuffle pixel_unshuffle channel_shuffle cosine_similarity
    """
)
"""Functions and tensor methods that a module of torch.nn stands for, with ``_with_indices`` or
without."""

_LAST = PRODUCTS | words(
    """
    linear bilinear embedding embedding_bag lstm gru rnn_tanh rnn_relu lstm_cell gru_cell
    rnn_tanh_cell rnn_relu_cell multi_head_attention_forward scaled_dot_product_attention
    layer_norm rms_norm
    Linear NonDynamicallyQuantizableLinear LazyLinear Bilinear Embedding EmbeddingBag
    LSTM GRU RNN LSTMCell GRUCell RNNCell MultiheadAttention LayerNorm RMSNorm
    """
)
"""Layers whose features are the last dimension of their output."""

_CONTAINERS = words(
    """
    Module Sequential ModuleList ModuleDict ParameterList ParameterDict Identity Container
    Transformer TransformerEncoder TransformerDecoder TransformerEncoderLayer
    TransformerDecoderLayer
    """
)


class _Made(torch.autograd.Function):
    """A tensor of a given shape that hangs in the autograd graph below its inputs.

    Kept is what torch's own function would need again in the backward step, the result or the
    inputs; so writing into that in between is an error here, too.
    """

    @staticmethod
    def forward(ctx: Any, shape: torch.Size, keeps_result: bool, *inputs: Tensor) -> Tensor:
        ctx.shapes = [x.shape for x in inputs]
        made = inputs[0].new_empty(shape)
        ctx.save_for_backward(*([made] if keeps_result else inputs))
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.saved_tensors  # noqa: B018 - raises where one was written into
        return (None, None, *(gradients[0].new_empty(shape) for shape in ctx.shapes))


def _made(shape: torch.Size, *inputs: Tensor, keeps_result: bool = False) -> Tensor:
    made: Tensor = _Made.apply(shape, keeps_result, *inputs)
    return made


_KEEP_RESULT = words("relu sigmoid tanh")
_ELEMENTWISE = _KEEP_RESULT | words(
    "relu6 leaky_relu elu selu celu gelu silu mish hardtanh hardsigmoid hardswish softplus"
)
"""Functions of one tensor; most keep that, some their result (derivatives.yaml of torch)."""


class Running(TorchFunctionMode):
    """A mode for running a network on the meta device quickly.

    torch derives shapes there in Python: milliseconds for an activation or a norm and its
    backward step, and a recurrent layer becomes a loop over its steps. Here such outputs are made
    directly. They have the right shapes and hang in the autograd graph. In-place calls, and all
    that is not plainly one of these, take torch's own way.

    ``strange`` is told the functions whose errors may depend on more than shapes. ``meta``: what
    the network makes itself is made on that device, too, as within ``torch.device("meta")``, which
    would also see every call within torch's own functions.
    """

    def __init__(self, strange: set[str] | None = None, *, meta: bool = False) -> None:
        super().__init__()
        self._strange, self._meta = strange, meta

    def __torch_function__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Options | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self._strange is not None and not _only_shapes(name, args, kwargs):
            self._strange.add(name)
        if self._meta and func in CONSTRUCTORS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        elif args and isinstance(args[0], Tensor) and args[0].is_meta:
            if name in _ELEMENTWISE:
                if args[0].is_floating_point() and _is_plain(args[1:], kwargs):
                    return _made(args[0].shape, args[0], keeps_result=name in _KEEP_RESULT)
            elif name in ("batch_norm", "layer_norm", "group_norm"):
                return _normalised(name, func, args, kwargs)
            elif name in RECURRENT and not flops.is_packed(args):
                return _recurrent(name, args)
            elif name == "linear":
                return _linear(func, args, kwargs)
            elif name in ("add", "sub", "mul") and _are_alike(args, kwargs):
                return _made(args[0].shape, *args)
            elif name == "adaptive_avg_pool2d" and _is_global(args, kwargs):
                return _made(torch.Size((*args[0].shape[:2], 1, 1)), args[0])
            elif name == "dropout" and _is_drawn(args, kwargs):
                return _made(args[0].shape, args[0])
        return func(*args, **kwargs)


_SHAPED = (LAYERS | PRODUCTS) - words("embedding embedding_bag fractional_max_pool2d") - words(
    "fractional_max_pool3d max_unpool1d max_unpool2d max_unpool3d"
) | words(
    """
    __get__ _set_grad_enabled backward is_floating_point dim size numel __len__ clone contiguous
    elu view view_as reshape permute transpose movedim squeeze unsqueeze expand expand_as repeat
    roll flip cat stack chunk split unbind add sub rsub mul div neg pow square sqrt rsqrt exp log
    abs tanh sin cos mean sum var std amax amin clamp maximum minimum detach
    """
)
"""Functions of tensors of one type that fail for their shapes if they fail at all."""


def _only_shapes(name: str, args: Arguments, kwargs: Options) -> bool:
    if name in ("zeros", "ones", "randn", "rand"):
        return kwargs.get("dtype") in (None, torch.float32)
    if name == "__getitem__":
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return not any(isinstance(one, (Tensor, list)) for one in index)
    return name.rstrip("_") in _SHAPED or name in _SHAPED


def _is_plain(args: Arguments, kwargs: Options) -> bool:
    """Return whether a call writes nowhere and cannot fail; ``args`` without the tensor."""
    values = (*args, *kwargs.values())
    plain = all(isinstance(value, (int, float, str, type(None))) for value in values)
    return plain and not kwargs.get("inplace") and not any(value is True for value in args)


def _are_alike(args: Arguments, kwargs: Options) -> bool:
    """Return whether these are two tensors of one shape and type, and nothing else."""
    if kwargs or len(args) != 2 or not isinstance(args[1], Tensor):
        return False
    one, other = args
    return (
        (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        and one.is_floating_point()
        and one.is_contiguous()
        and other.is_contiguous()
    )


def _is_global(args: Arguments, kwargs: Options) -> bool:
    """Return whether a pooling makes one of every channel of images, (N, C, H, W)."""
    x, size = args[0], argument(args, kwargs, 1, "output_size")
    return x.dim() == 4 and x.is_floating_point() and x.numel() > 0 and size in (1, (1, 1))


def _is_drawn(args: Arguments, kwargs: Options) -> bool:
    """Return whether a dropout that cannot fail writes a new tensor."""
    p, inplace = argument(args, kwargs, 1, "p", 0.5), argument(args, kwargs, 3, "inplace", False)
    plain = type(p) in (int, float) and 0 <= p < 1 and inplace is False
    return plain and argument(args, kwargs, 2, "training", True) and args[0].is_floating_point()


def _linear(func: Any, args: Arguments, kwargs: Options) -> Any:
    """Return what ``F.linear`` would; where something does not fit, it says so itself."""
    x, weight = args[0], argument(args, kwargs, 1, "weight")
    bias = argument(args, kwargs, 2, "bias")
    tensors = [t for t in (x, weight, bias) if t is not None]
    if (
        all(isinstance(t, Tensor) and t.is_meta and t.is_contiguous() for t in tensors)
        and {t.dtype for t in tensors} == {torch.float32}
        and weight.dim() == 2
        and x.dim() > 1
        and x.shape[-1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
    ):
        return _made(torch.Size((*x.shape[:-1], weight.shape[0])), *tensors)
    return func(*args, **kwargs)


def _recurrent(name: str, args: Arguments) -> tuple[Tensor, ...]:
    """Return what ``torch.lstm`` and its like would, as far as shapes and gradients go."""
    x, states, weights = args[0], args[1], args[2]
    states = states if name == "lstm" else (states,)
    # Products of the true shapes, so that a mismatch is still an error.
    torch.nn.functional.linear(x.reshape(-1, x.shape[-1])[:1], weights[0])
    directions = 2 if args[7] else 1
    shape = torch.Size((*x.shape[:-1], directions * states[0].shape[-1]))
    output = _made(shape, x, *weights)
    return (output, *(_made(state.shape, state, x, *weights) for state in states))


def _normalised(name: str, func: Any, args: Arguments, kwargs: Options) -> Any:
    """Return what ``F.batch_norm``, ``layer_norm`` or ``group_norm`` would.

    Where something does not fit, the function itself says so.
    """
    x, shape = args[0], tuple(args[0].shape[1:2])
    places = {"weight": 2, "bias": 3}
    if name == "batch_norm":
        places = {"running_mean": 1, "running_var": 2, "weight": 3, "bias": 4}
        means = [argument(args, kwargs, place, p) for p, place in places.items()][:2]
        fits = x.dim() > 1 and x.is_floating_point()
        if argument(args, kwargs, 5, "training", False):
            fits = fits and x.numel() > x.shape[1]  # more than one value in a channel
        else:
            fits = fits and all(mean is not None for mean in means)
    elif name == "layer_norm":
        given = argument(args, kwargs, 1, "normalized_shape")
        shape = tuple(given) if isinstance(given, (list, tuple)) else ()
        fits = len(shape) > 0 and tuple(x.shape[-len(shape) :]) == shape
    else:
        groups = argument(args, kwargs, 1, "num_groups")
        fits = type(groups) is int and groups > 0 and x.dim() > 1 and shape[0] % groups == 0
        fits = fits and x.numel() > x.shape[0] * groups  # more than one value in a group
    tensors = [argument(args, kwargs, place, parameter) for parameter, place in places.items()]
    if not fits or any(t is not None and tuple(t.shape) != shape for t in tensors):
        return func(*args, **kwargs)
    return _made(x.shape, x, *(t for t in tensors[-2:] if t is not None))


class Counting(Running):
    """A mode for running a network that counts its layers, their widths and multiply-adds.

    ``max_layers`` and ``max_flops`` end a run that goes beyond: :class:`TooMany` is raised.
    ``alive`` is shown every tensor that a function returns.
    """

    def __init__(
        self,
        *,
        max_layers: float = math.inf,
        max_flops: float = math.inf,
        strange: set[str] | None = None,
        meta: bool = False,
        alive: Alive | None = None,
    ) -> None:
        super().__init__(strange, meta=meta)
        self._alive = alive
        self.flops = 0
        self.flops_of: Counter[str] = Counter()
        """Multiply-adds by name of the function."""
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
        self, func: Any, types: Any, args: Arguments = (), kwargs: Options | None = None
    ) -> Any:
        name = getattr(func, "__name__", "").rstrip("_")
        kwargs = kwargs or {}
        left = self._max_flops - self.flops
        if name in flops.FROM_INPUTS:
            self._spend(name, flops.FROM_INPUTS[name](*args, **kwargs))
        elif name in flops.CONVOLUTIONS and flops.about(args, kwargs) > 4 * left:
            raise TooMany("flops")
        result = super().__torch_function__(func, types, args, kwargs)
        if self._alive is not None:
            with torch._C.DisableTorchFunction():
                self._alive.show(result)
        if name in flops.FROM_OUTPUT:
            self._spend(name, flops.FROM_OUTPUT[name](result, *args, **kwargs))
        is_layer = name.removesuffix("_with_indices") in LAYERS
        if not self._inside and (is_layer or name in PRODUCTS):
            weighted = _has_parameter((*args, *kwargs.values()))
            if weighted or is_layer:
                self._layer(name, result, weighted)
        return result

    def _spend(self, name: str, count: int) -> None:
        self.flops += count
        self.flops_of[name] += count
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
    """Raised beyond a bound: ``what`` is ``layers`` or ``flops``."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def _torch_layer(cls: type) -> str:
    """Name of the torch.nn class that makes modules of ``cls`` layers; empty for the others."""
    if cls not in _KINDS:
        base = next(c for c in cls.__mro__ if c.__module__.startswith("torch.nn.modules."))
        _KINDS[cls] = "" if base.__name__ in _CONTAINERS else base.__name__
    return _KINDS[cls]


_KINDS: dict[type, str] = {}


def _has_parameter(value: Any) -> bool:
    """Return whether a parameter, or a view of one, is among the arguments of a call."""
    if isinstance(value, (list, tuple)):
        return any(map(_has_parameter, value))
    owners = (value, value._base) if isinstance(value, Tensor) else ()
    return any(isinstance(owner, nn.Parameter) for owner in owners)

r"""Signals of a network that was not trained. For a contained child only; no data are needed.

NASWOT
    (Mellor, Turner, Storkey and Crowley, "Neural Architecture Search without Training", ICML 2021):
    the logarithm of the determinant of the kernel whose element (i, j) counts the rectifiers that
    two images i and j switch alike, at the initialisation, over one batch. Here of random images,
    and over every activation that has a sign to switch at, rectifier or not.
Synflow
    (Tanaka, Kunin, Yamins and Ganguli, "Pruning neural networks without any data by iteratively
    conserving synaptic flow", NeurIPS 2020; as a score by Abdelfattah, Mehrotra, Dudziak and Lane,
    "Zero-Cost Proxies for Lightweight NAS", ICLR 2021): the sum over all parameters of
    \|parameter x gradient\| where every parameter is its absolute value, the input is ones, the
    loss is the sum of the outputs, and batch norms pass on what they get. Here its decimal
    logarithm, in double precision, since it grows with every layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..source.allowlist import words
from . import build
from .flops import Arguments, Options

BATCH = 16
"""Random images that NASWOT compares."""

_SWITCHES = words(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish hardtanh softplus"
)


def measure(source: str, *, input_shape: tuple[int, ...], seed: int) -> dict[str, float | None]:
    """Return the signals of a network by name; None where one cannot be had.

    ``input_shape`` is that of one example, without the batch.
    """
    return {
        "naswot": _attempted(lambda: naswot(_made(source, seed), input_shape)),
        "synflow": _attempted(lambda: synflow(source, input_shape, seed)),
    }


def naswot(model: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Return the logarithm of the determinant of the kernel of switches; -inf: it is singular."""
    codes = _Codes(BATCH)
    with torch.no_grad(), codes:
        model.train()(torch.randn((BATCH, *input_shape)))
    return float(torch.linalg.slogdet(codes.kernel).logabsdet)


def synflow(source: str, input_shape: tuple[int, ...], seed: int) -> float:
    """Return the decimal logarithm of the synaptic flow; -inf: there is none."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = _made(source, seed).eval()
        with _WithoutNorms():
            model(torch.ones((1, *input_shape)))  # of lazy layers, this makes the parameters
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.abs_()
            model(torch.ones((1, *input_shape))).sum().backward()
    finally:
        torch.set_default_dtype(before)
    found = [p for p in model.parameters() if p.grad is not None]
    flow = sum(float((p.detach() * p.grad).abs().sum()) for p in found if p.grad is not None)
    return math.log10(flow) if flow > 0 else -math.inf


class _Codes(TorchFunctionMode):
    """A mode that adds up, for each pair of images, the switches that both have alike."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.kernel = torch.zeros((images, images), dtype=torch.float64)

    def __torch_function__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Options | None = None
    ) -> Any:
        name = getattr(func, "__name__", "").rstrip("_")
        x = args[0] if name in _SWITCHES and args else None
        if isinstance(x, Tensor) and x.dim() > 1 and len(x) == len(self.kernel):
            on = (x > 0).flatten(1).double()
            self.kernel += on @ on.T + (1 - on) @ (1 - on).T
        return func(*args, **(kwargs or {}))


class _WithoutNorms(TorchFunctionMode):
    """A mode in which batch norms pass on what they get."""

    def __torch_function__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Options | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "batch_norm":
            return args[0]
        return func(*args, **(kwargs or {}))


def _made(source: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build.build(source)


def _attempted(score: Callable[[], float]) -> float | None:
    try:
        found = score()
    except build.CANDIDATE_EXCEPTIONS:
        return None
    return found if math.isfinite(found) else None

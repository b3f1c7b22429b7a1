"""Decide whether a candidate is fit to be trained, and measure it. For a contained child only.

A candidate is fit if its network has parameters within bounds, maps (N, \\*input_shape) to
floating-point (N, classes) in training for N = 3 and in evaluation for N = 1 (2, if it refuses
one image alone), and if a backward step reaches at least one parameter. What width, depth and
FLOPs mean is defined in :mod:`.layers`; they are taken in evaluation mode for one image.

A small network is simply run on the CPU, which is several times faster than deriving shapes
on the meta device. A network that turns out to be larger is measured on the meta device,
where nothing is allocated or computed, whatever its size; only if it does what that device
cannot do (``.item()``, a branch on a value) is it run on the CPU, within the bounds.
"""

from __future__ import annotations

import math
import warnings
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..types import PENDING, Descriptors, Screened
from . import build
from .build import CandidateError
from .layers import Building, Counting, OverBudget, Running, TooMany

SMALL_PARAMS = 2_000_000
SMALL_FLOPS = 30_000_000
"""Up to these a forward pass on one slow core is faster than the meta device."""


@dataclass(frozen=True)
class _Bounds:
    params: int
    flops: float
    layers: int


@dataclass(frozen=True)
class _Attempt:
    device: str
    params: float
    flops: float


def measure(
    source: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    max_params: int,
    max_flops: float,
    max_layers: int,
    seed: int = 0,
) -> Screened:
    """Return the verdict on ``source``: ``pending`` and descriptors, ``invalid`` or ``too_large``.

    ``input_shape`` is that of one image without the batch. ``canonical_sha256`` stays empty.
    Everything that the candidate does wrong, or raises, becomes a status with a one-line
    failure; the global random state is left as it was.
    """
    bounds = _Bounds(params=max_params, flops=max_flops, layers=max_layers)
    attempts = (
        _Attempt("cpu", min(SMALL_PARAMS, max_params), min(SMALL_FLOPS, max_flops)),
        _Attempt("meta", math.inf, math.inf),
        _Attempt("cpu", 4 * max_params, max_flops),
    )
    failure = ""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for attempt in attempts:
            torch.manual_seed(seed)
            try:
                found = _measure(source, input_shape, classes, bounds=bounds, attempt=attempt)
                return Screened(status=PENDING, descriptors=found, built=True)
            except TooMany as bound:
                failure = _too_many(bound.what, bounds)
                if bound.what == "layers":
                    break
            except OverBudget:
                failure = f"needs far more memory than {max_params} parameters take"
            except build.CANDIDATE_EXCEPTIONS as raised:
                error = build.candidate_error(raised)
                # On the meta device it may be the device that is at fault.
                if attempt.device == "meta" and error.status == "invalid":
                    continue
                if attempt is attempts[0] and error.status == "too_large":
                    failure = error.message
                    continue
                return Screened(error.status, error.message, built=error.built)
    return Screened(status="too_large", failure=failure)


def warm_up() -> None:
    """Run every path once on a network of our own.

    The first use of the meta device imports for seconds; a warm parent pays that once.
    """
    source = (
        "import torch.nn as nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(),\n"
        "            nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(),\n"
        "            nn.Linear(2, 2), nn.LayerNorm(2), nn.GELU(), nn.Softmax(dim=1))\n"
    )
    bounds = _Bounds(params=1000, flops=math.inf, layers=100)
    for device in ("cpu", "meta"):
        attempt = _Attempt(device, math.inf, math.inf)
        with torch.random.fork_rng(devices=[]):
            _measure(source, (1, 8, 8), 2, bounds=bounds, attempt=attempt)


def _measure(
    source: str,
    input_shape: tuple[int, ...],
    classes: int,
    *,
    bounds: _Bounds,
    attempt: _Attempt,
) -> Descriptors:
    """Build and run the network once on ``attempt.device``.

    Raises :class:`CandidateError` for what the candidate does wrong and :class:`OverBudget`
    where it goes beyond what the attempt allows.
    """
    device = torch.device(attempt.device)
    with ExitStack() as stack:
        if attempt.device == "meta":
            stack.enter_context(device)
        with Building(attempt.params):
            model = build.build(source)
        try:
            return _described(model, input_shape, classes, bounds=bounds, attempt=attempt)
        except CandidateError as error:
            error.built = True
            raise


def _described(
    model: nn.Module,
    input_shape: tuple[int, ...],
    classes: int,
    *,
    bounds: _Bounds,
    attempt: _Attempt,
) -> Descriptors:
    """Run a network that was built, in evaluation and in training."""
    parameters = list(model.parameters())
    if not parameters:
        raise CandidateError("invalid", "the network has no parameters to train")
    uninitialized = any(isinstance(p, nn.UninitializedParameter) for p in parameters)
    if not uninitialized:
        _check_params(parameters, bounds)
    images = torch.randn((3, *input_shape))

    model.eval()
    counting = _count(model, images, classes, bounds=bounds, attempt=attempt)
    parameters = list(model.parameters())
    params = _check_params(parameters, bounds)

    model.train()
    with Running():
        output = _forward(model, images, classes)
        if not output.requires_grad:
            raise CandidateError("invalid", "no parameter takes part in the output")
        try:
            output.sum().backward()  # type: ignore[no-untyped-call]
        except build.CANDIDATE_EXCEPTIONS as error:
            raise _while("in the backward step", error) from None
        if all(p.grad is None for p in parameters):
            raise CandidateError("invalid", "the backward step reaches no parameter")
    depth = max(1, counting.depth)
    width = max(1, counting.width)
    return Descriptors(
        width=width,
        depth=depth,
        ratio=width / depth,
        flops=counting.flops / counting.images,
        params=params,
    )


@dataclass(frozen=True)
class _Counted:
    width: int
    depth: int
    flops: int
    images: int


def _count(
    model: nn.Module, images: Tensor, classes: int, *, bounds: _Bounds, attempt: _Attempt
) -> _Counted:
    """Run it in evaluation mode over one image; over two where one alone is refused."""
    for batch in (1, 2):
        counting = Counting(max_layers=bounds.layers, max_flops=batch * attempt.flops)
        try:
            with counting, torch.no_grad():
                _forward(model, images[:batch], classes)
        except CandidateError:
            if batch == 1 and attempt.device == "cpu":
                continue
            raise
        if counting.flops > batch * bounds.flops:
            number = f"{counting.flops / batch:.3e} multiply-adds for one image"
            raise CandidateError(
                "too_large", f"{number}, more than containment.max_flops = {bounds.flops:g}"
            )
        return _Counted(counting.width, counting.depth, counting.flops, batch)
    raise AssertionError("unreachable")


def _forward(model: nn.Module, images: Tensor, classes: int) -> Tensor:
    """Return the logits of ``images``, (N, classes), or raise :class:`CandidateError`."""
    batch = images.shape[0]
    mode = "training" if model.training else "evaluation"
    try:
        output = model(images.clone())
    except build.CANDIDATE_EXCEPTIONS as error:
        raise _while(f"in {mode} with a batch of {batch}", error) from None
    if not isinstance(output, Tensor):
        what = f"forward returns {type(output).__name__} in {mode}, not a tensor"
        raise CandidateError("invalid", build.bounded(what))
    if output.shape != (batch, classes):
        what = f"forward returns shape {tuple(output.shape)} in {mode}, not {(batch, classes)}"
        raise CandidateError("invalid", build.bounded(what))
    if not output.is_floating_point():
        raise CandidateError("invalid", f"forward returns {output.dtype}, not floating point")
    return output


def _while(what: str, error: BaseException) -> CandidateError:
    found = build.candidate_error(error)
    return CandidateError(found.status, build.bounded(f"{found.message} ({what})"))


def _check_params(parameters: list[nn.Parameter], bounds: _Bounds) -> int:
    params = sum(p.numel() for p in parameters)
    if params > bounds.params:
        number = f"{params} parameters"
        raise CandidateError(
            "too_large", f"{number}, more than containment.max_params = {bounds.params}"
        )
    return params


def _too_many(what: str, bounds: _Bounds) -> str:
    if what == "layers":
        return f"more than containment.max_layers = {bounds.layers} executed layers"
    return f"more than containment.max_flops = {bounds.flops:g} multiply-adds for one image"

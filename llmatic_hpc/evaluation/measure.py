"""Decide whether a candidate is fit to be trained, and measure it. For a contained child only.

A candidate is fit if its network has parameters within bounds, maps (N, \\*input_shape) to
floating-point (N, classes) in training for N = 3 and in evaluation for N = 1 (2, if it refuses
one image alone), and if a backward step reaches at least one parameter. What width, depth and
FLOPs mean is defined in :mod:`.layers`; they are taken in evaluation mode for one image.

A small network is simply run on the CPU, which is faster than deriving shapes on the meta device.
A network that turns out to be larger is measured on the meta device, where nothing is allocated or
computed, whatever its size; only if it does what that device cannot do (``.item()``, a branch on a
value) is it run on the CPU, within the bounds. Where what it does may fail for other reasons than
shapes (an index out of range), it is run on the CPU, too, unless that takes long. Once one of
several networks was large, the meta device is asked first about those after it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..types import PENDING, Descriptors, Screened
from . import build
from .build import CandidateError
from .building import Building, OverBudget
from .layers import Counting, Running, TooMany
from .memory import Alive

QUICK_PARAMS = 300_000
QUICK_FLOPS = 3_000_000
"""Up to these a forward pass on one slow core is faster than the meta device."""
SMALL_PARAMS = 2_000_000
SMALL_FLOPS = 30_000_000
"""Up to these it is still fast enough to be believed more than the meta device."""


_MOST_BYTES = 1 << 50
"""Memory for one example that no machine has."""


def measure(
    source: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    max_params: int,
    max_flops: float,
    max_layers: int,
    seed: int = 0,
    meta_first: bool = False,
) -> Screened:
    """Return the verdict on ``source``: ``pending`` and descriptors, ``invalid`` or ``too_large``.

    ``input_shape`` is that of one example without the batch. ``canonical_sha256`` stays empty.
    ``meta_first``: the meta device is asked first, and believed where the network fits and shapes
    tell everything about it.
    Everything that the candidate does wrong, or raises, becomes a status with a one-line
    failure; the global random state is left as it was.
    """
    problem = (input_shape, classes, max_params, max_flops, max_layers)
    attempts = (
        _Attempt(*problem, "cpu", min(QUICK_PARAMS, max_params), min(QUICK_FLOPS, max_flops)),
        _Attempt(*problem, "meta"),
        _Attempt(*problem, "cpu", 4 * max_params, max_flops),
    )
    small = _Attempt(*problem, "cpu", min(SMALL_PARAMS, max_params), min(SMALL_FLOPS, max_flops))
    beyond = {
        "layers": f"more than containment.max_layers = {max_layers} executed layers",
        "flops": f"more than containment.max_flops = {max_flops:g} {_per(input_shape)}",
    }
    failure = ""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        if meta_first and (guess := _Attempt(*problem, "meta").guess(source, seed)) is not None:
            return Screened(status=PENDING, descriptors=guess, built=True)
        for attempt in attempts:
            _seed(seed)
            try:
                found = attempt.measure(source)
                if attempt.strange:
                    _seed(seed)
                    found = small.corrected(source, found)
                return Screened(status=PENDING, descriptors=found, built=True)
            except TooMany as bound:
                failure = beyond[bound.what]
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


def _per(input_shape: tuple[int, ...]) -> str:
    return f"multiply-adds for one {'image' if len(input_shape) == 3 else 'example'}"


def is_large(found: Descriptors) -> bool:
    """Return whether a network was too large to be run on the CPU at once."""
    return found.params > QUICK_PARAMS or found.flops > QUICK_FLOPS


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
    for device in ("cpu", "meta"):
        with torch.random.fork_rng(devices=[]):
            _Attempt((1, 8, 8), 2, 1000, math.inf, 100, device).measure(source)


@dataclass(frozen=True)
class _Attempt:
    """One way to measure networks for a problem, within bounds."""

    input_shape: tuple[int, ...]
    classes: int
    max_params: int
    max_flops: float
    max_layers: int
    device: str
    params: float = math.inf
    flops: float = math.inf
    """With ``params``: beyond these this attempt is given up."""
    strange: set[str] = field(default_factory=set)
    """Names of what the network did on the meta device of which shapes alone do not tell enough."""

    def guess(self, source: str, seed: int) -> Descriptors | None:
        """Return what is found, if the network fits and nothing about it is strange."""
        _seed(seed)
        with suppress(OverBudget, *build.CANDIDATE_EXCEPTIONS):
            found = self.measure(source)
            return None if self.strange else found
        return None

    def corrected(self, source: str, found: Descriptors) -> Descriptors:
        """Return what the CPU finds, within this attempt's bounds; beyond them ``found``.

        Raises :class:`CandidateError` for what the candidate does wrong.
        """
        try:
            return self.measure(source)
        except OverBudget:
            return found
        except CandidateError as error:
            if error.status == "too_large":
                return found
            raise

    def measure(self, source: str) -> Descriptors:
        """Build and run the network once on ``device``.

        Raises :class:`CandidateError` for what the candidate does wrong and :class:`OverBudget`
        where it goes beyond what the attempt allows.
        """
        small = self.flops <= SMALL_FLOPS
        with _kernels(compiled=not small):
            with Building(self.params, meta=self.device == "meta"):
                model = build.build(source)
            try:
                return self._described(model)
            except CandidateError as error:
                error.built = True
                raise

    def _described(self, model: nn.Module) -> Descriptors:
        """Run a network that was built, in evaluation and in training."""
        parameters, buffers = list(model.parameters()), list(model.buffers())
        if not parameters:
            raise CandidateError("invalid", "the network has no parameters to train")
        if not any(isinstance(p, nn.UninitializedParameter) for p in parameters):
            self._count_params(parameters)
        images = torch.randn((3, *self.input_shape), device=self.device)
        weights = (*parameters, *buffers)
        floating = (t for t in weights if t.is_floating_point())
        self.strange.update(str(t.dtype) for t in floating if t.dtype != images.dtype)

        model.eval()
        batch = 1
        try:
            counting, alive = self._counted(model, images[:1], weights)
        except CandidateError:
            if self.device != "cpu":
                raise
            batch = 2  # some networks refuse one image alone
            counting, alive = self._counted(model, images[:2], weights)
        if (flops := counting.flops / batch) > self.max_flops:
            number = f"{flops:.3e} {_per(self.input_shape)}"
            bound = f"containment.max_flops = {self.max_flops:g}"
            raise CandidateError("too_large", f"{number}, more than {bound}")
        parameters = list(model.parameters())
        params = self._count_params(parameters)

        model.train()
        with Running(**self._mode):
            output = self._forward(model, images)
            if not output.requires_grad:
                raise CandidateError("invalid", "no parameter takes part in the output")
            try:
                output.sum().backward()  # type: ignore[no-untyped-call]
            except build.CANDIDATE_EXCEPTIONS as error:
                raise _while("in the backward step", error) from None
            if all(p.grad is None for p in parameters):
                raise CandidateError("invalid", "the backward step reaches no parameter")
        depth, width = max(1, counting.depth), max(1, counting.width)
        memory = alive.most // batch
        if memory > _MOST_BYTES:
            raise CandidateError("too_large", f"needs {memory:.3e} bytes of memory at once")
        return Descriptors(width, depth, width / depth, flops, params, memory)

    @property
    def _mode(self) -> dict[str, Any]:
        return {"strange": self.strange, "meta": True} if self.device == "meta" else {}

    def _counted(
        self, model: nn.Module, images: Tensor, weights: Sequence[Tensor]
    ) -> tuple[Counting, Alive]:
        """Count one pass over ``images``; one before gives lazy layers their weights."""
        if any(map(is_lazy, weights)):
            self._pass(model, images, [t for t in weights if not is_lazy(t)])
            weights = (*model.parameters(), *model.buffers())
        return self._pass(model, images, weights)

    def _pass(
        self, model: nn.Module, images: Tensor, weights: Sequence[Tensor]
    ) -> tuple[Counting, Alive]:
        """Count one pass; ``weights`` are no activations."""
        alive = Alive(weights)
        counting = Counting(
            max_layers=self.max_layers,
            max_flops=len(images) * self.flops,
            alive=alive,
            **self._mode,
        )
        with counting, torch.no_grad():
            self._forward(model, images)
        return counting, alive

    def _forward(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the logits of ``images``, (N, classes), or raise :class:`CandidateError`."""
        batch = images.shape[0]
        mode = "training" if model.training else "evaluation"
        try:
            output = model(images.clone())
        except build.CANDIDATE_EXCEPTIONS as error:
            raise _while(f"in {mode} with a batch of {batch}", error) from None
        expected = (batch, self.classes)
        if not isinstance(output, Tensor):
            what = f"{type(output).__name__} in {mode}, not a tensor"
        elif output.shape != expected:
            what = f"shape {tuple(output.shape)} in {mode}, not {expected}"
        elif not output.is_floating_point():
            what = f"{output.dtype}, not floating point"
        else:
            return output
        raise CandidateError("invalid", build.bounded(f"forward returns {what}"))

    def _count_params(self, parameters: list[nn.Parameter]) -> int:
        params = sum(p.numel() for p in parameters)
        if params > self.max_params:
            bound = f"containment.max_params = {self.max_params}"
            raise CandidateError("too_large", f"{params} parameters, more than {bound}")
        return params


def _seed(seed: int) -> None:
    """Seed the CPU alone; ``torch.manual_seed`` notes a stack for each absent device, slowly."""
    torch.default_generator.manual_seed(seed)


@contextmanager
def _kernels(*, compiled: bool) -> Iterator[None]:
    """Let oneDNN compile a kernel for every shape, or not: a small network does not pay it back."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(compiled and before)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _while(what: str, error: BaseException) -> CandidateError:
    found = build.candidate_error(error)
    return CandidateError(found.status, build.bounded(f"{found.message} ({what})"))

"""One step of a training: as it comes, or recorded once and replayed by the device."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from .placing import Generators

_SETTLED = 3
"""Steps after which velocities exist and libraries have chosen their kernels."""
_COMPARED = 2
"""Replayed steps that must end in the bits of as many plain ones."""


class Optimiser(ABC):
    """Parameters on their way down, and running means of their gradients.

    Classes of our own because making one of torch's imports its compiler: more than a second for
    every worker, and a third more memory that every fork has to copy the tables of. A step is a
    few kernels on a GPU, however many parameters there are, and waits for none of them.
    """

    MEANS: ClassVar[tuple[str, ...]]
    """Names of the means, by which a checkpoint knows them."""

    def __init__(self, parameters: list[nn.Parameter], *, rate: float, decay: float = 0.0) -> None:
        self.parameters, self.rate, self._decay = parameters, rate, decay
        """``rate`` may change from step to step."""
        self._means: dict[str, list[torch.Tensor | None]] = {
            name: [None] * len(parameters) for name in self.MEANS
        }

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @abstractmethod
    def step(self) -> None:
        """Move along the gradients that are there; a parameter without one stays."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that steps change beside the parameters, by name."""
        return {
            f"{name}.{index}": mean
            for name, means in self._means.items()
            for index, mean in enumerate(means)
            if mean is not None
        }

    def fits(self, saved: Mapping[str, torch.Tensor]) -> bool:
        """Return whether the :meth:`state` in ``saved`` is that of such parameters."""
        pairs = [
            (saved[f"{name}.{index}"], parameter)
            for name in self.MEANS
            for index, parameter in enumerate(self.parameters)
            if f"{name}.{index}" in saved
        ]
        return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Continue from the :meth:`state` in ``saved``, which :meth:`fits`."""
        for name, means in self._means.items():
            for index, parameter in enumerate(self.parameters):
                if (mean := saved.get(f"{name}.{index}")) is not None:
                    means[index] = mean.to(parameter.device)

    def _moved(self) -> tuple[list[int], list[torch.Tensor], list[torch.Tensor]]:
        """Return the parameters that have a gradient: their numbers, themselves, the gradients."""
        found = [
            (index, parameter, parameter.grad)
            for index, parameter in enumerate(self.parameters)
            if parameter.grad is not None
        ]
        return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]


class Descent(Optimiser):
    """Stochastic gradient descent with momentum, to the bit that of ``torch.optim.SGD``.

    g <- gradient + decay p, v <- momentum v + g (v <- g the first time), p <- p - rate v: three
    kernels, or four.
    """

    MEANS = ("momentum",)

    def __init__(
        self, parameters: list[nn.Parameter], *, rate: float, momentum: float, decay: float = 0.0
    ) -> None:
        super().__init__(parameters, rate=rate, decay=decay)
        self._momentum = momentum

    @torch.no_grad()
    def step(self) -> None:
        """See :meth:`Optimiser.step`."""
        indices, parameters, steps = self._moved()
        if self._decay:
            steps = list(torch._foreach_add(steps, parameters, alpha=self._decay))
        if self._momentum:
            velocities = self._means["momentum"]
            old: list[torch.Tensor] = []
            added: list[torch.Tensor] = []
            for position, index in enumerate(indices):
                step = steps[position]
                if (velocity := velocities[index]) is None:
                    velocity = velocities[index] = step.clone()
                else:
                    old.append(velocity)
                    added.append(step)
                steps[position] = velocity
            if old:
                torch._foreach_mul_(old, self._momentum)
                torch._foreach_add_(old, added)
        torch._foreach_add_(parameters, steps, alpha=-self.rate)


class AdamW(Optimiser):
    """Adam with decoupled weight decay, to the bit that of ``torch.optim.AdamW``.

    Loshchilov and Hutter (2019), algorithm 2, with the usual constants. Of step n of a parameter:
    p <- (1 - rate decay) p, m <- m + (1 - b1)(g - m), s <- b2 s + (1 - b2) g g,
    p <- p - rate/(1 - b1^n) m / (sqrt(s)/sqrt(1 - b2^n) + epsilon).
    """

    MEANS = ("momentum", "square")
    _BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, parameters: list[nn.Parameter], *, rate: float, decay: float) -> None:
        super().__init__(parameters, rate=rate, decay=decay)
        self._counts = [0] * len(parameters)

    @torch.no_grad()
    def step(self) -> None:
        """See :meth:`Optimiser.step`."""
        indices, parameters, gradients = self._moved()
        for index in indices:
            if not self._counts[index]:
                for kept in self._means.values():
                    kept[index] = torch.zeros_like(self.parameters[index])
            self._counts[index] += 1
        means, squares = (
            [_real(kept[index]) for index in indices] for kept in self._means.values()
        )
        parameters, gradients = list(map(_real, parameters)), list(map(_real, gradients))
        counts = [self._counts[index] for index in indices]
        if self._decay:
            torch._foreach_mul_(parameters, 1 - self.rate * self._decay)
        torch._foreach_lerp_(means, gradients, 1 - self._BETA1)
        torch._foreach_mul_(squares, self._BETA2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - self._BETA2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [(1 - self._BETA2**n) ** 0.5 for n in counts])
        torch._foreach_add_(roots, self._EPSILON)
        rates = [-(self.rate / (1 - self._BETA1**n)) for n in counts]
        torch._foreach_addcdiv_(parameters, means, roots, rates)

    def state(self) -> dict[str, torch.Tensor]:
        """See :meth:`Optimiser.state`."""
        return {**super().state(), "counts": torch.tensor(self._counts)}

    def fits(self, saved: Mapping[str, torch.Tensor]) -> bool:
        """See :meth:`Optimiser.fits`."""
        counts = saved["counts"].tolist()
        return (
            super().fits(saved)
            and len(counts) == len(self.parameters)
            and all(
                (f"{name}.{index}" in saved) == (count > 0)
                for name in self.MEANS
                for index, count in enumerate(counts)
            )
        )

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        """See :meth:`Optimiser.restore`."""
        super().restore(saved)
        self._counts = saved["counts"].tolist()


def _real(tensor: Any) -> torch.Tensor:
    """View complex numbers as pairs, each of which has a mean square of its own."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def cosine(rate: float, step: int, steps: int) -> float:
    """Return the rate of a step, from 0 on, of ``steps``: rate (1 + cos(pi step/steps)) / 2.

    Loshchilov and Hutter (2017), equation 5, with one period and down to zero.
    """
    return rate * (1 + math.cos(math.pi * step / steps)) / 2


def balanced(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the weight of each class, n / (K n_c), (K,), by which all weigh the same.

    King and Zeng (2001), as scikit-learn's "balanced". A class without a label has none.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes)
    weights = len(labels) / (classes * counts.clamp(min=1).double())
    return weights.mul_(counts > 0).float().to(labels.device)


def cross_entropy(
    outputs: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the mean loss of ``outputs``, (N, K), for ``labels``, (N,): a number.

    As that of ``torch.nn.functional``, which makes the host wait for a GPU where labels are
    smoothed and weighted, and in earlier versions wherever they are smoothed.
    ``weights`` of the classes, (K,): the mean is a weighted one. ``smoothing``: this part of a
    label's probability is spread over all classes (Szegedy et al., 2016, section 7).
    """
    if weights is not None:
        weights = weights.to(outputs.dtype)
    if not smoothing:
        return F.cross_entropy(outputs, labels, weights)
    logs = F.log_softmax(outputs, dim=1)
    exact = F.nll_loss(logs, labels, weights)
    if weights is None:
        spread = -logs.sum(dim=1).mean()
    else:
        spread = -(logs * weights).sum(dim=1).sum() / weights.index_select(0, labels).sum()
    return (1 - smoothing) * exact + spread * (smoothing / outputs.shape[1])


class Recorded:
    """A step that, once it has settled, is replayed as a graph where that does the same.

    Experimental: never run on a real device. A graph is kept if from one state it ends in the same
    bits as plain steps; else, and for batches of another size, steps stay plain.
    """

    def __init__(
        self,
        step: Callable[[torch.Tensor], None],
        state: Callable[[], Iterable[torch.Tensor]],
        size: int,
    ) -> None:
        self._step, self._state, self._size = step, state, size
        self._left: int | None = _SETTLED
        self._replay: Callable[[torch.Tensor], None] | None = None

    def __call__(self, chosen: torch.Tensor) -> None:
        """Do a step for the images ``chosen``."""
        if len(chosen) != self._size:
            self._step(chosen)
            return
        if self._left == 0:
            self._left, self._replay = None, self._recorded(chosen)
        elif self._left:
            self._left -= 1
        (self._replay or self._step)(chosen)

    def _recorded(self, chosen: torch.Tensor) -> Callable[[torch.Tensor], None] | None:
        """Return what replays a step; None, and all as before, where that would differ."""
        device = chosen.device
        module, static = torch.get_device_module(device), chosen.clone()
        tensors, generators = list(self._state()), Generators.now(device)
        before = [tensor.detach().clone() for tensor in tensors]

        def again() -> None:
            with torch.no_grad():
                for tensor, saved in zip(tensors, before, strict=True):
                    tensor.copy_(saved)
            generators.apply(device)

        try:
            side = module.Stream()
            side.wait_stream(module.current_stream())
            with module.stream(side):
                for _ in range(_COMPARED):
                    self._step(static)
            module.current_stream().wait_stream(side)
            wanted = [tensor.detach().clone() for tensor in tensors]
            graph = module.CUDAGraph()
            with module.graph(graph):
                self._step(static)
            again()
            for _ in range(_COMPARED):
                graph.replay()
            same = all(map(torch.equal, tensors, wanted))
        except Exception:  # whatever cannot be recorded goes on as it was
            same = False
        again()

        def replay(chosen: torch.Tensor) -> None:
            static.copy_(chosen)
            graph.replay()

        return replay if same else None


def records(device: torch.device) -> bool:
    """Return whether torch can record steps on such a device."""
    return hasattr(torch.get_device_module(device), "CUDAGraph")

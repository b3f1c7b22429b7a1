"""One step of a training: as it comes, or recorded once and replayed by the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from .placing import Generators

_SETTLED = 3
"""Steps after which velocities exist and libraries have chosen their kernels."""
_COMPARED = 2
"""Replayed steps that must end in the bits of as many plain ones."""


class Descent:
    """Stochastic gradient descent with momentum, to the bit that of ``torch.optim.SGD``.

    v <- momentum v + gradient (v <- gradient the first time), p <- p - rate v: three kernels on a
    GPU, however many parameters there are. A class of our own because making one of torch's
    imports its compiler: more than a second for every worker, and a third more memory that every
    fork has to copy the tables of.
    """

    def __init__(self, parameters: list[nn.Parameter], *, rate: float, momentum: float) -> None:
        self.parameters = parameters
        self.velocities: list[torch.Tensor | None] = [None] * len(parameters)
        self._rate, self._momentum = rate, momentum

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move along the gradients that are there; a parameter without one stays."""
        moved: list[torch.Tensor] = []
        steps: list[torch.Tensor] = []
        old: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        for index, parameter in enumerate(self.parameters):
            if (step := parameter.grad) is None:
                continue
            if self._momentum:
                if (velocity := self.velocities[index]) is None:
                    velocity = self.velocities[index] = step.clone()
                else:
                    old.append(velocity)
                    gradients.append(step)
                step = velocity
            moved.append(parameter)
            steps.append(step)
        if old:
            torch._foreach_mul_(old, self._momentum)
            torch._foreach_add_(old, gradients)
        torch._foreach_add_(moved, steps, alpha=-self._rate)


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

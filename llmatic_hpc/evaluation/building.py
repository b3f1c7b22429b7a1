"""Build networks within bounds: what is allocated is counted, and no random numbers are drawn."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from ..source.allowlist import words
from .flops import Arguments, Options

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


CONSTRUCTORS = frozenset(_device_constructors())
"""Functions that make a tensor out of nothing, on a device that can be named."""


class OverBudget(BaseException):
    """Raised beyond the work or memory of an attempt; no candidate can catch it."""


class Building(TorchFunctionMode):
    """A mode for building a network: allocates at most ``limit`` numbers, and draws none.

    Parameters are filled with a constant in place of random numbers, which for a large
    network take longer than all of its screening. ``meta``: they are made on that device.
    """

    def __init__(self, limit: float, *, meta: bool = False) -> None:
        super().__init__()
        self._left, self._meta = limit, meta

    def __torch_function__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Options | None = None
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
        if self._meta and func in CONSTRUCTORS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def _size_of(func: Any, args: Arguments, kwargs: Options) -> int:
    """Return how many numbers a call that makes a tensor would allocate."""
    sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args
    plain = func in (torch.empty, torch.zeros, torch.ones) and sizes
    if plain and all(type(size) is int for size in sizes):
        return math.prod(sizes)
    result: Tensor = func(*args, **{**kwargs, "device": "meta"})
    return result.numel()

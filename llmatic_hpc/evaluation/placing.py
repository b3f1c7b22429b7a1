"""Put a network on a device, with everything that it needs there, and keep what it draws from."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network, and off the CPU also tensors and layers in plain attributes.

    ``Module.to`` leaves behind what works on a CPU: a tensor that is no buffer, a layer in a plain
    list, a constant of the source or of a class.
    """
    placed = network.to(device)
    if device.type != "cpu":
        moving = _Moving(device)
        moving.module(placed)
        moving.source(type(placed).forward)
    return placed


class _Moving:
    """Moves what it is shown, each object once; what was shared stays so."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: dict[int, tuple[Any, Any]] = {}  # of an object: itself, and what it became

    def module(self, module: nn.Module) -> None:
        members = list(module.to(self._device).modules())
        self._known |= {id(member): (member, member) for member in members}
        for member in members:
            self._values(vars(member))

    def source(self, function: Any) -> None:
        """Move what a source keeps beside its networks: constants, of classes too."""
        names = getattr(function, "__globals__", {})
        if names.get("__name__") == "candidate":
            self._values(names)
            for kind in list(names.values()):
                if isinstance(kind, type) and kind.__module__ == "candidate":
                    for name, value in list(vars(kind).items()):
                        if (moved := self._moved(value)) is not value:
                            setattr(kind, name, moved)

    def _values(self, values: dict[Any, Any]) -> None:
        for key, value in list(values.items()):
            if key != "__builtins__" and (moved := self._moved(value)) is not value:
                values[key] = moved

    def _moved(self, value: Any) -> Any:
        if id(value) not in self._known:
            self._known[id(value)] = (value, value)  # it may contain itself
            self._known[id(value)] = (value, self._anew(value))
        return self._known[id(value)][1]

    def _anew(self, value: Any) -> Any:
        match value:
            case torch.Tensor() if value.device != self._device:
                if not value.is_leaf:
                    return value.to(self._device)
                there = value.detach().to(self._device).requires_grad_(value.requires_grad)
                parameter = isinstance(value, nn.Parameter)
                return nn.Parameter(there, value.requires_grad) if parameter else there
            case nn.Module():
                self.module(value)
            case dict():
                self._values(value)
            case list() | deque():
                for index, item in enumerate(value):
                    value[index] = self._moved(item)
            case tuple():
                items = [self._moved(item) for item in value]
                if any(a is not b for a, b in zip(items, value, strict=True)):
                    return type(value)(items) if type(value) is tuple else type(value)(*items)
        return value


@dataclass(frozen=True)
class Generators:
    """States of the generators that a network may draw from."""

    python: Any
    numpy: Any
    """Name, key as a list, position, and the cached normal deviate."""
    tensors: Mapping[str, torch.Tensor]
    """States of torch's, by ``random.torch`` and ``random.`` with the type of an accelerator."""

    @classmethod
    def now(cls, device: torch.device) -> Generators:
        """Read them."""
        name, key, *rest = np.random.get_state()
        tensors = {"random.torch": torch.get_rng_state()}
        if device.type != "cpu":
            tensors[f"random.{device.type}"] = torch.get_device_module(device).get_rng_state(device)
        return cls(random.getstate(), [name, np.asarray(key).tolist(), *rest], tensors)

    @classmethod
    def of(
        cls, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: torch.device
    ) -> Generators:
        """Read those of a checkpoint and try them out. Raises what their makers raise.

        One that was written on another kind of device says nothing of this device's generator,
        which goes on as it is.
        """
        version, internal, gauss = values["python"]
        names = ("random.torch", f"random.{device.type}")
        states = cls(
            (version, tuple(internal), gauss),
            tuple(values["numpy"]),
            {name: tensors[name] for name in names if name in tensors},
        )
        random.Random().setstate(states.python)
        np.random.RandomState().set_state(states.numpy)
        torch.Generator().set_state(tensors["random.torch"])
        before = cls.now(device)
        try:
            states.apply(device)
        finally:
            before.apply(device)
        return states

    def apply(self, device: torch.device) -> None:
        """Continue from them."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.tensors["random.torch"])
        if (state := self.tensors.get(f"random.{device.type}")) is not None:
            torch.get_device_module(device).set_rng_state(state, device)

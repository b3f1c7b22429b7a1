"""Keys and values of a batch whose rows come and go, written in place.

A cache of transformers copies all of itself with every token. This one keeps a buffer per layer
with a slot for each row. The rows in use are the first ones, and each ends at the same column,
so that a step writes one column, a row that leaves makes room for the last one, and a new row
takes the next slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

AHEAD = 128
"""Columns that are added when a buffer is full."""


@dataclass
class Extent:
    """Part of the buffers that is in use; the same for all layers."""

    rows: int = 0
    """Slots that there are."""
    columns: int = 0
    """Columns that there are."""
    first: int = 0
    """First column that any row uses."""
    end: int = 0
    """Column that the next token goes to."""


class SlotLayer(DynamicLayer):
    """One layer's keys and values, each (slots, heads, columns, size)."""

    def __init__(self, extent: Extent) -> None:
        super().__init__()
        self.extent = extent
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one column for the first slots and give what they hold, as a view."""
        at, rows = self.extent, len(key_states)
        new = (key_states, value_states)
        held = []
        for buffer, states in zip(self.allocated(new), new, strict=True):
            buffer[:rows, :, at.end : at.end + states.shape[-2]] = states
            held.append(buffer[:rows, :, at.first : at.end + states.shape[-2]])
        return held[0], held[1]

    def allocated(self, like: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the buffers; make them with the heads and sizes of ``like`` at first."""
        if self.buffers is None:
            at = self.extent  # zeros, since nothing times garbage may be no number
            keys, values = (
                x.new_zeros((at.rows, x.shape[1], at.columns, x.shape[3])) for x in like
            )
            self.buffers = keys, values
        return self.buffers

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.extent.end - self.extent.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that a mask spans with ``query_length`` new ones, and its offset."""
        return self.get_seq_length() + query_length, 0


class KeyValueCache(Cache):
    """The cache of all layers, for any model that keeps plain keys and values."""

    def __init__(self) -> None:
        self.extent = Extent()
        super().__init__(layer_class_to_replicate=partial(SlotLayer, self.extent))

    def reserve(self, *, rows: int, before: int, after: int) -> None:
        """Make sure of ``rows`` slots, ``before`` columns up to the end and ``after`` more."""
        at = self.extent
        if rows <= at.rows and before <= at.end and at.end + after <= at.columns:
            return
        used = slice(at.first, at.end)
        at.rows, before = max(rows, at.rows), max(before, at.end - at.first)
        at.first, at.end, at.columns = before - (at.end - at.first), before, before + after + AHEAD
        for layer in self.layers:
            old, layer.buffers = layer.buffers, None
            for source, target in zip(old, layer.allocated(old), strict=True):
                target[: len(source), :, at.first : at.end] = source[:, :, used]

    def put(self, read: DynamicCache, columns: Mapping[int, torch.Tensor]) -> None:
        """Fill slots, each with the given columns of what was read in one row."""
        end = self.extent.end
        for number, source in enumerate(read.layers):
            while number >= len(self.layers):
                self.layers.append(SlotLayer(self.extent))
            states = source.keys, source.values
            for buffer, state in zip(self.layers[number].allocated(states), states, strict=True):
                for slot, chosen in columns.items():
                    buffer[slot, :, end - len(chosen) : end] = state[0].index_select(1, chosen)

    def move(self, source: int, target: int) -> None:
        """Copy what a slot holds over another."""
        used = slice(self.extent.first, self.extent.end)
        for layer in self.layers:
            for buffer in layer.buffers:
                buffer[target, :, used] = buffer[source, :, used]

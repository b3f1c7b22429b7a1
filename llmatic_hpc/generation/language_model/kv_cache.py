"""Keys and values of a batch whose rows come and go, written in place.

A cache of transformers copies all of itself with every token. This one keeps a buffer per layer
with a slot for each row. The rows in use are the first ones, and each ends at the same column,
so that a step writes one column, a row that leaves makes room for the last one, and a new row
takes the next slot. What all rows begin with is kept once, beside the slots, and attended to by
:func:`attend`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

AHEAD = 128
"""Columns that are added when a buffer is full."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values."""


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
        self.buffers: Pair | None = None
        self.shared: Pair | None = None
        """Of what all rows begin with: (heads, columns, size)."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Pair:
        """Write one column for the first slots and give what they hold, as a view."""
        at, rows = self.extent, len(key_states)
        new = (key_states, value_states)
        held = []
        for buffer, states in zip(self.allocated(new), new, strict=True):
            buffer[:rows, :, at.end : at.end + states.shape[-2]] = states
            held.append(buffer[:rows, :, at.first : at.end + states.shape[-2]])
        return held[0], held[1]

    def allocated(self, like: Sequence[torch.Tensor]) -> Pair:
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
    """The cache of all layers, for any model that keeps plain keys and values.

    Args:
        shared: so many first tokens are the same in all rows, and kept once.
    """

    def __init__(self, shared: int = 0) -> None:
        self.extent = Extent()
        self.shared = shared
        super().__init__(layer_class_to_replicate=partial(SlotLayer, self.extent))

    @property
    def bytes(self) -> int:
        """Memory that all keys and values take."""
        pairs = [p for x in self.layers for p in (x.buffers, x.shared) if p]
        return sum(tensor.nbytes for pair in pairs for tensor in pair)

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
            layer, states = self.layers[number], (source.keys, source.values)
            if self.shared and layer.shared is None:
                common = next(iter(columns.values()))[: self.shared]
                layer.shared = tuple(state[0].index_select(1, common) for state in states)
            for buffer, state in zip(layer.allocated(states), states, strict=True):
                for slot, chosen in columns.items():
                    own = chosen[self.shared :]
                    buffer[slot, :, end - len(own) : end] = state[0].index_select(1, own)

    def move(self, source: int, target: int) -> None:
        """Copy what a slot holds over another."""
        used = slice(self.extent.first, self.extent.end)
        for layer in self.layers:
            for buffer in layer.buffers:
                buffer[target, :, used] = buffer[source, :, used]

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Let :func:`attend` see what the rows share, besides their own."""
        before = _ATTENDED.set(self)
        try:
            yield
        finally:
            _ATTENDED.reset(before)


_ATTENDED: ContextVar[KeyValueCache | None] = ContextVar("attended", default=None)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one token per row to what all rows share and to its row's own, in two parts:
    the queries of all rows meet the shared keys in one product.

    Outside of :meth:`KeyValueCache.attended` that of transformers' ``sdpa``.
    """
    cache = _ATTENDED.get()
    if cache is None:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    shared_key, shared_value = cache.layers[module.layer_idx].shared
    rows, heads, shared = len(query), len(shared_key), cache.shared

    def side_by_side(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1).reshape(heads, -1, x.shape[-1])

    def row_by_row(x: torch.Tensor) -> torch.Tensor:
        return x.view(heads, rows, -1, x.shape[-1]).transpose(0, 1)

    size = query.shape[-1]
    grouped = query.reshape(rows, heads, -1, size) * (size**-0.5 if scaling is None else scaling)
    own = grouped @ key.transpose(-1, -2)
    common = row_by_row(side_by_side(grouped) @ shared_key.transpose(-1, -2))
    if attention_mask is not None:
        own = own + attention_mask
    weights = torch.cat([common, own], dim=-1).softmax(-1, dtype=torch.float32).to(value.dtype)
    found = weights[..., shared:] @ value
    found = found + row_by_row(side_by_side(weights[..., :shared]) @ shared_value)
    return found.reshape(rows, 1, -1, value.shape[-1]), None


SHARING = "shared_beginning"
"""Name of :func:`attend` among the implementations of attention."""

AttentionInterface.register(SHARING, attend)
AttentionMaskInterface.register(SHARING, sdpa_mask)

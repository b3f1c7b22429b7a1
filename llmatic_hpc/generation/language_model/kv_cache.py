"""Keys and values of a batch whose rows come and go, written in place.

A cache of transformers copies all of itself with every token. This one keeps buffers with a slot
for each row. The rows in use are the first ones, and each ends at the same column, so that a
step writes one column, a row that leaves makes room for the last one, and a new row takes the
next slot. What all rows begin with is kept once, beside the slots, for :func:`attend`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

AHEAD = 128
"""Columns that are added when a buffer is full."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of a layer."""


class KeyValueCache(Cache):
    """The cache of all layers, for any model that keeps plain keys and values.

    Args:
        shared: so many first tokens are the same in all rows, and kept once.
    """

    def __init__(self, shared: int = 0) -> None:
        super().__init__(layers=[])
        self.shared = shared
        self.common: list[Pair] = []
        """The beginning of all rows, each (heads, columns, size)."""
        self.buffers: list[Pair] = []
        """Each (slots, heads, columns, size)."""
        self.slots = self.columns = 0
        self.first = 0
        """First column that any row uses."""
        self.end = 0
        """Column that the next token goes to."""
        self.is_unread = False
        """True between the update of a layer and its attention to what is shared."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, **_: Any
    ) -> Pair:
        """Write one column for the first slots and give what they hold, as a view."""
        keys, values = self.buffers[layer_idx]
        rows, end = len(key_states), self.end + key_states.shape[-2]
        keys[:rows, :, self.end : end] = key_states
        values[:rows, :, self.end : end] = value_states
        held = keys[:rows, :, self.first : end]
        if self.shared:
            if self.is_unread:
                raise RuntimeError("a layer of the model did not attend to what its rows share")
            held.beside, self.is_unread = (self, self.common[layer_idx]), True  # type: ignore[attr-defined]
        return held, values[:rows, :, self.first : end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns in use."""
        return self.end - self.first

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Columns before the next token's."""
        return self.end - self.first

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Columns that a mask spans with ``query_length`` new ones, and its offset."""
        return self.end - self.first + query_length, 0

    def reserve(self, *, rows: int, before: int, after: int) -> None:
        """Make sure of ``rows`` slots, ``before`` columns up to the end and ``after`` more."""
        if rows <= self.slots and before <= self.end and self.end + after <= self.columns:
            return
        used, width = slice(self.first, self.end), self.end - self.first
        self.slots, before = max(rows, self.slots), max(before, width)
        self.first, self.end, self.columns = before - width, before, before + after + AHEAD
        for number, pair in enumerate(self.buffers):
            larger = self._room(pair)
            for source, target in zip(pair, larger, strict=True):
                target[: len(source), :, self.first : self.end] = source[:, :, used]
            self.buffers[number] = larger

    def _room(self, like: Pair) -> Pair:
        """Return buffers for a layer; zeros, since nothing times garbage may be no number."""
        keys, values = (
            x.new_zeros((self.slots, x.shape[1], self.columns, x.shape[3])) for x in like
        )
        return keys, values

    def put(self, read: DynamicCache, columns: Mapping[int, torch.Tensor]) -> None:
        """Fill slots, each with the given columns of what was read in one row."""
        common = next(iter(columns.values()))[: self.shared]
        for number, layer in enumerate(read.layers):
            states = (layer.keys, layer.values)
            if number == len(self.buffers):
                self.buffers.append(self._room(states))
                keys, values = (state[0].index_select(1, common) for state in states)
                self.common.append((keys, values))
            for buffer, state in zip(self.buffers[number], states, strict=True):
                for slot, chosen in columns.items():
                    own = chosen[self.shared :]
                    place = slice(self.end - len(own), self.end)
                    buffer[slot, :, place] = state[0].index_select(1, own)

    def read(self, slot: int, own: int, length: int) -> list[Pair]:
        """Return keys and values of the first ``length`` tokens of a slot with ``own`` columns."""
        first, shared = self.end - own, min(length, self.shared)
        found = []
        for number, pair in enumerate(self.buffers):
            common = self.common[number] if self.shared else pair
            keys, values = (
                torch.cat([of_all[:, :shared], x[slot, :, first : first + length - shared]], dim=1)
                if self.shared
                else x[slot, :, first : first + length]
                for of_all, x in zip(common, pair, strict=True)
            )
            found.append((keys[None], values[None]))
        return found

    def share_less(self, shared: int, own: Sequence[int]) -> None:
        """Keep only the first ``shared`` tokens once for all; each of the first slots, which have
        ``own`` columns, gets the rest of them before its own."""
        more = self.shared - shared
        width = max(own) + more
        self.first = self.end - max(own)
        self.reserve(rows=len(own), before=width, after=0)
        self.first = self.end - width
        for (keys, values), (all_keys, all_values) in zip(self.buffers, self.common, strict=True):
            for slot, columns in enumerate(own):
                place = slice(self.end - columns - more, self.end - columns)
                keys[slot, :, place] = all_keys[:, shared:]
                values[slot, :, place] = all_values[:, shared:]
        self.common = [(keys[:, :shared], values[:, :shared]) for keys, values in self.common]
        self.shared = shared

    def move(self, source: int, target: int) -> None:
        """Copy what a slot holds over another."""
        for buffer in (one for pair in self.buffers for one in pair):
            buffer[target, :, self.first : self.end] = buffer[source, :, self.first : self.end]


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

    That of transformers' ``sdpa`` where ``key`` is not from a cache with something shared.
    """
    beside: tuple[KeyValueCache, Pair] | None = getattr(key, "beside", None)
    if beside is None:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    cache, common = beside
    cache.is_unread, shared = False, cache.shared
    rows, heads, size = len(query), key.shape[1], query.shape[-1]

    def side_by_side(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1).reshape(heads, -1, x.shape[-1])

    def row_by_row(x: torch.Tensor) -> torch.Tensor:
        return x.view(heads, rows, -1, x.shape[-1]).transpose(0, 1)

    grouped = query.reshape(rows, heads, -1, size) * (size**-0.5 if scaling is None else scaling)
    near = grouped @ key.transpose(-1, -2)
    if attention_mask is not None:
        near = near + attention_mask
    far = row_by_row(side_by_side(grouped) @ common[0].transpose(-1, -2))
    weights = torch.cat([far, near], dim=-1).softmax(-1, dtype=torch.float32).to(value.dtype)
    found = weights[..., shared:] @ value
    found = found + row_by_row(side_by_side(weights[..., :shared]) @ common[1])
    return found.reshape(rows, 1, -1, value.shape[-1]), None


SHARING = "shared_beginning"
"""Name of :func:`attend` among the implementations of attention."""

AttentionInterface.register(SHARING, attend)
AttentionMaskInterface.register(SHARING, sdpa_mask)

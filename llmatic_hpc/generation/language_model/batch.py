"""A batch of completions that rows enter and leave while it is being written."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from .device import trim
from .kv_cache import SHARING, KeyValueCache, Pair
from .prefill import LEAST, Pack, common, helpful, packs
from .sampling import Row, Writer, draw, sent, uniforms

ERROR = 5e-5
"""Bound on how much a logit in single precision depends on the batch (at most 2e-5 in 0.5 B
parameters). Where that could decide, the row is computed once more on its own."""


class Batch:
    """Rows that a model writes side by side, one token each per step.

    Args:
        model: a causal language model for which :func:`suits` holds, in evaluation mode.
        writer: decides what ends a row.
        shared: so many first tokens are the same in all rows (:func:`shared_by`); where a row that
            comes later begins otherwise, fewer are from then on.
    """

    def __init__(self, model: Any, writer: Writer, *, shared: int = 0) -> None:
        self.rows: list[Row] = []
        self._model = model
        # transformers has given this another name (5.24).
        parameters = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._writer = writer
        self._kept = KeyValueCache(shared)
        # In half precision the rounding is no smaller than what it would have to decide.
        self._error = ERROR if model.dtype == torch.float32 else 0.0
        if shared:
            model.set_attn_implementation(SHARING)

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        """Read the prompts of ``rows`` and let them take part from the next step on."""
        began = time.perf_counter()
        # The last token of a prompt is read by the first step, together with everyone's.
        heads = [tuple(row.prompt[:-1]) for row in rows]
        taken, longest = len(self.rows), max(map(len, heads))
        if taken and self._kept.shared:
            self._share_less(rows)
        self._kept.reserve(rows=taken + len(rows), before=longest - self._kept.shared, after=1)
        share = sees_all(self._model, max(longest, *self._places, 0))
        slots = {tuple(row.prompt[:-1]): n for n, row in enumerate(self.rows)} if share else {}
        known = helpful(heads, slots)
        read = [self._of(slots[prompt], length) for prompt, length in known.items()]
        for pack in packs(heads, share=share, known=known):
            found = {
                taken + n: sent(pack.columns[head], self._model.device)
                for n, head in enumerate(heads)
                if head in pack.columns
            }
            self._kept.put(self._read(pack, read), found)
        trim()  # reading takes most
        self.rows += rows
        charge(rows, began)

    @property
    def held(self) -> int:
        """Bytes of keys and values."""
        return sum(x.nbytes for pair in self._kept.buffers for x in pair)

    @property
    def _places(self) -> list[int]:
        """The column of each row's last token, counted from its own first one."""
        return [len(row.prompt) + len(row.tokens) - 1 for row in self.rows]

    def _of(self, slot: int, length: int) -> list[Pair]:
        return self._kept.read(slot, self._places[slot] - self._kept.shared, length)

    def _share_less(self, rows: Sequence[Row]) -> None:
        """Keep no more once for all than what ``rows``, which are new, begin with, too."""
        same = shared_by(self._model, [self.rows[0], *rows])
        if same < self._kept.shared:
            own = [place - self._kept.shared for place in self._places]
            self._kept.share_less(same, own)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Write a token of every row; the rows that are over leave and are returned."""
        began, rows, device, places = (
            time.perf_counter(),
            self.rows,
            self._model.device,
            self._places,
        )
        slots, width = self._kept, max(places) - self._kept.shared
        slots.first = slots.end - width
        slots.reserve(rows=len(rows), before=width, after=1)
        position = sent(places, device)[:, None]
        output = self._model(
            input_ids=sent([row.last for row in rows], device)[:, None],
            position_ids=position,
            attention_mask=self._mask(max(places), position),
            use_cache=True,
            **{self._cache_name: slots},
        )
        slots.end += 1
        for row, token in zip(rows, self._drawn(output.logits[:, -1]), strict=True):
            self._writer.write(row, token)
        charge(rows, began)
        return self.leave()

    def _mask(self, longest: int, position: torch.Tensor) -> torch.Tensor:
        """Return which columns each row sees: as many as it has tokens, up to the last."""
        shared = self._kept.shared
        columns = torch.arange(shared, longest + 1, device=position.device)
        seen = columns >= longest + shared - position
        if not attends_plainly(self._model, longest):
            return seen.long()
        # Made here it is taken as it is; else transformers looks into it, and the host waits.
        dtype = self._model.dtype
        hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return hidden.masked_fill_(~seen, torch.finfo(dtype).min)[:, None, None]

    def _drawn(self, logits: torch.Tensor) -> list[int]:
        chances = uniforms(self.rows, logits.shape[-1])  # while the device computes
        temperatures = [row.temperature for row in self.rows]
        tops = [row.top_p for row in self.rows]
        tokens, unsure = draw(logits.float(), temperatures, chances, top_p=tops, error=self._error)
        for n in [n for n, doubt in enumerate(unsure) if doubt]:
            row = self.rows[n]
            ids = sent([row.ids], self._model.device)
            alone = self._model(input_ids=ids, use_cache=False).logits[:, -1]
            [tokens[n]], _ = draw(
                alone.float(), [row.temperature], chances[n : n + 1], top_p=row.top_p
            )
        return tokens

    def _read(self, pack: Pack, known: Sequence[list[Pair]] = ()) -> DynamicCache:
        """Read a pack, of which keys and values of the beginning are ``known``."""
        cache, device = DynamicCache(), self._model.device
        for number, parts in enumerate(zip(*known, strict=True)):
            keys, values = (torch.cat(side, dim=2) for side in zip(*parts, strict=True))
            cache.update(keys, values, number)
        mask = pack.mask(self._model.dtype)
        self._model.base_model(  # no logits
            input_ids=sent([pack.tokens[pack.known :]], device),
            position_ids=sent([pack.positions[pack.known :]], device),
            attention_mask=None if mask is None else mask.to(device),
            use_cache=True,
            **{self._cache_name: cache},
        )
        return cache

    @torch.inference_mode()
    def leave(self) -> list[Row]:
        """Take out the rows that are over and return them; the last ones move to their places."""
        over = [row for row in self.rows if row.done]
        for n in range(len(self.rows) - 1, -1, -1):
            if self.rows[n].done:
                last = self.rows.pop()
                if n < len(self.rows):
                    self._kept.move(len(self.rows), n)
                    self.rows[n] = last
        return over


def suits(model: Any) -> bool:
    """Return whether the model keeps plain keys and values and takes positions of tokens."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    return (
        not getattr(model, "_is_stateful", False)
        and kinds <= {"full_attention", "sliding_attention"}
        and not getattr(config, "num_kv_shared_layers", 0)
        and "position_ids" in inspect.signature(model.forward).parameters
    )


def sees_all(model: Any, tokens: int) -> bool:
    """Return whether each of so many tokens attends to all before it, in every layer."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return window is None or tokens < window


def attends_plainly(model: Any, tokens: int) -> bool:
    """Return whether every layer computes PyTorch's own attention to all tokens before, through
    transformers' interface for it."""
    return (
        sees_all(model, tokens)
        and model._supports_attention_backend
        and model.config._attn_implementation in ("sdpa", SHARING)
    )


def shared_by(model: Any, rows: Sequence[Row]) -> int:
    """Count the first tokens that all rows have in common and that can be kept once for all."""
    prompts = [row.prompt[:-1] for row in rows]
    same = common(min(prompts), max(prompts))  # all others lie in between
    longest = max(len(row.prompt) + row.limit for row in rows)
    return same if same >= LEAST and attends_plainly(model, longest) else 0


def charge(rows: Sequence[Row], began: float) -> None:
    """Share the time since ``began`` among ``rows``."""
    share = (time.perf_counter() - began) / len(rows)
    for row in rows:
        row.seconds += share

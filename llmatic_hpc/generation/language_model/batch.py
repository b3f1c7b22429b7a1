"""A batch of completions that rows enter and leave while it is being written."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from .kv_cache import KeyValueCache
from .prefill import Pack, packs
from .sampling import Row, Writer, draw, uniforms

ERROR = 5e-5
"""Bound on how much a logit in single precision depends on the batch (at most 2e-5 in 0.5 B
parameters). Where that could decide, the row is computed once more on its own."""


class Batch:
    """Rows that a model writes side by side, one token each per step.

    Args:
        model: a causal language model for which :func:`suits` holds, in evaluation mode.
        writer: decides what ends a row.
        top_p: of all rows.
    """

    def __init__(self, model: Any, writer: Writer, *, top_p: float) -> None:
        self.rows: list[Row] = []
        self._model = model
        # transformers has given this another name (5.24).
        parameters = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._writer = writer
        self._top_p = top_p
        self._kept = KeyValueCache()
        # In half precision the rounding is no smaller than what it would have to decide.
        self._error = ERROR if model.dtype == torch.float32 else 0.0

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        """Read the prompts of ``rows`` and let them take part from the next step on."""
        began = time.perf_counter()
        # The last token of a prompt is read by the first step, together with everyone's.
        heads = [tuple(row.prompt[:-1]) for row in rows]
        taken, longest = len(self.rows), max(map(len, heads))
        self._kept.reserve(rows=taken + len(rows), before=longest, after=1)
        window = getattr(self._model.config.get_text_config(), "sliding_window", None)
        for pack in packs(heads, share=window is None or longest < window):
            found = {
                taken + n: torch.tensor(pack.columns[head], device=self._model.device)
                for n, head in enumerate(heads)
                if head in pack.columns
            }
            self._kept.put(self._read(pack), found)
        self.rows += rows
        charge(rows, began)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Write a token of every row; the rows that are over leave and are returned."""
        began, rows, device = time.perf_counter(), self.rows, self._model.device
        places = [len(row.prompt) + len(row.tokens) - 1 for row in rows]
        slots, width = self._kept, max(places)
        slots.extent.first = slots.extent.end - width
        slots.reserve(rows=len(rows), before=width, after=1)
        position = torch.tensor(places, device=device)[:, None]
        output = self._model(
            input_ids=torch.tensor([row.ids[-1:] for row in rows], device=device),
            position_ids=position,
            attention_mask=(torch.arange(width + 1, device=device) >= width - position).long(),
            use_cache=True,
            **{self._cache_name: slots},
        )
        slots.extent.end += 1
        for row, token in zip(rows, self._drawn(output.logits[:, -1]), strict=True):
            self._writer.write(row, token)
        charge(rows, began)
        return self._leave()

    def _drawn(self, logits: torch.Tensor) -> list[int]:
        chances = uniforms(self.rows, logits.shape[-1])
        temperatures = [row.temperature for row in self.rows]
        tokens, unsure = draw(
            logits.float(), temperatures, chances, top_p=self._top_p, error=self._error
        )
        for n in [n for n, doubt in enumerate(unsure) if doubt]:
            row = self.rows[n]
            ids = torch.tensor([row.ids], device=self._model.device)
            alone = self._model(input_ids=ids, use_cache=False).logits[:, -1]
            [tokens[n]], _ = draw(
                alone.float(), [row.temperature], chances[n : n + 1], top_p=self._top_p
            )
        return tokens

    def _read(self, pack: Pack) -> DynamicCache:
        cache, device = DynamicCache(), self._model.device
        mask = pack.mask(self._model.dtype)
        self._model.base_model(  # no logits
            input_ids=torch.tensor([pack.tokens], device=device),
            position_ids=torch.tensor([pack.positions], device=device),
            attention_mask=None if mask is None else mask.to(device),
            use_cache=True,
            **{self._cache_name: cache},
        )
        return cache

    def _leave(self) -> list[Row]:
        """Take out the rows that are over; the last ones move to their places."""
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


def charge(rows: Sequence[Row], began: float) -> None:
    """Share the time since ``began`` among ``rows``."""
    share = (time.perf_counter() - began) / len(rows)
    for row in rows:
        row.seconds += share

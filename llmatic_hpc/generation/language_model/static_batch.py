"""Completions of models whose state no batch can be made of: through transformers' generate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from .batch import charge
from .model_loading import quiet
from .sampling import Row, Writer, draw, sent, uniforms


class StaticBatch:
    """Rows that come and go together; in use like :class:`.batch.Batch`.

    Args:
        model: any causal language model, in evaluation mode.
        writer: decides what ends a row.
        pad: token that fills up shorter prompts, on the left.
    """

    def __init__(self, model: Any, writer: Writer, *, pad: int) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._writer = writer
        self._pad = pad

    held = 0
    """Bytes of keys and values between two steps."""

    def admit(self, rows: Sequence[Row]) -> None:
        """Let ``rows`` take part from the next step on."""
        self.rows += rows

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Write until all rows are over or one has reached its limit; those over are returned."""
        began, rows, device = time.perf_counter(), self.rows, self._model.device
        width = max(len(row.ids) for row in rows)
        ids = [[self._pad] * (width - len(row.ids)) + row.ids for row in rows]
        mask = [[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows]
        with quiet():
            self._model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                # A row at its limit must leave at once: its context may end there, too.
                max_new_tokens=min(row.limit - len(row.tokens) for row in rows),
                do_sample=False,
                pad_token_id=self._pad,
                eos_token_id=sorted(self._writer.ends) or None,
                logits_processor=LogitsProcessorList([self._write]),
                stopping_criteria=StoppingCriteriaList([self._over]),
            )
        charge(rows, began)
        return self.leave()

    def leave(self) -> list[Row]:
        """Take out the rows that are over and return them."""
        over = [row for row in self.rows if row.done]
        self.rows = [row for row in self.rows if not row.done]
        return over

    def _write(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Draw a token for each row and leave of its scores that token alone."""
        chances = uniforms(self.rows, scores.shape[-1])
        temperatures = [row.temperature for row in self.rows]
        tokens, _ = draw(
            scores.float(), temperatures, chances, top_p=[row.top_p for row in self.rows]
        )
        for row, token in zip(self.rows, tokens, strict=True):
            if not row.done:
                self._writer.write(row, token)
        drawn = sent(tokens, scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(-1, drawn, 0.0)

    def _over(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """Say which rows are over."""
        return sent([row.done for row in self.rows], input_ids.device, torch.bool)

"""Completions of models whose state no batch can be made of: through transformers' generate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from .batch import charge
from .model_loading import quiet
from .sampling import Row, Writer, draw, uniforms


class StaticBatch:
    """Rows that come and go together; in use like :class:`.batch.Batch`.

    Args:
        model: any causal language model, in evaluation mode.
        writer: decides what ends a row.
        top_p: of all rows.
        pad: token that fills up shorter prompts, on the left.
    """

    def __init__(self, model: Any, writer: Writer, *, top_p: float, pad: int) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._writer = writer
        self._top_p = top_p
        self._pad = pad

    def admit(self, rows: Sequence[Row]) -> None:
        """Let ``rows`` take part from the next step on."""
        self.rows += rows

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Write until all rows are over or one has reached its limit; those over are returned."""
        began, rows = time.perf_counter(), self.rows
        width = max(len(row.ids) for row in rows)
        ids = [[self._pad] * (width - len(row.ids)) + row.ids for row in rows]
        mask = [[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows]
        with quiet():
            self._model.generate(
                input_ids=torch.tensor(ids, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                # A row at its limit must leave at once: its context may end there, too.
                max_new_tokens=min(row.limit - len(row.tokens) for row in rows),
                do_sample=False,
                pad_token_id=self._pad,
                eos_token_id=sorted(self._writer.ends) or None,
                logits_processor=LogitsProcessorList([_Draw(rows, self._top_p)]),
                stopping_criteria=StoppingCriteriaList([_Stop(rows, self._writer)]),
            )
        charge(rows, began)
        self.rows = [row for row in rows if not row.done]
        return [row for row in rows if row.done]


class _Draw(LogitsProcessor):
    """Logits processor that leaves of each row's scores the token that was drawn."""

    def __init__(self, rows: Sequence[Row], top_p: float) -> None:
        self.rows = rows
        self.top_p = top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        temperatures = [row.temperature for row in self.rows]
        chances = uniforms(self.rows, scores.shape[-1])
        tokens, _ = draw(scores.float(), temperatures, chances, top_p=self.top_p)
        drawn = torch.tensor(tokens, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(-1, drawn, 0.0)


class _Stop(StoppingCriteria):
    """Stopping criterion that keeps what each row writes and says which rows are over."""

    def __init__(self, rows: Sequence[Row], writer: Writer) -> None:
        self.rows = rows
        self.writer = writer

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True):
            if not row.done:
                self.writer.write(row, token)
        done = [row.done for row in self.rows]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)

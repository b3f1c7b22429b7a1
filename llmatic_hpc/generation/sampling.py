"""Sampling many completions at once, each as if it were alone.

Every row of a batch brings its own temperature and its own random generator, and a row is over
when its own class is over. So what is written for a candidate does not depend on which others
share its batch, up to the rounding of floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from .stopping import end_of_class


@dataclass
class Row:
    """One completion in the making."""

    prompt: list[int]
    """Token ids."""
    limit: int
    """Most tokens that may be written."""
    temperature: float
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)
    done: bool = False
    finished: bool = False
    """Whether the text came to its end; False where ``limit`` cut it off."""
    text: str = ""
    watched: bool = False
    """Whether the last token ended a line, so that the next may end the class."""

    @property
    def ids(self) -> list[int]:
        """The prompt and what has been written so far."""
        return self.prompt + self.tokens


class GumbelSampler(LogitsProcessor):
    """Turns the arg max that follows into an exact draw from the tempered softmax.

    The arg max of logits / T + g with g independent standard Gumbel noise is distributed as
    softmax(logits / T) (the Gumbel-max trick). Logits + T g has the same arg max and
    stays finite at T = 0, which is greedy decoding. g is -log(E) with E exponential.
    """

    def __init__(self, rows: Sequence[Row], *, top_p: float = 1.0) -> None:
        self.rows = rows
        self.top_p = top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary) with noise; the rows' generators advance by one draw."""
        scores = scores.float()
        temperature = torch.tensor([[r.temperature] for r in self.rows], device=scores.device)
        if self.top_p < 1:
            scores = scores.masked_fill(~self._nucleus(scores, temperature), -torch.inf)
        noise = torch.empty_like(scores)
        for row, line in zip(self.rows, noise, strict=True):
            line.exponential_(generator=row.generator)
        return scores - temperature * noise.log_()

    def _nucleus(self, scores: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
        """The fewest tokens that together have probability ``top_p``, always the likeliest."""
        probabilities = torch.softmax(scores / temperature.clamp(min=1e-6), dim=-1)
        descending, order = probabilities.sort(dim=-1, descending=True)
        before = descending.cumsum(dim=-1) - descending
        return torch.empty_like(scores, dtype=torch.bool).scatter_(-1, order, before < self.top_p)


class StopRows(StoppingCriteria):
    """Keeps what each row writes and ends it at the end of its class, its text or its limit."""

    def __init__(self, rows: Sequence[Row], writer: Writer) -> None:
        self.rows = rows
        self.writer = writer

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Which rows are over, shape (rows,)."""
        for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True):
            if not row.done:
                self.writer.write(row, token)
        done = [row.done for row in self.rows]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)


class Writer:
    """Turns tokens into text and notices the end."""

    def __init__(self, tokenizer: Any, *, form: str, ends: frozenset[int]) -> None:
        self.tokenizer = tokenizer
        self.form = form
        self.ends = ends
        """Tokens that end a text."""
        self._marks: dict[int, tuple[bool, bool]] = {}

    def write(self, row: Row, token: int) -> None:
        """Add ``token`` to ``row``; decodes the text only where a class might just be over."""
        row.tokens.append(token)
        if token in self.ends:
            return self._finish(row, finished=True)
        if len(row.tokens) >= row.limit:
            return self._finish(row, finished=False)
        newline, fence = self._mark(token)
        if newline or fence or row.watched:
            row.watched = newline
            if end_of_class(self._decode(row.tokens), form=self.form) is not None:
                self._finish(row, finished=True)
        return None

    def _finish(self, row: Row, *, finished: bool) -> None:
        text = self._decode(row.tokens)
        end = end_of_class(text, form=self.form)
        row.text = text if end is None else text[:end]
        row.finished = finished or end is not None
        row.done = True

    def _mark(self, token: int) -> tuple[bool, bool]:
        if token not in self._marks:
            piece = self._decode([token])
            self._marks[token] = "\n" in piece, "`" in piece
        return self._marks[token]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

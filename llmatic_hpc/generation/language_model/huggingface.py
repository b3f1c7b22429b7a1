"""Networks written by a causal language model of transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from ...config import GeneratorSettings
from ...errors import GeneratorError
from ...types import Completion, Problem, Request
from .. import prompts
from . import adapter, device
from .batch import Batch, shared_by, suits
from .kv_cache import AHEAD
from .local_model import LocalModel
from .sampling import Row
from .static_batch import StaticBatch

REFILL = 8
"""New rows come in once this part of the batch, one in so many, is free: those who come together
share the reading of what their prompts have in common."""

_log = logging.getLogger(__name__)


class HuggingFace(LocalModel):
    """A causal language model by hub name, local folder or .gguf file.

    Every completion is an exact sample from the model at its request's temperature (and
    ``top_p``), drawn with its request's seed, whatever else is in the batch (in half precision up
    to rounding). What prompts have in common is read once; a completion ends with its class,
    and its place goes to the next.

    Raises:
        ModelUnavailable: neither here nor to be had from the hub.
        GeneratorError: it cannot be loaded or does not fit the memory.
    """

    kind = "huggingface"
    repeatable = False

    def __init__(self, settings: GeneratorSettings, problem: Problem) -> None:
        self.name = f"huggingface:{settings.model}"
        if settings.adapter:
            self.name += f"+{adapter.name(settings.adapter)}"
        self.problem = problem
        super().__init__(settings)
        self.writes_prose = self.form == "chat"
        self._batch = settings.batch

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield completions as they are done. A row that is over gives its place to the next."""
        asked: list[tuple[Request, list[int]]] = []
        longest: dict[tuple[str, ...], int] = {}
        for request in requests:
            prompt, parents = self._tokens(request), request.parents
            if not self.room(prompt, self.settings.max_new_tokens):
                yield self._too_long(request, len(prompt))
            else:
                asked.append((request, prompt))
                longest[parents] = max(len(prompt), longest.get(parents, 0))
        # Long ones first, so that memory is short at once or never; those who share parents side
        # by side, since they share the reading.
        asked.sort(key=lambda a: (-longest[a[0].parents], a[1], a[0].candidate))
        waiting = [self._row(request, prompt) for request, prompt in asked]
        moves = self.settings.idle == "cpu" and not self.settings.quantization
        try:
            if moves:
                self._model.to(self.device)
            while waiting:
                try:
                    for row in self._write(waiting):
                        waiting = [w for w in waiting if w is not row]
                        yield self._completion(row)
                except (RuntimeError, MemoryError) as error:
                    if not device.is_shortage(error):
                        raise
                    self._shrink()
                    waiting = [row.afresh() for row in waiting]
        except FloatingPointError as error:
            raise self._not_finite(error) from None
        finally:  # candidates may be trained on the same device next
            if moves:
                self._model.to("cpu")
            device.give_back()

    def prompt(self, request: Request) -> str:
        """Return the text that the model gets to see, markup of its chat template included."""
        if self.form == "completion":
            return prompts.completion_prompt(request)
        return self.chat(prompts.chat_messages(request, self.problem))

    def _tokens(self, request: Request) -> list[int]:
        return self.tokens(self.prompt(request), is_chat=self.form == "chat")

    def _too_long(self, request: Request, tokens: int) -> Completion:
        room = "" if tokens > self.context else f", which leaves {self.context - tokens} to write"
        return self._answer(
            request.candidate,
            finished=False,
            failure=(
                f"the parents do not fit the context: {tokens:,} tokens of {self.context:,}{room}"
            ),
        )

    def _completion(self, row: Row) -> Completion:
        return self._answer(
            row.candidate,
            text=row.text,
            tokens=len(row.tokens),
            finished=row.finished,
            seconds=row.seconds,
        )

    def _answer(self, candidate: int, *, text: str = "", **facts: Any) -> Completion:
        prefix = prompts.PREFIX if self.form == "completion" else ""
        return Completion(candidate, text, form=self.form, prefix=prefix, **facts)

    def _row(self, request: Request, prompt: list[int]) -> Row:
        return Row(
            candidate=request.candidate,
            prompt=prompt,
            limit=self.room(prompt, self.settings.max_new_tokens),
            temperature=request.temperature,
            seed=request.seed,
            top_p=self.settings.top_p,
            form=self.form,
        )

    def _write(self, waiting: Sequence[Row]) -> Iterator[Row]:
        """Write all rows to their ends; yields each as it is done."""
        batch: Batch | StaticBatch
        size = self._batch
        if suits(self._model):
            shared = shared_by(self._model, waiting)
            size = self._side_by_side(waiting, shared)
            batch = Batch(self._model, self._writer, shared=shared)
        else:
            batch = StaticBatch(self._model, self._writer, pad=self._pad)
        admitted = 0
        while admitted < len(waiting) or batch.rows:
            free = size - len(batch.rows)
            if admitted < len(waiting) and free * REFILL >= size:
                batch.admit(waiting[admitted : admitted + free])
                admitted += free
            yield from batch.step()

    def _side_by_side(self, waiting: Sequence[Row], shared: int) -> int:
        """Return how many rows are written at a time: what is set, or less if memory is short."""
        device.give_back()
        longest = max(len(row.prompt) + row.limit for row in waiting)
        free = device.memory_left(self.device)
        try:
            each = device.bytes_per_token(self._model.config, self._model.dtype)
            fit = device.rows_that_fit(free, each, longest - shared + AHEAD, shared)
        except (AttributeError, TypeError) as error:  # names of its own, or a number a layer
            _log.info("%s: what a token takes is not known: %s", self.settings.model, error)
            return self._batch
        size = min(self._batch, max(1, fit))
        _log.info(
            "%d completions, %d at a time (generator.batch = %d): up to %d tokens of %.0f kB each, "
            "%d of them kept once for all; %s has %.1f GB left",
            len(waiting), size, self.settings.batch, longest, each / 1e3, shared, self.device,
            free / 1e9,
        )  # fmt: skip
        return size

    def _shrink(self) -> None:
        device.give_back()
        if self._batch == 1:
            raise GeneratorError(
                f"{self.settings.model}: not enough memory on {self.device} for a single "
                "completion; choose a smaller model, set generator.dtype = 'bfloat16', or lower "
                "generator.max_new_tokens"
            )
        self._batch = self._batch // 2

    def _not_finite(self, error: FloatingPointError) -> GeneratorError:
        dtype = str(self._model.dtype).removeprefix("torch.")
        advice = "set generator.dtype = 'float32', or fetch the model again"
        if dtype == "float32":
            advice = "its weights may be damaged: fetch the model again"
        return GeneratorError(
            f"{self.settings.model}: cannot be sampled from in {dtype} on {self.device}: {error}; "
            f"{advice}"
        )

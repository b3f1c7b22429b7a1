"""Networks written by a causal language model of transformers."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ...config import GeneratorSettings
from ...errors import GeneratorError
from ...types import Completion, Problem, Request
from .. import prompts
from ..several import LOADED
from . import adapter, device, model_loading, packed_linear
from .batch import Batch, shared_by, suits
from .kv_cache import AHEAD
from .sampling import Row, Writer
from .static_batch import StaticBatch

LEAST_NEW_TOKENS = 64
"""Fewer are no network: a prompt that leaves less room than this is not worth an attempt."""

REFILL = 8
"""New rows come in once this part of the batch, one in so many, is free: those who come together
share the reading of what their prompts have in common."""

_log = logging.getLogger(__name__)
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


class HuggingFace:
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
        self.settings = settings
        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        self.device = device.choose(settings.device)
        self._loaded: model_loading.LanguageModel | None = _loaded(settings, self.device)
        self._model, self._tokenizer = self._loaded.model, self._loaded.tokenizer
        self.form = self._form(settings.form)
        self.writes_prose = self.form == "chat"
        self.context = _context(self._model.config)
        self._batch = settings.batch
        ends = self._model.generation_config.eos_token_id
        self._ends = frozenset(
            t
            for t in [*(ends if isinstance(ends, list) else [ends]), self._tokenizer.eos_token_id]
            if t is not None
        )
        pad = self._tokenizer.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)
        self._writer = Writer(self._tokenizer, form=self.form, ends=self._ends)

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield completions as they are done. A row that is over gives its place to the next."""
        asked: list[tuple[Request, list[int]]] = []
        longest: dict[tuple[str, ...], int] = {}
        for request in requests:
            prompt, parents = self._tokens(request), request.parents
            if self.context - len(prompt) < min(LEAST_NEW_TOKENS, self.settings.max_new_tokens):
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

    def close(self) -> None:
        """Free the model's memory, once no other writer shares it."""
        self._model = self._loaded = None
        gc.collect()
        device.give_back()

    def prompt(self, request: Request) -> str:
        """Return the text that the model gets to see, markup of its chat template included."""
        if self.form == "completion":
            return prompts.completion_prompt(request)
        messages = prompts.chat_messages(request, self.problem)
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        try:
            text: str = self._tokenizer.apply_chat_template(messages, **options)
        except Exception:  # some templates know no system role
            user = f"{messages[0]['content']}\n\n{messages[1]['content']}"
            rest = [{"role": "user", "content": user}, *messages[2:]]
            text = self._tokenizer.apply_chat_template(rest, **options)
        return text

    def _tokens(self, request: Request) -> list[int]:
        # A chat template writes the special tokens itself.
        text, plain = self.prompt(request), self.form == "completion"
        with model_loading.quiet():
            ids: list[int] = self._tokenizer(text, add_special_tokens=plain)["input_ids"]
        return ids[:-1] if ids[-1] in self._ends and plain else ids

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

    def _form(self, form: str) -> str:
        has_template = bool(getattr(self._tokenizer, "chat_template", None))
        if form == "chat" and not has_template:
            raise GeneratorError(
                f"{self.settings.model}: the model has no chat template; set "
                "generator.form = 'completion'"
            )
        return ("chat" if has_template else "completion") if form == "auto" else form

    def _row(self, request: Request, prompt: list[int]) -> Row:
        return Row(
            candidate=request.candidate,
            prompt=prompt,
            limit=min(self.settings.max_new_tokens, self.context - len(prompt)),
            temperature=request.temperature,
            seed=request.seed,
        )

    def _write(self, waiting: Sequence[Row]) -> Iterator[Row]:
        """Write all rows to their ends; yields each as it is done."""
        batch: Batch | StaticBatch
        size, top_p = self._batch, self.settings.top_p
        if suits(self._model):
            shared = shared_by(self._model, waiting)
            size = self._side_by_side(waiting, shared)
            batch = Batch(self._model, self._writer, top_p=top_p, shared=shared)
        else:
            batch = StaticBatch(self._model, self._writer, top_p=top_p, pad=self._pad)
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


def _loaded(settings: GeneratorSettings, where: str) -> model_loading.LanguageModel:
    """Load a model, or share what another writer of the run has loaded of the same."""
    shared = LOADED.get()
    location = model_loading.locate(settings.model)
    dtype = device.precision(settings.dtype, where)
    key = location.resolve(), dtype, where, settings.quantization, settings.adapter
    loaded: model_loading.LanguageModel | None = shared.get(key) if shared else None
    if loaded is None:
        loaded = model_loading.load(
            location,
            dtype=dtype,
            device=where,
            shown_as=settings.model,
            quantization=settings.quantization,
        )
        if settings.adapter:
            changed = adapter.merged(loaded.model, settings.adapter)
            loaded = model_loading.LanguageModel(changed, loaded.tokenizer)
        if where == "cpu":
            packed_linear.pack(loaded.model)
        if shared is not None:
            shared[key] = loaded
    return loaded


def _context(config: Any) -> int:
    """Return the most tokens that the model can attend to, prompt and answer together."""
    text = config.get_text_config()
    known = (getattr(text, key, None) for key in _CONTEXT_KEYS)
    return next((n for n in known if isinstance(n, int) and n > 0), sys.maxsize)

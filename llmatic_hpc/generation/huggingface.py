"""Networks written by a causal language model of transformers."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, LogitsProcessorList, StoppingCriteriaList

from ..config import GeneratorSettings
from ..errors import GeneratorError
from ..problems import Problem
from ..records import Completion, Request
from . import loading, prompts
from .sampling import GumbelSampler, Row, StopRows, Writer

LEAST_NEW_TOKENS = 64
"""Fewer are no network: a prompt that leaves less room than this is not worth an attempt."""

SEGMENT = 32
"""Tokens between two looks at which rows are done and can leave the batch."""

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


class HuggingFace:
    """A causal language model by hub name, local folder or .gguf file.

    Every completion is an exact sample from the model at its request's temperature (and
    ``top_p``), drawn with its request's seed, whatever else is in the batch. A prompt that
    several requests share is read once; a completion ends with its class, and leaves the
    batch then.

    Raises:
        ModelUnavailable: neither here nor to be had from the hub.
        GeneratorError: it cannot be loaded or does not fit the memory.
    """

    def __init__(self, settings: GeneratorSettings, problem: Problem) -> None:
        self.name = f"huggingface:{settings.model}"
        self.problem = problem
        self.settings = settings
        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        self.device = _device(settings.device)
        location = loading.locate(settings.model)
        loaded = loading.load(
            location,
            dtype=_dtype(settings.dtype, self.device),
            device=self.device,
            shown_as=settings.model,
        )
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self.form = self._form(settings.form)
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
        """Completions in batches of similar prompts, each batch's as they get done."""
        waiting: list[tuple[list[int], Request]] = []
        for request in requests:
            prompt = self._tokens(request)
            if self.context - len(prompt) < min(LEAST_NEW_TOKENS, self.settings.max_new_tokens):
                yield self._too_long(request, len(prompt))
            else:
                waiting.append((prompt, request))
        waiting.sort(key=lambda w: (len(w[0]), w[0], w[1].candidate))
        while waiting:
            batch = waiting[: self._batch]
            left = {request.candidate for _, request in batch}
            try:
                for completion in self._sample(batch):
                    left.remove(completion.candidate)
                    yield completion
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                self._shrink()
            waiting = [w for w in batch if w[1].candidate in left] + waiting[len(batch) :]

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None
        _free()

    def prompt(self, request: Request) -> str:
        """The text that the model gets to see, markup of its chat template included."""
        if self.form == "completion":
            return prompts.completion_prompt(request)
        messages = prompts.chat_messages(request, self.problem)
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        try:
            text: str = self._tokenizer.apply_chat_template(messages, **options)
        except Exception:  # some templates know no system role
            user = f"{messages[0]['content']}\n\n{messages[1]['content']}"
            one = [{"role": "user", "content": user}]
            text = self._tokenizer.apply_chat_template(one, **options)
        return text

    def _tokens(self, request: Request) -> list[int]:
        # A chat template writes the special tokens itself.
        text, plain = self.prompt(request), self.form == "completion"
        with loading.quiet():
            ids: list[int] = self._tokenizer(text, add_special_tokens=plain)["input_ids"]
        return ids[:-1] if ids[-1] in self._ends and plain else ids

    def _too_long(self, request: Request, tokens: int) -> Completion:
        room = "" if tokens > self.context else f", which leaves {self.context - tokens} to write"
        return Completion(
            candidate=request.candidate,
            text="",
            form=self.form,
            prefix=self._prefix,
            finished=False,
            failure=(
                f"the parents do not fit the context: {tokens:,} tokens of {self.context:,}{room}"
            ),
        )

    @property
    def _prefix(self) -> str:
        return prompts.PREFIX if self.form == "completion" else ""

    def _form(self, form: str) -> str:
        has_template = bool(getattr(self._tokenizer, "chat_template", None))
        if form == "chat" and not has_template:
            raise GeneratorError(
                f"{self.settings.model}: the model has no chat template; set "
                "generator.form = 'completion'"
            )
        return ("chat" if has_template else "completion") if form == "auto" else form

    def _sample(self, batch: Sequence[tuple[list[int], Request]]) -> Iterator[Completion]:
        started = time.perf_counter()
        rows: dict[int, Row] = {}
        for number, (prompt, request) in enumerate(batch):
            generator = torch.Generator(self.device).manual_seed(request.seed % 2**63)
            limit = min(self.settings.max_new_tokens, self.context - len(prompt))
            rows[number] = Row(prompt, limit, request.temperature, generator)
        for number in self._write(list(rows.values())):
            row, request = rows[number], batch[number][1]
            now = time.perf_counter()
            yield Completion(
                candidate=request.candidate,
                text=row.text,
                form=self.form,
                prefix=self._prefix,
                tokens=len(row.tokens),
                finished=row.finished,
                seconds=(now - started) / len(batch),
            )

    def _write(self, rows: Sequence[Row]) -> Iterator[int]:
        """Write all rows to their ends; yields the numbers of rows as they are done."""
        ids, mask = self._padded([row.ids for row in rows])
        alive = list(range(len(rows)))
        cache = self._prefill(rows, ids, mask)
        while alive:
            at_work = [rows[n] for n in alive]
            # A row at its limit must leave at once: its context may end there, too.
            room = min(row.limit - len(row.tokens) for row in at_work)
            steps = room if cache is None else min(SEGMENT, room)
            ids = self._generate(
                ids,
                mask,
                max_new_tokens=steps,
                past_key_values=cache,
                logits_processor=LogitsProcessorList(
                    [GumbelSampler(at_work, top_p=self.settings.top_p)]
                ),
                stopping_criteria=StoppingCriteriaList([StopRows(at_work, self._writer)]),
            )
            grown = torch.ones((len(alive), ids.shape[1] - mask.shape[1]), dtype=mask.dtype)
            mask = torch.cat([mask, grown.to(mask.device)], dim=1)
            yield from [n for n in alive if rows[n].done]
            keep = [i for i, n in enumerate(alive) if not rows[n].done]
            if keep and len(keep) < len(alive):
                chosen = torch.tensor(keep, device=ids.device)
                ids, mask = ids[chosen], mask[chosen]
                if cache is not None:
                    cache.batch_select_indices(chosen)
            alive = [alive[i] for i in keep]

    def _prefill(
        self, rows: Sequence[Row], ids: torch.Tensor, mask: torch.Tensor
    ) -> DynamicCache | None:
        """Keys and values of all prompts but their last token, each distinct prompt read once.

        None for a model that keeps another kind of state, which then goes without.
        """
        first: dict[tuple[int, ...], int] = {}
        source = [first.setdefault(tuple(row.prompt), n) for n, row in enumerate(rows)]
        distinct = list(first.values())
        if ids.shape[1] < 2 or min(len(row.prompt) for row in rows) < 2:
            return None
        output = self._generate(
            ids[distinct, :-1], mask[distinct, :-1], max_new_tokens=1, return_dict_in_generate=True
        )
        cache = output.past_key_values
        if type(cache) is not DynamicCache or cache.get_seq_length() != ids.shape[1] - 1:
            return None
        place = {n: i for i, n in enumerate(distinct)}
        cache.batch_select_indices(torch.tensor([place[n] for n in source], device=ids.device))
        return cache

    def _generate(self, ids: torch.Tensor, mask: torch.Tensor, **options: Any) -> Any:
        with torch.inference_mode(), loading.quiet():
            return self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                pad_token_id=self._pad,
                eos_token_id=sorted(self._ends) or None,
                **options,
            )

    def _padded(self, prompts_: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask (rows, longest), padded on the left."""
        width = max(map(len, prompts_))
        ids = [[self._pad] * (width - len(p)) + p for p in prompts_]
        mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts_]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _shrink(self) -> None:
        _free()
        if self._batch == 1:
            raise GeneratorError(
                f"{self.settings.model}: not enough memory on {self.device} for a single "
                "completion; choose a smaller model, set generator.dtype = 'bfloat16', or lower "
                "generator.max_new_tokens"
            )
        self._batch = self._batch // 2


def _device(wanted: str) -> str:
    device = wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except Exception as error:  # torch raises many kinds here
        reason = str(error).strip().splitlines()[0]
        raise GeneratorError(
            f"generator.device = {wanted!r} is not to be had on this machine ({reason}); set it to "
            "'auto' or 'cpu', or ask SLURM for a GPU (cluster.gres)"
        ) from None
    return device


def _dtype(wanted: str, device: str) -> torch.dtype:
    """``auto`` is half precision on a GPU only.

    On a CPU with AVX512-BF16 bfloat16 wrote 1.2 to 1.6 times as fast (0.5 B parameters, 8 rows,
    one thread), but its coarse rounding lets a text depend on who shares its batch, and on
    other CPUs it is slow.
    """
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _context(config: Any) -> int:
    """Most tokens that the model can attend to: prompt and answer together."""
    text = config.get_text_config()
    known = (getattr(text, key, None) for key in _CONTEXT_KEYS)
    return next((n for n in known if isinstance(n, int) and n > 0), sys.maxsize)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "allocate memory" in str(error) or "out of memory" in str(error)
    )


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

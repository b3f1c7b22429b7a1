"""A language model on this machine: its weights, its tokenizer, its words for a conversation."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...config import GeneratorSettings
from ...errors import GeneratorError
from ..several import LOADED
from . import adapter, device, model_loading, packed_linear
from .sampling import Writer

LEAST_NEW_TOKENS = 64
"""Fewer are no network: a prompt that leaves less room than this is not worth an attempt."""

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


class LocalModel:
    """A causal language model by hub name, local folder or .gguf file, loaded and ready.

    Raises:
        ModelUnavailable: neither here nor to be had from the hub.
        GeneratorError: it cannot be loaded or does not fit the memory.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        self.settings = settings
        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        self.device = device.choose(settings.device)
        self._loaded: model_loading.LanguageModel | None = _loaded(settings, self.device)
        self._model, self._tokenizer = self._loaded.model, self._loaded.tokenizer
        self.form = self._form(settings.form)
        self.context = _context(self._model.config)
        ends = self._model.generation_config.eos_token_id
        self._ends = frozenset(
            t
            for t in [*(ends if isinstance(ends, list) else [ends]), self._tokenizer.eos_token_id]
            if t is not None
        )
        pad = self._tokenizer.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)
        self._writer = Writer(self._tokenizer, ends=self._ends)

    def close(self) -> None:
        """Free the model's memory, once no other writer shares it."""
        self._model = self._loaded = None
        gc.collect()
        device.give_back()

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text that the model gets to see, markup of its chat template included."""
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        try:
            text: str = self._tokenizer.apply_chat_template(messages, **options)
        except Exception:  # some templates know no system role
            if len(messages) < 2 or messages[0]["role"] != "system":
                raise
            user = f"{messages[0]['content']}\n\n{messages[1]['content']}"
            rest = [{"role": "user", "content": user}, *messages[2:]]
            text = self._tokenizer.apply_chat_template(rest, **options)
        return text

    def tokens(self, text: str, *, is_chat: bool) -> list[int]:
        """Return the tokens of a prompt; a chat template writes the special ones itself."""
        with model_loading.quiet():
            ids: list[int] = self._tokenizer(text, add_special_tokens=not is_chat)["input_ids"]
        return ids[:-1] if not is_chat and ids and ids[-1] in self._ends else ids

    def room(self, prompt: Sequence[int], wanted: int) -> int:
        """Return how many of ``wanted`` tokens the context leaves to write; 0: too few to try."""
        left = self.context - len(prompt)
        return 0 if left < min(LEAST_NEW_TOKENS, wanted) else min(wanted, left)

    def _form(self, form: str) -> str:
        has_template = bool(getattr(self._tokenizer, "chat_template", None))
        if form == "chat" and not has_template:
            raise GeneratorError(
                f"{self.settings.model}: the model has no chat template; set "
                "generator.form = 'completion'"
            )
        return ("chat" if has_template else "completion") if form == "auto" else form


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

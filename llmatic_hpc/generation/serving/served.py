"""The model of a server: requests become rows of a batch, as many as the memory has room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import __version__
from ...config import GeneratorSettings
from ..language_model import adapter, device, model_files, model_loading
from ..language_model.batch import Batch, shared_by, suits
from ..language_model.kv_cache import AHEAD
from ..language_model.local_model import LocalModel
from ..language_model.sampling import Row
from ..language_model.static_batch import StaticBatch
from .protocol import OWNER, Asked, Refusal


class Served(LocalModel):
    """A language model for whoever asks; ``settings`` as those of ``generator.kind =
    "huggingface"``."""

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__(settings)
        location = model_loading.locate(settings.model)
        self.facts: dict[str, Any] = {
            "id": settings.model,
            "object": "model",
            "owned_by": OWNER,
            "version": __version__,
            "digest": model_files.digest(location),
            "adapter": adapter.name(settings.adapter) if settings.adapter else "",
            "precision": str(self._model.dtype).removeprefix("torch."),
            "quantization": settings.quantization,
            "device": self.device,
            "form": self.form,
            "max_model_len": self.context,
        }
        """The model, as the server tells it."""

    def row(self, asked: Asked, number: int) -> Row:
        """Make the row of a request; raises :class:`Refusal` for one that cannot be written."""
        is_chat, text = asked.form == "chat", asked.prompt
        if is_chat:
            if not getattr(self._tokenizer, "chat_template", None):
                raise Refusal(400, "the model has no chat template; ask /v1/completions")
            try:
                text = self.chat(asked.messages)
            except Exception as error:  # a template may raise anything
                line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise Refusal(400, f"not a chat that the model knows: {line[:300]}") from None
        prompt = self.tokens(text, is_chat=is_chat)
        if not prompt:
            raise Refusal(400, "the prompt is empty")
        wanted = asked.max_tokens or self.settings.max_new_tokens
        if not (limit := self.room(prompt, wanted)):
            raise Refusal(
                400,
                f"the prompt does not fit the context: {len(prompt):,} tokens of "
                f"{self.context:,}, and {wanted:,} are to be written",
                code="context_length_exceeded",
            )
        return Row(
            candidate=number,
            prompt=prompt,
            limit=limit,
            temperature=asked.temperature,
            seed=asked.seed,
            top_p=asked.top_p,
            form=asked.form if asked.stop_at_class else "",
            stops=asked.stops,
        )

    def batch(self, rows: Sequence[Row]) -> Batch | StaticBatch:
        """Begin a batch, for ``rows`` and those that join them."""
        if suits(self._model):
            return Batch(self._model, self._writer, shared=shared_by(self._model, rows))
        return StaticBatch(self._model, self._writer, pad=self._pad)

    def fit(
        self, running: Sequence[Row], rows: Sequence[Row], batch: Batch | StaticBatch | None
    ) -> int:
        """Count the rows, from the first, for which there is memory beside those in ``batch``."""
        free = device.memory_left(self.device) + (batch.held if batch else 0)
        try:
            each = device.bytes_per_token(self._model.config, self._model.dtype)
        except (AttributeError, TypeError):  # names of its own, or a number a layer
            return len(rows)
        for count in range(len(rows), 0, -1):
            every = [*running, *rows[:count]]
            longest = max(len(row.prompt) + row.limit for row in every)
            if device.rows_that_fit(free, each, longest + AHEAD) >= len(every):
                return count
        return 0 if running else 1

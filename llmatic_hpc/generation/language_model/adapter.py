"""Adapters of a language model: the little that a training (LoRA) has changed, by peft."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ...errors import GeneratorError
from .model_loading import quiet

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def check(adapter: str) -> Path:
    """Check a folder of an adapter without loading it, and return the file of its weights.

    Raises :class:`~llmatic_hpc.errors.GeneratorError` where it is none.
    """
    folder = Path(adapter).expanduser()
    try:
        json.loads((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise GeneratorError(
            f"{adapter}: no adapter: there is no {CONFIG}; set generator.adapter to a folder that "
            "peft or TRL saved one in"
        ) from None
    except (OSError, ValueError) as error:
        raise GeneratorError(f"{adapter}: {CONFIG} cannot be read ({error})") from None
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise GeneratorError(
            f"{adapter}: the weights are missing ({' or '.join(WEIGHTS)}): half copied?"
        )
    return found[0]


def name(adapter: str) -> str:
    """Return what a record says of an adapter: its folder's name and the digest of its weights."""
    with check(adapter).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{Path(adapter).expanduser().resolve().name}@{digest[:12]}"


def merged(model: Any, adapter: str) -> Any:
    """Return the model with an adapter's changes added to its weights.

    Raises :class:`~llmatic_hpc.errors.GeneratorError` where peft is not installed or the adapter is
    of another model.
    """
    folder = check(adapter).parent
    try:
        from peft import PeftModel
    except ImportError:
        raise GeneratorError(
            "generator.adapter needs the package peft; run pip install 'llmatic-hpc[adapter]', or "
            "leave it empty"
        ) from None
    with quiet():
        try:
            return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
        except Exception as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise GeneratorError(
                f"{adapter}: cannot be added to the model ({line[:300]}); is it an adapter of "
                "generator.model?"
            ) from error

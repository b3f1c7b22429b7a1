"""Find and load a causal language model: local folder, GGUF file, cache or hub.

Everything that can be wrong with a model is said here, before any computing. A model that has
once been fetched is never asked for on the network again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import threading
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
)

from ...errors import GeneratorError
from ..base import ModelUnavailable
from . import model_files as weights
from .device import check_memory, is_shortage

HUB_SECONDS = 10.0
"""Longest wait for the hub's first answer."""

_log = logging.getLogger(__name__)
_NEXT = (
    "set generator.model to a model that is here (a folder or a .gguf file), fetch it where the "
    "network is (`llmatic prefetch CONFIG`, without HF_HUB_OFFLINE), or set generator.fallback = "
    "'procedural'"
)


@dataclass(frozen=True)
class LanguageModel:
    """A causal model in evaluation mode on its device, and its tokenizer."""

    model: Any
    tokenizer: Any


def locate(model: str, *, download: bool = True) -> Path:
    """Find ``model``, a .gguf file, a local folder or a hub name: its file or its folder.

    A hub name is looked for in the local cache first. Only if it is not whole there, and
    ``download`` is set, the hub is asked (and answers within 10 seconds or counts as out of
    reach) and the model is fetched.

    Raises:
        ModelUnavailable: neither here nor to be had.
        GeneratorError: it is here, but damaged or incomplete; or a path that is not there.
    """
    path = Path(model).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise GeneratorError(
                f"{model}: a file, but not a .gguf file; set generator.model to the folder of "
                "the model, to a .gguf file or to a hub name"
            )
        return path
    if path.is_dir():
        if problem := weights.lacking(path):
            raise GeneratorError(f"{model}: {problem}")
        return path
    if path.suffix.lower() == ".gguf" or model.startswith(("/", "./", "../", "~")):
        raise GeneratorError(  # a fallback is for a hub out of reach, not for a slip in a path
            f"{model}: no such file or folder; generator.model names it"
        )
    if model.count("/") > 1 or not model.strip("/ "):
        raise ModelUnavailable(
            f"{model!r}: neither a local folder nor a hub name (owner/name)", _NEXT
        )
    return _from_hub(model, download=download)


def load(
    location: Path,
    *,
    dtype: torch.dtype,
    device: str,
    shown_as: str,
    quantization: str = "",
) -> LanguageModel:
    """Load model and tokenizer, from local files only and without a word on stdout.

    ``quantization``: ``8bit`` or ``4bit`` keeps the weights of linear layers so (bitsandbytes).

    Raises:
        GeneratorError: not a causal language model, damaged, or too large for the memory.
    """
    if quantization:
        _check_quantization(location, shown_as)
    with _explained(shown_as):
        try:
            if location.is_file():
                loaded = _load_gguf(location, dtype, device)
            else:
                needed = weights.bytes_needed(location, dtype)
                # Embeddings stay as they are: somewhat more than the bits alone would take.
                needed = int(needed * {"8bit": 0.6, "4bit": 0.35}.get(quantization, 1.0))
                check_memory(needed, dtype, device, shown_as)
                loaded = _load_folder(location, dtype, quantization, device)
            if not quantization:
                loaded.model.to(device)
            loaded.model.eval()
        except Exception as error:
            if not is_shortage(error):
                raise
            raise GeneratorError(
                f"{shown_as}: the weights do not fit the memory of {device}; choose a smaller "
                "model or set generator.dtype = 'bfloat16'"
            ) from None
    # The model's own habits (top_k, repetition penalty) would bend the distribution.
    ends = loaded.model.generation_config.eos_token_id
    loaded.model.generation_config = GenerationConfig(eos_token_id=ends)
    return loaded


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings off the terminal."""
    logs = transformers.utils.logging
    verbosity, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity(logging.CRITICAL)
    logs.disable_progress_bar()
    try:
        # The bar of the GGUF reader asks nobody, so it writes into nothing.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logs.set_verbosity(verbosity)
        if bars:
            logs.enable_progress_bar()


@contextlib.contextmanager
def _explained(shown_as: str) -> Iterator[None]:
    """Keep transformers quiet, and turn whatever it and its readers raise to GeneratorError."""
    with quiet():
        try:
            yield
        except GeneratorError:
            raise
        except Exception as error:
            raise GeneratorError(f"{shown_as}: cannot be loaded: {_explain(error)}") from error


def check(location: Path) -> int:
    """Check, without loading it, that a model is a causal language model, and whole.

    Returns the bytes of its weights on disk. Raises :class:`GeneratorError`.
    """
    if location.is_file():
        weights.gguf_elements(location)
        return location.stat().st_size
    with _explained(str(location)):
        _check_causal(location)
        AutoTokenizer.from_pretrained(location, local_files_only=True)
    return weights.size_on_disk(location)


def _check_causal(folder: Path) -> None:
    """Raise GeneratorError unless the configuration is of a causal language model."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    names = config.architectures or []
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not all(
        name.endswith(("CausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names
    ):
        held = ", ".join(names) or f"a model of type {config.model_type}"
        raise GeneratorError(
            f"{folder}: holds {held}, which is not a causal language model; set generator.model "
            "to one that continues text"
        )


def _check_quantization(location: Path, shown_as: str) -> None:
    if location.suffix.lower() == ".gguf":
        raise GeneratorError(
            f"{shown_as}: a GGUF file has its own precision; leave generator.quantization empty, "
            "or set generator.model to a model in transformers' format"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise GeneratorError(
            "generator.quantization needs the package bitsandbytes; run "
            "pip install 'llmatic-hpc[quantization]', or leave it empty"
        )


def _load_folder(
    folder: Path, dtype: torch.dtype, quantization: str = "", device: str = "cpu"
) -> LanguageModel:
    _check_causal(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    options: dict[str, Any] = {}
    if quantization:
        options = {
            "device_map": {"": device},
            "quantization_config": BitsAndBytesConfig(
                load_in_8bit=quantization == "8bit",
                load_in_4bit=quantization == "4bit",
                bnb_4bit_compute_dtype=dtype,
                bnb_4bit_quant_type="nf4",
            ),
        }
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, dtype=dtype, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        raise GeneratorError(
            f"{folder}: the weights lack {len(missing):,} tensors of the model "
            f"({missing[0]}, ...); fetch the model again"
        )
    return LanguageModel(model, tokenizer)


def _load_gguf(file: Path, dtype: torch.dtype, device: str) -> LanguageModel:
    """Load the copy kept of an earlier load, else the GGUF file (much slower)."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    copy = _converted(digest, dtype)
    if not weights.lacking(copy):
        check_memory(weights.bytes_needed(copy, dtype), dtype, device, str(file))
        try:
            return _load_folder(copy, dtype)
        except Exception as error:
            _log.info("%s: the converted copy cannot be used (%s); reading %s", copy, error, file)
    check_memory(weights.gguf_elements(file) * dtype.itemsize, dtype, device, str(file))
    shutil.rmtree(copy, ignore_errors=True)
    source = {"gguf_file": file.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=dtype, **source)
    # Its numbers are plain now, but to save it as it came is refused.
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    _keep(LanguageModel(model, tokenizer), copy)
    return LanguageModel(model, tokenizer)


def _converted(digest: str, dtype: torch.dtype) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kind = str(dtype).removeprefix("torch.")
    return cache / "llmatic-hpc" / "converted" / f"{digest[:32]}-{kind}"


def _keep(loaded: LanguageModel, folder: Path) -> None:
    """Write a copy that loads quickly; failing to must not matter."""
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free < 2 * loaded.model.get_memory_footprint():
            return
        loaded.model.save_pretrained(beside)
        loaded.tokenizer.save_pretrained(beside)
        beside.rename(folder)
    except Exception as error:
        _log.info("%s: no copy of the converted model is kept: %s", folder, error)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _from_hub(name: str, *, download: bool) -> Path:
    """Return the folder of a hub model in the local cache, fetched first if it must be."""
    from huggingface_hub import constants, snapshot_download

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        problem = weights.lacking(folder)
    except Exception:  # not cached; the name may not even be one
        problem = "not in the local cache"
    if not problem:
        return folder
    if constants.HF_HUB_OFFLINE or not download:
        why = "and HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "and not fetched"
        raise ModelUnavailable(f"{name}: {problem}, {why}", _NEXT)
    files = _ask_hub(name)
    pattern = "*.safetensors" if any(f.endswith(".safetensors") for f in files) else "*.bin"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = Path(
                snapshot_download(
                    name,
                    allow_patterns=["*.json", "*.txt", "*.model", "*.jinja", pattern],
                    ignore_patterns=["*/*"],
                    force_download="damaged" in problem or "cut off" in problem,
                )
            )
    except Exception as error:
        raise ModelUnavailable(
            f"{name}: the download from the hub failed ({_explain(error)})",
            "start `llmatic prefetch CONFIG` again, what has arrived is kept",
        ) from None
    if problem := weights.lacking(folder):
        raise GeneratorError(f"{name}: {problem}")
    return folder


def _ask_hub(name: str) -> list[str]:
    """Ask for the files of a hub model, for ``HUB_SECONDS`` at most."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(HfApi().model_info(name, timeout=HUB_SECONDS))
        except Exception as error:
            answer.set_exception(error)

    # Resolving a host name may hang for minutes and cannot be interrupted: leave it behind.
    threading.Thread(target=ask, daemon=True, name="ask-hub").start()
    try:
        return [file.rfilename for file in answer.result(HUB_SECONDS).siblings or []]
    except TimeoutError:
        wait = f"{HUB_SECONDS:.0f} seconds"
        reason = f"not in the local cache, and the hub did not answer within {wait}"
        advice = _NEXT
    except GatedRepoError:
        reason = "gated"
        advice = (
            f"accept its licence at https://huggingface.co/{name} and log in (`hf auth login`, or "
            "the environment variable HF_TOKEN)"
        )
    except (RepositoryNotFoundError, HFValidationError):
        reason = "neither a local folder nor a model on the hub"
        advice = f"check the name, log in if it is private (`hf auth login`), or {_NEXT}"
    except Exception as error:
        reason = f"not in the local cache, and the hub cannot be reached ({_explain(error)})"
        advice = _NEXT
    raise ModelUnavailable(f"{name}: {reason}", advice)


def _explain(error: BaseException) -> str:
    """Return the first line of a foreign error, with its kind; short."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."

"""Checks of a model's files without loading them: whether they are whole, and how large."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ...errors import GeneratorError

NAMES = ("model.safetensors", "pytorch_model.bin")
"""Weights as transformers saves them, in one piece; in several, ``NAME.index.json`` lists them."""

_FLOATS = {"F64", "F32", "F16", "BF16"}


def lacking(folder: Path) -> str:
    """Return why ``folder`` is no whole model of transformers; empty where it is one."""
    if not (folder / "config.json").is_file():
        found = sorted(p.name for p in folder.glob("*.gguf"))
        if found:
            return f"a folder without config.json; name the file itself: {folder / found[0]}"
        return "a folder without config.json; that is not a model saved by transformers"
    try:
        json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        return f"config.json cannot be read ({error}); fetch the model again"
    try:
        files = _weights(folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return "the index of its weights is damaged; fetch the model again"
    if not files:
        return f"no weights ({' or '.join(NAMES)}): half downloaded? Fetch the model again"
    if absent := [f.name for f in files if not f.is_file()]:
        return (
            f"{len(absent)} of {len(files)} weight files are missing ({absent[0]}, ...): half "
            "downloaded? Fetch the model again"
        )
    return next(filter(None, map(_damage, files)), "")


def _damage(file: Path) -> str:
    """Return what is wrong with a weight file; empty: nothing that its beginning shows."""
    try:
        with file.open("rb") as stream:
            if stream.read(20).startswith(b"version https://git"):
                return f"{file.name} is a Git LFS pointer, not the weights; run `git lfs pull`"
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                pass
    except SafetensorError:
        return (
            f"{file.name} is damaged or cut off ({file.stat().st_size:,} bytes): half "
            "downloaded? Fetch the model again"
        )
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror}); mend its permissions"
    return ""


def bytes_needed(folder: Path, dtype: torch.dtype) -> int:
    """Return the bytes that the weights in a whole ``folder`` take in memory as ``dtype``."""
    total = 0
    for file in _weights(folder):
        if file.suffix == ".safetensors":
            for tensor in _tensors(file):
                start, end = tensor["data_offsets"]
                is_float = tensor["dtype"] in _FLOATS  # others are quantised, and stay so
                total += math.prod(tensor["shape"]) * dtype.itemsize if is_float else end - start
        else:
            config = json.loads((folder / "config.json").read_bytes())
            stored = config.get("dtype") or config.get("torch_dtype") or "float32"
            itemsize = getattr(torch, stored, torch.float32).itemsize
            total += file.stat().st_size * dtype.itemsize // itemsize
    return total


def size_on_disk(folder: Path) -> int:
    """Return the bytes of the weight files in a whole ``folder``."""
    return sum(file.stat().st_size for file in _weights(folder))


def digest(location: Path) -> str:
    """Return ``sha256:`` and the digest of a model's weights, a file or a whole folder."""
    files, whole = [location] if location.is_file() else _weights(location), hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if len(files) == 1:
            return f"sha256:{found}"
        whole.update(f"{file.name} {found}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def gguf_elements(file: Path) -> int:
    """Count the numbers in a GGUF file; loaded, each takes ``dtype.itemsize`` bytes.

    Raises:
        GeneratorError: not a GGUF file, damaged, or cut off.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise GeneratorError(
            f"{file}: reading GGUF files needs the package gguf; run `pip install gguf`"
        ) from None
    try:
        with file.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise GeneratorError(f"{file}: not a GGUF file, or a damaged one; fetch it again")
        return sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors)
    except OSError as error:
        raise GeneratorError(
            f"{file}: cannot be read ({error.strerror}); mend its permissions"
        ) from None
    except (ValueError, LookupError, OverflowError, MemoryError):
        raise GeneratorError(
            f"{file}: damaged or cut off ({file.stat().st_size:,} bytes): half downloaded? Fetch "
            "it again"
        ) from None


def _weights(folder: Path) -> list[Path]:
    """List the weight files that there should be. Raises where their index is damaged."""
    for name in NAMES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            named = json.loads(index.read_bytes())["weight_map"].values()
            return [folder / n for n in sorted(set(named))]
    return []


def _tensors(file: Path) -> list[dict[str, Any]]:
    """Read dtype, shape and offsets of all tensors in a whole .safetensors file."""
    with file.open("rb") as stream:
        tensors = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return [tensor for name, tensor in tensors.items() if name != "__metadata__"]

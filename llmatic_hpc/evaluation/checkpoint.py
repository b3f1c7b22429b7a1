"""Training state on disk: safetensors, never pickle; whole or absent, checked before use.

A checkpoint is written by the process that runs a candidate and so is not trusted: reading
one yields tensors and JSON and nothing else, and whatever is odd about it means that there
is none.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from ..rundir.files import write_atomically
from ..rundir.paths import TRAINING_STATE as NAME

_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and plain values."""

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint, *, identity: str) -> None:
    """Replace the checkpoint in ``folder``; a crash leaves the old one or the new one.

    ``identity`` says what the state belongs to. Raises ``OSError``, with the old one intact.
    """
    tensors = {  # own memory for each: safetensors refuses tensors that share it
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in checkpoint.tensors.items()
    }
    values = json.dumps(dict(checkpoint.values), sort_keys=True)
    metadata = {
        "version": str(_VERSION),
        "identity": identity,
        "values": values,
        "crc32": str(_checksum(tensors, values)),
    }
    write_atomically(folder / NAME, safetensors.torch.save(tensors, metadata), shared=True)


def load(folder: Path, *, identity: str) -> Checkpoint | None:
    """Return the checkpoint in ``folder``; None where there is none, or one damaged or foreign."""
    path = folder / NAME
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("version") != str(_VERSION) or metadata.get("identity") != identity:
                return None
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        values = json.loads(metadata["values"])
        if metadata["crc32"] != str(_checksum(tensors, metadata["values"])):
            return None
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, RecursionError):
        return None
    return Checkpoint(tensors, values) if isinstance(values, dict) else None


def _checksum(tensors: Mapping[str, torch.Tensor], values: str) -> int:
    crc = zlib.crc32(values.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        if tensor.numel():
            raw = tensor.reshape(-1).view(torch.uint8).numpy()
            crc = zlib.crc32(raw.data, crc)
    return crc

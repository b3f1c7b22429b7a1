"""Checks of a model's files without loading them: whether they are whole, and how large."""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ...errors import GeneratorError

NAMES = ("model.safetensors", "pytorch_model.bin")
"""Weights as transformers saves them, in one piece; in several, ``NAME.index.json`` lists them."""

_FLOATS = {"F64", "F32", "F16", "BF16"}
_NUMBER_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


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
    for file in files:
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
            total += (
                file.stat().st_size
                * dtype.itemsize
                // getattr(torch, stored, torch.float32).itemsize
            )
    return total


def size_on_disk(folder: Path) -> int:
    """Return the bytes of the weight files in a whole ``folder``."""
    return sum(file.stat().st_size for file in _weights(folder))


def gguf_elements(file: Path) -> int:
    """Count the numbers in a GGUF file; loaded, each takes ``dtype.itemsize`` bytes.

    Raises:
        GeneratorError: not a GGUF file, damaged, or cut off.
    """
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError:
        raise GeneratorError(
            f"{file}: reading GGUF files needs the package gguf; run `pip install gguf`"
        ) from None
    try:
        with file.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise GeneratorError(f"{file}: not a GGUF file, or a damaged one; fetch it again")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                elements, end = 0, 0
                reader = _GGUF(data)
                for count, kind, offset in reader.tensors():
                    block, stored = GGML_QUANT_SIZES[kind]
                    elements += count
                    end = max(end, offset + count // block * stored)
                start = -(-reader.at // reader.alignment) * reader.alignment
                if start + end > len(data):
                    raise ValueError
    except (struct.error, ValueError, LookupError, OverflowError, RecursionError):
        raise GeneratorError(
            f"{file}: damaged or cut off ({file.stat().st_size:,} bytes): half downloaded? Fetch "
            "it again"
        ) from None
    except OSError as error:
        raise GeneratorError(
            f"{file}: cannot be read ({error.strerror}); mend its permissions"
        ) from None
    return elements


def check_memory(needed: int, dtype: torch.dtype, device: str, shown_as: str) -> None:
    """Refuse weights of ``needed`` bytes that cannot fit.

    They pass through main memory on their way to a GPU, so both are looked at.

    Raises:
        GeneratorError: how much is needed, how much is there, what to do.
    """
    places = {"main memory": memory_left()}
    if device.startswith("cuda"):
        places[device] = torch.cuda.mem_get_info(device)[0]
    for place, left in places.items():
        if needed > left:
            smaller = "set generator.dtype = 'bfloat16', " * (dtype.itemsize > 2)
            larger = "set generator.device to a larger one"
            if place == "main memory":
                larger = "ask for more memory for the coordinator's job"
            kind = str(dtype).removeprefix("torch.")
            raise GeneratorError(
                f"{shown_as}: its weights need {needed / 1e9:,.2f} GB as {kind}, but {place} has "
                f"{left / 1e9:,.2f} GB left; set generator.model to a smaller one, {smaller}or "
                f"{larger}"
            )


def memory_left(root: Path = Path("/")) -> int:
    """Return the bytes of main memory that this process may still take.

    That is what the machine has and what its control groups (a Slurm job's, a container's) leave.
    """
    lines = (root / "proc/meminfo").read_text().splitlines()
    left = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    for folder, (limit, used, cache) in _control_groups(root):
        try:
            limit_bytes, used_bytes = (int((folder / name).read_text()) for name in (limit, used))
            statistics = dict(s.split() for s in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # none here, or "max"
            continue
        left.append(limit_bytes - used_bytes + int(statistics.get(cache, 0)))
    return max(0, min(left))


_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
"""Names of limit, use and reclaimable cache in either version of control groups."""


def _control_groups(root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Yield the control groups of this process and all above them, each of which has its limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        folder = base / path.strip("/")
        for above in (folder, *folder.parents):
            if above.is_relative_to(base):
                yield above, _VERSION_1 if controllers else _VERSION_2


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


class _GGUF:
    """A reader of a GGUF file's table of contents; the package gguf takes many seconds for it."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.alignment = data, 4, _ALIGNMENT

    def tensors(self) -> Iterator[tuple[int, int, int]]:
        """Yield number of elements, kind, and offset of each tensor."""
        _, count, pairs = self._take("<IQQ")
        for _ in range(pairs):
            name, start = self._text(), self.at
            self._skip(*self._take("<I"))
            if name == b"general.alignment":
                self.alignment = struct.unpack_from("<I", self.data, start + 4)[0] or _ALIGNMENT
        for _ in range(count):
            self._text()
            (dimensions,) = self._take("<I")
            shape = self._take(f"<{min(dimensions, 8)}Q")
            kind, offset = self._take("<IQ")
            yield math.prod(shape), kind, offset

    def _take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def _text(self) -> bytes:
        (length,) = self._take("<Q")
        self.at += length
        return self.data[self.at - length : self.at]

    def _skip(self, kind: int, count: int = 1) -> None:
        """Go on behind ``count`` values of a kind."""
        if kind in _NUMBER_BYTES:
            self.at += count * _NUMBER_BYTES[kind]
            return
        for _ in range(count):
            if kind == _STRING:
                self._text()
            elif kind == _ARRAY:
                self._skip(*self._take("<IQ"))
            else:
                raise ValueError

"""Checks of a model's files without loading them: whether they are whole, and how large."""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

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
    files = _files(folder)
    if isinstance(files, str):
        return files
    absent = [f.name for f in files if not f.is_file()]
    if absent:
        return (
            f"{len(absent)} of {len(files)} weight files are missing ({absent[0]}, ...): half "
            "downloaded? Fetch the model again"
        )
    for file in files:
        try:
            if problem := _torn(file):
                return problem
        except OSError as error:
            return f"{file.name} cannot be read ({error.strerror}); mend its permissions"
    return ""


def bytes_needed(folder: Path, dtype: torch.dtype) -> int:
    """Bytes that the weights in a whole ``folder`` take in memory as ``dtype``."""
    files = _files(folder)
    assert not isinstance(files, str)
    total = 0
    for file in files:
        if file.suffix == ".safetensors":
            total += sum(
                math.prod(t["shape"]) * dtype.itemsize
                if t["dtype"] in _FLOATS
                else t["data_offsets"][1] - t["data_offsets"][0]  # quantised, and stays so
                for t in _header(file)[0].values()
            )
        else:
            total += file.stat().st_size * dtype.itemsize // _stored_itemsize(folder)
    return total


def size_on_disk(folder: Path) -> int:
    """Bytes of the weight files in a whole ``folder``."""
    files = _files(folder)
    assert not isinstance(files, str)
    return sum(file.stat().st_size for file in files)


def gguf_elements(file: Path) -> int:
    """Numbers in a GGUF file, which take ``dtype.itemsize`` bytes each once they are loaded.

    Raises:
        GeneratorError: not a GGUF file, damaged, or cut off.
    """
    from gguf.constants import GGML_QUANT_SIZES

    size = file.stat().st_size
    elements, ends = 0, [0]
    try:
        with file.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise GeneratorError(f"{file}: not a GGUF file, or a damaged one; fetch it again")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                reader = _GGUF(data, 4)
                for count, kind, offset in reader.tensors():
                    block, stored = GGML_QUANT_SIZES[kind]
                    elements += count
                    ends.append(offset + count // block * stored)
                expected = -(-reader.at // reader.alignment) * reader.alignment + max(ends)
    except (struct.error, ValueError, KeyError, IndexError, OverflowError):
        raise GeneratorError(
            f"{file}: its table of contents is damaged or cut off ({size:,} bytes): half "
            "downloaded? Fetch it again"
        ) from None
    except OSError as error:
        raise GeneratorError(
            f"{file}: cannot be read ({error.strerror}); mend its permissions"
        ) from None
    if size < expected:
        raise GeneratorError(
            f"{file}: cut off after {size:,} of {expected:,} bytes: half downloaded? Fetch it again"
        )
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
            ask = "ask for more memory for the coordinator's job" if place == "main memory" else (
                "set generator.device to a larger one"
            )  # fmt: skip
            raise GeneratorError(
                f"{shown_as}: its weights need {_gigabytes(needed)} as "
                f"{str(dtype).removeprefix('torch.')}, but {place} has {_gigabytes(left)} left; "
                f"set generator.model to a smaller one, {smaller}or {ask}"
            )


def memory_left(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may still take: what the machine has, and what its
    control groups (a Slurm job's, a container's) leave it."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    left = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    for folder, group in _control_groups(root):
        try:
            limit, used = (int((folder / name).read_text()) for name in group.files)
            statistics = dict(s.split() for s in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # none here, or "max"
            continue
        left.append(limit - used + int(statistics.get(group.cache, 0)))
    return max(0, min(left))


@dataclass(frozen=True)
class _Group:
    """Names of limit, use and reclaimable cache in one version of control groups."""

    files: tuple[str, str]
    cache: str


_VERSION_1 = _Group(("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file")
_VERSION_2 = _Group(("memory.max", "memory.current"), "inactive_file")


def _control_groups(root: Path) -> Iterator[tuple[Path, _Group]]:
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


def _files(folder: Path) -> list[Path] | str:
    """The weight files that there should be, or why that cannot be told."""
    for name in NAMES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            try:
                named = set(json.loads(index.read_bytes())["weight_map"].values())
                return [folder / n for n in sorted(named)]
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                return f"{index.name} is damaged; fetch the model again"
    return f"no weights ({' or '.join(NAMES)}): half downloaded? Fetch the model again"


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """Tensors of a .safetensors file by name, and how many bytes the whole file must have."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > file.stat().st_size:
            raise ValueError("the header is longer than the file")
        tensors = json.loads(stream.read(length))
    tensors.pop("__metadata__", None)
    return tensors, 8 + length + max((t["data_offsets"][1] for t in tensors.values()), default=0)


def _torn(file: Path) -> str:
    """Return why a weight file cannot be whole; empty where it may be."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(20).startswith(b"version https://git"):
            return f"{file.name} is a Git LFS pointer, not the weights; run `git lfs pull` there"
    if file.suffix != ".safetensors":
        return ""
    try:
        expected = _header(file)[1]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return f"{file.name} is damaged ({size:,} bytes): half downloaded? Fetch the model again"
    if size < expected:
        return (
            f"{file.name} is cut off after {size:,} of {expected:,} bytes: half downloaded? "
            "Fetch the model again"
        )
    return ""


def _stored_itemsize(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_bytes())
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    dtype = getattr(torch, name, torch.float32)
    return dtype.itemsize if isinstance(dtype, torch.dtype) else 4


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB"


class _GGUF:
    """Skims a GGUF file's table of contents; the package gguf takes many seconds for that."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self.data, self.at, self.alignment = data, at, _ALIGNMENT

    def tensors(self) -> Iterator[tuple[int, int, int]]:
        """Number of elements, kind, and offset of each tensor."""
        _, count, pairs = self._take("<IQQ")
        for _ in range(pairs):
            name = self._text()
            start = self.at
            kind = self._take("<I")[0]
            self._skip(kind)
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

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            self._text()
        elif kind == _ARRAY:
            inner, count = self._take("<IQ")
            if inner in _NUMBER_BYTES:
                self.at += count * _NUMBER_BYTES[inner]
                return
            for _ in range(count):
                self._skip(inner)
        else:
            self.at += _NUMBER_BYTES[kind]

"""The device that a model writes on: its choice, its precision and its memory."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ...config import accelerators
from ...errors import GeneratorError

USABLE = 0.95
"""Part of the free memory that keys and values may take; the rest is for what a step computes."""

_MALLOC_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""A function of the GNU C library; None with another."""


def choose(wanted: str) -> str:
    """Return the device that is meant, after a try."""
    device = wanted
    if wanted == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        device = found.type if found else "cpu"
    try:
        torch.empty(1, device=device)
    except Exception as error:  # torch raises many kinds here
        reason = str(error).strip().splitlines()[0]
        raise GeneratorError(
            f"generator.device = {wanted!r} is not available on this machine ({reason}); set it to "
            "'auto' or 'cpu', or ask SLURM for a GPU (cluster.gres)"
        ) from None
    return device


def precision(wanted: str, device: str) -> torch.dtype:
    """Return the precision of the weights; ``auto`` is half precision on an accelerator only.

    On a CPU with AVX512-BF16 bfloat16 wrote 1.2 to 1.6 times as fast (0.5 B parameters, 8 rows,
    one thread), but its coarse rounding lets a text depend on who shares its batch, and on
    other CPUs it is slow; so it is on an accelerator that only emulates it.
    """
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if torch.device(device).type == "cpu":
        return torch.float32
    is_native = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    if is_native is not None and is_native(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def is_shortage(error: BaseException) -> bool:
    """Return whether an error says that memory was short, a library's on the device included."""
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or any(words in str(error) for words in ("allocate memory", "out of memory"))
        or accelerators.fault(str(error)) == accelerators.MEMORY
    )


def give_back() -> None:
    """Give memory that nothing uses any more back to an accelerator, for other processes."""
    if torch.accelerator.is_available():
        gc.collect()
        torch.get_device_module(torch.accelerator.current_accelerator()).empty_cache()


def trim() -> None:
    """Give main memory that nothing uses any more back to the machine.

    The C library keeps it for what comes next; but what a batch needs has another size each time,
    fits in no gap, and the process grows.
    """
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)


def check_memory(needed: int, dtype: torch.dtype, device: str, shown_as: str) -> None:
    """Refuse weights of ``needed`` bytes that cannot fit.

    They pass through main memory on their way to an accelerator, so both are looked at.

    Raises:
        GeneratorError: how much is needed, how much is there, what to do.
    """
    for place in dict.fromkeys(["cpu", device]):
        if needed > (left := memory_left(place)):
            smaller = "set generator.dtype = 'bfloat16', " * (dtype.itemsize > 2)
            larger = "set generator.device to a larger one"
            if place == "cpu":
                place, larger = "main memory", "ask for more memory for the coordinator's job"
            kind = str(dtype).removeprefix("torch.")
            raise GeneratorError(
                f"{shown_as}: its weights need {needed / 1e9:,.2f} GB as {kind}, but {place} has "
                f"{left / 1e9:,.2f} GB left; set generator.model to a smaller one, {smaller}or "
                f"{larger}"
            )


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Return the bytes that a model of this configuration keeps of each token: keys and values."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    kept = getattr(text, "num_key_value_heads", None) or heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(2 * text.num_hidden_layers * kept * size * dtype.itemsize)


def rows_that_fit(free: int, per_token: int, columns: int, shared: int = 0) -> int:
    """Count the rows of ``columns`` tokens that ``free`` bytes hold, beside ``shared`` tokens that
    are kept once for all of them."""
    return max(0, int(USABLE * free / per_token - shared) // columns)


def memory_left(device: str = "cpu", root: Path = Path("/")) -> int:
    """Return the bytes of a device that this process may still take.

    In main memory that is what the machine has and what its control groups (a Slurm job's, a
    container's) leave. A device that cannot say has no bound.
    """
    if torch.device(device).type != "cpu":
        ask = getattr(torch.get_device_module(device), "mem_get_info", None)
        try:
            return int(ask(device)[0]) if ask else 2**63
        except RuntimeError:  # some of Intel's
            return 2**63
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

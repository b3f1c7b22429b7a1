"""Choose the device that a candidate trains on: never the CPU where another one is due."""

from __future__ import annotations

import re
import sys
from typing import Any

import torch

from ..config import accelerators
from .faults import bounded

_OTHERS_BYTES = 2 << 30
"""Memory beyond a process's own tensors that may be its own driver's and libraries'."""


class NoDeviceError(RuntimeError):
    """Raised where no accelerator can be used though one was asked for or given."""


def choose(wanted: str, expected: str = "") -> torch.device:
    """Return the device of ``training.device = wanted``, with its driver and libraries started.

    ``expected``: why an accelerator is to be expected here (:func:`.accelerators.expected`); then
    ``auto`` is never the CPU. Raises :class:`NoDeviceError` with torch's own last line.
    """
    if wanted == "auto":
        if accelerators.means_cpu() or not (expected or _accelerator(available=True)):
            return torch.device("cpu")
        if (found := _accelerator()) is None:
            raise NoDeviceError(f"{expected}, but PyTorch {torch.__version__} knows CPUs alone")
        wanted = found.type
    device = torch.device(wanted)
    if device.type != "cpu":
        try:
            _start(device)
        except Exception as error:  # whatever a driver, a library or the build says
            because = expected or f"training.device = {wanted!r}"
            lines = str(error).strip().splitlines() or [type(error).__name__]
            why = next((line for line in lines if accelerators.fault(line)), lines[-1])
            raise NoDeviceError(f"{because}, but no {wanted}: {bounded(why)}") from error
    return device


def in_use() -> str:
    """Return type and name of the accelerator that is started in this process, else ``cpu``."""
    if (module := _started()) is None:
        return "cpu"
    return f"{_accelerator()} {module.get_device_name()}"


def crowded(message: str) -> str:
    """Say how much of the accelerator's memory others hold, by which a network may have failed.

    Empty where that is little, or where what ``message`` says was asked for fits no empty device.
    """
    if (module := _started()) is None:
        return ""
    try:
        free, total = module.mem_get_info()
        own, most = module.memory_reserved(), module.max_memory_reserved()
    except Exception:  # a device that cannot say, or one that was lost meanwhile
        return ""
    others = total - free - own
    if asked := re.search(r"tried to allocate ([\d.]+) ([kmgt])ib", message, re.IGNORECASE):
        most += float(asked[1]) * 1024 ** (1 + "kmgt".index(asked[2].lower()))
    if others < max(_OTHERS_BYTES, total // 10) or most > total:
        return ""
    return f"others held {others / 1e9:.1f} of {total / 1e9:.1f} GB of the device"


def most_bytes() -> int:
    """Return the most memory of the accelerator that this process's tensors took."""
    return 0 if (module := _started()) is None else int(module.max_memory_reserved())


def share(place: torch.device, processes: int) -> None:
    """Bound this process's part of the memory: too large a network fails alone."""
    module = torch.get_device_module(place)
    if processes > 1 and hasattr(module, "set_per_process_memory_fraction"):
        module.set_per_process_memory_fraction(1 / processes, place.index)  # None: the current


def set_precision(place: torch.device, precision: str) -> None:
    """Allow an accelerator TF32 with ``tf32`` and nowhere else; a CPU has none."""
    if place.type != "cpu":
        allowed = precision == "tf32"
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed


def _accelerator(*, available: bool = False) -> torch.device | None:
    return torch.accelerator.current_accelerator(check_available=available)


def _started() -> Any | None:
    """Return torch's module of the accelerator that is started in this process, or None."""
    if (found := _accelerator()) is None:
        return None
    module = torch.get_device_module(found)
    return module if module.is_initialized() else None


def _start(device: torch.device) -> None:
    """Start what looks for files and names its threads, which a sealed child may no longer do."""
    with torch.inference_mode():
        image = torch.zeros(1, 1, 8, 8, device=device)
        torch.conv2d(image, image[:, :, :3, :3])
        torch.mm(image[0, 0], image[0, 0])
    torch.accelerator.synchronize(device)


if __name__ == "__main__":
    try:
        choose(sys.argv[1], sys.argv[2])
    except NoDeviceError as reason:
        sys.exit(str(reason))

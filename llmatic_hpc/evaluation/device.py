"""Choose the device that a candidate trains on: never the CPU where another one is due."""

from __future__ import annotations

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
            built = f"PyTorch {torch.__version__} is built for CPUs alone"
            raise NoDeviceError(f"{expected}, but {built}")
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
    found = _accelerator()
    if found is not None and (module := torch.get_device_module(found)).is_initialized():
        return f"{found.type} {module.get_device_name()}"
    return "cpu"


def crowded() -> str:
    """Say how much of the accelerator's memory others hold; empty where that is little."""
    if in_use() == "cpu":
        return ""
    free, total = torch.accelerator.get_memory_info()
    others = total - free - torch.accelerator.memory_reserved()
    if others < max(_OTHERS_BYTES, total // 10):
        return ""
    return f"others held {others / 1e9:.1f} of {total / 1e9:.1f} GB of the device"


def share(place: torch.device, processes: int) -> None:
    """Bound this process's part of the memory: too large a network fails alone."""
    module = torch.get_device_module(place)
    if processes > 1 and hasattr(module, "set_per_process_memory_fraction"):
        module.set_per_process_memory_fraction(1 / processes, place)


def set_precision(place: torch.device, precision: str) -> None:
    """Allow an accelerator TF32 with ``tf32`` and nowhere else; a CPU has none."""
    if place.type != "cpu":
        allowed = precision == "tf32"
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed


def _accelerator(*, available: bool = False) -> torch.device | None:
    return torch.accelerator.current_accelerator(check_available=available)


def _start(device: torch.device) -> None:
    """Start what looks for files and names its threads, which a sealed child may no longer do."""
    with torch.inference_mode():
        image = torch.zeros(1, 1, 8, 8, device=device)
        torch.conv2d(image, image[:, :, :3, :3])
        torch.mm(image[0, 0], image[0, 0])
    torch.accelerator.synchronize(device)

"""Facts about accelerators, one table for each vendor: names, variables, devices, errors. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NONE_TO_EXPECT = "LLMATIC_NO_ACCELERATOR"
"""Variable that says, with any value, that the GPUs which Slurm names are none (a test bed)."""

_NOTHING = ("", "-1", "NoDevFiles")
"""Values of a variable that give this process no device; NoDevFiles is an older Slurm's."""


@dataclass(frozen=True)
class Vendor:
    """Words of drivers and batch systems for the devices of one vendor."""

    shows: tuple[str, ...]
    """Variables that name the devices given to a process; the first that is set counts."""
    hides: Mapping[str, str]
    counted: str
    """Pattern below /dev of what proves a device, once for each."""
    nodes: tuple[str, ...]
    """Patterns below /dev of what a process opens to compute."""
    reads: tuple[str, ...]
    """Folders beside the system's libraries, and variables that name one."""
    kept: tuple[str, ...]
    """Variables that the driver and its libraries look at; a trailing * stands for any ending."""


NVIDIA = Vendor(
    shows=("CUDA_VISIBLE_DEVICES",),
    hides={"CUDA_VISIBLE_DEVICES": ""},
    counted="nvidia[0-9]*",
    nodes=("nvidia*",),
    reads=(
        "/proc/driver", "/proc/devices", "/proc/modules", "/sys", "/usr/share", "/usr/local",
        "$CUDA_HOME",
    ),
    kept=(
        "CUDA_DEVICE_ORDER", "CUDA_CACHE_*", "CUDA_HOME", "CUDA_MODULE_LOADING", "CUDA_MPS_*",
        "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_VISIBLE_DEVICES",
    ),
)  # fmt: skip

AMD = Vendor(
    shows=("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    # HIP takes an empty variable for one that is not set.
    hides={"HIP_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "-1"},
    counted="kfd",
    nodes=("kfd", "dri"),
    reads=("/sys", "/usr/share", "/opt/rocm", "$ROCM_PATH", "$HIP_PATH"),
    kept=("GPU_DEVICE_ORDINAL", "HSA_*", "HIP_*", "MIOPEN_*", "ROCM_PATH", "ROCBLAS_*", "AMD_*"),
)

INTEL = Vendor(
    shows=("ZE_AFFINITY_MASK",),
    hides={"ONEAPI_DEVICE_SELECTOR": "*:cpu"},
    counted="",  # almost every desktop has /dev/dri
    nodes=("dri",),
    reads=("/sys", "/usr/share", "/etc/OpenCL", "$ONEAPI_ROOT"),
    kept=("ZE_*", "ZES_*", "SYCL_*", "UR_*", "ONEAPI_*", "OCL_ICD_VENDORS"),
)

VENDORS = (NVIDIA, AMD, INTEL)

CACHES = ("MIOPEN_USER_DB_PATH", "MIOPEN_CUSTOM_CACHE_DIR")
"""Variables that name a folder in which a library keeps kernels that it compiled."""

_ALLOCATORS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
_GIVEN = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")


def hidden() -> dict[str, str]:
    """Return the environment in which no program sees an accelerator."""
    return {name: value for vendor in VENDORS for name, value in vendor.hides.items()}


def is_kept(variable: str) -> bool:
    """Return whether a driver or torch may need an environment variable."""
    names = [*_ALLOCATORS, *(n for v in VENDORS for n in (*v.shows, *v.kept))]
    return any(
        variable.startswith(name[:-1]) if name.endswith("*") else variable == name for name in names
    )


def visible(environ: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> tuple[str, ...]:
    """Return the names of the devices given to this process: indices, or names such as GPU-...

    Without a variable that says so they are counted from the device files.
    """
    if means_cpu(environ):
        return ()
    vendor = _vendor(environ, dev)
    variable = _shown_by(vendor, environ)
    if variable:
        return tuple(part.strip() for part in environ[variable].split(",") if part.strip())
    if vendor is AMD:
        return tuple(str(n) for n in range(len(list(dev.glob("dri/renderD*")))))
    return tuple(str(n) for n in range(len(_devices(vendor, dev))))


def only(
    name: str, environ: Mapping[str, str] = os.environ, dev: Path = Path("/dev")
) -> dict[str, str]:
    """Return the change to the environment after which ``name`` alone of :func:`visible` is seen.

    Before the driver starts: it looks once.
    """
    vendor = _vendor(environ, dev)
    return {_shown_by(vendor, environ) or vendor.shows[0]: name}


def means_cpu(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the environment asks for the CPU, as an empty CUDA_VISIBLE_DEVICES does."""
    named = [environ[name] for name in AMD.shows if name in environ]
    return any(value.strip() in _NOTHING for value in named)


def expected(environ: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> str | None:
    """Return why there should be an accelerator here; None: no reason to think so."""
    if means_cpu(environ) or environ.get(NONE_TO_EXPECT):
        return None
    for variable in (*(n for v in VENDORS for n in v.shows[:2]), *_GIVEN):
        if environ.get(variable, "").strip() not in _NOTHING:
            return f"{variable}={environ[variable].strip()}"
    # Everybody may open AMD's on a desktop, whose graphics chip PyTorch does not know.
    found = _devices(NVIDIA, dev)
    return f"there is {found[0]}" if found else None


def device_files(dev: Path = Path("/dev")) -> list[Path]:
    """Return what a process on an accelerator opens below ``dev``."""
    return [path for vendor in VENDORS for node in vendor.nodes for path in dev.glob(node)]


def driver_files(environ: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> list[str]:
    """Return files and folders that the drivers of the devices below ``dev`` read."""
    here = [vendor for vendor in VENDORS if any(any(dev.glob(node)) for node in vendor.nodes)]
    reads = dict.fromkeys(name for vendor in here for name in vendor.reads)
    return [environ.get(n[1:], "") if n.startswith("$") else n for n in reads]


def _vendor(environ: Mapping[str, str], dev: Path) -> Vendor:
    """Return the vendor whose devices are here; a Slurm may set the variables of all of them."""
    here = [vendor for vendor in VENDORS if _devices(vendor, dev)]
    named = [vendor for vendor in VENDORS if _shown_by(vendor, environ)]
    return next((v for v in here if v in named), (here or named or [NVIDIA])[0])


def _shown_by(vendor: Vendor, environ: Mapping[str, str]) -> str:
    return next((name for name in vendor.shows if environ.get(name, "").strip()), "")


def _devices(vendor: Vendor, dev: Path) -> list[Path]:
    """Return device files of a vendor that this process may open."""
    found = sorted(dev.glob(vendor.counted)) if vendor.counted else []
    return [path for path in found if os.access(path, os.R_OK | os.W_OK)]


# --- what went wrong ----------------------------------------------------------------------------

MEMORY, MACHINE, KERNEL, SHAKEN = "memory", "machine", "kernel", "shaken"
"""Whose fault an error is. ``memory``: the device had too little; ``machine``: the node's;
``kernel``: a kernel went astray, the network's doing if it happens again elsewhere; ``shaken``:
the device was lost in the middle, the machine's if it happens again. Empty: the network's own."""
LOST = (KERNEL, SHAKEN)
"""Faults after which a process can no longer use the device, whoever is to blame."""

_SPEAKS = re.compile(
    r"cuda|cudnn|cublas|cusolver|cusparse|cufft|nvidia|\bhip\b|rocm|rocblas|hipblas|miopen|xpu|sycl"
    r"|level.zero|\bur_result|unable to find an engine"
)
"""Names that are in every message of a driver or a library, and seldom in a network's own."""

# Parts of first lines in lower case, between semicolons; a $ is the end of the line. The first that
# fits counts.
_TEXTS = {
    MEMORY: """
        out of memory; alloc_failed; allocation_failed; statusallocfailed; out_of_device_memory;
        out_of_host_memory; status_memory_error; too large to fit in 32 bit
    """,
    KERNEL: """
        illegal memory access; illegal instruction; misaligned address; invalid program counter;
        hardware stack error; operation not supported on global/shared address space; tensor
        memory not completely freed; status_execution_failed; cufft_exec_failed; unable to find
        an engine
    """,
    SHAKEN: """
        launch failure; unknown error; statusunknownerror; launch timed out;
        status_internal_error; cufft_internal_error; statusinternalerror; status_mapping_error
    """,
    MACHINE: """
        ecc error; uncorrectable; nvlink; hardware error; fallen off the bus; device is lost;
        device_lost; busy or unavailable; already in use by a different thread; device not
        ready; capable device is detected; nvidia driver; stub library; driver version is
        insufficient; not supported in the installed; driver combination; driver context; non
        supported hw; initialization error; not yet initialized; not_initialized;
        statusnotinitialized; setup_failed; shutting down; startup failure; device_unavailable;
        arch_mismatch; version_mismatch; no kernel image; kernel image is invalid; invalid
        device function; invalid device context; context is destroyed; grid license; integrity
        checks failed; os call failed; file not found; shared object; loading_failed; jit comp;
        unsupported toolchain; named symbol not found; operation not permitted$; operation not
        supported$; peer access; peer mapping; mps client; mps server; resources required to
        support device connections; dynamic parallelism; outside of cuda; wait operation timed
        out; lock_file
    """,
}
_FAULTS = {
    " ".join(text.split()): fault for fault, texts in _TEXTS.items() for text in texts.split(";")
}


def fault(message: str) -> str:
    """Return whose fault a message of a driver, or of a library on it, says an error is."""
    first = f"{message.strip().splitlines()[0].strip().lower() if message.strip() else ''}$"
    if not _SPEAKS.search(first):
        return ""
    return next((fault for text, fault in _FAULTS.items() if text in first), "")

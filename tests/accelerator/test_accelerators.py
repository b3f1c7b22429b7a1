"""Whose fault an error is, which devices are given, and what hides them, by vendor."""

from __future__ import annotations

import ctypes
import os
from importlib import metadata
from pathlib import Path

import pytest
import torch

from llmatic_hpc.config import accelerators
from llmatic_hpc.config.accelerators import expected, fault, hidden, only, visible
from llmatic_hpc.coordinator.environment import spare_machine
from llmatic_hpc.evaluation import faults
from llmatic_hpc.evaluation.faults import candidate_error
from llmatic_hpc.sandbox import confine

MESSAGES = [
    line.split("\t") for line in Path(__file__).with_name("cudart.tsv").read_text().splitlines()
]
"""Every message of CUDA's runtime 13.0: its number, whose fault it is, its text."""

STATUS = {
    "own": "invalid",
    "memory": "too_large",
    "machine": "infrastructure",
    "kernel": "infrastructure",  # tried once more, then invalid: see tests/cluster
    "shaken": "infrastructure",
}
TORCH_ADDS = (
    "\nSearch for `cudaErrorX' in https://docs.nvidia.com/cuda for more information."
    "\nCUDA kernel errors might be asynchronously reported at some other API call."
)


@pytest.fixture
def _accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "is_accelerated", lambda: True)


def test_on_the_cpu_it_is_the_networks_doing_to_ask_for_a_device() -> None:
    """As ``x.cuda()`` does where there is none: no machine is at fault."""
    error = RuntimeError("Found no NVIDIA driver on your system. Please check that you have")
    assert candidate_error(error).status == "invalid"


@pytest.mark.usefixtures("_accelerated")
@pytest.mark.parametrize(("number", "whose", "text"), MESSAGES, ids=lambda part: part[:40])
def test_every_message_of_cudas_runtime(number: str, whose: str, text: str) -> None:
    """As torch passes it on; HIP says most of them, too."""
    assert number.isdecimal()
    error = torch.AcceleratorError(f"CUDA error: {text}{TORCH_ADDS}")
    assert candidate_error(error).status == STATUS[whose]
    assert fault(f"HIP error: {text}") == ("" if whose == "own" else whose)
    assert candidate_error(ValueError(f"CUDA error: {text}")).status in ("invalid", "too_large")


def test_the_messages_are_those_of_the_installed_runtime() -> None:
    """A later runtime may say something else, and then this table is due."""
    try:
        files = metadata.files("nvidia-cuda-runtime") or []
    except metadata.PackageNotFoundError:
        pytest.skip("no wheel of CUDA's runtime is installed")
    runtime = ctypes.CDLL(str(next(f for f in files if "libcudart.so" in f.name).locate()))
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    known = {int(number): text for number, _, text in MESSAGES}
    said = {n: runtime.cudaGetErrorString(n).decode() for n in range(1, 1000)}
    assert {n: text for n, text in said.items() if "unrecognized" not in text} == known


@pytest.mark.usefixtures("_accelerated")
@pytest.mark.parametrize(
    ("text", "whose"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total", "memory"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "memory"),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "memory"),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "memory"),
        ("cuFFT error: CUFFT_ALLOC_FAILED", "memory"),
        ("HIP out of memory. Tried to allocate 2.00 GiB", "memory"),
        ("XPU out of memory. Tried to allocate 2.00 GiB", "memory"),
        ("UR error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", "memory"),
        (
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(",
            "machine",
        ),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", "machine"),
        ("cuDNN error: CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED", "machine"),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "machine"),
        ("HIP error: invalid device function", "machine"),
        ("HIP error: no ROCm-capable device is detected", "machine"),
        ("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)", "machine"),
        ("The NVIDIA driver on your system is too old (found version 12040).", "machine"),
        ("MIOpen Error: /src/include/miopen/lock_file.hpp:64: Error creating file", "machine"),
        ("FIND was unable to find an engine to execute this computation", "kernel"),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(", "kernel"),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "kernel"),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", "shaken"),
        ("miopenStatusUnknownError", "shaken"),
        ("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm(", "own"),
        ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if", "own"),
        ("Expected all tensors to be on the same device, but found cuda:0 and cpu!", "own"),
        ("mat1 and mat2 shapes cannot be multiplied (4x3 and 5x6)", "own"),
        ("unknown error", "own"),
        ("this relationship has an initialization error", "own"),
        ("", "own"),
    ],
)
def test_messages_of_libraries(text: str, whose: str) -> None:
    """cuBLAS, cuDNN, cuFFT, HIP, MIOpen, Level Zero; a network's own words are its own."""
    assert candidate_error(RuntimeError(text)).status == STATUS[whose]
    assert fault(text) == ("" if whose == "own" else whose)


def devices(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


MIG = "MIG-d2dbf7c4-5c3e-5a55-a6fd-1d3a2ef4b3ec"


@pytest.mark.parametrize(
    ("environ", "nodes", "names", "why"),
    [
        ({}, [], (), None),
        ({}, ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], ("0", "1"), "there is DEV/nvidia0"),
        ({"CUDA_VISIBLE_DEVICES": " 1 , 0"}, [], ("1", "0"), "CUDA_VISIBLE_DEVICES=1 , 0"),
        (
            {"CUDA_VISIBLE_DEVICES": f"GPU-8932f937,{MIG}"}, [], ("GPU-8932f937", MIG),
            f"CUDA_VISIBLE_DEVICES=GPU-8932f937,{MIG}",
        ),
        ({"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_GPUS": "0"}, ["nvidia0"], (), None),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ["nvidia0"], (), None),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ["nvidia0"], (), None),
        ({"SLURM_JOB_GPUS": "3"}, ["nvidia3"], ("0",), "SLURM_JOB_GPUS=3"),
        ({"SLURM_STEP_GPUS": "3"}, [], (), "SLURM_STEP_GPUS=3"),
        ({"SLURM_JOB_GPUS": "0", accelerators.NONE_TO_EXPECT: "1"}, ["nvidia0"], ("0",), None),
        ({"ROCR_VISIBLE_DEVICES": "2,3"}, ["kfd"], ("2", "3"), "ROCR_VISIBLE_DEVICES=2,3"),
        ({}, ["kfd", "dri/renderD128", "dri/renderD129"], ("0", "1"), None),  # on many a desktop
        ({}, ["dri/renderD128"], (), None),
        ({"ZE_AFFINITY_MASK": "0.0,0.1"}, [], ("0.0", "0.1"), "ZE_AFFINITY_MASK=0.0,0.1"),
    ],
)  # fmt: skip
def test_given_devices(
    tmp_path: Path, environ: dict[str, str], nodes: list[str], names: tuple[str, ...], why: str
) -> None:
    """Names as they are; a reason to expect one, unless the CPU is asked for."""
    dev = devices(tmp_path, *nodes)
    assert visible(environ, dev) == names
    assert expected(environ, dev) == (why and why.replace("DEV/", f"{tmp_path}/"))
    assert visible(environ | hidden(), dev) == ()
    assert expected(environ | hidden(), dev) is None
    for name in names:
        assert visible(environ | only(name, environ, dev), dev) == (name,)


def test_children_see_what_drivers_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of MPS, the allocator, HSA, MIOpen and oneAPI; those of Slurm and secrets not."""
    kept = {
        "CUDA_MPS_PIPE_DIRECTORY": "x", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
        "CUDA_MODULE_LOADING": "EAGER", "PYTORCH_CUDA_ALLOC_CONF": "x", "PYTORCH_ALLOC_CONF": "x",
        "PYTORCH_HIP_ALLOC_CONF": "x", "HSA_OVERRIDE_GFX_VERSION": "9.0.0", "MIOPEN_FIND_MODE": "2",
        "ZE_AFFINITY_MASK": "0", "ONEAPI_DEVICE_SELECTOR": "level_zero:0", "ROCM_PATH": "/opt/rocm",
        "CUDA_VISIBLE_DEVICES": MIG, "HIP_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "1",
    }  # fmt: skip
    for name, value in {**kept, "SLURM_JOB_GPUS": "1", "HF_TOKEN": "secret"}.items():
        monkeypatch.setenv(name, value)
    training = confine.environment(threads=1, gpu=True)
    assert kept.items() <= training.items()
    assert not {"SLURM_JOB_GPUS", "HF_TOKEN"} & training.keys()
    measuring = confine.environment(threads=1, gpu=False)
    hides = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "-1",
             "ONEAPI_DEVICE_SELECTOR": "*:cpu"}  # fmt: skip
    assert hides.items() <= measuring.items()
    # Kernels in Triton that torch 2.14 prefers would call a compiler.
    assert training["TORCH_DISABLE_NATIVE_JIT"] == measuring["TORCH_DISABLE_NATIVE_JIT"] == "1"


def test_how_memory_is_kept_may_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training keeps what it has freed; glibc takes the settings of who has some."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    found = confine.environment(threads=1, gpu=False)["GLIBC_TUNABLES"]
    assert {word.partition("=")[0] for word in found.split(":")} == {
        f"glibc.malloc.{name}" for name in ("hugetlb", "mmap_threshold", "trim_threshold")
    }
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    kept = confine.environment(threads=1, gpu=False)["GLIBC_TUNABLES"]
    assert kept == "glibc.malloc.check=0"


def test_how_a_model_spares_memory_is_not_for_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deep network has more products than are kept for a model, and needs them at each step."""
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    spare_machine()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in confine.environment(threads=1, gpu=False)

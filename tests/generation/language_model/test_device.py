"""The device: its precision, its memory, and how many rows fit it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import CodeGenConfig, Qwen2Config

from llmatic_hpc.generation.language_model import device

PAPER = CodeGenConfig(n_positions=2048, n_ctx=2048, n_embd=4096, n_layer=33, n_head=16)
SMALL = Qwen2Config(
    hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2
)
WEIGHTS = 14.1e9
"""Bytes of CodeGen-6B in half precision."""


def test_bytes_of_a_token() -> None:
    """As many as the layers keep: with fewer heads for keys, fewer."""
    assert device.bytes_per_token(PAPER, torch.bfloat16) == 540_672
    assert device.bytes_per_token(SMALL, torch.float32) == 24_576


@pytest.mark.parametrize(
    ("free", "columns", "shared", "rows"),
    [
        (118e9 / device.USABLE, 2048 + 128, 0, 100),  # 100 x 2,048 and what is held ahead
        (80e9 - WEIGHTS, 1_150, 0, 100),
        (80e9 - WEIGHTS, 2048 + 128, 0, 53),
        (80e9 - WEIGHTS, 512 + 128, 1536, 178),
        (40e9 - WEIGHTS, 2048 + 128, 0, 20),
        (1e9, 2048 + 128, 0, 0),
        (0, 1, 10, 0),
    ],
)
def test_rows_that_fit(free: float, columns: int, shared: int, rows: int) -> None:
    """CodeGen-6B on cards of 80 and 40 GB: about 1,150 columns for 100 rows on the larger."""
    found = device.rows_that_fit(int(free), 540_672, columns, shared)
    assert rows <= found <= rows * 1.01


def test_freed_memory_goes_back_to_the_machine() -> None:
    """The C library alone would keep all below the last block that is in use."""
    if device._MALLOC_TRIM is None:
        pytest.skip("not the GNU C library")
    blocks = [
        b"x" * (100_000 + n % 7) for n in range(2_000)
    ]  # no mapping of their own, as larger ones have
    del blocks[:-1]
    before = _resident()
    device.trim()
    assert before - _resident() > 150_000_000


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasGemm`"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("shapes do not match"), False),
    ],
)
def test_errors_that_mean_too_little_memory(error: Exception, expected: bool) -> None:
    """PyTorch's own and those of the libraries below it."""
    assert device.is_shortage(error) is expected


@pytest.mark.parametrize(
    ("module", "dtype"),
    [
        (SimpleNamespace(is_bf16_supported=lambda including_emulation=True: True), "bfloat16"),
        # A V100 or T4, which compute bfloat16 by way of float32.
        (
            SimpleNamespace(is_bf16_supported=lambda including_emulation=True: including_emulation),
            "float16",
        ),
        (SimpleNamespace(), "float16"),
    ],
)
def test_bfloat16_only_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace, dtype: str
) -> None:
    """Emulated it is slower than float16 and coarser."""
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    assert device.precision("auto", "cuda:0") is getattr(torch, dtype)
    assert device.precision("float32", "cuda:0") is torch.float32


@pytest.mark.parametrize(
    ("module", "left"),
    [(SimpleNamespace(mem_get_info=lambda device: (7, 9)), 7), (SimpleNamespace(), 2**63)],
)
def test_memory_of_an_accelerator(
    monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace, left: int
) -> None:
    """The device is asked; one that cannot say has no bound."""
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    assert device.memory_left("cuda:0") == left

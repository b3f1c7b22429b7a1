"""The device's memory, when others hold it: not the candidate's fault."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from llmatic_hpc.evaluation import child, device

GB = 10**9


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    ("free", "own", "status"),
    [
        (1 * GB, 78 * GB, "too_large"),  # what is left is its driver's own
        (1 * GB, 30 * GB, "infrastructure"),
        (60 * GB, 0, "infrastructure"),
    ],
)
def test_memory_that_others_hold(
    monkeypatch: pytest.MonkeyPatch, free: int, own: int, status: str
) -> None:
    """Of 80 GB: a network that fails while others hold a tenth is tried again."""
    cuda = SimpleNamespace(mem_get_info=lambda: (free, 80 * GB), memory_reserved=lambda: own)
    monkeypatch.setattr(device, "_started", lambda: cuda)
    header, _ = child._blame(out_of_memory)  # type: ignore[arg-type]
    assert header["status"] == status
    assert "out of memory" in header["failure"]
    assert ("others held" in header["failure"]) == (status == "infrastructure")


def test_memory_on_the_cpu_is_the_candidates_own() -> None:
    """Nothing is asked of an accelerator where none is in use."""
    header, _ = child._blame(out_of_memory)  # type: ignore[arg-type]
    assert header["status"] == "too_large"

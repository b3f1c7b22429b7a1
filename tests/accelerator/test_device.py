"""The device's memory, when others hold it: not the candidate's fault."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from llmatic_hpc.evaluation import child, device

GB = 10**9


def out_of_memory(asked: str = "2.00 GiB") -> None:
    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {asked}.")


def full(free: int, own: int) -> SimpleNamespace:
    return SimpleNamespace(
        mem_get_info=lambda: (free, 80 * GB),
        memory_reserved=lambda: own,
        max_memory_reserved=lambda: own,
    )


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
    """A network that fails while others hold a tenth of 80 GB is tried again."""
    monkeypatch.setattr(device, "_started", lambda: full(free, own))
    header, _ = child._blame(out_of_memory)  # type: ignore[arg-type]
    assert header["status"] == status
    assert "out of memory" in header["failure"]
    assert ("others held" in header["failure"]) == (status == "infrastructure")


def test_too_large_for_an_empty_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are not at fault where no device of this size could hold what is asked for."""
    monkeypatch.setattr(device, "_started", lambda: full(1 * GB, 30 * GB))
    for asked in ("200.00 GiB", "1.50 TiB"):
        header, _ = child._blame(partial(out_of_memory, asked))  # type: ignore[arg-type]
        assert header["status"] == "too_large"


def test_a_device_that_cannot_say_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the network was too large, and its message is kept."""

    def lost() -> tuple[int, int]:
        raise RuntimeError("an illegal memory access was encountered")

    module = full(0, 0)
    module.mem_get_info = lost
    monkeypatch.setattr(device, "_started", lambda: module)
    header, _ = child._blame(out_of_memory)  # type: ignore[arg-type]
    assert (header["status"], "out of memory" in header["failure"]) == ("too_large", True)


def test_a_share_of_the_memory_is_of_the_current_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch wants a number or nothing: a device without an index is refused by CUDA."""
    told: list[tuple[float, int | None]] = []
    module = SimpleNamespace(set_per_process_memory_fraction=lambda *given: told.append(given))
    monkeypatch.setattr(torch, "get_device_module", lambda place: module)
    device.share(torch.device("cuda"), 4)
    device.share(torch.device("cuda:1"), 2)
    assert told == [(0.25, None), (0.5, 1)]


def test_memory_on_the_cpu_is_the_candidates_own() -> None:
    """Nothing is asked of an accelerator where none is in use."""
    header, _ = child._blame(out_of_memory)  # type: ignore[arg-type]
    assert header["status"] == "too_large"

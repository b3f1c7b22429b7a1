"""Several devices: a child sees one, an element uses all, a local task takes one that is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmatic_hpc.cluster import LocalBackend
from llmatic_hpc.config import ContainmentSettings, accelerators
from llmatic_hpc.evaluation.worker import run_task
from llmatic_hpc.sandbox import container

from ..cluster.tasks import tell_device
from ..evaluation.helpers import INITIAL, network
from ..evaluation.test_worker import TRAINING, candidate, result_of, task

NAMES = ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "MIG-d2dbf7c4-5c3e-5a55-a6fd-1d3a2ef4b3ec")


@pytest.fixture(autouse=True)
def _devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name two devices, and say that the CPU is meant all the same, as the test bed does."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(NAMES))
    monkeypatch.setenv(accelerators.NONE_TO_EXPECT, "1")


def test_an_element_trains_on_all_its_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Side by side, each child on one, by its name; and none shares its memory with another."""
    told: list[tuple[str, int]] = []
    tell = container.Container._tell

    def noted(self: Any, message: Any, *descriptors: int) -> None:
        if message["op"] == "run":
            told.append((message["environment"]["CUDA_VISIBLE_DEVICES"], message["sharing"]))
        tell(self, message, *descriptors)

    monkeypatch.setattr(container.Container, "_tell", noted)
    slow = network("os.sys.modules['time'].sleep(0.02)")
    looks = (
        f"assert os.environ['CUDA_VISIBLE_DEVICES'] in {NAMES!r}\n"
        "caches = os.environ['MIOPEN_USER_DB_PATH'], os.environ['MIOPEN_CUSTOM_CACHE_DIR']\n"
        "assert caches == (os.environ['TMPDIR'],) * 2"
    )
    names = [network(looks), slow, INITIAL]
    candidates = [candidate(n, source, epochs=1) for n, source in enumerate(names)]
    assert run_task(task(tmp_path, candidates, training=replace(TRAINING, device="auto"))) == 0
    results = [result_of(tmp_path, spec) for spec in candidates]
    assert [(r.outcome.status, r.outcome.device) for r in results if r] == [("scored", "cpu")] * 3
    assert told[:2] == [(NAMES[0], 1), (NAMES[1], 1)]
    assert told[2][1] == 1


def test_what_failed_is_tried_again_on_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try is alone, and would else always be on the first device."""
    told: list[str] = []
    tell = container.Container._tell

    def noted(self: Any, message: Any, *descriptors: int) -> None:
        if message["op"] == "run":
            told.append(message["environment"]["CUDA_VISIBLE_DEVICES"])
            message = {**message, "parameters": {}}  # the child knows no such recipe
        tell(self, message, *descriptors)

    monkeypatch.setattr(container.Container, "_tell", noted)
    job = container.Job(
        kind="train", source=INITIAL, seconds=60.0, limit="", parameters={}, success="trained",
        payload_bytes=0,
    )  # fmt: skip
    with container.Container(ContainmentSettings(), devices=NAMES) as contained:
        assert contained.run(job).status == "infrastructure"
    assert told == [NAMES[0], NAMES[1], NAMES[0]]


def test_a_local_task_takes_the_device_that_is_free(
    tmp_path: Path, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    """Not the next in turn; a later coordinator knows what the tasks of the former one have."""
    folders = [tmp_path / name for name in ("a", "b", "c", "d")]
    for folder in folders:
        folder.mkdir()

    def backend() -> LocalBackend:
        return LocalBackend(tell_device, parallelism=2, time_minutes=5, pause_seconds=0.05)

    first, later = backend(), backend()
    try:
        first.submit(folders[:2], "token")
        wait_for(lambda: all((f / "seen").exists() for f in folders[:2]))
        (folders[1] / "go").touch()
        wait_for(lambda: first.alive(folders) == {folders[0]})
        later.submit(folders[2:3], "token")
        wait_for(lambda: (folders[2] / "seen").exists())
    finally:
        for folder in folders:
            (folder / "go").touch()
        wait_for(lambda: not first.alive(folders) | later.alive(folders))
    told = [(folder / "seen").read_text() for folder in folders[:3]]
    assert told == [NAMES[0], NAMES[1], NAMES[1]]

"""Times of short trainings."""

from __future__ import annotations

from dataclasses import replace

from llmatic_hpc.config import Config
from llmatic_hpc.evaluation import timing
from llmatic_hpc.problems.images.kind import INITIAL_NETWORK

FAULTY = "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    pass\n"


def test_networks_are_timed_and_what_fails_is_none() -> None:
    """A large network takes longer for a step than a small one, whatever both take to start."""
    config = Config()
    config = replace(config, training=replace(config.training, batch=16, device="cpu"))
    small = INITIAL_NETWORK.format(channels=3, pixels=1024, classes=10)
    large = small.replace("nn.Conv2d(3, 1, 1)", "nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), "
                          "nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 1, 1))")  # fmt: skip
    bench = timing.time_networks(config, [small, FAULTY, large], slots=2, threads=1)
    one, none, other = bench.networks
    assert none is None
    assert one is not None
    assert other is not None
    assert other.step > one.step > 0
    assert other.predict > one.predict > 0
    assert one.start > 0
    assert bench.worker_seconds > 0
    assert bench.train == 1437 - 144
    assert bench.evaluated == 144 + 360
    assert bench.device == "cpu"

"""Ratio of a bare training step's speed that is left in the training loop.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.training [--repeats 5] [--steps 60] [--initial]

Bare is forward, cross-entropy, backward and a step of the same descent over one batch of
normalised images that lies in memory. Ours is ``evaluation.training`` with images to choose,
to normalise and to count. Both take turns in one process. What is printed is the ratio of the
lower quartiles of their steps' CPU seconds, which a busy machine disturbs least (1.00: the loop
costs nothing), and those of halves of the repeats, to show how far it is to be trusted.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from llmatic_hpc.evaluation import build
from llmatic_hpc.evaluation.step import Descent
from llmatic_hpc.evaluation.training import Images, Recipe, train

from ..evaluation.helpers import INITIAL


class Residual(nn.Module):
    """Twenty convolutions at most of 32 channels, as CIFAR-10's ResNet-20 has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
                nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16),
            )
            for _ in range(9)
        )  # fmt: skip
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = F.relu(self.first(x))
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.last(x.mean(dim=(2, 3)))


def bare(make: Callable[[], nn.Module], images: Images, batch: int, steps: int) -> list[float]:
    """CPU seconds of each of ``steps`` plain steps."""
    torch.manual_seed(0)
    network = make()
    optimiser = Descent(list(network.parameters()), rate=0.001, momentum=0.9)
    x = (images.train_images[:batch].float() / 255 - 0.5) / 0.5
    labels = images.train_labels[:batch]

    def step() -> None:
        loss = F.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    ticks = [time.process_time()]
    for _ in range(steps):
        step()
        ticks.append(time.process_time())
    return [after - before for before, after in itertools.pairwise(ticks)]


def ours(make: Callable[[], nn.Module], images: Images, batch: int) -> list[float]:
    """CPU seconds of each step of an epoch but the first, the same in all else."""
    recipe = Recipe(
        epochs=1, batch=batch, learning_rate=0.001, momentum=0.9, seed=0,
        checkpoint_seconds=1e9, evaluation_batch=500,
    )  # fmt: skip
    ticks: list[float] = []

    def asked() -> bool:
        ticks.append(time.process_time())
        return False

    train(make, images, recipe, classes=10, asked=asked)
    return [after - before for before, after in itertools.pairwise(ticks)]


def quartile(runs: list[list[float]]) -> float:
    """The lower quartile of all steps."""
    return statistics.quantiles(itertools.chain(*runs), n=4)[0]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--initial", action="store_true", help="the initial network alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = {"the initial network": lambda: build.build(INITIAL), "residual, 19": Residual}
    if options.initial:
        del networks["residual, 19"]
    for name, make in networks.items():
        for batch in (32, 128):
            steps = options.steps
            generator = torch.Generator().manual_seed(1)
            count = batch * steps
            images = Images(
                torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
                torch.randint(0, 10, (count,), generator=generator),
                *[torch.empty((0, 3, 32, 32), dtype=torch.uint8)] * 2,
            )
            plain, looped = [], []
            for _ in range(options.repeats):
                plain.append(bare(make, images, batch, steps))
                looped.append(ours(make, images, batch))
            halves = [quartile(plain[k::2]) / quartile(looped[k::2]) for k in (0, 1)]
            print(
                f"{name}, batch {batch}: {quartile(plain) / quartile(looped):.2f} "
                f"(halves {halves[0]:.2f}, {halves[1]:.2f}; n = {options.repeats} x {steps} steps, "
                f"{1000 * quartile(plain):.2f} ms a bare step)",
                flush=True,
            )


if __name__ == "__main__":
    main()

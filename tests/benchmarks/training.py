"""How much of a bare training step's speed is left in the training loop.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.training [--repeats 5] [--steps 60]

Bare is forward, cross-entropy, backward and a step of torch.optim.SGD over one batch of
normalised images that lies in memory. Ours is ``evaluation.training`` with images to choose,
to normalise and to count. Both take turns in one process; what is printed is the median of the
ratios of their CPU seconds (1.00: the loop costs nothing), with the least and the greatest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from llmatic_hpc.evaluation import build
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


def bare(make: Callable[[], nn.Module], images: Images, batch: int, steps: int) -> float:
    """CPU seconds of ``steps`` plain steps."""
    torch.manual_seed(0)
    network = make()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    x = (images.train_images[:batch].float() / 255 - 0.5) / 0.5
    labels = images.train_labels[:batch]
    started = time.process_time()
    for _ in range(steps):
        loss = F.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return time.process_time() - started


def ours(make: Callable[[], nn.Module], images: Images, batch: int, steps: int) -> float:
    """CPU seconds of an epoch of ``steps``, the initialisation and no prediction."""
    recipe = Recipe(
        epochs=1, batch=batch, learning_rate=0.001, momentum=0.9, seed=0,
        checkpoint_seconds=1e9, evaluation_batch=500,
    )  # fmt: skip
    network = make()  # outside of what is timed, as above
    started = time.process_time()
    train(lambda: network, images, recipe, classes=10)
    return time.process_time() - started


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = {"the initial network": lambda: build.build(INITIAL), "residual, 19": Residual}
    for name, make in networks.items():
        for batch in (32, 128):
            steps = options.steps * (128 // batch if name == "the initial network" else 1)
            generator = torch.Generator().manual_seed(1)
            count = batch * steps
            images = Images(
                torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
                torch.randint(0, 10, (count,), generator=generator),
                *[torch.empty((0, 3, 32, 32), dtype=torch.uint8)] * 2,
            )
            bare(make, images, batch, 5)
            ours(make, images, batch, 1)
            ratios = []
            for _ in range(options.repeats):
                plain = bare(make, images, batch, steps)
                ratios.append(plain / ours(make, images, batch, steps))
            print(
                f"{name}, batch {batch}: {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f}; n = {options.repeats}, {steps} steps, "
                f"{1000 * plain / steps:.2f} ms a bare step)",
                flush=True,
            )


if __name__ == "__main__":
    main()

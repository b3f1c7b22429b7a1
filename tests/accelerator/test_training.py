"""Training on the simulated accelerator: the CPU's numbers, no waiting, continued exactly."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmatic_hpc.evaluation import build, checkpoint, placing, training
from llmatic_hpc.evaluation.step import AdamW, Descent
from llmatic_hpc.evaluation.training import Images, Recipe, Trained

from . import simulated
from .apart import apart

RECIPE = Recipe(
    epochs=2, batch=32, learning_rate=0.01, momentum=0.9, seed=3,
    checkpoint_seconds=1e9, evaluation_batch=16,
)  # fmt: skip
EVERYTHING = replace(
    RECIPE, optimizer="adamw", weight_decay=0.01, schedule="cosine", label_smoothing=0.1,
    class_weights="balanced", augmentation=("flip", "crop"),
)  # fmt: skip
COUNT = 140  # the last batch is short

PLAIN = """
import torch
import torch.nn as nn
import torch.nn.functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.25)
        self.fc = nn.Linear(8 * 8 * 8, 10)
    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 4)
        return self.fc(self.drop(x.flatten(1)))
"""


def changed(*, init: str = "", body: str = "", before: str = "") -> str:
    """The same network, that makes, keeps or uses something else as well."""
    source = PLAIN.replace("class Net", f"{before}\nclass Net")
    source = source.replace("    def forward", f"        {init or 'pass'}\n    def forward")
    return source.replace("return self.fc(", f"{body or 'pass'}\n        return self.fc(")


LEFT_BEHIND = {
    "made in forward": changed(body="x = x + torch.zeros(x.size(0), 1, 1, 1)"),
    "made by a helper": changed(before="def one():\n    return torch.ones(1, 1, 1, 1)\n",
                                body="x = x * one()"),
    "made by a lambda": changed(init="self.f = lambda x: x * torch.full((8, 1, 1), 2.0)",
                                body="x = self.f(x)"),
    "a layer made in forward": changed(body="x = nn.Softmax(dim=1)(x) + nn.BatchNorm2d(8)(x)"),
    "an attribute": changed(init="self.scale = torch.ones(8, 1, 1)", body="x = x * self.scale"),
    "a list": changed(init="self.s = [torch.ones(8, 1, 1)]", body="x = x * self.s[0]"),
    "a dictionary in a tuple": changed(init="self.s = (1, {'a': torch.ones(8, 1, 1)})",
                                       body="x = x * self.s[1]['a']"),
    "a layer in a plain list": changed(init="self.more = [nn.Conv2d(8, 8, 1)]",
                                       body="x = self.more[0](x)"),
    "a constant of the source": changed(before="SCALE = torch.ones(8, 1, 1)", body="x = x * SCALE"),
    "a constant of the class": PLAIN.replace(
        "    def __init__", "    scale = torch.ones(8, 1, 1)\n    def __init__"
    ).replace("return self.fc(", "x = x * self.scale\n        return self.fc("),
    "a lazy layer": PLAIN.replace("nn.Linear(8 * 8 * 8, 10)", "nn.LazyLinear(10)"),
    "tied weights": changed(
        init="self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)\n"
        "        self.b.weight = self.a.weight",
        body="x = self.b(self.a(x))",
    ),
}  # fmt: skip
"""Networks that work on a CPU and not on a GPU, where nothing is done about it."""


def images(device: str = "cpu") -> Images:
    """Random ones, the same wherever they lie."""
    drawn = torch.Generator().manual_seed(1)

    def some(count: int) -> torch.Tensor:
        shape = (count, 3, 32, 32)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=drawn).to(device)

    labels = torch.randint(0, 10, (COUNT,), generator=drawn).to(device)
    return Images(some(COUNT), labels, some(20), some(20))


def run(source: str, device: str, recipe: Recipe = RECIPE, **more: Any) -> Trained:
    """Train it as a contained child does."""
    random.seed(recipe.seed)
    np.random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    return training.train(
        lambda: build.build(source), images(device), recipe, classes=10, source=source, **more
    )


def same(a: Trained, b: Trained) -> bool:
    """Loss, predictions, parameters and buffers, to the bit."""
    tensors = [[*t.network.parameters(), *t.network.buffers()] for t in (a, b)]
    return (
        a.train_loss == b.train_loss
        and all(map(np.array_equal, a.predictions, b.predictions))
        and all(torch.equal(x.cpu(), y.cpu()) for x, y in zip(*tensors, strict=True))
    )


@pytest.mark.parametrize("recipe", [RECIPE, EVERYTHING], ids=["plain", "everything"])
@apart
def test_it_equals_the_cpus_and_no_step_waits(recipe: Recipe) -> None:
    """Loss, predictions and weights; the host waits at the end of an epoch and for predictions."""
    simulated.start()
    here = run(PLAIN, "cpu", recipe)
    waits: list[int] = []
    with simulated.counting() as counts:

        def asked() -> bool:
            waits.append(len(counts.waits))
            return False

        there = run(PLAIN, "sim", recipe, asked=asked)
    assert {p.device.type for p in there.network.parameters()} == {"sim"}
    assert same(here, there)
    # After each step of an epoch but the last, whose loss is read.
    assert np.diff(waits[:10]).tolist() == [0, 0, 0, 2, 1, 0, 0, 0, 2]


@apart
def test_a_step_of_descent_is_three_kernels() -> None:
    """And one of AdamW eight, however many parameters there are."""
    simulated.start()
    network = build.build(PLAIN).to("sim")
    parameters = list(network.parameters())
    kernels = []
    for optimiser in (
        Descent(parameters, rate=0.1, momentum=0.9),
        AdamW(parameters, rate=0.1, decay=0.1),
    ):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
        with simulated.counting() as counts:
            optimiser.step()
        kernels.append(counts.kernels)
    assert kernels[0] == {"_foreach_mul_": 1, "_foreach_add_": 2}
    assert kernels[1].total() == 8


@pytest.mark.parametrize("what", LEFT_BEHIND)
@apart
def test_what_a_gpu_would_trip_over_comes_along(what: str) -> None:
    """The same loss as on the CPU, to the bit."""
    simulated.start()
    source = LEFT_BEHIND[what]
    assert same(run(source, "cpu"), run(source, "sim"))


@apart
def test_what_shares_a_tensor_still_does() -> None:
    """And lists and dictionaries stay the objects that they are."""
    simulated.start()
    network = build.build(changed(init="self.a = torch.ones(3); self.l = [self.a, self.a]"))
    kept = network.l
    placing.place(network, torch.device("sim"))
    assert network.l is kept
    assert network.l[0] is network.l[1] is network.a
    assert network.a.device.type == "sim"


def _interrupted(at: int) -> Callable[[], bool]:
    calls: Iterator[int] = iter(range(at))
    return lambda: next(calls, None) is None


@pytest.mark.parametrize(
    ("at", "recipe"),
    [(1, RECIPE), (4, RECIPE), (7, RECIPE), (11, RECIPE), (2, EVERYTHING), (7, EVERYTHING)],
)
@apart
def test_continued_from_a_checkpoint_it_ends_in_the_same_bits(
    at: int, recipe: Recipe, tmp_path: Path
) -> None:
    """Although the device draws from a generator of its own."""
    simulated.start(own_random=True)
    undisturbed = run(PLAIN, "sim", recipe)
    with pytest.raises(training.Checkpointed):
        run(PLAIN, "sim", recipe, folder=tmp_path, identity="a", asked=_interrupted(at))
    torch.rand(5, device="sim")
    assert same(run(PLAIN, "sim", recipe, folder=tmp_path, identity="a"), undisturbed)


@apart
def test_the_generator_of_the_right_device_is_restored() -> None:
    """That of the device that trains, which is not the current one."""
    simulated.start(own_random=True)
    first, second = (torch.device("sim", index) for index in (0, 1))
    states = placing.Generators.now(second)
    wanted = torch.rand(3, device=second).tolist()
    other = torch.sim.get_rng_state(first)
    states.apply(second)
    assert torch.rand(3, device=second).tolist() == wanted
    assert torch.equal(torch.sim.get_rng_state(first), other)


@pytest.mark.parametrize("devices", [("cpu", "sim"), ("sim", "cpu")])
@apart
def test_a_checkpoint_goes_from_device_to_device(devices: tuple[str, str], tmp_path: Path) -> None:
    """It is continued, not begun again: what it says of the old device's generator is left out."""
    simulated.start(own_random=True)
    before, after = devices
    with pytest.raises(training.Checkpointed):
        run(PLAIN, before, folder=tmp_path, identity="a", asked=_interrupted(7))
    found = checkpoint.load(tmp_path, identity="a")
    assert found is not None
    assert (f"random.{before}" in found.tensors) == (before == "sim")
    steps = []
    run(PLAIN, after, folder=tmp_path, identity="a", asked=lambda: bool(steps.append(1)))
    assert len(steps) == 10 - 8 + 4  # what was left to train, and four batches to predict

"""A step that is recorded once and replayed, with a fake of torch's graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch

from llmatic_hpc.evaluation import step
from llmatic_hpc.evaluation.training import Recipe
from llmatic_hpc.source import forward

from . import simulated
from .apart import apart
from .test_training import PLAIN, RECIPE, changed, run, same

GRAPH = replace(RECIPE, graph="auto", batch=16)
STATIC = PLAIN.replace("nn.Dropout(0.25)", "nn.Identity()")


def _replayed(source: str, recipe: Recipe = GRAPH) -> tuple[int, bool]:
    """Count of replayed steps, and whether they came to what plain steps come to."""
    simulated.start(own_random=True)
    simulated.give_graphs()
    plain = run(source, "sim", replace(recipe, graph="off"))
    with simulated.counting() as counts:
        found = run(source, "sim", recipe)
    return counts.kernels["graph"], same(found, plain)


@apart
def test_replayed_steps_end_in_the_bits_of_plain_ones() -> None:
    """All full batches but the first three; two replays are the comparison's."""
    assert _replayed(STATIC) == (2 + 2 * 8 - 3, True)


@apart
def test_flips_and_crops_are_what_each_replay_is_given() -> None:
    """They change from step to step, as do the images; the loss does not."""
    recipe = replace(
        GRAPH, augmentation=("flip", "crop"), class_weights="balanced", label_smoothing=0.1
    )
    assert _replayed(STATIC, recipe) == (2 + 2 * 8 - 3, True)


@pytest.mark.parametrize("change", [{"schedule": "cosine"}, {"optimizer": "adamw"}])
@apart
def test_where_rates_change_steps_stay_plain(change: dict[str, Any]) -> None:
    """A graph would keep the rate that it was recorded with."""
    assert _replayed(STATIC, replace(GRAPH, **change)) == (0, True)


@apart
def test_on_a_device_without_graphs_steps_stay_plain() -> None:
    """Nothing is recorded, though it is asked for."""
    simulated.start()
    with simulated.counting() as counts:
        run(STATIC, "sim", GRAPH)
    assert counts.kernels["graph"] == 0


_DIFFERENT = {
    "waits while it is recorded": changed(body="x = x + torch.tensor(1.0)"),
    "has a state in Python": changed(
        init="self.n = [0]", body="self.n.append(1); x = x * len(self.n)"
    ),
    "depends on a value": changed(body="x = x * 2 if x.sum() > 0 else x"),
    "draws": changed(body="x = x + torch.rand_like(x)"),
}


@pytest.mark.parametrize("what", _DIFFERENT)
@apart
def test_what_cannot_be_replayed_is_not(what: str) -> None:
    """It stays with plain steps, as if nothing had been tried."""
    assert _replayed(_DIFFERENT[what].replace("nn.Dropout(0.25)", "nn.Identity()")) == (0, True)


@apart
def test_a_replay_that_differs_is_given_up() -> None:
    """The sieve may let it through; the state is that before the comparison."""
    simulated.start()
    simulated.give_graphs()
    value, calls = torch.zeros(1, device="sim"), [0]

    def one(chosen: torch.Tensor) -> None:
        calls[0] += 1
        value.add_(calls[0])

    def state() -> Iterable[torch.Tensor]:
        return [value]

    recorded: Callable[[torch.Tensor], None] = step.Recorded(one, state, size=4)
    chosen = torch.arange(4, device="sim")
    for _ in range(3):
        recorded(chosen)
    assert value.tolist() == [1 + 2 + 3]
    recorded(chosen)  # two calls to compare with, one to record
    assert value.tolist() == [1 + 2 + 3 + 7]


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        ("if self.training:\n            x = x * 2", True),
        ("x = self.conv(x) if self.norm is None else x", True),
        ("x = sum([f(x) for f in [F.relu, F.relu]])", True),
        ("x[:, 0] = 0", True),
        ("if x.max() > 1:\n            x = x * 2", False),
        ("flag = x.sum()\n        while flag:\n            break", False),
        ("assert bool((x > 0).all())", False),
        ("self.last = x", False),
        ("self.kept[0] = x", False),
        ("self.kept.append(x)", False),
        ("x = x * x.mean().item()", False),
        ("x = x + torch.randn(1)", False),
        ("x = F.gumbel_softmax(x)", False),
        ("x = self.helper(x)", False),
    ],
)
def test_the_sieve(body: str, plain: bool) -> None:
    """No branch on values, nothing read, drawn or kept; shapes and modes are no values."""
    source = changed(body=body).replace(
        "    def forward", "    def helper(self, x):\n        return x.tolist()\n    def forward"
    )
    assert forward.repeats_itself(source) is plain

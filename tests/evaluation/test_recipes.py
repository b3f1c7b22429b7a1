"""Optimisers, schedules, losses and augmentation against torch's own and against plain loops."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llmatic_hpc.config import Config, ProblemSettings, TrainingSettings
from llmatic_hpc.errors import ConfigError
from llmatic_hpc.evaluation import (
    augmentation,
    build,
    checkpoint,
    data,
    step,
    trainer,
    training,
    worker,
)
from llmatic_hpc.evaluation.training import Images, Recipe

from .helpers import INITIAL
from .test_training import RECIPE, Small, images, run, same

__all__ = ["images"]  # a fixture

OPTIONS: dict[str, dict[str, Any]] = {
    "decay": {"weight_decay": 0.05},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05, "learning_rate": 0.002},
    "cosine": {"schedule": "cosine"},
    "loss": {"label_smoothing": 0.1, "class_weights": "balanced"},
    "flip": {"augmentation": ("flip",)},
    "crop": {"augmentation": ("crop",)},
}
EVERYTHING = {
    **OPTIONS["adamw"], **OPTIONS["cosine"], **OPTIONS["loss"], "augmentation": ("crop", "flip")
}  # fmt: skip


# --- optimisers -------------------------------------------------------------------------------


def _descended(ours: str, decay: float, **more: Any) -> bool:
    """Fifty steps of ours and torch's, one parameter without a gradient now and then."""
    drawn = torch.Generator().manual_seed(1)
    shapes = ((64, 32, 3, 3), (64,), (10, 64), ())
    start = [torch.randn(shape, generator=drawn) for shape in shapes]
    start.append(torch.randn(5, 7, dtype=torch.complex64, generator=drawn))
    mine, others = ([nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    if ours == "sgd":
        optimiser: step.Optimiser = step.Descent(mine, rate=0.01, decay=decay, **more)
        theirs: Any = torch.optim.SGD(others, lr=0.01, weight_decay=decay, **more)
    else:
        optimiser = step.AdamW(mine, rate=0.01, decay=decay)
        theirs = torch.optim.AdamW(others, lr=0.01, weight_decay=decay, foreach=True)
    for number in range(50):
        optimiser.rate = theirs.param_groups[0]["lr"] = 0.01 / (1 + number)
        for index, (a, b) in enumerate(zip(mine, others, strict=True)):
            gradient = torch.randn(a.shape, generator=drawn, dtype=a.dtype)
            skipped = index == 1 and number % 3 == 0
            a.grad, b.grad = (None if skipped else gradient.clone() for _ in range(2))
        optimiser.step()
        theirs.step()
    return all(map(torch.equal, mine, others))


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_is_torchs_to_the_bit(momentum: float, decay: float) -> None:
    """Parameters of all shapes, real and complex, and rates that change."""
    assert _descended("sgd", decay, momentum=momentum)


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_adamw_is_torchs_to_the_bit(decay: float) -> None:
    """The same, where every parameter counts its own steps."""
    assert _descended("adamw", decay)


def test_the_rate_falls_along_torchs_cosine() -> None:
    """At every step; torch goes from each rate to the next, and so rounds a little differently."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=700)
    for number in range(700):
        assert step.cosine(0.3, number, 700) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        schedule.step()
    assert step.cosine(0.3, 0, 700) == 0.3


# --- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_is_torchs_to_the_bit(
    smoothing: float, weighted: bool, dtype: torch.dtype
) -> None:
    """With its gradient; also of a network that answers in double precision."""
    drawn = torch.Generator().manual_seed(1)
    outputs = torch.randn(33, 7, generator=drawn, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, 7, (33,), generator=drawn)
    weights = step.balanced(labels, 7) if weighted else None
    ours = step.cross_entropy(outputs, labels, weights, smoothing)
    theirs = F.cross_entropy(
        outputs, labels, None if weights is None else weights.to(dtype), label_smoothing=smoothing
    )
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(loss, outputs)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def test_no_loss_selects_what_a_host_would_have_to_count() -> None:
    """As torch's smoothed one does, though not for the tensors of tests/accelerator."""
    labels = torch.arange(12) % 4
    outputs, weights = torch.ones(12, 4), step.balanced(labels, 4)
    waiting = {"aten::masked_select", "aten::item", "aten::nonzero"}
    for smoothing in (0.0, 0.1):
        for chosen in (None, weights):
            with torch.autograd.profiler.profile() as profile:
                step.cross_entropy(outputs, labels, chosen, smoothing)
            assert not waiting & {event.name for event in profile.function_events}


def test_weights_are_balanced_as_scikit_learns() -> None:
    """Many of one class, few of another; a class that has no label left weighs nothing."""
    utils = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.repeat([0, 1, 2, 3], [500, 40, 7, 1])
    wanted = utils.compute_class_weight("balanced", classes=np.arange(4), y=labels)
    found = step.balanced(torch.from_numpy(labels), 4)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)
    without = step.balanced(torch.from_numpy(labels[labels != 2]), 4)
    assert without[2] == 0
    assert torch.isfinite(without).all()


# --- augmentation -----------------------------------------------------------------------------


def _one_by_one(x: torch.Tensor, drawn: torch.Tensor, wanted: tuple[str, ...]) -> torch.Tensor:
    """Cut each image out of a black canvas and mirror it, in numpy."""
    found = []
    for image, (down, right, mirrored) in zip(x.numpy(), drawn.tolist(), strict=True):
        channels, height, width = image.shape
        if "crop" in wanted:
            canvas = np.zeros((channels, height + 8, width + 8), np.uint8)
            canvas[:, 4 : 4 + height, 4 : 4 + width] = image
            image = canvas[:, down : down + height, right : right + width]
        if "flip" in wanted and mirrored:
            image = image[:, :, ::-1]
        found.append(torch.from_numpy(image.copy()))
    return torch.stack(found)


@pytest.mark.parametrize("wanted", [("flip",), ("crop",), ("flip", "crop")])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 14)])
def test_images_are_changed_as_one_by_one(wanted: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Every shift and both sides occur; the images that were given stay as they were."""
    x = torch.randint(1, 256, (400, *shape), dtype=torch.uint8)
    before = x.clone()
    drawn = augmentation.draw(400, seed=3, epoch=1)
    assert drawn.unique(dim=0).shape[0] > 140  # of 2 x 81
    assert torch.equal(augmentation.changed(x, drawn, wanted), _one_by_one(x, drawn, wanted))
    assert torch.equal(x, before)


def test_what_is_drawn_depends_on_seed_and_epoch_alone() -> None:
    """And is even: each of nine shifts, each side."""
    drawn = augmentation.draw(9000, seed=7, epoch=2)
    assert torch.equal(drawn, augmentation.draw(9000, seed=7, epoch=2))
    for seed, epoch in ((7, 3), (8, 2)):
        assert not torch.equal(drawn, augmentation.draw(9000, seed=seed, epoch=epoch))
    for column in (0, 1):
        counts = torch.bincount(drawn[:, column], minlength=9)
        assert (counts > 850).all()
    assert 0.47 < drawn[:, 2].float().mean() < 0.53


@pytest.mark.parametrize("shape", [(3, 32, 4), (1, 1, 64), (4, 100), (30,)])
def test_only_images_are_augmented(shape: tuple[int, ...]) -> None:
    """A sequence, a table, or what a shift would push out of sight, is refused in a sentence."""
    data.refuse_augmentation((), shape)
    data.refuse_augmentation(("flip",), (3, 5, 5))
    with pytest.raises(ConfigError, match=r"training\.augmentation = \['crop'\] is for images"):
        data.refuse_augmentation(("crop",), shape)


def test_data_that_are_no_images_are_refused_when_they_are_read(tmp_path: Path) -> None:
    """Before anything is generated, for a run's start reads them."""
    drawn = np.random.default_rng(1)
    x, y = drawn.integers(0, 256, (60, 1, 30), dtype=np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "table.npz", images=x, labels=y)
    problem = ProblemSettings(data=str(tmp_path / "table.npz"))
    data.checked(problem, TrainingSettings(), seed=1)
    with pytest.raises(ConfigError, match=r"the data have shape \(1, 1, 30\)"):
        data.checked(problem, TrainingSettings(augmentation=("flip",)), seed=1)


# --- the whole --------------------------------------------------------------------------------


def test_all_of_it_equals_a_plain_loop(images: Images) -> None:
    """torch's AdamW, its schedule and its loss, over images that are changed one by one."""
    recipe = replace(RECIPE, **EVERYTHING)
    found = run(Small, images, recipe)

    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    network = Small()
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.002, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=30)
    labels = images.train_labels
    weights = 300 / (10 * torch.bincount(labels).float())
    order = torch.Generator().manual_seed(5)
    for epoch in range(3):
        drawn = augmentation.draw(300, seed=5, epoch=epoch)
        losses = []
        chosen = torch.randperm(300, generator=order)
        for which, changes in zip(chosen.split(32), drawn.split(32), strict=True):
            x = _one_by_one(images.train_images[which], changes, ("flip", "crop"))
            y = network((x.float() / 255 - 0.5) / 0.5)
            loss = F.cross_entropy(y, labels[which], weights, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item() * len(which))
    assert found.train_loss == pytest.approx(sum(losses) / 300, rel=1e-4)
    for ours, theirs in zip(found.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("what", [*OPTIONS, "everything"])
def test_each_option_changes_the_training(images: Images, what: str) -> None:
    """None is without effect."""
    changed = replace(RECIPE, **{**OPTIONS, "everything": EVERYTHING}[what])
    assert not same(run(Small, images, changed), run(Small, images, RECIPE))


@pytest.mark.parametrize("what", [*OPTIONS, "everything"])
def test_interrupted_at_every_step_it_ends_in_the_same_bits(
    images: Images, tmp_path: Path, what: str
) -> None:
    """In new processes, whose generators are in whatever state."""
    recipe = replace(RECIPE, **{**OPTIONS, "everything": EVERYTHING}[what])
    undisturbed = run(Small, images, recipe)
    for step_number in range(30):
        torch.manual_seed(step_number)
        with pytest.raises(training.Checkpointed):
            run(Small, images, recipe, folder=tmp_path, identity="a", asked=lambda: True)
        kept = checkpoint.load(tmp_path, identity="a")
        assert kept is not None
        assert 10 * kept.values["epoch"] + kept.values["step"] == step_number + 1
    assert same(run(Small, images, recipe, folder=tmp_path, identity="a"), undisturbed)


def test_a_compute_node_trains_by_all_of_it(images: Images) -> None:
    """Settings reach the contained child: what comes back is the loss of a training here."""
    settings = TrainingSettings(
        epochs=2, batch=32, learning_rate=0.002, optimizer="adamw", weight_decay=0.05,
        schedule="cosine", label_smoothing=0.1, class_weights="balanced",
        augmentation=("crop", "flip"), validation_fraction=1 / 6, device="cpu", threads=1,
    )  # fmt: skip
    problem = ProblemSettings(train_images=360, test_images=100)
    config = Config(problem=problem, training=settings)
    config = replace(config, run=replace(config.run, seed=1))
    _, outcome = worker.evaluate_source(INITIAL, config, training_seed=5)
    assert outcome.status == "scored", outcome
    recipe = replace(RECIPE, epochs=2, **EVERYTHING)
    assert outcome.train_loss == run(lambda: build.build(INITIAL), images, recipe).train_loss


def test_an_optimisers_state_is_not_taken_for_anothers(images: Images) -> None:
    """A checkpoint that has too few, too many or other means than the counts say is none."""
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))]
    optimiser = step.AdamW(parameters, rate=0.1, decay=0.0)
    parameters[0].grad = torch.ones(3)
    optimiser.step()
    state = {name: tensor.clone() for name, tensor in optimiser.state().items()}
    assert optimiser.fits(state)
    assert not optimiser.fits({**state, "counts": torch.tensor([1])})
    assert not optimiser.fits({**state, "counts": torch.tensor([1, 1])})
    assert not optimiser.fits({**state, "square.0": torch.ones(4)})
    again = step.AdamW(copy.deepcopy(parameters), rate=0.1, decay=0.0)
    again.restore(state)
    again.parameters[0].grad = torch.ones(3)
    again.step()
    optimiser.step()
    assert torch.equal(again.parameters[0], parameters[0])


def test_recipes_are_told_in_words() -> None:
    """Options that nobody asked for are not named."""
    assert TrainingSettings().recipe() == "sgd, batch 32, learning rate 0.001, momentum 0.9"
    settings = TrainingSettings(**{**EVERYTHING, "batch": 64})
    assert settings.recipe() == (
        "adamw, batch 64, learning rate 0.002, cosine schedule, weight decay 0.05, label "
        "smoothing 0.1, balanced class weights, augmented by crop and flip"
    )


def test_every_word_of_a_recipe_is_a_setting() -> None:
    """Both have the same defaults, but for what a candidate or a device has of its own."""
    settings = TrainingSettings()
    for name in set(trainer._RECIPE) & set(Recipe.__dataclass_fields__):
        default = Recipe.__dataclass_fields__[name].default
        if isinstance(default, str | float | bool | tuple):
            assert default == getattr(settings, name), name
    own = {"epochs", "seed", "until"}
    assert own.union(trainer._RECIPE) == set(Recipe.__dataclass_fields__)

"""The training protocol, against a plain independent loop, and exact continuation."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from llmatic_hpc.config import ProblemSettings, TrainingSettings
from llmatic_hpc.evaluation import checkpoint, data, training
from llmatic_hpc.evaluation.build import CandidateError
from llmatic_hpc.evaluation.training import Images, Recipe, Trained, train

RECIPE = Recipe(
    epochs=3, batch=32, learning_rate=0.01, momentum=0.9, seed=5,
    checkpoint_seconds=1e9, evaluation_batch=50,
)  # fmt: skip


class Small(nn.Module):
    """Everything with state: batch normalisation, dropout, python and numpy randomness."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(4 * 15 * 15, 10)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.register_buffer("last", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(F.relu(self.norm(self.conv(x))))
        if self.training:
            self.calls += 1
            x = x * (1 + 0.1 * random.random() + 0.1 * float(np.random.normal()))
            x = x + 0.001 * self.calls
            self.last = x.detach().mean(dim=(1, 2, 3))  # its shape changes with the batch
        return self.fc(torch.flatten(x, 1))


@pytest.fixture(scope="module")
def images() -> Images:
    """Real digits: 300 for training (the last batch is short), 60 and 100 to predict."""
    pytest.importorskip("sklearn")
    dataset = data.load(
        ProblemSettings(train_images=360, test_images=100),
        TrainingSettings(validation_fraction=1 / 6),
        seed=1,
    )
    arrays = data.for_training(dataset)
    return Images(**{n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in arrays.items()})


def run(build: Callable[[], nn.Module], images: Images, recipe: Recipe, **more: object) -> Trained:
    random.seed(recipe.seed)
    np.random.seed(recipe.seed)
    return train(build, images, recipe, classes=10, **more)  # type: ignore[arg-type]


def same(a: Trained, b: Trained) -> bool:
    """Bit for bit: loss, predictions, parameters and buffers."""
    return (
        a.train_loss == b.train_loss
        and a.epochs == b.epochs
        and all(np.array_equal(x, y) for x, y in zip(a.predictions, b.predictions, strict=True))
        and all(
            torch.equal(x, y)
            for x, y in zip(a.network.parameters(), b.network.parameters(), strict=True)
        )
        and all(
            torch.equal(x, y) for x, y in zip(a.network.buffers(), b.network.buffers(), strict=True)
        )
    )


def test_equals_a_plain_loop(images: Images) -> None:
    """Same seed, same loss and predictions as the textbook loop."""
    found = run(Small, images, RECIPE)

    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    network = Small()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    order = torch.Generator().manual_seed(5)
    x = (images.train_images.float() / 255 - 0.5) / 0.5
    for _ in range(3):
        network.train()
        losses = []
        for chosen in torch.randperm(300, generator=order).split(32):
            loss = nn.CrossEntropyLoss()(network(x[chosen]), images.train_labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item() * len(chosen))
    network.eval()
    with torch.no_grad():
        test = network((images.test_images.float() / 255 - 0.5) / 0.5).argmax(1).numpy()
    assert found.train_loss == pytest.approx(sum(losses) / 300, rel=1e-12)
    assert np.array_equal(found.predictions[1], test)
    assert np.mean(found.predictions[1] == 0) < 0.5


def test_every_pixel_is_normalised_to_the_bit() -> None:
    """As (x/255 - 0.5)/0.5 in this order; the images stay as they are."""
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(training.normalised(pixels), (pixels.float() / 255 - 0.5) / 0.5)
    assert torch.equal(pixels, torch.arange(256, dtype=torch.uint8))


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"channels_last": True}])
def test_other_precisions_and_layouts_train_about_the_same(
    images: Images, change: dict[str, object]
) -> None:
    """Not to the bit, which is why they are settings of their own."""
    plain = run(Small, images, RECIPE)
    found = run(Small, images, replace(RECIPE, **change))  # type: ignore[arg-type]
    assert found.train_loss == pytest.approx(plain.train_loss, rel=0.05)
    assert all(p.dtype == torch.float32 for p in found.network.parameters())


def test_a_network_that_views_its_features_keeps_the_plain_layout(images: Images) -> None:
    """It trains as it does without the setting, where it would fail with it."""

    class Views(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(F.relu(self.conv(x)).view(len(x), -1))

    def contiguous(network: nn.Module) -> bool:
        return network.conv.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr]

    recipe = replace(RECIPE, channels_last=True, epochs=1)
    assert not contiguous(run(Views, images, recipe).network)
    assert contiguous(run(Small, images, recipe).network)


def test_every_epoch_trains_in_training_mode(images: Images) -> None:
    """Evaluation, or the network itself, does not leave it in evaluation mode."""
    modes: list[bool] = []

    class Sly(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            modes.append(self.training)
            y = super().forward(x)
            if len(modes) % 10 == 0:
                self.eval()
            return y

    run(Sly, images, RECIPE)
    assert modes == [True] * 30 + [False] * (4 + 5)  # the last five are timed


@pytest.mark.parametrize(
    "stops", [[1], [10], [11], [30], [31], [3, 4, 20], [15, 33], list(range(1, 35))]
)
def test_interrupted_anywhere_it_ends_in_the_same_bits(
    images: Images, tmp_path: Path, stops: list[int]
) -> None:
    """At any step, between epochs, before and during the evaluation, once or often."""
    undisturbed = run(Small, images, RECIPE)
    calls = 0
    interruptions = 0

    def asked() -> bool:
        nonlocal calls
        calls += 1
        return calls in stops

    while True:
        # A new process has other generators in whatever state.
        torch.manual_seed(interruptions)
        try:
            found = run(Small, images, RECIPE, folder=tmp_path, identity="a", asked=asked)
            break
        except training.Checkpointed:
            interruptions += 1
    assert interruptions >= min(len(stops), 1)
    assert same(found, undisturbed)


def test_from_rung_to_rung_it_ends_in_the_same_bits(images: Images, tmp_path: Path) -> None:
    """A training that stopped at a rung goes on from the state it left there, interrupted or not.

    At the rung it is what a training of so many epochs is, for nothing depends on the last.
    """
    undisturbed = run(Small, images, RECIPE)
    calls = 0

    def asked() -> bool:
        nonlocal calls
        calls += 1
        return calls == 4

    with pytest.raises(training.Checkpointed):
        run(Small, images, replace(RECIPE, until=1), folder=tmp_path, asked=asked)
    for rung in (1, 2, 0):
        torch.manual_seed(rung)
        found = run(Small, images, replace(RECIPE, until=rung), folder=tmp_path)
        alone = run(Small, images, replace(RECIPE, epochs=rung or 3))
        assert same(found, alone)
    assert same(found, undisturbed)


def test_a_checkpoint_is_written_at_the_end_of_an_epoch(images: Images, tmp_path: Path) -> None:
    """A training killed without warning continues from there, to the same bits."""
    undisturbed = run(Small, images, RECIPE)
    recipe = replace(RECIPE, checkpoint_seconds=0.0)

    class Killed(Exception):  # noqa: N818
        pass

    calls = 0

    def die() -> bool:
        nonlocal calls
        calls += 1
        if calls == 25:
            raise Killed
        return False

    with pytest.raises(Killed):
        run(Small, images, recipe, folder=tmp_path, identity="a", asked=die)
    found = checkpoint.load(tmp_path, identity="a")
    assert found is not None
    assert (found.values["epoch"], found.values["step"]) == (2, 0)
    assert same(run(Small, images, recipe, folder=tmp_path, identity="a"), undisturbed)


def _interrupted(images: Images, folder: Path, at: int) -> None:
    calls = iter(range(at))
    with pytest.raises(training.Checkpointed):
        run(
            Small, images, RECIPE, folder=folder, identity="a",
            asked=lambda: next(calls, None) is None,
        )  # fmt: skip


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty", "pickle", "shapes"])
def test_a_damaged_or_foreign_checkpoint_means_none(
    images: Images, tmp_path: Path, damage: str
) -> None:
    """Training starts again, and ends as if nothing had been there."""
    undisturbed = run(Small, images, RECIPE)
    _interrupted(images, tmp_path, 12)
    path = tmp_path / checkpoint.NAME
    whole = path.read_bytes()
    identity = "a"
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        path.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    elif damage == "foreign":
        identity = "b"
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "pickle":
        torch.save({"epoch": 1}, path)
    else:
        found = checkpoint.load(tmp_path, identity="a")
        assert found is not None
        tensors = {**found.tensors, "parameter.fc.weight": torch.zeros(1)}
        checkpoint.save(tmp_path, checkpoint.Checkpoint(tensors, found.values), identity="a")
    assert same(run(Small, images, RECIPE, folder=tmp_path, identity=identity), undisturbed)


@given(st.binary(max_size=200), st.integers(0, 5000))
def test_no_bytes_make_a_checkpoint_raise(written: bytes, at: int) -> None:
    """Reading a checkpoint gives the original or none, whatever is written over it."""
    import tempfile

    original = checkpoint.Checkpoint({"a": torch.arange(100)}, {"epoch": 1})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint.save(folder, original, identity="x")
        whole = (folder / checkpoint.NAME).read_bytes()
        at %= len(whole)
        (folder / checkpoint.NAME).write_bytes(whole[:at] + written + whole[at + len(written) :])
        found = checkpoint.load(folder, identity="x")
    if found is not None:
        assert found.values == {"epoch": 1}
        assert torch.equal(found.tensors["a"], torch.arange(100))


def test_a_full_disk_costs_the_checkpoint_only(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on writing leaves the training and the former checkpoint alone."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    undisturbed = run(Small, images, RECIPE)
    _interrupted(images, tmp_path, 12)
    monkeypatch.setattr("os.fsync", full)
    recipe = replace(RECIPE, checkpoint_seconds=0.0)
    assert same(run(Small, images, recipe, folder=tmp_path, identity="a"), undisturbed)
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.NAME]


def test_without_epochs_the_initial_network_predicts(images: Images) -> None:
    """``epochs = 0`` trains nothing, says so, and repeats."""
    recipe = replace(RECIPE, epochs=0)
    found = run(Small, images, recipe)
    assert (found.train_loss, found.epochs) == (None, 0)
    assert [len(p) for p in found.predictions] == [60, 100]
    assert same(found, run(Small, images, recipe))


@given(st.integers(0, 300), st.integers(1, 40))
def test_batches_cover_everything_once_and_are_never_single(count: int, size: int) -> None:
    """Batch normalisation cannot do with one image; no image is left out."""
    bounds = training.batches(count, size)
    assert [i for start, end in bounds for i in range(start, end)] == list(range(count))
    if size > 1 and count > 1:
        assert all(end - start > 1 for start, end in bounds)
    assert all(end - start <= size + 1 for start, end in bounds)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(x, 1))


def test_a_loss_that_is_not_finite_diverges(images: Images) -> None:
    """NaN and infinity end the training by the end of the epoch in which they come."""
    with pytest.raises(CandidateError, match="epoch 1"):
        run(Linear, images, replace(RECIPE, learning_rate=1e38))

    class Infinite(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if self.training else super().forward(x) / 0.0

    with pytest.raises(CandidateError, match="outputs"):
        run(Infinite, images, RECIPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[:, :5], "shape"),
        (lambda y: y[0], "shape"),
        (lambda y: (y, y), "tuple"),
        (lambda y: y.argmax(1, keepdim=True).expand(-1, 10), "int64"),
    ],
)
def test_wrong_outputs_are_the_candidates_fault(
    images: Images, change: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    """Anything but (N, classes) in floating point is named."""

    class Wrong(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return change(super().forward(x))

    with pytest.raises(CandidateError, match=message):
        run(Wrong, images, RECIPE)


def test_a_network_without_parameters_cannot_be_trained(images: Images) -> None:
    """It is refused by name."""
    with pytest.raises(CandidateError, match="no parameters"):
        run(nn.Identity, images, RECIPE)


def test_lazy_layers_and_tied_weights_continue_exactly(images: Images, tmp_path: Path) -> None:
    """Parameters that get their shape late, and one used twice."""

    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.LazyLinear(16)
            self.a = nn.Linear(16, 16)
            self.b = nn.Linear(16, 16)
            self.b.weight = self.a.weight
            self.last = nn.LazyLinear(10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(F.relu(self.b(F.relu(self.a(self.first(torch.flatten(x, 1)))))))

    undisturbed = run(Lazy, images, RECIPE)
    calls = iter(range(14))
    with pytest.raises(training.Checkpointed):
        run(
            Lazy, images, RECIPE, folder=tmp_path, identity="a",
            asked=lambda: next(calls, None) is None,
        )  # fmt: skip
    assert same(run(Lazy, images, RECIPE, folder=tmp_path, identity="a"), undisturbed)

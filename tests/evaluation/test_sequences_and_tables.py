"""Sequences and tables: scaled, repaired, trained; data of any kind found by their digest."""

from __future__ import annotations

import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from llmatic_hpc import problems
from llmatic_hpc.config import Config, ProblemSettings, TrainingSettings
from llmatic_hpc.errors import DataError
from llmatic_hpc.evaluation import build, data, measure, repair, training, worker
from llmatic_hpc.evaluation.audit import count_with_fvcore
from llmatic_hpc.evaluation.data import cache, folders, splits
from llmatic_hpc.evaluation.data.scaling import standardised
from llmatic_hpc.evaluation.data.splits import Dataset, Split
from llmatic_hpc.evaluation.repair import dynamic
from llmatic_hpc.problems.images.kind import image_classification

from .test_data_matrix import LABELS, NAMES, both, empty_cache, save, write  # noqa: F401
from .test_worker import candidate, result_of, task

RNG = np.random.default_rng(4)
CLASSES = np.arange(60) % 3


def whole(numbers: np.ndarray, test: np.ndarray) -> Dataset:
    """Data for training and testing, with any labels."""
    parts = (Split(part, np.zeros(len(part), np.int64)) for part in (numbers, test))
    return splits.whole(*parts, 3)


# --- scaling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 50, 1 << 22])
def test_tables_are_scaled_as_scikit_learn_does(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the training rows, whatever the number of rows that are looked at at a time."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    monkeypatch.setattr(splits, "_CHUNK", chunk)
    numbers = RNG.lognormal(2, 3, (80, 7))
    scaler = preprocessing.StandardScaler().fit(numbers[:60])
    found = standardised(whole(numbers[:60], numbers[60:]), "here")
    for part, raw in ((found.train, numbers[:60]), (found.test, numbers[60:])):
        assert part.images.dtype == np.float32
        np.testing.assert_allclose(part.images, scaler.transform(raw), rtol=1e-6, atol=1e-9)


def test_sequences_are_scaled_by_channel() -> None:
    """Over all sequences and steps."""
    numbers = RNG.normal([[5], [-300]], [[2], [100]], (50, 2, 40)).astype(np.float32)
    found = standardised(whole(numbers, numbers[:9]), "here").train.images
    assert np.allclose(found.mean((0, 2)), 0, atol=1e-6)
    assert np.allclose(found.std((0, 2)), 1, atol=1e-6)
    assert np.allclose(
        np.diff(found[3, 1]) * numbers[:, 1].std(), np.diff(numbers[3, 1]), rtol=1e-3
    )


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_any_unit_gives_the_same(scale: float) -> None:
    """Also where squares would overflow or vanish."""
    numbers = RNG.normal(size=(30, 3))
    one, same = (standardised(whole(n, n), "here").train.images for n in (numbers, scale * numbers))
    np.testing.assert_allclose(one, same, rtol=1e-5, atol=1e-7)


def test_what_is_constant_in_training_is_zero_everywhere() -> None:
    """Also a number that binary fractions cannot say, and in test rows that have another."""
    numbers = np.full((31, 2), 0.1)
    numbers[:, 1] = 1.7e9 + np.arange(31)  # dates in seconds
    found = standardised(whole(numbers, numbers[:4] + 5), "here")
    assert (found.train.images[:, 0] == 0).all()
    assert (found.test.images[:, 0] == 0).all()
    expected = (np.arange(31) - 15) / np.arange(31).std()
    np.testing.assert_allclose(found.train.images[:, 1], expected, rtol=1e-6, atol=1e-9)


def test_scaled_by_what_is_trained_on(tmp_path: Path) -> None:
    """Rows for validation and rows left out have no say; the digest is that of all as it was."""
    table = RNG.normal(3, 9, (60, 4))
    path = write(tmp_path / "data.npz", {"x": table, "y": CLASSES})
    same = write(tmp_path / "same.h5", {"x": table.astype(">f8"), "y": CLASSES})
    kept = TrainingSettings(validation_fraction=0.25)
    digests = set()
    for file, seed, most in ((path, 0, 0), (path, 1, 0), (same, 1, 24)):
        problem = ProblemSettings(data=str(file), train_images=most)
        found, digest, _ = data.checked(problem, kept, seed=seed)
        assert np.allclose(found.train.images.mean(0), 0, atol=1e-6)
        assert np.allclose(found.train.images.std(0), 1, atol=1e-6)
        assert abs(found.validation.images.mean(0)).max() > 1e-3
        digests.add(digest)
    assert len(digests) == 1


def test_images_are_not_scaled() -> None:
    """They stay bytes."""
    images = whole(np.zeros((4, 5, 5, 3), np.uint8), np.zeros((2, 5, 5, 3), np.uint8))
    assert standardised(images, "here") is images


# --- what is said about them --------------------------------------------------------------------


def said(path: Path, layout: str = "auto") -> str:
    config = replace(Config(), problem=ProblemSettings(data=str(path), layout=layout))
    return problems.kind_of(config).data(config)


def test_doctors_line_says_how_data_are_read(tmp_path: Path) -> None:
    """Rows, sequences; and what three dimensions are taken for, with the setting to change."""
    table = write(tmp_path / "table.npz", {"x": RNG.normal(size=(60, 4)), "y": CLASSES})
    assert said(table).endswith("48 rows for training, 12 for testing, 4 features, 3 classes")
    three = {"x": RNG.integers(0, 256, (60, 4, 9)), "y": CLASSES}
    for suffix in (".npz", ".h5"):
        path = write(tmp_path / f"three{suffix}", three)
        assert "48 sequences for training, 12 for testing, 4 x 9, 3 c" in said(path, "sequences")
        assert 'as gray images, (N, height, width); set problem.layout = "seq' in said(path)
        assert said(path, "images").endswith(
            "48 images for training, 12 for testing, 1 x 4 x 9, 3 classes"
        )


def test_a_run_that_takes_sequences_for_images_says_so(tmp_path: Path) -> None:
    """It is said once, where the run begins."""
    path = write(tmp_path / "d.npz", {"x": RNG.integers(0, 256, (60, 4, 9)), "y": CLASSES})
    config = replace(Config(), problem=ProblemSettings(data=str(path)))
    told: list[str] = []
    kind = problems.kind_of(config)
    kind.evaluator(config, None, notice=told.append, stop=None).start()  # type: ignore[arg-type]
    assert len(told) == 1
    assert "x has three dimensions and is read as gray images" in told[0]


@pytest.mark.parametrize("where", ["digits", "torchvision:MNIST:here", "folder"])
def test_images_have_no_other_layout(where: str, tmp_path: Path) -> None:
    """Data that can be nothing but images are refused under another name."""
    path = save(tmp_path) if where == "folder" else where
    problem = ProblemSettings(data=str(path), layout="tables")
    for action in (data.describe, lambda p: data.load(p, TrainingSettings(), seed=0)):
        with pytest.raises(DataError, match=r"problem\.layout = 'tables', but .* are images"):
            action(problem)


# --- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 50), (1, 7), (30,), (1,)])
def test_flops_of_initial_network_and_seeds_are_those_of_fvcore(shape: tuple[int, ...]) -> None:
    """To the unit, where fvcore knows the operations: not attention and recurrence."""
    problem = image_classification(input_shape=shape, classes=3)
    for source in (problem.initial_source, *problem.seeds):
        if "GRU" in source or "Attention" in source:
            continue
        found = measure.measure(
            source, input_shape=shape, classes=3, max_params=10**7, max_flops=1e9, max_layers=99
        )
        assert found.descriptors, found.failure
        counts, _ = count_with_fvcore(build.build(source), torch.zeros(1, *shape))
        assert found.descriptors.flops == sum(counts.values())


def test_width_of_a_convolution_along_a_sequence() -> None:
    """Channels, not the length."""
    problem = image_classification(input_shape=(4, 500), classes=3)
    limits: dict[str, Any] = {"max_params": 10**7, "max_flops": 1e9, "max_layers": 99}
    found = measure.measure(problem.seeds[0], input_shape=(4, 500), classes=3, **limits)
    assert found.descriptors
    assert (found.descriptors.width, found.descriptors.depth) == (128, 9)
    assert measure._per((4, 500)) == "multiply-adds for one example"
    assert measure._per((3, 8, 8)) == "multiply-adds for one image"


def test_prompts_fit() -> None:
    """Thirteen of each; none asks for what has no meaning in a table."""
    image, sequence, table = (
        image_classification(input_shape=shape, classes=3) for shape in ((3, 8, 8), (3, 8), (8,))
    )
    assert len(image.prompts) == len(sequence.prompts) == len(table.prompts) == 13
    assert "one-dimensional convolutional" in sequence.prompts[6]
    assert [i for i in range(13) if sequence.prompts[i] != image.prompts[i]] == [6, 7]
    assert not [p for p in table.prompts if "convol" in p or "pool" in p or "recurrent" in p]
    assert image.advice == ""
    assert "(N, 3, 8)" in sequence.advice
    assert "(N, 8)" in table.advice


CONV = "self.conv1 = nn.Conv1d(4, 8, 3, padding=1)"


@pytest.mark.parametrize(
    ("shape", "layers", "steps", "rules"),
    [
        ((4, 50), [CONV, "self.fc1 = nn.Linear(99, 3)"],
         ["x = F.relu(self.conv1(x))", "x = torch.flatten(x, 1)", "return self.fc1(x)"], ["size"]),
        ((4, 50), [CONV, "self.fc1 = nn.Linear(99, 3)"],
         ["x = F.relu(self.conv1(x))", "return self.fc1(x)"], ["flatten", "size"]),
        ((4, 50), [CONV, "self.fc1 = nn.Linear(400, 3)"],
         ["x = torch.flatten(x, 1)", "x = F.relu(self.conv1(x))", "return self.fc1(x)"], ["order"]),
        ((4, 50), ["self.gru = nn.GRU(9, 8, batch_first=True)", "self.fc1 = nn.Linear(9, 3)"],
         ["x, last = self.gru(x)", "return self.fc1(x)[:, -1]"], ["size", "size"]),
        ((30,), ["self.fc1 = nn.Linear(9, 8)", "self.fc2 = nn.Linear(9, 3)"],
         ["x = F.relu(self.fc1(x))", "return self.fc2(x)"], ["size", "size"]),
        ((30,), ["self.conv1 = nn.Conv2d(30, 8, 3)", "self.fc1 = nn.Linear(8, 3)"],
         ["x = F.relu(self.conv1(x))", "return self.fc1(x)"], ["drop", "size"]),
    ],
)  # fmt: skip
def test_repair(
    shape: tuple[int, ...], layers: list[str], steps: list[str], rules: list[str]
) -> None:
    """The rules for images do on sequences and tables what their names say."""
    lines = ["super().__init__()", *layers]
    source = (
        "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
        "class Net(nn.Module):\n    def __init__(self):\n"
        + "".join(f"        {line}\n" for line in lines)
        + "    def forward(self, x):\n"
        + "".join(f"        {line}\n" for line in steps)
    )
    findings = dynamic.find(source, input_shape=shape, classes=3)
    text, _ = repair.by_findings(source, findings)
    assert [finding.rule for finding in findings] == rules
    assert build.build(text).eval()(torch.zeros(2, *shape)).shape == (2, 3)


# --- training -----------------------------------------------------------------------------------


def test_training_on_a_table_is_a_plain_loop(tmp_path: Path) -> None:
    """To the last bit: the same network, order, steps and predictions."""
    path = write(tmp_path / "d.npz", {"x": RNG.normal(5, 3, (60, 4)), "y": CLASSES})
    problem = ProblemSettings(data=str(path))
    found = data.load(problem, TrainingSettings(fitness_split="test"), seed=0)
    source = image_classification(input_shape=(4,), classes=3).initial_source
    recipe = training.Recipe(2, 16, 0.05, 0.9, seed=3, checkpoint_seconds=1e9, evaluation_batch=99)
    trained = training.train(lambda: build.build(source), images_of(found), recipe, classes=3)

    torch.manual_seed(3)
    net = build.build(source)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(3)
    x, y = torch.from_numpy(found.train.images), torch.from_numpy(found.train.labels)
    for _ in range(2):
        order = torch.randperm(len(x), generator=generator)
        for start, end in training.batches(len(x), 16):
            optimiser.zero_grad()
            chosen = order[start:end]
            nn.functional.cross_entropy(net(x[chosen]), y[chosen]).backward()
            optimiser.step()
    for mine, plain in zip(trained.network.parameters(), net.parameters(), strict=True):
        assert torch.equal(mine, plain)
    with torch.no_grad():
        expected = net(torch.from_numpy(found.test.images)).argmax(1).numpy()
    assert np.array_equal(trained.predictions[1], expected)


def images_of(found: Dataset) -> training.Images:
    arrays = data.for_training(found)
    return training.Images(**{name: torch.from_numpy(a.copy()) for name, a in arrays.items()})


class Writes(nn.Module):
    """Writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(x.mul_(2).flatten(1))
        return out


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_network_may_write_into_its_input(channels_last: bool) -> None:
    """The data stay as they are, in training and in evaluation; sequences have one layout."""
    numbers = torch.randn(24, 4, 5)
    images = training.Images(
        numbers.clone(), torch.from_numpy(LABELS), numbers[:6].clone(), numbers[:3].clone()
    )
    recipe = training.Recipe(
        1, 8, 0.01, 0.9, seed=0, checkpoint_seconds=1e9, evaluation_batch=99,
        channels_last=channels_last,
    )  # fmt: skip
    training.train(Writes, images, recipe, classes=3)
    assert torch.equal(images.train_images, numbers)
    assert torch.equal(images.validation_images, numbers[:6])
    assert torch.equal(images.test_images, numbers[:3])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6,), (6, 20)])
def test_contained_training(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Screened and trained in a contained child as anything else; and it learns."""
    numbers = RNG.normal(100, 1, (240, *shape)) + (np.arange(240) % 3).reshape(
        -1, *[1 for _ in shape]
    )
    path = write(tmp_path / "d.npz", {"x": numbers, "y": np.arange(240) % 3})
    base = Config()
    config = replace(
        base,
        problem=ProblemSettings(
            data=str(path), layout="tables" if len(shape) == 1 else "sequences"
        ),
        training=replace(base.training, epochs=20, learning_rate=0.05, device="cpu", threads=1),
    )
    screened, outcome = worker.evaluate_source(problems.problem_of(config).initial_source, config)
    assert (screened.status, outcome.status) == ("pending", "scored"), outcome.failure
    assert outcome.test_accuracy > 0.6


# --- the cache ----------------------------------------------------------------------------------


def test_an_element_looks_at_one_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    empty_cache: Path,  # noqa: F811
) -> None:
    """Once a run has begun, its folder of images may even be gone: candidates train."""
    folder = save(tmp_path / "images")
    problem = ProblemSettings(data=str(folder))
    settings = TrainingSettings(epochs=1, validation_fraction=0.25, device="cpu")
    before, digest, _ = data.checked(problem, settings, seed=0)
    shutil.rmtree(folder)
    with monkeypatch.context() as without:
        without.setattr(folders, "holds_images", None)  # nobody asks
        after, same, _ = data.checked(problem, settings, seed=0, known=digest)
    assert same == digest
    assert np.array_equal(after.train.images, before.train.images)
    source = image_classification(input_shape=(3, 6, 5), classes=3).initial_source
    one = candidate(0, source, epochs=1)
    path = task(tmp_path / "run", [one], problem=problem, training=settings, data_sha256=digest)
    assert worker.run_task(path) == 0
    found = result_of(tmp_path / "run", one)
    assert found is not None
    assert found.outcome.status == "scored", found.outcome.failure


def test_another_file_under_that_digest_is_not_believed(
    tmp_path: Path,
    empty_cache: Path,  # noqa: F811
) -> None:
    """The digest is taken again; what is damaged or false is read from the images."""
    folder = save(tmp_path / "images")
    problem, settings = ProblemSettings(data=str(folder)), TrainingSettings(validation_fraction=0.3)
    before, digest, _ = data.checked(problem, settings, seed=0)
    (file,) = empty_cache.glob("data-*")
    save(tmp_path / "others", size=(9, 9))
    data.checked(ProblemSettings(data=str(tmp_path / "others")), settings, seed=0)
    (other,) = set(empty_cache.glob("data-*")) - {file}
    for content in (other.read_bytes(), b"damaged", file.read_bytes()[:-500]):
        file.write_bytes(content)
        after, same, _ = data.checked(problem, settings, seed=0, known=digest)
        assert same == digest
        assert np.array_equal(after.train.images, before.train.images)


def test_data_are_kept_without_holding_them_twice(empty_cache: Path) -> None:  # noqa: F811
    """Writing 96 MB takes only some of them beside the data themselves."""
    labels = np.zeros(1 << 11, np.int64)
    test = Split(np.zeros((2, 128, 128, 3), np.uint8), labels[:2])
    large = splits.whole(Split(np.zeros((1 << 11, 128, 128, 3), np.uint8), labels), test, 2)
    tracemalloc.start()
    try:
        cache.kept([], lambda: large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (file,) = empty_cache.glob("data-*")
    assert file.stat().st_size > large.train.images.nbytes
    assert peak < 0.6 * large.train.images.nbytes

"""Data sets of every kind: trained on, or refused in one line before anything is generated."""

from __future__ import annotations

import struct
import threading
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import llmatic_hpc as lm
from llmatic_hpc import problems, store
from llmatic_hpc.config import Config, ProblemSettings, TrainingSettings
from llmatic_hpc.errors import DataError, Interrupted
from llmatic_hpc.evaluation import build, data, training, worker
from llmatic_hpc.evaluation.data import folders
from llmatic_hpc.rundir.paths import RunPaths

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 6, 5, 3)).astype(np.uint8)
PIXELS[0, 0, 0] = 0, 255, 128
LABELS = np.arange(24) % 3
NAMES = np.array(["cat", "dog", "emu"])
PLAIN: dict[str, Any] = {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:6],
                         "y_test": LABELS[:6]}  # fmt: skip
SHAPE = (3, 6, 5)
SIGNED = np.float32(PIXELS / 127.5 - 1)
SQUARE = np.zeros((24, 8, 8, 13), np.uint8)
NUMBERS = np.random.default_rng(1).normal(50, 20, (24, 6, 5))
"""Sequences of six channels; a column or two of a table."""


def both(images: Callable[[Any], Any] | None = None, labels: Callable[[Any], Any] | None = None):  # type: ignore[no-untyped-def]
    """The plain arrays with all images, or all labels, changed."""
    change = {"x": images or np.asarray, "y": labels or np.asarray}
    return {name: change[name[0]](array) for name, array in PLAIN.items()}


GOOD: list[tuple[str, Mapping[str, Any], tuple[int, int, int]]] = [
    ("uint8", PLAIN, SHAPE),
    ("channels first", both(lambda x: x.transpose(0, 3, 1, 2)), SHAPE),
    ("uint16", both(lambda x: x.astype(np.uint16)), SHAPE),
    ("floats to 1", both(lambda x: x / 255), SHAPE),
    ("floats from -1", both(lambda x: np.float32(x / 127.5 - 1)), SHAPE),
    ("doubles from -1", both(lambda x: x / 127.5 - 1), SHAPE),
    ("floats to 255", both(lambda x: x.astype(np.float32)), SHAPE),
    ("floats to 255 of 16 bits", both(lambda x: x.astype(np.float16)), SHAPE),
    ("float training, byte test images", PLAIN | {"x_train": PIXELS / 255}, SHAPE),
    ("labels from 1", both(labels=lambda y: y + 1), SHAPE),
    ("labels as bytes", both(labels=lambda y: y.astype(np.uint8)), SHAPE),
    ("labels as a column", both(labels=lambda y: y[:, None]), SHAPE),
    ("text", both(labels=lambda y: NAMES[y]), SHAPE),
    ("text as bytes", both(labels=lambda y: NAMES[y].astype("S")), SHAPE),
    ("one-hot", both(labels=lambda y: np.eye(3)[y]), SHAPE),
    ("one-hot booleans", both(labels=lambda y: np.eye(3, dtype=bool)[y]), SHAPE),
    ("one-hot training, numbered test labels", PLAIN | {"y_train": np.eye(3)[LABELS]}, SHAPE),
    ("in one piece", {"images": PIXELS, "labels": LABELS}, SHAPE),
    ("gray", both(lambda x: x[..., 0]), (1, 6, 5)),
    ("black and white", both(lambda x: x[..., 0] > 127), (1, 6, 5)),
    ("13 channels last", both(lambda x: SQUARE[: len(x)]), (13, 8, 8)),
    ("13 channels first", both(lambda x: SQUARE[: len(x)].transpose(0, 3, 1, 2)), (13, 8, 8)),
    ("more channels than pixels", both(lambda x: np.zeros((len(x), 64, 7, 7), int)), (64, 7, 7)),
    ("13 channels of oblongs", both(lambda x: np.zeros((len(x), 13, 20, 30), int)), (13, 20, 30)),
    ("a table as images", both(lambda x: x.reshape(len(x), 1, 90)), (1, 1, 90)),
    ("a validation split", PLAIN | {"x_val": PIXELS[:9], "y_val": LABELS[:9]}, SHAPE),
]  # fmt: skip


def numbers(change: Callable[[Any], Any] = np.asarray, **more: Any) -> dict[str, Any]:
    """Sequences, changed, in place of the plain images."""
    return both(lambda x: change(NUMBERS[: len(x)])) | more


def strange(array: np.ndarray, value: float, *place: int) -> np.ndarray:
    """A copy with another number in one place."""
    array = array.copy()
    array[place] = value
    return array


TABLE = NUMBERS[:, :, 0]
OTHERS: list[tuple[str, str, Mapping[str, Any], tuple[int, ...]]] = [
    ("a table", "auto", numbers(lambda x: x[:, :, 0]), (6,)),
    ("a table by name", "tables", numbers(lambda x: np.float32(x[:, :, 0])), (6,)),
    ("a table of whole numbers", "auto", numbers(lambda x: x[:, 0].astype(int)), (5,)),
    ("a table of bytes", "auto", both(lambda x: x[:, 0, :, 0]), (5,)),
    ("a table of truth values", "auto", numbers(lambda x: x[:, 0] > 50), (5,)),
    ("a table of halves", "auto", numbers(lambda x: np.float16(x[:, 0])), (5,)),
    ("one feature", "auto", numbers(lambda x: x[:, 0, :1]), (1,)),
    ("a constant feature", "auto", numbers(lambda x: strange(x[:, 0], 3, ..., 1)), (5,)),
    ("dates in seconds", "auto", numbers(lambda x: x[:, 0] + 1.7e9), (5,)),
    ("a table and texts", "auto", {"x": TABLE, "y": NAMES[LABELS]}, (6,)),
    ("a table's own validation", "auto",
     numbers(lambda x: x[:, 0], x_val=NUMBERS[:9, 0], y_val=LABELS[:9]), (5,)),
    ("sequences", "sequences", numbers(), (6, 5)),
    ("sequences of whole numbers", "sequences", numbers(lambda x: x.astype(np.int16)), (6, 5)),
    ("sequences of one channel", "sequences", numbers(lambda x: x[:, 0]), (1, 5)),
    ("sequences of one step", "sequences", numbers(lambda x: x[:, :, :1]), (6, 1)),
    ("a constant channel", "sequences", numbers(lambda x: strange(x, 3, ..., 1, slice(None))),
     (6, 5)),
    ("gray images", "auto", both(lambda x: x[..., 0]), (1, 6, 5)),
    ("gray images by name", "images", both(lambda x: x[..., 0]), (1, 6, 5)),
]  # fmt: skip
"""Arrays that are no images, or might be taken for others, with ``problem.layout``."""

BAD_OTHERS: list[tuple[str, str, Mapping[str, Any], str]] = [
    ("sequences as images", "auto", numbers(), 'want problem.layout = "sequences"'),
    ("a table as images", "images", numbers(lambda x: x[:, 0]), r"\(24, 5\); expected images"),
    ("images as tables", "tables", PLAIN, r"\(24, 6, 5, 3\); expected tables, \(N, features\)"),
    ("images as sequences", "sequences", PLAIN, r"expected sequences, \(N, channels, length\)"),
    ("no features", "auto", numbers(lambda x: x[:, 0, :0]), r"\(24, 0\); expected tables"),
    ("a column alone", "tables", numbers(lambda x: x[:, 0, 0]), r"\(24,\); expected tables"),
    ("not a number in a table", "auto",
     numbers(lambda x: x[:, 0]) | {"x_train": strange(NUMBERS[:, 0], np.nan, 7, 2)},
     "x_train has nan in row 7, column 2, counted from 0"),
    ("infinite in a test row", "auto",
     numbers(lambda x: x[:, 0]) | {"x_test": strange(NUMBERS[:6, 0], -np.inf, 5, 4)},
     "x_test has -inf in row 5, column 4"),
    ("not a number in a sequence", "sequences", numbers(lambda x: strange(x, np.nan, 3, 1, 2)),
     "sequence 3, channel 1, step 2"),
    ("too large a number", "auto",
     numbers(lambda x: x[:, 0]) | {"x_test": strange(NUMBERS[:6, 0], 1e300, 2, 0)},
     "test part has inf in row 2, column 0.*too large"),
    ("a table of texts", "auto", numbers(lambda x: x[:, 0].astype(str)), "x_train holds <U"),
    ("a table of complex numbers", "auto", numbers(lambda x: x[:, 0] * 1j), "complex128"),
    ("a target of numbers", "auto",
     numbers(lambda x: x[:, 0]) | {"y_train": NUMBERS[:, 0, 0]}, "float64, as for regression"),
    ("other features", "auto", numbers(lambda x: x[:, 0]) | {"x_test": NUMBERS[:6, 0, :3]},
     "training rows of shape .* test rows"),
    ("fewer labels than rows", "auto", numbers(lambda x: x[:, 0]) | {"y_test": LABELS[:5]},
     "6 rows but 5 labels"),
]  # fmt: skip

BAD: list[tuple[str, Mapping[str, Any], str]] = [
    ("one number for all labels", both() | {"y_train": np.array(3)}, "y_train is .* without a len"),
    ("one number for all images", both() | {"x_test": np.array(3)}, "x_test is .* without a len"),
    ("videos", both(lambda x: x[:, None]), r"\(24, 1, 6, 5, 3\); expected images"),
    ("a cube", both(lambda x: np.zeros((len(x), 9, 9, 9))), "channels can be told"),
    ("no pixels", both(lambda x: x[:, :0]), "expected images"),
    ("a regression target", both(labels=lambda y: y / 7), "float64, as for regression"),
    ("several labels", both(labels=lambda y: np.ones((len(y), 3), int)), "not a single 1"),
    ("soft labels", both(labels=lambda y: np.full((len(y), 2), 0.5)), "not a single 1"),
    ("missing classes", both(labels=lambda y: y * 2), "no example of class 1"),
    ("a missing class of those from 1", both(labels=lambda y: y + 1 + (y == 2)),
     "no example of class 3, but one of class 4; expected the labels 1 to K"),
    ("text in Latin-1", PLAIN | {"y_train": np.array([b"dog", b"caf\xe9"])[LABELS % 2]},
     r"y_train has label b'caf\\xe9', which is no text in UTF-8"),
    ("negative labels", both(labels=lambda y: y - 1), "from -1 to 1; expected 0 to K-1"),
    ("one class", both(labels=lambda y: y * 0), "at least 2"),
    ("fewer labels", PLAIN | {"y_train": LABELS[:20]}, "24 images but 20 labels"),
    ("an unknown label", PLAIN | {"y_test": np.full(6, 7)}, "y_test has label 7, but .* 0 to 2"),
    ("a test label 0", PLAIN | {"y_train": LABELS + 1}, "label 0, but .* 1 to 3"),
    ("an unknown text", both(labels=lambda y: NAMES[y]) | {"y_test": np.full(6, "fox")}, "'fox'"),
    ("text and numbers", PLAIN | {"y_test": NAMES[LABELS[:6]]}, "text, the training labels are"),
    ("no test images", PLAIN | {"x_test": PIXELS[:0], "y_test": LABELS[:0]}, "0 test images"),
    ("another size", PLAIN | {"x_test": PIXELS[:6, :4]}, "of one shape"),
    ("not a number", both(lambda x: x * np.nan), "from nan to nan; expected"),
    ("infinite", both(lambda x: np.where(x > 9, np.inf, x)), "expected uint8"),
    ("floats to 1000", both(lambda x: x * 4.0), "from 0.0 to 1020.0; expected uint8"),
    ("floats to 2", both(lambda x: x / 127), "from 0.0 to 2.0.*; expected uint8"),
    ("floats to 16", both(lambda x: np.rint(x / 255 * 16)), "from 0.0 to 16.0; .*with 128 or more"),
    ("standardized", both(lambda x: (x / 1.0 - 127) / 64), "from -1.98.* to 2.0; expected uint8"),
    ("wide integers", both(lambda x: x.astype(int) * 200), "from 0 to 51000; expected uint8"),
    ("a test range of its own", PLAIN | {"x_train": PIXELS / 255, "x_test": SIGNED[:6]},
     r"x_test holds float32 .*\(0 to 1 here\)"),
    ("complex", both(lambda x: x * 1j), "complex128"),
    ("half a validation split", PLAIN | {"x_val": PIXELS}, "has no y_val"),
    ("other names", {"pixels": PIXELS}, "holds pixels, but needs"),
]  # fmt: skip


def load(path: Path | str, split: str = "test") -> data.Dataset:
    training = TrainingSettings(fitness_split=split, validation_fraction=0.25)
    return data.load(ProblemSettings(data=str(path)), training, seed=3)


def described(path: Path | str) -> tuple[tuple[int, ...], int]:
    return data.describe(ProblemSettings(data=str(path)))


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(("content", "shape"), [c[1:] for c in GOOD], ids=[c[0] for c in GOOD])
def test_accepted_arrays(
    tmp_path: Path, content: Mapping[str, Any], shape: tuple[int, ...], suffix: str
) -> None:
    """Shape and classes, by the images as by a look at the file; and every pixel and label."""
    path = write(tmp_path / f"data{suffix}", content)
    found = load(path)
    assert (found.input_shape, found.classes) == (shape, 3) == described(path)
    if "images" not in content:
        assert np.array_equal(found.train.labels, LABELS)
        assert np.array_equal(found.test.labels, LABELS[:6])
    if shape == SHAPE and "images" not in content:
        assert np.array_equal(found.train.images, PIXELS)
        assert np.array_equal(found.test.images, PIXELS[:6])


def begin(path: Path, layout: str, folder: Path) -> Config:
    """Do what ``llmatic run`` does before it generates anything, and be told to stop there."""
    config = Config()
    network = replace(config.archive.network, cells=4)
    config = replace(
        config,
        archive=replace(config.archive, network=network, samples=100),
        problem=ProblemSettings(data=str(path), layout=layout),
        training=TrainingSettings(epochs=1, batch=8, fitness_split="test", device="cpu"),
    )
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        lm.run(config, folder, stop=stop)
    return config


REFUSED = [(name, "auto", *case) for name, *case in BAD] + BAD_OTHERS


@pytest.mark.parametrize(
    ("layout", "content", "message"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_refused_at_the_start(
    tmp_path: Path, layout: str, content: Mapping[str, Any], message: str
) -> None:
    """One line that names the file, what was found and what is expected; there is no run."""
    path = write(tmp_path / "data.npz", content)
    with pytest.raises(DataError, match=message) as caught:
        begin(path, layout, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["coordinator.lock"]


ACCEPTED = [(name, "auto", *case) for name, *case in GOOD] + OTHERS


@pytest.mark.parametrize(
    ("layout", "content", "shape"), [c[1:] for c in ACCEPTED], ids=[c[0] for c in ACCEPTED]
)
def test_trained_on(
    tmp_path: Path, layout: str, content: Mapping[str, Any], shape: tuple[int, ...]
) -> None:
    """A run begins, and its initial network learns from what a child would be given."""
    config = begin(write(tmp_path / "data.npz", content), layout, tmp_path / "run")
    record = store.load(RunPaths(tmp_path / "run").record)
    found = data.load(config.problem, config.training, seed=0)
    problem = problems.problem_of(config)
    assert found.input_shape == problem.input_shape == shape
    assert len(problem.prompts) == 13
    arrays = {name: torch.from_numpy(a) for name, a in data.for_training(found).items()}
    recipe = training.Recipe(1, 8, 0.01, 0.9, seed=0, checkpoint_seconds=1e9, evaluation_batch=9)
    trained = training.train(
        lambda: build.build(problem.initial_source), training.Images(**arrays), recipe, classes=3
    )
    assert trained.train_loss is not None
    assert 0 < trained.train_loss < 100
    assert [len(one) for one in trained.predictions] == [0, len(found.test)]
    assert data.checked(config.problem, config.training, seed=9)[1] == record.data_sha256


def write(path: Path, content: Mapping[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **content)
        return path
    with h5py.File(path, "w") as file:
        for name, array in content.items():
            is_text = array.dtype.kind == "U"
            file.create_dataset(
                name, data=array.astype(object) if is_text else array,
                dtype=h5py.string_dtype() if is_text else None,
            )  # fmt: skip
    return path


def test_a_validation_split_of_its_own_is_the_one(tmp_path: Path) -> None:
    """Nothing is taken from the training images; left out where tests decide."""
    path = write(tmp_path / "data.npz", PLAIN | {"x_val": PIXELS[9:18], "y_val": LABELS[9:18]})
    found = load(path, "validation")
    assert np.array_equal(found.validation.images, PIXELS[9:18])
    assert len(found.train) == 24
    assert len(load(path).validation) == 0


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, beside its folders."""
    folder = tmp_path.with_name(f"{tmp_path.name}-cache")
    monkeypatch.setenv("LLMATIC_CACHE", str(folder))
    return folder


# --- folders of images --------------------------------------------------------------------------


def save(folder: Path, *, name: str = "{}.png", size: tuple[int, int] = (5, 6), **how: Any) -> Path:
    """Eight images of each of three classes."""
    for index, label in enumerate(LABELS):
        file = folder / NAMES[label] / name.format(index)
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(PIXELS[index]).convert(how.get("mode", "RGB"))
        image.resize(size).save(file)
    return folder


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val", "test"), ("train",), ("",)])
def test_folders_of_images(tmp_path: Path, parts: tuple[str, ...]) -> None:
    """Every pixel of a PNG; what has no test folder is divided."""
    for part in parts:
        save(tmp_path / part)
    found = load(tmp_path, "validation" if "val" in parts else "test")
    assert (found.input_shape, found.classes) == (SHAPE, 3) == described(tmp_path)
    whole = "test" in parts
    assert (len(found.train), len(found.test)) == ((24, 24) if whole else (19, 5))
    assert len(found.validation) == (24 if "val" in parts else 0)
    of_cats = {image.tobytes() for image in found.train.images[found.train.labels == 0]}
    assert of_cats <= {image.tobytes() for image in PIXELS[LABELS == 0]}
    assert data.fetch(ProblemSettings(data=str(tmp_path))) == str(tmp_path)


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        ({"name": "{}.jpg"}, SHAPE),
        ({"mode": "L"}, (1, 6, 5)),
        ({"mode": "1"}, (1, 6, 5)),
        ({"mode": "P"}, SHAPE),
        ({"mode": "RGBA"}, SHAPE),
    ],
)
def test_kinds_of_images(tmp_path: Path, how: dict[str, Any], shape: tuple[int, ...]) -> None:
    """JPEG; gray, of two colours, with a palette, with alpha."""
    assert load(save(tmp_path, **how)).input_shape == shape


def test_images_of_several_sizes(tmp_path: Path) -> None:
    """All get the median size of those for training."""
    save(tmp_path / "train")
    save(tmp_path / "test", size=(9, 9))
    save(tmp_path / "train", name="{}-large.png", size=(30, 40))
    save(tmp_path / "train", name="{}-again.png")
    found = load(tmp_path)
    assert found.input_shape == SHAPE
    assert len(found.train) == 72


def test_images_are_read_once(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a file changes; a damaged cache is made anew, and one that is no folder left out."""
    save(tmp_path)
    first = load(tmp_path)
    with monkeypatch.context() as without:
        without.setattr(folders, "_pixels", None)
        assert np.array_equal(load(tmp_path).train.images, first.train.images)
        Image.fromarray(255 - PIXELS[0]).save(tmp_path / "cat" / "0.png")
        with pytest.raises(TypeError):
            load(tmp_path)
    assert not np.array_equal(load(tmp_path).train.images, first.train.images)
    kept = sorted(empty_cache.glob("data-*"))
    assert len(kept) == 2
    again = load(tmp_path)
    for file in kept:
        file.write_bytes(file.read_bytes()[:1000])
    assert np.array_equal(load(tmp_path).train.images, again.train.images)
    monkeypatch.setenv("LLMATIC_CACHE", str(kept[0]))
    assert np.array_equal(load(tmp_path).train.images, again.train.images)


def test_a_folder_with_cifar10_is_that(tmp_path: Path) -> None:
    """It may hold anything else beside."""
    (save(tmp_path) / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="CIFAR-10 is damaged or incomplete"):
        load(tmp_path)


def test_images_of_a_folder_are_in_memory_once(tmp_path: Path) -> None:
    """Reading needs little more memory than its result."""
    for part in ("train", "test"):
        save(tmp_path / part, size=(200, 150))
    files = {part: folders._files(tmp_path / part) for part in ("train", "test")}
    files["test"] = files["test"][::8]
    folders._converted(files, tmp_path)
    tracemalloc.start()
    try:
        found = folders._converted(files, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * (found.train.images.nbytes + found.test.images.nbytes)


@pytest.mark.parametrize("layout", ["training", "images/train"])
def test_folders_of_another_layout(tmp_path: Path, layout: str) -> None:
    """Layouts that are accepted are named, and no CIFAR-10 is fetched beside the images."""
    save(tmp_path / layout)
    for action in (load, described, lambda path: data.fetch(ProblemSettings(data=str(path)))):
        with pytest.raises(DataError, match="CLASS/FILE, or as train/CLASS/FILE") as caught:
            action(tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="CLASS/FILE, or as train/CLASS/FILE"):
        load(tmp_path / "none")


def test_refused_folders(tmp_path: Path) -> None:
    """A damaged image, one of 16 bits, a class without images, a class for testing alone."""
    folder = save(tmp_path / "damaged")
    (folder / "cat" / "0.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"cat/0\.png: no image that can be read"):
        load(folder)
    folder = save(tmp_path / "deep")
    Image.fromarray(PIXELS[0, :, :, 0].astype(np.uint16)).save(folder / "cat" / "0.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        load(folder)
    folder = save(tmp_path / "empty")
    (folder / "yak").mkdir()
    with pytest.raises(DataError, match="yak"):
        load(folder)
    save(tmp_path / "other" / "train")
    (save(tmp_path / "other" / "test") / "cat").rename(tmp_path / "other" / "test" / "fox")
    with pytest.raises(DataError, match="'fox', which no training example has"):
        load(tmp_path / "other")


# --- torchvision's data sets by name --------------------------------------------------------------


def idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_data_by_name(tmp_path: Path, name: str) -> None:
    """As torchvision keeps them."""
    for part in ("train", "t10k"):
        idx(tmp_path / name / "raw" / f"{part}-images-idx3-ubyte", PIXELS[..., 0])
        idx(tmp_path / name / "raw" / f"{part}-labels-idx1-ubyte", LABELS)
    found = load(f"torchvision:{name}:{tmp_path}")
    assert np.array_equal(found.train.images, PIXELS[..., :1])
    assert described(f"torchvision:{name}:{tmp_path}") == ((1, 6, 5), 3)


def test_names_that_are_none(tmp_path: Path) -> None:
    """Known names are told; what is not there is to be fetched."""
    for wrong in ("torchvision:ImageNet:data", "torchvision:MNIST", "torchvision:"):
        with pytest.raises(DataError, match="NAME one of CIFAR10, CIFAR100, MNIST"):
            load(wrong)
    with pytest.raises(DataError, match=r"damaged or incomplete .*llmatic prefetch CONFIG"):
        load(f"torchvision:SVHN:{tmp_path}")


def test_a_network_is_trained_on_what_is_new(tmp_path: Path) -> None:
    """Many channels, labels as text, floating point from -1: measured, trained and scored."""
    random = np.random.default_rng(1)
    images = np.float32(random.uniform(-1, 1, (60, 8, 8, 6)))
    path = write(tmp_path / "data.npz", {"images": images, "labels": NAMES[np.arange(60) % 3]})
    base = Config()
    config = replace(
        base,
        problem=ProblemSettings(data=str(path)),
        training=replace(base.training, epochs=1, device="cpu", threads=1),
    )
    initial = problems.problem_of(config).initial_source
    screened, outcome = worker.evaluate_source(initial, config)
    assert (screened.status, outcome.status) == ("pending", "scored"), outcome.failure

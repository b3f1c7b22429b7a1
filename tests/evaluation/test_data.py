"""Reading, checking and splitting real and small made images."""

from __future__ import annotations

import hashlib
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmatic_hpc.config import ProblemSettings, TrainingSettings
from llmatic_hpc.errors import DataError
from llmatic_hpc.evaluation import data

TRAINING = TrainingSettings()
ON_TEST = TrainingSettings(fitness_split="test")
RNG = np.random.default_rng(0)


def load(path: Path | str, training: TrainingSettings = ON_TEST, **problem: Any) -> data.Dataset:
    return data.load(ProblemSettings(data=str(path), **problem), training, seed=3)


def arrays(count: int = 40, shape: tuple[int, ...] = (6, 5, 3), classes: int = 4) -> dict[str, Any]:
    images = RNG.integers(0, 256, (count, *shape)).astype(np.uint8)
    labels = np.arange(count) % classes
    return {"x_train": images, "y_train": labels, "x_test": images[:8], "y_test": labels[:8]}


def npz(path: Path, **content: Any) -> Path:
    np.savez(path / "data.npz", **content)
    return path / "data.npz"


def test_digits_are_the_real_ones() -> None:
    """1,797 images in all, each pixel repeated four times in three equal channels."""
    sklearn = pytest.importorskip("sklearn.datasets")
    found = load("digits")
    assert (len(found.train), len(found.test), len(found.validation)) == (1437, 360, 0)
    assert found.input_shape == (3, 32, 32)
    assert (
        data.describe(ProblemSettings()) == (found.input_shape, found.classes) == ((3, 32, 32), 10)
    )
    images = np.concatenate([found.train.images, found.test.images])
    assert (images == images[..., :1]).all()
    small = images[:, ::4, ::4, 0]
    assert (small.repeat(4, 1).repeat(4, 2) == images[..., 0]).all()
    theirs = sklearn.load_digits()
    original = np.rint(theirs.images * (255 / 16)).astype(np.uint8)
    labels = np.concatenate([found.train.labels, found.test.labels])
    ours = sorted((i.tobytes(), int(k)) for i, k in zip(small, labels, strict=True))
    pairs = zip(original, theirs.target, strict=True)
    assert ours == sorted((i.tobytes(), int(k)) for i, k in pairs)


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r'pip install "llmatic-hpc\[quickstart\]"'):
        load("digits")


def test_real_cifar10_in_one_file(test_data: Path) -> None:
    """Groups train and test of an HDF5 file; a stratified subset and validation split."""
    path = test_data / "cifar10.h5"
    found = load(path, TRAINING, train_images=2000, test_images=500)
    assert (len(found.train), len(found.validation), len(found.test)) == (1800, 200, 500)
    assert data.describe(ProblemSettings(data=str(path))) == ((3, 32, 32), 10)
    assert np.bincount(found.train.labels).tolist() == [180] * 10
    assert np.bincount(found.validation.labels).tolist() == [20] * 10
    with h5py.File(path) as file:
        train = {i.tobytes() for i in file["train/images"][:]}
        test = {i.tobytes() for i in file["test/images"][:]}
    assert {i.tobytes() for i in (*found.train.images, *found.validation.images)} <= train
    assert {i.tobytes() for i in found.test.images} <= test


def test_seeds_change_the_validation_split_and_nothing_else(tmp_path: Path) -> None:
    """Every run of a configuration is tested on the same images."""
    path = npz(tmp_path, **arrays(200))
    problem = ProblemSettings(data=str(path), train_images=100, test_images=4)
    one, same, other = (data.load(problem, TRAINING, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.validation.images, same.validation.images)
    assert not np.array_equal(one.validation.images, other.validation.images)
    assert np.array_equal(one.test.images, other.test.images)

    def everything(found: data.Dataset) -> list[bytes]:
        both = np.concatenate([found.train.images, found.validation.images])
        return sorted(i.tobytes() for i in both)

    assert everything(one) == everything(other)


def test_no_label_of_validation_or_test_reaches_a_child(tmp_path: Path) -> None:
    """The shared part has images of all splits, and labels of the training split alone."""
    found = load(npz(tmp_path, **arrays()), TRAINING)
    shared = data.for_training(found)
    assert sorted(shared) == ["test_images", "train_images", "train_labels", "validation_images"]
    assert len(shared["train_labels"]) == len(found.train)
    assert shared["test_images"].shape == (8, 3, 6, 5)
    assert np.array_equal(shared["test_images"][1, 2], found.test.images[1, :, :, 2])


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 5), (1, 6, 5)),
        ((6, 5, 1), (1, 6, 5)),
        ((6, 5, 3), (3, 6, 5)),
        ((3, 6, 5), (3, 6, 5)),
        ((1, 6, 5), (1, 6, 5)),
    ],
)
def test_layouts(
    tmp_path: Path, suffix: str, shape: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    """Gray, channels first, channels last; ``describe`` agrees without reading images."""
    content = arrays(shape=shape)
    path = npz(tmp_path, **content)
    if suffix == ".h5":
        path = tmp_path / "data.h5"
        with h5py.File(path, "w") as file:
            for name, array in content.items():
                file[name] = array
    found = load(path)
    assert found.input_shape == expected
    assert found.classes == 4
    assert data.describe(ProblemSettings(data=str(path))) == (expected, 4)
    plane = content["x_train"].reshape(-1, *shape)[7]
    assert np.sort(plane.ravel()).tolist() == np.sort(found.train.images[7].ravel()).tolist()


def test_images_in_one_piece_get_a_fixed_stratified_test_split(tmp_path: Path) -> None:
    """Every class gives a fifth."""
    content = arrays(100)
    path = npz(tmp_path, images=content["x_train"], labels=content["y_train"])
    found = load(path)
    assert np.bincount(found.test.labels).tolist() == [5] * 4
    assert len(found.train) == 80
    assert np.array_equal(load(path).test.images, found.test.images)


def test_numbers_become_bytes(tmp_path: Path) -> None:
    """Floating point from 0 to 1 and wide integers give the same images as uint8."""
    content = arrays()
    for convert in (lambda x: x / 255.0, lambda x: x.astype(np.int32)):
        changed = {k: convert(v) if k[0] == "x" else v for k, v in content.items()}
        found = load(npz(tmp_path, **changed))
        assert np.array_equal(found.train.images, content["x_train"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": np.arange(40) % 4 + 1}, "label 0, but the training labels are 1 to 4"),
        ({"y_train": np.arange(40) % 4 * 2}, "no example of class 1"),
        ({"y_train": np.zeros(40, int)}, "at least 2"),
        ({"y_train": np.arange(40) % 4 - 1}, "-1 to 2"),
        ({"y_train": np.arange(40) % 4 / 1.0}, "float64"),
        ({"y_train": np.arange(39) % 4}, "40 images but 39 labels"),
        ({"y_test": np.full(8, 9)}, "label 9"),
        ({"x_train": np.full((40, 6, 5, 3), 2.5)}, "0 to 1"),
        ({"x_train": np.full((40, 6, 5, 3), 300)}, "0 to 255"),
        ({"x_train": np.full((40, 6, 5, 3), np.nan)}, "0 to 1"),
        ({"x_train": np.zeros((40, 7))}, "shape"),
        ({"x_train": np.zeros((40, 6, 5, 3), complex)}, "complex"),
        ({"x_test": np.zeros((8, 4, 5, 3), np.uint8)}, "one shape"),
        ({"x_test": np.zeros((0, 6, 5, 3), np.uint8), "y_test": np.zeros(0, int)}, "0 test"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """File, array, what it holds and what is expected, in one line."""
    path = npz(tmp_path, **(arrays() | change))
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Missing, damaged, of another kind, with other keys, full of pickles."""
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 not really")
    (tmp_path / "bad.h5").write_bytes(b"no")
    np.savez(tmp_path / "keys.npz", a=np.zeros(3))
    np.savez(tmp_path / "objects.npz", images=np.array([{}], dtype=object), labels=np.array([0, 1]))
    for name, message in [
        ("none.npz", "no such file"),
        ("none", "no such file or folder"),
        ("bad.npz", "cannot be read"),
        ("bad.h5", "cannot be read"),
        ("keys.npz", "holds a, but needs"),
        ("objects.npz", "cannot be read"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            load(tmp_path / name)
        assert name in str(caught.value)
        with pytest.raises(DataError):
            data.describe(ProblemSettings(data=str(tmp_path / name)))


def test_a_digest_of_content(tmp_path: Path) -> None:
    """The same in another file and for any choice among the images; another for other labels."""
    content = arrays()
    path, other = npz(tmp_path, **content), tmp_path / "same.h5"
    with h5py.File(other, "w") as file:
        for name, array in content.items():
            file[name] = array / 255.0 if name[0] == "x" else array

    def digest(path: Path, training: TrainingSettings = ON_TEST, **problem: Any) -> str:
        return data.checked(ProblemSettings(data=str(path), **problem), training, seed=4)[1]

    found = digest(path)
    assert found == digest(other) == digest(path, TRAINING, train_images=20)
    assert found != digest(npz(tmp_path, **content | {"y_test": content["y_test"][::-1]}))


def test_too_few_images_for_a_validation_split(tmp_path: Path) -> None:
    """The setting is named."""
    path = npz(tmp_path, **arrays())
    with pytest.raises(DataError, match=r"validation_fraction = 0.001"):
        load(path, replace(TRAINING, validation_fraction=0.001))


def test_cifar10_in_torchvisions_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read through torchvision, checksums and all; both the folder and its parent may be named."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    pixels = RNG.integers(0, 256, (20, 3072)).astype(np.uint8)
    for name, kind in [("data_batch_1", "train_list"), ("test_batch", "test_list")]:
        content = pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(20)]})
        (folder / name).write_bytes(content)
        lists[kind].append([name, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({"label_names": [str(i) for i in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(CIFAR10, "train_list", lists["train_list"])
    monkeypatch.setattr(CIFAR10, "test_list", lists["test_list"])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": hashlib.md5(meta).hexdigest()})
    for path in (tmp_path, folder):
        found = load(path)
        assert (found.input_shape, found.classes, len(found.train)) == ((3, 32, 32), 10, 20)
        assert np.array_equal(found.train.images[3].transpose(2, 0, 1).ravel(), pixels[3])
        assert data.describe(ProblemSettings(data=str(path))) == ((3, 32, 32), 10)
    (folder / "test_batch").write_bytes(b"damaged")
    with pytest.raises(DataError, match="llmatic prefetch CONFIG"):
        load(tmp_path)


def test_a_folder_without_cifar10_says_how_to_get_it(tmp_path: Path) -> None:
    """Neither reading nor describing guesses."""
    for action in (load, lambda p: data.describe(ProblemSettings(data=str(p)))):
        with pytest.raises(DataError, match="llmatic prefetch CONFIG"):
            action(tmp_path)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.data(), st.integers(0, 9))
def test_stratified_choices_are_as_even_as_they_can_be(
    labels: list[int], choose: st.DataObject, seed: int
) -> None:
    """The right number, no position twice, and no class off its share by one or more."""
    array = np.array(labels)
    count = choose.draw(st.integers(0, len(labels)))
    chosen = data.stratified(array, count, np.random.default_rng(seed))
    assert len(chosen) == len(set(chosen.tolist())) == count
    for label in set(labels):
        share = count * labels.count(label) / len(labels)
        assert abs(int((array[chosen] == label).sum()) - share) < 1

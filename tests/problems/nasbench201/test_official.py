"""The official files: every number as the official API has it, and nothing else gets in."""

from __future__ import annotations

import bz2
import math
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from llmatic_hpc.errors import DataError
from llmatic_hpc.problems.nasbench201.official import files as official
from llmatic_hpc.problems.nasbench201.official.files import OfficialCell, Trainings

from .official_files import FOLDER, INDICES, KINDS, benchmark, pack, torch_zip, trim, unpacked

OFFICIAL_NAMES = {
    "cifar10": ("cifar10-valid", "cifar10"),
    "cifar100": ("cifar100", "cifar100"),
    "imagenet16_120": ("ImageNet16-120", "ImageNet16-120"),
}


@pytest.fixture(scope="session")
def folder(test_data: Path) -> Path:
    """The published folder: meta and the cells 0, 11 and 284."""
    return test_data / FOLDER


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may spoil."""
    copy = tmp_path / "own"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    copy.chmod(0o755)
    return copy


@pytest.fixture(scope="session")
def expected(folder: Path) -> list[OfficialCell]:
    """Values of the published folder."""
    return read(folder)


def read(source: Path) -> list[OfficialCell]:
    return list(official.read(source).cells)


# --- the numbers ------------------------------------------------------------------------------


def test_every_number_is_that_of_the_official_api(
    folder: Path, expected: list[OfficialCell]
) -> None:
    """Means, single runs and times, to the last bit."""
    nats_bench = pytest.importorskip("nats_bench")
    api = nats_bench.create(str(folder), "tss", fast_mode=True, verbose=False)
    cells = expected
    assert [cell.index for cell in cells] == list(INDICES)
    for cell in cells:
        assert cell.architecture == api.arch(cell.index)
        for name, (valid, test) in OFFICIAL_NAMES.items():

            def ask(dataset: str, epochs: str, of: int | bool = False, i: int = cell.index) -> Any:
                return api.get_more_info(i, dataset, hp=epochs, is_random=of)

            single = "valid-accuracy" if name == "cifar10" else "valtest-accuracy"
            seeds = api.query_meta_info_by_index(cell.index, "200").get_dataset_seeds(valid)
            assert len(seeds) == cell.runs
            assert cell.datasets[name] == Trainings(
                valid=ask(valid, "200")["valid-accuracy"],
                test=ask(test, "200")["test-accuracy"],
                per_run=tuple(ask(valid, "200", seed)[single] for seed in official.SEEDS),
                valid_12=ask(valid, "12")["valid-accuracy"],
                test_12=ask(test, "12")["test-accuracy"],
                seconds=ask(valid, "200")["train-all-time"],
            )


def test_every_number_is_that_of_the_table(expected: list[OfficialCell], test_data: Path) -> None:
    """The compact table was joined from other publications of the same benchmark."""
    columns = ("valid_acc", "test_acc", "per_run", "train_time_200ep_s", "valid_acc_12ep",
               "test_acc_12ep")  # fmt: skip
    with h5py.File(test_data / "nasbench201.h5") as file:
        for cell in expected:
            assert file["arch_str"][cell.index].decode() == cell.architecture
            assert file["n_seeds"][cell.index] == cell.runs
            for name, found in cell.datasets.items():
                for column, value in zip(columns, astuple(found), strict=True):
                    if column == "per_run":
                        start = "valid" if name == "cifar10" else "valtest"
                        column = f"{start}_acc_per_run"
                    published = file[name][column][cell.index]
                    assert np.allclose(np.float32(value), published, rtol=2e-7, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_says_the_same(
    kind: str, folder: Path, expected: list[OfficialCell], tmp_path: Path
) -> None:
    """The folder, the single file, both formats of torch.save and plain pickles."""
    save, renamed = KINDS[kind]
    save(tmp_path / kind, benchmark(folder, renamed=renamed))
    done: list[float] = []
    found = official.read(tmp_path / kind, done.append)
    assert (found.name, found.total, found.count) == (kind, 15_625, 3)
    assert list(found.cells) == expected
    assert done == sorted(done)
    assert done[-1] == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_passed_over(
    kind: str, folder: Path, expected: list[OfficialCell], tmp_path: Path
) -> None:
    """Tensors, large and small, in a run; also where the pickle holds their bytes."""
    import torch

    save, renamed = KINDS[kind]
    found = trim(benchmark(folder, renamed=renamed))
    for results in found["arch2infos"][0].values():
        run = results["all_results"]["cifar100", results["dataset_seed"]["cifar100"][0]]
        run["net_state_dict"] = torch.nn.Sequential(
            torch.nn.Linear(200, 200), torch.nn.BatchNorm1d(200)
        ).state_dict()
        run["params"] = np.zeros(3)
    save(tmp_path / kind, found)
    assert read(tmp_path / kind) == expected


@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_of_the_api(
    protocol: int, folder: Path, expected: list[OfficialCell], tmp_path: Path
) -> None:
    """ArchResults and ResultsCount themselves, by the names of either package."""
    nats_bench = pytest.importorskip("nats_bench.api_utils")
    found = trim(benchmark(folder))
    for cell in found["arch2infos"].values():
        for key in cell:
            cell[key] = nats_bench.ArchResults.create_from_state_dict(cell[key])
    data = pickle.dumps(found, protocol)
    path = tmp_path / "objects.pkl"
    path.write_bytes(data)
    assert read(path) == expected
    if protocol == 2:
        path.write_bytes(data.replace(b"nats_bench.api_utils", b"nas_201_api.api_utils"))
        assert read(path) == expected


def change_runs(found: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    for cell in found["arch2infos"].values():
        for results in cell.values():
            change(results)
    return found


def test_fewer_runs(folder: Path, tmp_path: Path) -> None:
    """Means are over the runs there are; the others are NaN."""

    def change(results: dict[str, Any]) -> None:
        for dataset, seeds in results["dataset_seed"].items():
            results["dataset_seed"][dataset] = [seed for seed in seeds if seed != 888]

    path = pack(tmp_path / "x.pickle.pbz2", change_runs(trim(benchmark(folder)), change))
    for cell in read(path):
        assert cell.runs == 2
        for found in cell.datasets.values():
            assert [math.isnan(run) for run in found.per_run] == [False, True, False]
        assert cell.datasets["cifar10"].valid == pytest.approx(
            (cell.datasets["cifar10"].per_run[0] + cell.datasets["cifar10"].per_run[2]) / 2
        )


def test_what_the_oldest_file_lacks(folder: Path, tmp_path: Path) -> None:
    """12-epoch accuracies beyond cifar10-valid, and times, are NaN where there are none."""
    found = trim(benchmark(folder, renamed=True))
    for cell in found["arch2infos"].values():
        cell["less"]["dataset_seed"] = {"cifar10-valid": [777]}
        for run in cell["full"]["all_results"].values():
            run["train_times"] = None
    path = tmp_path / "nasbench201.pkl"
    path.write_bytes(pickle.dumps(found, 4))
    for cell in read(path):
        assert all(math.isnan(results.seconds) for results in cell.datasets.values())
        assert all(math.isnan(results.test_12) for results in cell.datasets.values())
        assert not math.isnan(cell.datasets["cifar10"].valid_12)
        assert math.isnan(cell.datasets["cifar100"].valid_12)


def test_nothing_is_imported(folder: Path, tmp_path: Path) -> None:
    """Neither torch nor the official package is needed, whatever the file names."""
    paths = [folder]
    for kind, (save, renamed) in KINDS.items():
        save(tmp_path / kind, trim(benchmark(folder, renamed=renamed)))
        paths.append(tmp_path / kind)
    code = (
        "import sys; from pathlib import Path; "
        "from llmatic_hpc.problems.nasbench201.official import files as official; "
        "print([len(list(official.read(Path(path)).cells)) for path in sys.argv[1:]]); "
        "print({'torch', 'nats_bench', 'numpy', 'pickle'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    counts, modules = done.stdout.splitlines()
    assert counts == str([3] * len(paths))
    assert modules in ("set()", "{'pickle'}")  # pickletools imports it


# --- what is refused --------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch poisoned",)


def poison(found: Any) -> Any:
    """Hidden among the weights of one run."""
    cell = next(iter(found["arch2infos"].values())) if "arch2infos" in found else found
    results = next(iter(cell.values()))
    next(iter(results["all_results"].values()))["net_state_dict"] = Evil()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_poisoned_files(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poisoned files of any kind are refused, by name, and do nothing."""
    monkeypatch.chdir(tmp_path)
    save, renamed = KINDS[kind]
    path = tmp_path / kind
    save(path, poison(trim(benchmark(folder, renamed=renamed))))
    with pytest.raises(DataError, match=rf"{kind}.*posix\.system.*run code"):
        read(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_poisoned_cell(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named, and the cells before it were read."""
    monkeypatch.chdir(own)
    path = own / "000011.pickle.pbz2"
    pack(path, poison(unpacked(path)))
    cells = official.read(own).cells
    assert next(cells).index == 0
    with pytest.raises(DataError, match=r"000011\.pickle\.pbz2.*posix\.system"):
        next(cells)
    pack(own / "meta.pickle.pbz2", Evil())
    with pytest.raises(DataError, match=r"meta\.pickle\.pbz2.*posix\.system"):
        official.read(own)
    assert not (own / "poisoned").exists()


def set_in(cell: Any, *keys: Any, to: Any) -> None:
    for key in keys[:-1]:
        cell = cell[key]
    cell[keys[-1]] = to


RUN = ("200", "all_results", ("cifar100", 888))
SPOILED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "another string": (("200", "arch_str"), "|none~0|", r"cell 11: is \|none~0\| here"),
    "another index": (("12", "arch_index"), 12, "says that it is cell 12"),
    "no string": (("200", "arch_str"), None, "lacks arch_index or arch_str"),
    "no results": (("200",), {"arch_index": 11, "arch_str": "x"}, "cell 11: lacks dataset_seed"),
    "no long training": (("200",), None, "cell 11: has no results of 200 epochs"),
    "lost run": (RUN, None, "cell 11: lacks the run of 200 epochs on cifar100, seed=888"),
    "lost epochs": ((*RUN, "epochs"), 100, "lacks the run of 200 epochs"),
    "lost accuracy": ((*RUN, "eval_acc1es"), {"x-valid@198": 1.0}, "cifar100, x-valid, after 200"),
    "above 100": ((*RUN, "eval_acc1es", "x-test@199"), 100.5, "cell 11: 100.5 is no accuracy"),
    "not a number": ((*RUN, "eval_acc1es", "x-test@199"), math.nan, "nan is no accuracy"),
    "text": ((*RUN, "eval_acc1es", "x-test@199"), "70", "'70' is no accuracy"),
    "array": ((*RUN, "eval_acc1es", "x-test@199"), np.zeros(1), "is no accuracy"),
    "curve of another kind": ((*RUN, "eval_acc1es"), [1.0], "damaged"),
    "lost times": ((*RUN, "train_times"), {0: 1.0}, "not a time for each of 200 epochs"),
    "times of another kind": ((*RUN, "train_times"), [1.0], "not a time for each"),
    "negative times": ((*RUN, "train_times"), dict.fromkeys(range(200), -1e3), "is no time"),
    "endless times": ((*RUN, "train_times"), dict.fromkeys(range(200), 1e300), "is no time"),
    "other seed": (("200", "dataset_seed", "cifar10"), [777, 5], "lacks the run"),
    "text as a seed": (("200", "dataset_seed", "cifar10"), ["777"], "a seed is no whole number"),
    "nest as a seed": (("200", "dataset_seed", "cifar10"), [((1,),)], "a seed is no whole number"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_cells(name: str, own: Path) -> None:
    """Are refused in a line that names file and cell."""
    keys, value, why = SPOILED[name]
    path = own / "000011.pickle.pbz2"
    cell = unpacked(path)
    set_in(cell, *keys, to=value)
    pack(path, cell)
    with pytest.raises(DataError, match=why) as caught:
        read(own)
    assert str(path) in str(caught.value)


def test_an_unknown_seed(own: Path) -> None:
    """Has no column in the table."""
    path = own / "000011.pickle.pbz2"
    cell = unpacked(path)
    results = cell["200"]
    results["dataset_seed"]["cifar100"].append(111)
    results["all_results"]["cifar100", 111] = results["all_results"]["cifar100", 777]
    pack(path, cell)
    with pytest.raises(DataError, match="cell 11: a 200-epoch run of an unknown seed, 111"):
        read(own)


BOMB = bz2.compress((b"G" + bytes(8)) * 200_000)

WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an official file"),
    "text": (b"hello", "neither bzip2, zip nor pickle"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "bzip2 of nothing": (bz2.compress(b""), "ends in the middle"),
    "bzip2 of text": (bz2.compress(b"Hello"), "no opcode"),
    "broken bzip2": (b"BZh9" + bytes(100), "damaged or cut off"),
    "bzip2 bomb": (BOMB * 200, "grows over 100 times"),
    "broken zip": (b"PK\x03\x04" + bytes(100), "damaged or cut off"),
    "a list": (pickle.dumps([1]), "no meta_archs"),
    "a number": (b"\x80\x02\x8a\x01\x05.", "not with that of torch.save"),
    "the meta file": (pickle.dumps({"meta_archs": [], "arch2infos": None}), "meta_archs is no"),
    "one cell": (pickle.dumps({"12": 1, "200": 2}), "give the folder that it is in"),
    "size space": (pickle.dumps({"meta_archs": ["8:8:8:8:8"], "arch2infos": {}}), "size search"),
    "no results": (
        pickle.dumps({"meta_archs": ["|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"],
                      "arch2infos": None}), "holds no results"),
    "twice": (
        pickle.dumps({"meta_archs": ["|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"] * 2,
                      "arch2infos": {}}), "twice"),
    "no such index": (
        pickle.dumps({"meta_archs": ["|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"],
                      "arch2infos": {7: {}}}), "cell 7: the benchmark has the cells 0 to 0"),
    "text as an index": (
        pickle.dumps({"meta_archs": ["|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"],
                      "arch2infos": {"7": {}}}), "is no index"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(name: str, tmp_path: Path) -> None:
    """Are told from the official ones, with what to do."""
    data, why = WRONG[name]
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(DataError, match=why) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_wrong_places(own: Path, tmp_path: Path) -> None:
    """No file, a foreign zip file, a folder without meta, one without cells."""
    with pytest.raises(DataError, match=r"no such file or folder.*github\.com/D-X-Y/NATS-Bench"):
        read(tmp_path / "none")
    with pytest.raises(DataError, match="holds no results: give the folder"):
        read(own / "meta.pickle.pbz2")
    torch_zip(tmp_path / "two.pth", b"").rename(tmp_path / "one.zip")
    with pytest.raises(DataError, match="ends in the middle"):
        read(tmp_path / "one.zip")
    for index in INDICES:
        (own / f"{index:06d}.pickle.pbz2").unlink()
    with pytest.raises(DataError, match="but no cell"):
        read(own)
    (own / "meta.pickle.pbz2").unlink()
    with pytest.raises(DataError, match=r"no meta\.pickle\.pbz2"):
        read(own)


@pytest.mark.parametrize("kind", [*KINDS, "000284.pickle.pbz2"])
def test_cut_off_anywhere(kind: str, own: Path, tmp_path: Path) -> None:
    """A file that ends early is refused, wherever it ends."""
    path = tmp_path / kind
    if kind in KINDS:
        save, renamed = KINDS[kind]
        save(path, trim(benchmark(own, renamed=renamed)))
        source = path
    else:
        path, source = own / kind, own
    data = path.read_bytes()
    # Behind its last opcode, torch.save's older format has a list of storages: here, an empty one.
    end = len(data) - (20 if kind == "NAS-Bench-201-v1_0-e61699.pth" else 1)
    for size in (0, 1, 3, 10, 100, len(data) // 3, end):
        path.write_bytes(data[:size])
        with pytest.raises(DataError, match=path.name):
            read(source)


@pytest.mark.parametrize("kind", ["zip", "plain", "bzip2"])
def test_damaged_anywhere(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed bytes give numbers or a DataError, and never an import."""
    generator = random.Random(201)
    found = trim(benchmark(folder, renamed=True))
    found["meta_archs"] = found["meta_archs"][:1]
    found["arch2infos"] = {0: found["arch2infos"][0]}
    path = tmp_path / kind
    data = pickle.dumps(found, 2 if kind == "zip" else 4)
    monkeypatch.setattr("builtins.__import__", _no_import)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(generator.choice((1, 3, 30))):
            # Most of a file is curves; what stands between them is met here, too.
            at = generator.choice((generator.randrange(len(data)), generator.randrange(3000)))
            changed[at] = generator.randrange(256)
        body = bytes(changed)
        if kind == "zip":
            monkeypatch.undo()
            torch_zip(path, body)
            monkeypatch.setattr("builtins.__import__", _no_import)
        else:
            path.write_bytes(bz2.compress(body, 1) if kind == "bzip2" else body)
        indices, message = [0], ""
        try:
            indices = [cell.index for cell in official.read(path).cells]
        except DataError as error:
            message = str(error)
        assert (indices == [0] and not message) or str(path) in message


def _no_import(name: str, *_: Any) -> None:
    raise AssertionError(f"imports {name}")


def test_what_the_benchmark_of_reading_writes(
    folder: Path, expected: list[OfficialCell], tmp_path: Path
) -> None:
    """Thirty cells of which no two share an object are read as what they were made of."""
    from tests.benchmarks import converter

    with open(tmp_path / "many.pkl", "wb") as file:
        converter.write(file, folder, 30)
    cells = read(tmp_path / "many.pkl")
    assert [cell.index for cell in cells] == list(range(30))
    assert [cell.datasets for cell in cells[:3]] == [cell.datasets for cell in expected]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(folder: Path, tmp_path: Path) -> None:
    """Half a gigabyte is read in a small part of that."""
    from tests.benchmarks import converter

    with open(tmp_path / "many.pkl", "wb") as file:
        converter.write(file, folder, 1500)
    assert converter.measure(tmp_path / "many.pkl", 1500) < 120

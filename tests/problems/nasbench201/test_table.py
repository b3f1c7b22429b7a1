"""The benchmark's table on disk: read strictly, written whole, made from official files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from llmatic_hpc.errors import DataError
from llmatic_hpc.problems.nasbench201 import cells, table
from llmatic_hpc.problems.nasbench201.official import files as official
from llmatic_hpc.problems.nasbench201.official.files import OfficialCell, Trainings

NAN = float("nan")


def made_up(count: int) -> list[OfficialCell]:
    """Cells as an official file might have them."""
    generator = np.random.default_rng(0)
    found = []
    for index, cell in zip(range(count), cells.cells(), strict=False):
        datasets = {
            name: Trainings(
                *generator.uniform(0, 100, 2),
                per_run=(*generator.uniform(0, 100, 2), NAN),
                valid_12=NAN if name == "cifar100" else 10.0,
                test_12=NAN if name == "cifar100" else 20.0,
                seconds=generator.uniform(0, 1e4),
            )
            for name in cells.DATASETS
        }
        found.append(OfficialCell(index, cells.architecture(cell), 2, datasets))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A table of five made-up cells."""
    table.write(tmp_path / "table.h5", made_up(5), "made up")
    return tmp_path / "table.h5"


@pytest.fixture
def real(test_data: Path) -> Path:
    """The whole benchmark, as another program wrote it."""
    return test_data / "nasbench201.h5"


def test_round_trip(path: Path) -> None:
    """Values are read as they were written, to float32."""
    found = table.read(path)
    assert found.path == path
    assert not found.complete
    for row, cell in enumerate(made_up(5)):
        assert found.row(cell.architecture) == row
        for name, expected in cell.datasets.items():
            for column in ("valid", "test", "valid_12", "test_12", "seconds"):
                values = getattr(found.datasets[name], column)
                assert values.dtype == np.float32
                np.testing.assert_equal(values[row], np.float32(getattr(expected, column)))
    with pytest.raises(DataError, match=r"no row for nonsense; it has 5 of 15,625.*--from"):
        found.row("nonsense")


def test_the_real_table(real: Path) -> None:
    """Whole, known optima, and read at once."""
    start = time.perf_counter()
    found = table.read(real)
    assert time.perf_counter() - start < 1.0  # on a busy machine; else about 0.05
    assert found.complete
    assert set(found.rows) == set(map(cells.architecture, cells.cells()))
    best = {name: accuracies.test.max() for name, accuracies in found.datasets.items()}
    assert best == pytest.approx(
        {"cifar10": 94.37, "cifar100": 73.51, "imagenet16_120": 47.31}, abs=0.01
    )


def test_same_layout_as_the_real_table(real: Path, path: Path) -> None:
    """Names, types, shapes of a row, attributes and units."""

    def layout(file: h5py.File) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {"/": tuple(sorted(file.attrs))}

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = (item.dtype, item.shape[1:], item.compression, item.attrs["unit"])
                assert set(item.attrs) == {"unit", "description"}

        file.visititems(visit)
        return found

    with h5py.File(path) as ours, h5py.File(real) as theirs:
        assert layout(ours) == layout(theirs)
        assert ours.attrs["op_names"].tolist() == theirs.attrs["op_names"].tolist()
        for name in layout(theirs).keys() - {"/"}:
            if not name.endswith("/valid_acc"):  # ours is not computed from two others
                assert ours[name].attrs["description"] == theirs[name].attrs["description"], name


def test_sizes_by_formula_are_those_of_the_real_table(real: Path) -> None:
    """Each of the 15,625 cells, on each data set."""
    with h5py.File(real) as file:
        strings = [string.decode() for string in file["arch_str"][:]]
        found = table._arrays(
            [
                OfficialCell(
                    row, string, 2,
                    dict.fromkeys(cells.DATASETS, Trainings(1, 1, (1, 1, 1), 1, 1, 1)),
                )
                for row, string in enumerate(strings)
            ]
        )  # fmt: skip
        for name in ("arch_ops", "arch_str"):
            assert np.array_equal(found[name], file[name][:])
        for dataset in cells.DATASETS:
            for column in ("flops_m", "params_m"):
                assert np.array_equal(found[f"{dataset}/{column}"], file[dataset][column][:])


def test_digest_is_of_the_numbers(path: Path, tmp_path: Path) -> None:
    """Not of how HDF5 stores them; and of each number that is read."""
    first = table.read(path).digest
    assert table.write(tmp_path / "again.h5", made_up(5), "elsewhere").digest == first
    plain = tmp_path / "plain.h5"
    with h5py.File(path) as old, h5py.File(plain, "w") as new:
        for name in table._LAYOUT:
            new[name] = old[name][:]
    assert table.read(plain).digest == first
    for name in ("cifar10/valid_acc", "cifar100/test_acc", "imagenet16_120/train_time_200ep_s"):
        with h5py.File(plain, "r+") as file:
            file[name][3] = 1.5
        changed = table.read(plain).digest
        assert changed != first
        first = changed


# --- what is refused --------------------------------------------------------------------------


def without(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def changed(name: str, row: int, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[name][row] = value

    return change


def replaced(name: str, values: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def grouped(file: h5py.File) -> None:
    del file["arch_str"]
    file.create_group("arch_str")


FIRST = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
WRONG: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no strings": (without("arch_str"), "no array arch_str"),
    "a group of that name": (grouped, "no array arch_str"),
    "no array": (without("cifar100/test_acc"), "no array cifar100/test_acc"),
    "no group": (without("cifar10"), "no array cifar10/valid_acc"),
    "too short": (
        replaced("cifar10/valid_acc", np.zeros(4, "f4")),
        r"cifar10/valid_acc is float32 of shape \(4,\), not float32 of shape \(5,\)",
    ),
    "of another type": (replaced("cifar10/valid_acc", np.zeros(5)), "is float64 of shape"),
    "text": (replaced("cifar10/valid_acc", "none"), "is object of shape"),
    "no cell": (changed("arch_str", 2, b"|none~1|"), r"row 2: '\|none~1\|' is no architecture"),
    "not text": (changed("arch_str", 2, b"\xff\xfe"), "row 2: .* is no architecture"),
    "twice": (changed("arch_str", 2, FIRST.encode()), "is in row 0 and again"),
    "no accuracy": (changed("cifar100/valid_acc", 3, NAN), "valid_acc: no accuracy in row 3"),
    "endless accuracy": (changed("cifar100/test_acc", 3, np.inf), "test_acc: no accuracy in row 3"),
    "endless, 12 epochs": (changed("cifar100/test_acc_12ep", 3, np.inf), "12ep: inf in row 3"),
    "negative": (changed("cifar10/test_acc_12ep", 4, -1), "-1.0 in row 4 is no accuracy"),
    "over 100": (changed("cifar10/valid_acc", 0, 100.5), "100.5 in row 0 is no accuracy"),
    "negative time": (changed("cifar10/train_time_200ep_s", 0, -1), "-1.0 in row 0 is no time"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables(name: str, path: Path) -> None:
    """Messages say what, where, and how to get a right one."""
    change, why = WRONG[name]
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DataError, match=why) as caught:
        table.read(path)
    assert str(path) in str(caught.value)
    assert "llmatic prefetch CONFIG --from" in str(caught.value)


def test_missing_numbers_that_may_be_missing(path: Path) -> None:
    """12-epoch accuracies and times: the oldest official file has not all."""
    with h5py.File(path, "r+") as file:
        for name in ("cifar10/valid_acc_12ep", "cifar10/train_time_200ep_s"):
            file[name][:] = NAN
    assert np.isnan(table.read(path).datasets["cifar10"].seconds).all()


def test_no_table(tmp_path: Path) -> None:
    """A missing file, a folder, text, a table that was cut off."""
    with pytest.raises(DataError, match=r"no such file.*problem\.table.*NAS-Bench-201-v1_1.*D-X-Y"):
        table.read(tmp_path / "none.h5")
    with pytest.raises(DataError, match="a folder"):
        table.read(tmp_path)
    path = tmp_path / "text.h5"
    path.write_text("hello")
    with pytest.raises(DataError, match="damaged, or no HDF5 file"):
        table.read(path)
    table.write(path, made_up(5), "made up")
    data = path.read_bytes()
    for size in (8, 500, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(DataError, match=str(path)):
            table.read(path)


@pytest.mark.parametrize("start", [b"BZh9", b"PK\x03\x04", b"\x80\x04"])
def test_an_official_file_instead_of_a_table(start: bytes, tmp_path: Path) -> None:
    """Is recognized, and the message is the command that converts it."""
    path = tmp_path / "NAS-Bench-201-v1_1-096897.pth"
    path.write_bytes(start + bytes(100))
    with pytest.raises(DataError, match=rf"official file.*llmatic prefetch CONFIG --from {path}"):
        table.read(path)


def test_the_official_folder_instead_of_a_table(test_data: Path) -> None:
    """Likewise."""
    with pytest.raises(DataError, match=r"official file.*llmatic prefetch CONFIG --from"):
        table.read(test_data / "NATS-tss-v1_0-3ffb9-simple")


# --- writing ----------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_table(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a cell that cannot be read, a disk that lies."""
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"cannot be written: No space left.*intact"):
            table.write(path, made_up(3), "made up")

    def spoiled() -> object:
        yield made_up(1)[0]
        raise DataError("file: cell 1: spoiled")

    with pytest.raises(DataError, match="spoiled"):
        table.write(path, spoiled(), "made up")  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        patched.setattr(table, "_digest", lambda arrays: str(id(arrays)))
        with pytest.raises(DataError, match="does not read back"):
            table.write(path, made_up(3), "made up")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_killed_while_it_writes(path: Path) -> None:
    """The table before is intact, and the next writing clears up."""
    before = path.read_bytes()
    code = (
        "import os, signal, sys; from pathlib import Path; "
        "from tests.problems.nasbench201.test_table import made_up; "
        "from llmatic_hpc.problems.nasbench201 import table; "
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL); "
        "table.write(Path(sys.argv[1]), made_up(3), 'made up')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    table.write(path, made_up(4), "made up")
    assert list(path.parent.iterdir()) == [path]
    assert len(table.read(path).rows) == 4


# --- converting -------------------------------------------------------------------------------


def test_convert(test_data: Path, tmp_path: Path) -> None:
    """The published cells become rows that equal those of the real table."""
    told: list[str] = []
    target = tmp_path / "new" / "folder" / "table.h5"
    made = table.convert(test_data / "NATS-tss-v1_0-3ffb9-simple", target, told.append)
    real = table.read(test_data / "nasbench201.h5")
    assert told[0].endswith("NATS-tss-v1_0-3ffb9-simple: 3 of 15,625 cells")
    assert told[1] == f"table: {target}: 3 cells, SHA-256 {made.digest[:12]}"
    assert table.read(target).digest == made.digest
    for architecture, row in made.rows.items():
        official_row = real.row(architecture)
        for name, found in made.datasets.items():
            for column in ("valid", "test", "valid_12", "test_12", "seconds"):
                expected = getattr(real.datasets[name], column)[official_row]
                assert getattr(found, column)[row] == expected
    with h5py.File(target) as file:
        assert file.attrs["rows"].endswith("3 of 15625 cells are here")
        assert file.attrs["source"].startswith("NATS-tss-v1_0-3ffb9-simple, converted by llmatic")


def test_convert_tells_what_is_lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And replaces a table, but no other file."""
    told: list[str] = []
    source, target = tmp_path / "source", tmp_path / "table.h5"

    def read(source: Path, progress: Callable[[float], None]) -> official.Official:
        return official.Official(source.name, 15_625, 5, iter(made_up(5)))

    monkeypatch.setattr(official, "read", read)
    table.convert(source, target, told.append)
    table.convert(source, target, told.append)
    assert "official: no 12-epoch accuracies of all cells for cifar100" in told
    target.write_text("precious")
    with pytest.raises(DataError, match="left as it is: move it away"):
        table.convert(source, target, told.append)
    assert target.read_text() == "precious"
    with pytest.raises(DataError, match="is not a folder that you may write to"):
        table.convert(source, target / "inner" / "table.h5", told.append)


def test_converting_a_damaged_folder_writes_nothing(test_data: Path, tmp_path: Path) -> None:
    """A table is whole or not there."""
    folder = tmp_path / "folder"
    shutil.copytree(test_data / "NATS-tss-v1_0-3ffb9-simple", folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    cell = folder / "000284.pickle.pbz2"
    cell.write_bytes(cell.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"000284\.pickle\.pbz2"):
        table.convert(folder, tmp_path / "table.h5", lambda line: None)
    assert list(tmp_path.iterdir()) == [folder]

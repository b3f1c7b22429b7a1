"""The scripts of analysis/ about runs of any problem: golden numbers on a small recorded run."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from llmatic_hpc import store
from llmatic_hpc.report.compare import column
from llmatic_hpc.report.methods import look

from ..report.benchmark_runs import make
from .test_analysis import ANALYSIS, script

SMOKE = Path(__file__).parents[1] / "golden" / "records" / "old-smoke"
pytest.importorskip("matplotlib")
Said = Callable[..., list[str]]
Edit = Callable[[h5py.File], None]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Import a script of analysis/, and forget all of them afterwards."""
    monkeypatch.syspath_prepend(str(ANALYSIS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(ANALYSIS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def said(
    scripts: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., list[str]]:  # fmt: skip
    """Call a script in ``tmp_path`` with words, and return what it printed, with single blanks."""

    def call(name: str, *words: object) -> list[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        scripts(name).main()
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return call


def copy(folder: Path, name: str, seed: int = 0, edit: Edit = lambda file: None) -> Path:
    """Another seed of the recorded run, edited."""
    shutil.copytree(SMOKE, folder / name)
    with h5py.File(folder / name / "run.h5", "r+") as file:
        file.attrs["run_id"] = name
        config = file["config"][()].decode().replace('"seed": 0', f'"seed": {seed}')
        file["config"][()] = config
        edit(file)
    return folder / name


def set_rows(**columns: dict[int, Any]) -> Edit:
    """Make an edit of single values of candidates."""

    def edit(file: h5py.File) -> None:
        for name, values in columns.items():
            for row, value in values.items():
                file["candidates"][name][row] = value

    return edit


def is_picture(folder: Path, name: str) -> bool:
    """True where both kinds of files were written."""
    return (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF") and (
        folder / f"{name}.png"
    ).read_bytes().startswith(b"\x89PNG")


def test_figure_1_has_mean_and_deviation_of_the_best(said: Said, tmp_path: Path) -> None:
    """Two seeds: 0.65 then 0.3 as recorded, and 0.65 then 0.5 by the copy."""
    best = int(np.argmax(store.load(SMOKE / "run.h5").candidates["fitness"][6:])) + 6
    copy(tmp_path, "a")
    copy(tmp_path, "b", 1, set_rows(fitness={best: 0.5}))
    lines = said("figure1", "a", "b", "--line", 98.1)
    name = "LLMatic (procedural control)"
    assert lines[0] == "digits, validation accuracy: best of the last generation shown"
    assert lines[1] == f"{name}: generation 1, 40.00 ± 14.14 (2 seeds)"
    assert is_picture(tmp_path, "figure1")
    lines = said("figure1", "?", "--so-far", "--output", "other.svg")
    assert lines[1] == f"{name}: generation 1, 65.00 ± 0.00 (2 seeds)"
    assert (tmp_path / "other.svg").is_file()
    assert not (tmp_path / "other.pdf").exists()


def test_figure_2_counts_what_could_be_trained(said: Said, tmp_path: Path) -> None:
    """A copy of a network counts, one of a failure does not; two of twelve were never judged."""
    copy(tmp_path, "a", edit=set_rows(
        status={1: b"duplicate", 2: b"duplicate", 3: b"invalid", 4: b"passed_over",
                5: b"infrastructure", 6: b"stopped",
                7: b"duplicate"},
        duplicate_of={1: 0, 2: 3, 7: 6},
    ))  # fmt: skip
    lines = said("figure2", "a")
    assert lines[1] == (
        "mutation 0.7, crossover 0.3: LLMatic (procedural control): 8 of 10 (80%; 1 seed)"
    )
    assert is_picture(tmp_path, "figure2")


def test_figure_3_shows_the_run_with_the_median_number_of_cells(said: Said, tmp_path: Path) -> None:
    """The other two of three have all five cells, or none."""

    def fewer(number: int) -> Edit:
        def edit(file: h5py.File) -> None:
            archive = file["archives/network"]
            cells = np.flatnonzero(archive["elite"][:] >= 0)[:number]
            for cell in cells:
                archive["elite"][cell], archive["fitness"][cell] = -1, np.nan

        return edit

    copy(tmp_path, "a")
    copy(tmp_path, "b", 1, fewer(1))
    copy(tmp_path, "c", 2, fewer(5))
    lines = said("figure3", "?")
    assert lines[0] == ("digits, validation accuracy, LLMatic (procedural control): b, 4 of 100 "
                       "cells (of 3 seeds: 0 to 5)")  # fmt: skip
    assert is_picture(tmp_path, "figure3")


def test_competitive_and_pareto(said: Said, tmp_path: Path) -> None:
    """Counts of networks and elites within 35 points; the front over FLOPs."""
    table = store.load(SMOKE / "run.h5").candidates
    copy(tmp_path, "a")
    copy(tmp_path, "b", 1)
    near = int((table["fitness"] >= 0.65 - 0.35 - 1e-9).sum())
    lines = said("competitive", "?", "--margin", 35)
    assert f"LLMatic (procedural control) 2 seeds 65.00 ± 0.00 {near}.0 ± 0.0 2.0 ± 0.0" in "".join(
        line.removesuffix(" 5.0 ± 0.0") for line in lines
    )
    assert is_picture(tmp_path, "competitive")
    lines = said("pareto", "a")
    front = [
        row
        for row, (size, fitness) in enumerate(zip(table["flops"], table["fitness"], strict=True))
        if not any(
            (table["flops"][other] <= size and table["fitness"][other] > fitness)
            or (table["fitness"][other] == fitness
                and (table["flops"][other], other) < (size, row))
            for other in range(len(table["flops"]))
        )
    ]  # fmt: skip
    shown = [int(line.split()[1]) for line in lines if line.startswith("a ")]
    assert sorted(shown) == front
    assert is_picture(tmp_path, "pareto")


def test_a_network_that_was_trained_again_is_one(
    test_data: Path, tmp_path: Path, scripts: Callable[[str], Any]
) -> None:
    """Networks and their mean scores are those of llmatic compare."""
    more = ("search.challenge=2", "problem.table_trainings=single", "problem.protocol=sound")
    path = make(tmp_path, test_data / "nasbench201.h5", "llmatic", "cifar10", 0, *more)
    record = store.load(path / "run.h5")
    assert record.are_repeats.any()
    search, run = scripts("_networks").read(path / "run.h5"), look(path, record, 0)
    assert search.networks.tolist() == run.queries.tolist()
    assert search.fitness[search.networks] == pytest.approx(100 * column(run, "fitness"))
    assert search.test[search.networks] == pytest.approx(100 * column(run, "test_accuracy"))
    assert search.trainable()[1].sum() == (~record.are_repeats).sum()


def test_regions_are_those_of_the_nearest_centroid(scripts: Callable[[str], Any]) -> None:
    """Their areas fill the square, and points belong to the nearest."""
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(1)
    places, points = rng.random((60, 2)), rng.random((2000, 2))
    shapes = scripts("figure3").regions(places)
    areas = [0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
             for x, y in (shape.T for shape in shapes)]  # fmt: skip
    assert sum(areas) == pytest.approx(1.0)
    nearest = np.hypot(*(points[:, None] - places).T).T.argmin(axis=1)
    for place, shape in enumerate(shapes):
        inside = Outline(np.vstack([shape, shape[:1]])).contains_points(points)
        assert np.array_equal(inside, nearest == place)


def test_what_cannot_be_drawn_is_said_in_a_line(tmp_path: Path) -> None:
    """None with a finished generation, a seed that counts twice; the package is out of reach."""
    copy(tmp_path, "a", edit=lambda file: file.attrs.modify("committed_generations", 0))
    done = script(tmp_path, "pareto.py", "a")
    assert (done.returncode, done.stderr) == (
        1, "a: no generation is finished\nno runs with a finished generation in a\n"
    )  # fmt: skip
    copy(tmp_path, "b")
    copy(tmp_path, "c")
    done = script(tmp_path, "figure2.py", "b", "c")
    assert done.returncode == 0
    assert "seed 0 counts 2 times (b, c)" in done.stderr


def test_no_script_imports_the_package() -> None:
    """They are examples that go by the record alone."""
    for path in ANALYSIS.glob("*.py"):
        assert "import llmatic" not in path.read_text()
        assert "from llmatic" not in path.read_text()

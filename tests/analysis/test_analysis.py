"""The scripts of analysis/, where llmatic_hpc cannot be imported; against the table and compare."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmatic_hpc import store
from llmatic_hpc.config import Config
from llmatic_hpc.problems.nasbench201 import comparison
from llmatic_hpc.report.compare import compare, measured
from llmatic_hpc.report.methods import look

from ..report.benchmark_runs import DATASETS, PROTOCOL, QUERIES, SEEDS, facts

ANALYSIS = Path(__file__).parents[2] / "analysis"
Runs = dict[tuple[str, str, int], Path]

BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "llmatic_hpc":
            raise ImportError("llmatic_hpc is blocked")

sys.meta_path.insert(0, Block())
"""


def script(folder: Path, *words: object, code: str = "") -> subprocess.CompletedProcess[str]:
    """A script run in ``folder``, without the package; or the code alone."""
    (folder / "block").mkdir(exist_ok=True)
    (folder / "block" / "sitecustomize.py").write_text(BLOCK)
    elsewhere = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    path = os.pathsep.join([str(folder / "block"), *elsewhere])
    what = ["-c", code] if code else [str(ANALYSIS / str(words[0])), *map(str, words[1:])]
    return subprocess.run(
        [sys.executable, *what], cwd=folder, capture_output=True, text=True, check=False,
        timeout=120, env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg"},
    )  # fmt: skip


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines that a script printed, with single blanks."""
    assert done.returncode == 0, done.stderr
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def shared() -> Any:
    """analysis/_runs.py as a module."""
    spec = importlib.util.spec_from_file_location("_runs", ANALYSIS / "_runs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["_runs"] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    return module


def test_the_package_is_out_of_reach(tmp_path: Path) -> None:
    """Or the tests here would show nothing."""
    assert "is blocked" in script(tmp_path, code="import llmatic_hpc").stderr


def test_table_1(benchmark_runs: Runs, test_data: Path, tmp_path: Path) -> None:
    """Table 1 equals a computation from the table, and llmatic compare."""
    folder = next(iter(benchmark_runs.values())).parent
    said = lines(script(tmp_path, "table1.py", folder))
    rows = compare([look(p, store.load(p / "run.h5"), 0) for p in benchmark_runs.values()])
    for row, method in zip(rows, ("llmatic", "random-search"), strict=True):
        cells = []
        for dataset in DATASETS:
            values = [
                facts(benchmark_runs[method, dataset, seed], test_data / "nasbench201.h5",
                      method, dataset).accuracy for seed in SEEDS
            ]  # fmt: skip
            cells.append(f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}")
            assert measured(row["datasets"][dataset]["test_accuracy"], 100.0) == cells[-1]
        assert f"{row['title']} {PROTOCOL[method]} 2 {cells[0]} – {cells[1]}" in said
    assert "best cell of the table 94.37 – 47.31" in said
    assert "Optimal (paper) as published 94.47 74.17 47.33" in said


def test_table_2(benchmark_runs: Runs, test_data: Path, tmp_path: Path) -> None:
    """Ranks and hours, of the runs that a pattern names, cut short."""
    folder = next(iter(benchmark_runs.values())).parent
    said = lines(script(tmp_path, "table2.py", f"{folder}/llmatic-*", "--queries", 25))
    ranks, hours = [], []
    for dataset in DATASETS:
        found = [
            facts(benchmark_runs["llmatic", dataset, seed], test_data / "nasbench201.h5",
                  "llmatic", dataset, 25) for seed in SEEDS
        ]  # fmt: skip
        middle = statistics.median(fact.rank for fact in found)
        ranks.append(f"{min(fact.rank for fact in found):,} ({middle:,.10g})")
        spent = [fact.hours for fact in found]
        hours.append(f"{statistics.mean(spent):.0f} ± {statistics.stdev(spent):.0f}")
    for cells in (ranks, hours, ["> 25 (0/2)", "> 25 (0/2)"]):
        assert f"LLMatic (procedural control) paper 2 {cells[0]} – {cells[1]}" in said
    assert not any(line.startswith("random") for line in said)


def test_runs_are_found_in_their_usual_place(benchmark_runs: Runs, tmp_path: Path) -> None:
    """Without arguments; and where there are none, it is said."""
    done = script(tmp_path, "table1.py")
    assert (done.returncode, done.stderr) == (1, "runs/nasbench201/*: no such run\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "nasbench201").symlink_to(next(iter(benchmark_runs.values())).parent)
    assert any(line.startswith("random search sound 2") for line in
               lines(script(tmp_path, "table1.py")))  # fmt: skip


def test_curves(benchmark_runs: Runs, test_data: Path, tmp_path: Path) -> None:
    """Median and quartiles so far, under both protocols; drawn over hours."""
    pytest.importorskip("matplotlib")
    folder = next(iter(benchmark_runs.values())).parent
    words = (folder, "--at", "10,40,50", "--cost", "--output", "curves.png")
    said = lines(script(tmp_path, "curves.py", *words))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    for method, title in (("llmatic", "LLMatic (procedural control)"),
                          ("random-search", "random search")):  # fmt: skip
        cells = []
        for n in (10, QUERIES):
            found = [
                facts(benchmark_runs[method, "cifar10", seed], test_data / "nasbench201.h5",
                      method, "cifar10", n) for seed in SEEDS
            ]  # fmt: skip
            low, middle, high = np.percentile([f.so_far[-1] for f in found], (25, 50, 75))
            hours = statistics.median(f.hours for f in found)
            cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f}), {hours:,.0f} h")
        assert f"{title} {PROTOCOL[method]} 2 {cells[0]} {cells[1]} –" in said


def test_figure_4(benchmark_runs: Runs, tmp_path: Path) -> None:
    """A file of the kind that its name says."""
    pytest.importorskip("matplotlib")
    words = (*benchmark_runs.values(), "--output", "figure.pdf")
    lines(script(tmp_path, "figure4.py", *words))
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_best_so_far_is_the_result_of_every_shorter_run(
    benchmark_runs: Runs, test_data: Path
) -> None:
    """After each query, not only the last, and for both protocols."""
    read = shared().read
    for (method, dataset, _), path in benchmark_runs.items():
        run = read(path / "run.h5")
        so_far = facts(path, test_data / "nasbench201.h5", method, dataset, len(run.test)).so_far
        assert 100 * run.best_so_far == pytest.approx(so_far)


def test_what_is_written_twice_agrees() -> None:
    """Settings that runs of a method may differ in, and the papers' numbers."""
    runs = shared()

    def resumable(settings: Any, prefix: str = "") -> set[str]:
        found = set()
        for f in fields(settings):
            if is_dataclass(inner := getattr(settings, f.name)):
                found |= resumable(inner, f"{prefix}{f.name}.")
            elif f.metadata["resumable"]:
                found.add(prefix + f.name)
        return found

    aside = {"run.seed", "problem.dataset", "problem.table"}
    assert set(runs.IGNORED) == resumable(Config()) | aside
    for name, cells in runs.PAPER_TABLE_1.items():
        assert cells == tuple(
            f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"
            for mean, std in comparison.TEST_ACCURACY[name].values()
        )
    assert [tuple(map(str, ranks.values())) for ranks in comparison.BEST_RANK.values()] == list(
        runs.PAPER_TABLE_2.values()
    )

"""llmatic compare against a computation of its own from the table."""

from __future__ import annotations

import io
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from llmatic_hpc import store
from llmatic_hpc.commands.main import cli
from llmatic_hpc.report.compare import compare, measured, render, spread
from llmatic_hpc.report.methods import Run, look

from ..store.conftest import made_up
from .benchmark_runs import DATASETS, PROTOCOL, QUERIES, SEEDS, Facts, facts, make

Runs = dict[tuple[str, str, int], Path]
NAMES = {"llmatic": "LLMatic (procedural control)", "random-search": "random search"}


def shown(rows: list[dict[str, Any]]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render(rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def look_at(*paths: Path, budget: int = 0) -> list[Run]:
    return [look(path, store.load(path / "run.h5"), budget) for path in paths]


def expected(runs: Runs, table: Path, method: str, dataset: str, queries: int) -> list[Facts]:
    return [facts(runs[method, dataset, seed], table, method, dataset, queries) for seed in SEEDS]


@pytest.mark.parametrize("queries", [QUERIES, 15])
def test_rows_agree_with_the_table(benchmark_runs: Runs, test_data: Path, queries: int) -> None:
    """Accuracy, rank, hours and queries, of both protocols, whole and cut short; seeds and data
    sets of a method are one row."""
    words = ["compare", "--json", "--queries", str(queries), *map(str, benchmark_runs.values())]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    rows = {row["method"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert set(rows) == set(NAMES.values())
    for method, name in NAMES.items():
        row = rows[name]
        assert row["protocol"] == PROTOCOL[method]
        assert (row["note"], row["unfinished"]) == ("", [])
        assert list(row["datasets"]) == list(DATASETS)
        for dataset, found in row["datasets"].items():
            facts = expected(benchmark_runs, test_data / "nasbench201.h5", method, dataset, queries)
            assert found["seeds"] == list(SEEDS)
            assert found["queries"] == [queries] * len(SEEDS)
            accuracies = [fact.accuracy / 100 for fact in facts]
            assert found["test_accuracy"]["values"] == pytest.approx(accuracies)
            assert found["test_accuracy"]["mean"] == pytest.approx(statistics.mean(accuracies))
            assert found["test_accuracy"]["std"] == pytest.approx(
                statistics.stdev(accuracies),
                abs=1e-6,  # accuracies of the table are of single precision
            )
            assert found["best_rank"] == min(fact.rank for fact in facts)
            assert found["median_rank"] == statistics.median(fact.rank for fact in facts)
            hours = [fact.hours for fact in facts]
            assert found["simulated_hours"]["values"] == pytest.approx(hours, rel=1e-5)
            needed = statistics.median(fact.needed for fact in facts)
            assert (found["median_queries_to_best"] or float("inf")) == needed


def test_tables(benchmark_runs: Runs, test_data: Path) -> None:
    """Our rows, the papers' and the best cell's."""
    text = shown(compare(look_at(*benchmark_runs.values())))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "LLMatic (paper) as published 94.26 ± 0.13 71.62 ± 1.73 45.87 ± 0.96" in lines
    assert "LLMatic (paper) as published 2 2 11" in lines
    assert "best cell of the table 94.37 – 47.31" in lines
    found = []
    for dataset in DATASETS:
        values = [
            fact.accuracy
            for fact in expected(
                benchmark_runs, test_data / "nasbench201.h5", "random-search", dataset, QUERIES
            )
        ]
        found.append(f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}")
    assert f"random search sound 2 {found[0]} – {found[1]}" in lines


def test_the_best_cell_counts_when_it_is_met(benchmark_runs: Runs) -> None:
    """The first query with the table's best fitness; unmet in half of the runs: no median."""
    first, second = look_at(*(benchmark_runs["llmatic", "cifar10", seed] for seed in SEEDS))
    first.record.candidates["fitness"][first.queries[[6, 20]]] = first.record.environment[
        "benchmark"
    ]["best_fitness"]
    (row,) = compare([first])
    assert row["datasets"]["cifar10"]["median_queries_to_best"] == 7
    (row,) = compare([first, second])
    found = row["datasets"]["cifar10"]
    assert (found["median_queries_to_best"], found["found_best"]) == (None, 1)
    assert f"> {max(found['queries'])} (1/2)" in shown([row])


def test_methods_of_one_name(benchmark_runs: Runs, test_data: Path, tmp_path: Path) -> None:
    """Another setting is another row, numbered and explained; another place of the table, more
    generations or the same run twice are not; another protocol is, without a number."""
    table = test_data / "nasbench201.h5"
    same, run = tmp_path / "same.h5", benchmark_runs["random-search", "cifar10", 0]
    same.symlink_to(table)
    other = make(tmp_path / "a", same, "random-search", "cifar10", 5, "search.generations=30")
    assert len(compare(look_at(run, run, other))) == 1
    assert compare(look_at(run, run, other))[0]["datasets"]["cifar10"]["seeds"] == [0, 5]

    paper = make(tmp_path / "b", table, "random-search", "cifar10", 0, "problem.protocol=paper")
    rows = compare(look_at(run, paper))
    assert [(row["title"], row["protocol"]) for row in rows] == [
        ("random search", "paper"), ("random search", "sound"),
    ]  # fmt: skip

    batch = make(tmp_path / "c", table, "random-search", "cifar10", 0, "search.batch=40")
    rows = compare(look_at(run, batch, paper))
    assert sorted((row["title"], row["note"]) for row in rows) == [
        ("random search [1]", "search.batch = 20"),
        ("random search [1]", "search.batch = 20"),
        ("random search [2]", "search.batch = 40"),
    ]
    assert "random search [2]: search.batch = 40" in shown(rows)


def test_unfinished_runs_have_a_star(benchmark_runs: Runs) -> None:
    """A run with no budget spent has a star; the comparison's own budget may make it finished."""
    (run,) = (benchmark_runs["llmatic", "cifar10", 0],)
    record = store.load(run / "run.h5")
    record.config["search"]["queries"] = 1000
    (row,) = compare([look(run, record, 0)])
    assert row["title"] == "LLMatic (procedural control) *"
    assert f"* not finished: {run}" in shown([row])
    (row,) = compare([look(run, record, 30)])
    assert row["title"] == "LLMatic (procedural control)"


def test_trained_networks() -> None:
    """Fitness, accuracy of the fittest, elites and QD score; with a budget, what there was then."""
    records = [made_up(), made_up(generations=2)]
    for number, record in enumerate(records):
        record.run_id, record.config["run"]["seed"] = str(number), number
        record.candidates["test_accuracy"] = record.candidates["fitness"] / 2
    (row,) = compare([look(Path(r.run_id), r, 0) for r in records])
    best = [float(np.nanmax(record.candidates["fitness"])) for record in records]
    assert row["seeds"] == [0, 1]
    assert row["fitness"]["values"] == pytest.approx(best)
    assert row["test_accuracy"]["mean"] == pytest.approx(statistics.mean(best) / 2)
    for name in ("elites", "qd_score"):
        history = [record.history[f"network_{name}"][-1] for record in records]
        assert row[name]["values"] == pytest.approx(history)
    assert measured(row["fitness"], digits=4) in shown([row])

    scored = records[0].candidates["status"] == b"scored"
    budget = int(np.sum(scored & (records[0].candidates["told"] <= 1))) + 1
    (row,) = compare([look(Path("0"), records[0], budget)])
    assert row["queries"] == [budget]
    assert row["elites"]["values"] == [records[0].history["network_elites"][1]]


def test_a_run_without_results() -> None:
    """Nothing to say is said."""
    record = made_up(generations=0, in_flight=True)
    (row,) = compare([look(Path("x"), record, 0)])
    assert row["fitness"] == {"mean": None, "std": None, "values": []}
    assert "x" in row["unfinished"]
    assert "–" in shown([row])


def test_deviation_is_the_samples() -> None:
    """The deviation divides by n - 1; a single value has none."""
    assert spread([1.0, 3.0])["std"] == pytest.approx(2**0.5)
    assert measured(spread([1.0, 3.0])) == "2.00 ± 1.41"
    assert measured(spread([1.0])) == "1.00"
    assert spread([1.0, float("nan")])["values"] == [1.0]


def test_no_such_run(tmp_path: Path) -> None:
    """The store says it."""
    done = CliRunner().invoke(cli, ["compare", str(tmp_path)])
    assert "no such record" in str(done.exception)

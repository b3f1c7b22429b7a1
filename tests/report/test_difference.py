"""Differences between methods: the exact test against scipy's and by hand, and what n can show."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import false_discovery_control, mannwhitneyu

from llmatic_hpc import store
from llmatic_hpc.commands.main import cli
from llmatic_hpc.report.compare import compare, laid_out
from llmatic_hpc.report.difference import difference, holm
from llmatic_hpc.report.formats import as_csv, as_latex
from llmatic_hpc.report.methods import Run, look
from llmatic_hpc.rundir.paths import RunPaths

from ..store.conftest import made_up


def seeds(variant: str, *bests: float) -> list[Run]:
    """Runs of a variant, one of each seed, whose fittest network is so fit."""
    found = []
    for seed, best in enumerate(bests):
        record = made_up()
        record.run_id = f"{variant}-{seed}"
        record.config["run"]["seed"] = seed
        record.config["search"]["variant"] = variant
        record.candidates["fitness"] *= best / np.nanmax(record.candidates["fitness"])
        found.append(look(Path(record.run_id), record, 0))
    return found


@pytest.mark.parametrize(("n", "m"), [(2, 3), (4, 4), (7, 5)])
def test_p_is_scipys_where_no_values_are_equal(n: int, m: int) -> None:
    """Exact, two-sided, for samples near and far."""
    rng = np.random.default_rng(n)
    for shift in (0.0, 0.5, 3.0):
        ours, theirs = rng.random(n) + shift, rng.random(m)
        found = difference(ours.tolist(), theirs.tolist())
        assert found["p"] == pytest.approx(mannwhitneyu(ours, theirs, method="exact").pvalue)
        assert found["difference"] == pytest.approx(ours.mean() - theirs.mean())
        assert found["effect"] == pytest.approx((ours[:, None] > theirs).mean())


def test_equal_values_and_few_seeds_by_hand() -> None:
    """One value equal in 2 and 2; three seeds each cannot show anything at 0.05."""
    found = difference([1.0, 2.0], [2.0, 3.0])
    assert (found["effect"], found["p"]) == (0.125, pytest.approx(2 / 3))
    assert difference([1.0, 1.0], [1.0, 1.0])["p"] == 1.0
    apart = difference([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])
    assert (apart["p"], apart["least_p"]) == (pytest.approx(0.1), pytest.approx(0.1))
    alone = difference([1.0], [2.0, 3.0])
    assert (alone["effect"], alone["p"], alone["least_p"]) == (0.0, None, None)
    assert difference([], [1.0])["effect"] is None


def test_many_seeds_go_by_the_normal_approximation() -> None:
    """Too many ways to share out: the approximation, and it is said."""
    rng = np.random.default_rng(0)
    found = difference(rng.random(30).tolist(), (rng.random(30) + 0.5).tolist())
    assert "normal" in found["test"]
    assert found["p"] < 1e-4


def test_holm() -> None:
    """By hand; never below a smaller one's, and what is unknown is not counted."""
    assert holm([0.04, None, 0.01, 0.03]) == [pytest.approx(0.06), None, pytest.approx(0.03),
                                             pytest.approx(0.06)]  # fmt: skip
    values = np.random.default_rng(3).random(6) / 10
    # Of Bonferroni's kind: no less than what controls false discoveries.
    assert all(np.array(holm(values.tolist())) >= false_discovery_control(values) - 1e-12)


def test_methods_are_set_against_that_of_the_first_run() -> None:
    """All measures, adjusted over the methods; also in CSV and LaTeX."""
    theirs, ours = seeds("llmatic", 0.9, 0.8, 0.85), seeds("mutation-only", 0.5, 0.6, 0.55)
    rows = compare([*ours, *theirs, *seeds("random", 0.7, 0.75, 0.72)])
    by_variant = {row["method"].split(" (")[0]: row for row in rows}
    first = by_variant["LLMatic, mutation-only"]
    assert (first["versus"], first["differences"]) == (None, {})
    assert first["best_fitness"] == pytest.approx(0.6)
    row = by_variant["LLMatic"]
    assert row["versus"] == first["title"]
    found = row["differences"]["fitness"]
    assert found["difference"] == pytest.approx(0.3)
    assert (found["effect"], found["p"], found["p_holm"]) == (1.0, pytest.approx(0.1),
                                                              pytest.approx(0.2))  # fmt: skip
    assert set(row["differences"]) == {"fitness", "test_accuracy", "qd_score", "coverage"}

    (line, *_) = list(csv.DictReader(io.StringIO(as_csv([row]))))
    assert float(line["fitness_mean"]) == pytest.approx(0.85)
    assert line["fitness_n"] == "3"
    assert float(line["differences.fitness.p"]) == pytest.approx(0.1)
    text = as_latex(*laid_out(rows))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert r"0.8500 $\pm$ 0.0500" in text
    assert r"coverage, \% &" in text


def test_share_and_hours_of_a_run() -> None:
    """Trainable of what was judged; hours without what a duplicate took over."""
    (run,) = seeds("llmatic", 0.9)
    table = run.record.candidates
    table["train_seconds"] = np.full(run.record.rows, 3600.0)
    (row,) = compare([run])
    judged = ~np.isin(table["status"], (b"pending", b"infrastructure", b"passed_over"))
    own = table["status"] == b"scored"
    could = own | ((table["status"] == b"duplicate") & own[table["duplicate_of"]])
    assert row["trainable"]["mean"] == pytest.approx(could.sum() / judged.sum())
    assert row["hours"]["mean"] == pytest.approx((table["duplicate_of"] < 0).sum())
    assert row["coverage"]["values"] == [run.record.history["network_coverage"][-1]]


def test_budgets_unspent_and_mixed_are_warned_of() -> None:
    """A finished run that left queries; a method that was allowed more."""
    (run,) = seeds("llmatic", 0.9)
    record = run.record
    record.config["search"] |= {"queries": 5000, "generations": record.committed_generations}
    left = look(run.path, record, 0)
    assert left.unspent == f"{len(left.queries)} of 5000 queries"
    (row,) = compare([left])
    assert f"{run.path} ended with {left.unspent}" in row["warnings"]
    assert look(run.path, record, 2).unspent == ""

    (other,) = seeds("random", 0.9)
    other.record.config["search"]["generations"] = 77
    shorter = look(other.path, other.record, 3)
    rows = compare([left, shorter])
    assert any("another budget than LLMatic" in text for row in rows for text in row["warnings"])


def test_formats_on_the_command_line(tmp_path: Path) -> None:
    """The format that is asked for, on standard output."""
    record = made_up()
    store.commit(RunPaths(tmp_path), record)
    done = CliRunner().invoke(cli, ["compare", str(tmp_path), "--format", "csv"],
                              catch_exceptions=False)  # fmt: skip
    assert done.stdout.startswith("problem,method,")
    done = CliRunner().invoke(cli, ["compare", str(tmp_path), "--format", "latex"])
    assert r"\begin{tabular}" in done.stdout

"""The plan of a run: rehearsed, timed, added up, and told beside what it came to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc import store
from llmatic_hpc.config import Config
from llmatic_hpc.coordinator import planning, rehearsal, stand_in, writing
from llmatic_hpc.coordinator.loop import run
from llmatic_hpc.evaluation.timing import Bench, Timed
from llmatic_hpc.generation import create
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.report import plan
from llmatic_hpc.report.methods import look
from llmatic_hpc.report.page import page
from llmatic_hpc.report.status import status
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.types import Completion, Request

from ..report.test_page import data_of
from ..store.conftest import made_up
from .command import ROOT, SMALL, llmatic
from .test_rungs import Heard, settings
from .test_rungs import table as made_up_scores  # noqa: F401 (a fixture)

FEW_CELLS = ("archive.samples=1000", "archive.network.cells=20", "archive.prompt.cells=20")
STEP, PREDICT, START = 0.01, 0.001, 0.5


def small(*changes: str) -> Config:
    """The smoke run, smaller."""
    return configuration.load(ROOT / "configs" / "smoke.toml", (*SMALL, *FEW_CELLS, *changes))


def fixed(images: int = 180, evaluated: int = 120) -> planning.Fit:
    """A fit by which every network takes the same."""
    bench = Bench((), 2.0, images, evaluated, "cpu")
    one = np.eye(5)[0]
    return planning.Fit(
        bench,
        16,
        step=STEP * one,
        start=START * one[:2],
        predict=PREDICT * one,
        limit=1e9,
        timed={},
    )


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal of three generations, and trainings that take what :func:`fixed` says."""
    six = [rehearsal.Training(n, f"x = {n}", 1, 1e6, 5, 1e3, 1e4) for n in range(6)]
    three = [rehearsal.Generation(6, 0.5, six)] * 3
    whole = rehearsal.Rehearsal(three, [], 2.0, 9.0, 1e3, 1e5, [], 18, 18.0, is_whole=False)
    monkeypatch.setattr(planning, "rehearse", lambda *_: whole)
    monkeypatch.setattr(planning, "_fitted", lambda config, chosen: fixed())
    monkeypatch.setattr(planning, "_interpreter_seconds", lambda: 1.0)


def test_a_model_s_networks_cost_what_they_do(tmp_path: Path) -> None:
    """The control stands in for a model, scaled by what either wrote for the same requests."""
    config = small()

    def cost_of(training: rehearsal.Training) -> stand_in.Cost:
        return stand_in.Cost(training.flops, 0.0, 2.0)

    with closing(rehearsal.evaluator_of(config)) as real:
        initial = real.problem.initial_source
        asked = [Request(n, "mutation", n, real.problem.prompts[n], (initial,), 0.6, n)
                 for n in range(6)]  # fmt: skip
        control = create(config.generator, real.problem, notify=print)
        theirs = [one.text for one in control.generate(asked)]
        (of_initial,) = real.examine([initial], repair=False)
        flops = [one.screened.descriptors.flops for one in real.examine(theirs, repair=False)
                 if one.screened.descriptors is not None]  # fmt: skip
        tried = writing.Pace((9,), 0.0, asked=asked, networks=[initial, "no network", initial])
        none = writing.Pace((9,), 0.0, asked=asked, networks=["no network"])
        like = writing.Pace((9,), 0.0, asked=asked, networks=theirs)
        found = [stand_in.scale_of(config, real, cost_of, paces)
                 for paces in ([tried], [none], [like], [None], [tried, like])]  # fmt: skip
    assert of_initial.screened.descriptors is not None
    share = of_initial.screened.descriptors.flops / np.mean(flops)
    assert share < 1
    one = stand_in.AS_THE_CONTROL
    assert found[0] == pytest.approx((share, 1, 1))
    assert found[1:4] == [one, one, one]
    assert found[4] == pytest.approx(((1 + share) / 2, 1, 1))


def test_the_first_generation_is_the_run_s(tmp_path: Path) -> None:
    """Networks of the control are rehearsed to the letter; later ones depend on the rehearsal."""
    config = small("search.generations=3", "search.batch=8", "search.start_elites=3")
    with closing(rehearsal.evaluator_of(config)) as real:
        one, other = (rehearsal.rehearse(config, number, real) for number in range(2))
        again = rehearsal.rehearse(config, 0, real)
    sources = [[[t.source for t in g.trainings] for g in r.generations] for r in (one, other)]
    assert sources[0] == [[t.source for t in g.trainings] for g in again.generations]
    assert sources[0][0] == sources[1][0] != []
    assert sources[0] != sources[1]
    assert all(
        t.epochs == 1 and t.flops > 0 < t.depth for g in one.generations for t in g.trainings
    )
    assert one.row_bytes > 0


@pytest.mark.usefixtures("steady")
def test_hours_add_up() -> None:
    """Every training of the rehearsal, and each generation as it is packed; a budget ends it."""
    config = small("cluster.kind=local", "cluster.array_parallelism=2",
                   "cluster.candidates_per_task=2", "search.generations=4")  # fmt: skip
    found = planning.estimate(config)
    each = 12 * STEP + 120 * PREDICT + START  # 180 images in batches of 16
    assert found.hours * 3600 == pytest.approx(found.trainings * each)
    assert found.device_hours["training"] * 3600 == pytest.approx(found.trainings * 12 * STEP)
    assert found.generations == 4
    assert found.trainings == found.candidates == 24
    # Three tasks of two candidates, which two at a time take two rounds.
    assert found.wall_hours["evaluating"] * 3600 == pytest.approx(4 * 4 * each)
    assert found.wall_hours["starting workers"] * 3600 == pytest.approx(4 * 2 * 3.0)
    assert found.wall_hours["screening"] * 3600 == pytest.approx(2 + 4 * 0.5)
    assert found.disk_bytes == pytest.approx(2 * (1e5 + 24 * 1e3))
    assert any("after 3" in note for note in found.notes)
    assert found.unit == "CPU-hours"
    assert found.advice[0].startswith("starting takes 68% of")
    assert found.tokens == 0
    for name, most, generations in (
        ("max_gpu_hours", 1.5 * found.hours / 4, 2), ("max_hours", 1e-9, 1), ("queries", 19, 4),
        ("budget", 24, 4),
    ):  # fmt: skip
        config = small("search.generations=9", f"search.{name}={most}")
        assert planning.estimate(config).generations == generations


@pytest.mark.usefixtures("steady")
def test_hours_are_those_of_the_model_s_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of every training is scaled by what the tried completions were like."""
    config = small("generator.kind=huggingface", "generator.model=m", "search.generations=4")
    monkeypatch.setattr(writing, "paces", lambda *_: {"": writing.Pace((9,), 0.0)})
    found = []
    for scale in (stand_in.AS_THE_CONTROL, stand_in.Cost(0.5, 1.0, 2.0)):
        monkeypatch.setattr(planning, "scale_of", lambda *_, scale=scale: scale)
        found.append(planning.estimate(config))
    before, after = (np.array([*one.device_hours.values()]) for one in found)
    assert after == pytest.approx(before * [0.5, 1.0, 2.0])
    assert [any("0.50 times" in note for note in one.notes) for one in found] == [False, True]


def test_what_a_model_wrote_is_kept_with_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks stand beside their requests, whatever order a server answers in."""
    problem = image_classification(input_shape=(1, 8, 8), classes=10)

    class Backwards:
        def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
            for one in reversed(requests):
                text = f"class Net(nn.Module):\n    number = {one.candidate}\n"
                yield Completion(one.candidate, text, "source", tokens=10 + one.candidate)

    monkeypatch.setattr(writing, "_made", lambda *_: nullcontext(Backwards()))
    config = small("generator.kind=endpoint", "generator.url=http://x/v1", "generator.model=m")
    pace = writing.paces(config, problem, [], 3, print)[""]
    assert pace is not None
    assert [one.candidate for one in pace.asked] == [0, 1, 2]
    assert [f"number = {n}" in text for n, text in enumerate(pace.networks)] == [True] * 3
    assert list(pace.lengths) == [10, 11, 12]


def test_scores_of_a_table_cost_no_hours(tmp_path: Path) -> None:
    """The rehearsal is the run: it ends where that ends, for its budget."""
    config = settings("full")
    run(config, tmp_path, observer=Heard())
    record = store.load(RunPaths(tmp_path).record)
    found = planning.estimate(config)
    assert found.hours == 0
    assert found.wall > 0
    assert found.generations == record.committed_generations < 1000


def test_a_fit_finds_what_times_were_made_of() -> None:
    """Exact times give it exactly; of noisy ones the sum stays."""
    rng = np.random.default_rng(1)
    seen = np.abs(rng.normal(size=(16, 5))) * [1, 10, 1e8, 1e5, 1e6]
    seen[:, 0] = 1
    true = np.array([0.01, 0.001, 2e-10, 0.0, 1e-9])
    assert planning._coefficients(seen, seen @ true) == pytest.approx(true, rel=1e-6, abs=1e-12)
    noisy = seen @ true * rng.uniform(0.5, 1.5, 16)
    assert (seen @ planning._coefficients(seen, noisy)).sum() == pytest.approx(noisy.sum())
    assert planning._coefficients(seen[:0], []).tolist() == [0.0] * 5


def test_a_training_takes_its_limit_at_most() -> None:
    """A longer one is ended there; one that was timed goes by its own time."""
    training = rehearsal.Training(0, "x", 100, 1e6, 5, 1e3, 1e4)
    assert sum(fixed().cost(training)) > 10
    assert sum(replace(fixed(), limit=10.0).cost(training)) == pytest.approx(10)
    timed = replace(fixed(), timed={"x": Timed(1.0, 0.1, 0.01)})
    assert timed.cost(training) == pytest.approx((120.0, 1.2, 1.0))
    assert timed.cost(training, 90).training == pytest.approx(60.0)


def test_tasks_that_run_side_by_side() -> None:
    """Each begins where one ends first."""
    assert planning.makespan([3, 3, 3], 2) == 6
    assert planning.makespan([4, 1, 1, 1], 2) == 4
    assert planning.makespan([], 2) == 0


def test_completions_share_a_batch() -> None:
    """A step for all, places refilled; what nobody writes takes nothing."""
    pace = writing.Pace((10,), 0.0, read=0.5, step=1.0, token=0.1, batch=2)
    assert writing.seconds(pace, 1) == pytest.approx(0.5 + 10 * 1.1)
    assert writing.seconds(pace, 2) == pytest.approx(1.0 + 10 * 1.2)
    assert writing.seconds(pace, 4) == pytest.approx(2.0 + 20 * 1.2)
    longer = replace(pace, lengths=(10, 30))
    assert writing.seconds(longer, 2) == pytest.approx(1.0 + 10 * 1.2 + 20 * 1.1)
    assert writing.seconds(replace(pace, is_free=True), 5) == 0


ONE = plan.Estimate(
    2, 12, 11, {"training": 1.0, "starting": 0.5}, 1.2, 1.8, "CPU-hours", {"evaluating": 0.75},
    1000.0, 1e6, 3e6, 40, ("half of it",), ("a note",),
)  # fmt: skip


def test_plans_add_up() -> None:
    """One run after the other: hours and files add up, advice is that of the dearer."""
    other = replace(
        ONE, device_hours={"training": 3.0}, tokens=None, advice=("other",), unit="GPU-hours"
    )
    both = ONE + other
    assert both.runs == 2
    assert both.hours == 4.5
    assert both.wall == 1.5
    assert both.tokens is None
    assert both.unit == "device-hours"
    assert both.advice == ("other",)
    assert both.notes == ("a note",)
    assert both.peak_bytes == 4e6
    assert (ONE + ONE).tokens == 2000
    assert any("2 runs" in text for _, text in both.lines())


def test_planned_and_actual(tmp_path: Path) -> None:
    """Status and page have a line with both; a plan that cannot be read is none."""
    record, paths = made_up(), RunPaths(tmp_path)
    assert status(record, paths)["planned"] is None
    record.candidates["train_seconds"][:] = 3600.0 / record.rows
    record.alive_seconds = 1800.0
    paths.estimate.write_text(replace(ONE, generations=6).to_json())
    values = status(record, paths)
    assert values["planned"]["device_hours"] == {"planned": 1.5, "actual": pytest.approx(1.0)}
    told = data_of(page([look(tmp_path, record, 0)]))["planned"]
    assert told == plan.comparison_line(values["planned"])
    assert "67% of it, after 3 of 6 generations" in told
    for damaged in ("{", "[]", '{"runs": 1}', json.dumps({**ONE.values(), "device_hours": 5})):
        paths.estimate.write_text(damaged)
        assert status(record, paths)["planned"] is None


@pytest.mark.usefixtures("steady")
def test_the_command_keeps_the_plan(tmp_path: Path) -> None:
    """In the run's folder, where a run may begin afterwards; a faulty setting is refused."""
    words = [word for setting in (*SMALL, *FEW_CELLS) for word in ("--set", setting)]
    line = ("plan", "configs/smoke.toml", "--run-dir", tmp_path / "run", *words)
    said = json.loads(llmatic(*line, "--json").stdout)
    kept = plan.planned(RunPaths(tmp_path / "run"))
    assert kept is not None
    assert kept.hours == pytest.approx(said["hours"])
    assert kept.hours > 0
    assert {"wall time", "disk", "halve it"} <= {name for name, _ in kept.lines()}
    assert llmatic(*line, "--set", "search.generation=1", check=False).returncode == 2


@pytest.mark.usefixtures("steady")
def test_a_plan_that_cannot_be_kept_is_shown(tmp_path: Path) -> None:
    """And what is wrong is one line."""
    (tmp_path / "file").touch()
    words = [word for setting in (*SMALL, *FEW_CELLS) for word in ("--set", setting)]
    done = llmatic(
        "plan", "configs/smoke.toml", "--run-dir", tmp_path / "file" / "run", *words, check=False
    )
    assert done.returncode == 1
    assert "wall time" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.endswith("plan.json: cannot be written: Not a directory")


@pytest.mark.usefixtures("steady")
def test_a_device_on_which_nothing_can_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hours are known, and the plan says why."""
    nothing = replace(
        fixed(), bench=Bench((), 2.0, 180, 120, ""), step=np.zeros(5), start=np.zeros(2),
        predict=np.zeros(5),
    )  # fmt: skip
    monkeypatch.setattr(planning, "_fitted", lambda config, chosen: nothing)
    found = planning.estimate(small())
    assert found.hours == 0
    assert "trainings were timed on no device: none succeeded" in found.notes


@pytest.mark.slow
def test_a_model_that_is_here_is_timed(test_model: Path) -> None:
    """Tokens and their seconds follow from a few completions; without one it says so."""
    config = configuration.load(
        ROOT / "configs" / "quickstart.toml",
        (f"generator.model={test_model}", "generator.max_new_tokens=40", "generator.batch=2",
         "search.generations=1", "search.batch=2", "problem.train_images=100"),
    )  # fmt: skip
    found = planning.estimate(config, completions=2)
    assert found.tokens is not None
    assert 0 < found.tokens <= 80
    assert found.wall_hours["generating"] > 0
    untried = planning.estimate(config, completions=0)
    assert untried.tokens is None
    assert any("was not tried" in note for note in untried.notes)

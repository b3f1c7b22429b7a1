"""Runs whose prompts a model rewrites: on the record, replayed, the same after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc import problems, store
from llmatic_hpc.config import GENERATORS, GeneratorSettings
from llmatic_hpc.coordinator.loop import run
from llmatic_hpc.errors import ConfigError, GeneratorError
from llmatic_hpc.problems.nasbench201 import write
from llmatic_hpc.problems.nasbench201.cells import cells
from llmatic_hpc.report.page.anytime import progress
from llmatic_hpc.report.page.changes import changes
from llmatic_hpc.report.rates import rates
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, fold, schema
from llmatic_hpc.store import requests as requests_of
from llmatic_hpc.types import REWRITING, Completion, Problem, Request

from ..crash.kill_anywhere import differences, equal

CONFIG = Path(__file__).parents[2] / "configs" / "nasbench201.toml"
CELLS = [cell for cell in cells() if 1 not in cell and 0 not in cell]
WRITTEN = (
    'Instruction: "Replace a pooling layer by a convolution"', "import torch",
    "Add a skip connection", "Replace one layer\n\nSure, here it is.",
    "Delete a layer that does little",
)  # fmt: skip
"""Answers to requests for prompts, again and again."""


class Writer:
    """A stand-in for a model, that is gone after so many ``answers``; -1: never."""

    name = "stand-in"
    form = "source"
    repeatable = False
    writes_prose = True
    kind = "stand-in"
    answers = -1
    asked: ClassVar[list[Request]] = []

    def __init__(self, settings: GeneratorSettings, problem: Problem) -> None:
        pass

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            if Writer.answers == 0:
                raise GeneratorError("killed")
            Writer.answers -= 1
            Writer.asked.append(request)
            if request.operator == REWRITING:
                text = WRITTEN[request.seed % len(WRITTEN)]
            else:
                text = write.source(CELLS[request.seed % len(CELLS)])
            yield Completion(request.candidate, text, "source", tokens=5)

    def close(self) -> None:
        pass


Run = Callable[..., Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Iterator[Run]:
    """Makes runs with the stand-in, under the name of a folder, with further settings."""
    root = tmp_path_factory.mktemp("runs")

    def make(name: str, *settings: str) -> Path:
        config = configuration.load(CONFIG, (
            f"problem.table={test_data}/nasbench201.h5", "generator.kind=stand-in",
            "search.generations=6", "search.batch=8", "archive.samples=1000",
            "search.mutation_probability=1.0", "search.start_elites=4", "search.prompts=evolve",
            "search.prompt_every=1", "search.prompt_rewrites=2", "search.prompt_rows=2",
            "archive.prompt.upper=[13.0, 1.0]", *settings,
        ))  # fmt: skip
        run(config, root / name)
        return root / name

    with pytest.MonkeyPatch.context() as patch:
        place = f"{__name__}:Writer"
        patch.setitem(GENERATORS.built_in, "stand-in", place)  # type: ignore[arg-type]
        yield make


@pytest.fixture(scope="module")
def finished(runs: Run) -> tuple[Path, list[Request]]:
    """A finished run, not to be changed, and what was asked for."""
    Writer.answers, Writer.asked = -1, []
    return runs("finished"), Writer.asked


def load(folder: Path) -> Record:
    return store.load(RunPaths(folder).record)


def first(record: Record) -> int:
    """The first generation before which prompts were rewritten."""
    return int(min(record.rewritings["generation"]))


def told(record: Record) -> list[str]:
    return [str(difference) for difference in store.verify(record)]


def test_new_prompts_live_and_are_on_the_record(finished: tuple[Path, list[Request]]) -> None:
    """Answers, of which prompt, what became of them; and networks are asked for with them."""
    record, requests = load(finished[0]), finished[1]
    assert told(record) == []
    new, own = record.rewritings, record.own_prompts
    taken = new["prompt"] >= 0
    assert own == 9 < len(record.prompts)
    assert 0 < taken.sum() < new.rows
    assert (taken == (new["failure"] == "")).all()
    assert new["prompt"][taken].tolist() == list(range(own, len(record.prompts)))
    assert "Replace a pooling layer by a convolution" in record.prompts
    assert (new["curiosity"] > 0).all()
    assert {int(row) for row in new["row"][taken]} <= {own, own + 1}
    reasons = {str(text).split(",")[0] for text in new["failure"][~taken]}
    assert reasons <= {"reads like code", "more than one paragraph", "repeats a prompt"}
    by_new = record.candidates["prompt"] >= own
    assert by_new.any()
    asked = {r.candidate: r for r in requests if r.operator != REWRITING}
    for row in np.flatnonzero(by_new).tolist():
        assert asked[row].instruction == record.prompts[record.candidates["prompt"][row]]
        since = new["generation"][new["prompt"] == record.candidates["prompt"][row]]
        assert record.candidates["generation"][row] >= since[0]
    rewritten = [r for r in requests if r.operator == REWRITING]
    assert all(record.prompts[r.prompt] in r.text for r in rewritten)
    assert rates(record)  # by the texts of all prompts
    elite = np.full(len(record.archives["prompt"].elite), -1)
    for change in changes(record)["prompt"]:
        elite[change.cell] = change.candidate
    assert (elite == record.archives["prompt"].elite).all()
    config = configuration.from_tables(record.config, "run.h5")
    told_again = requests_of.asked(record, config, problems.problem_of(config))
    assert [r.instruction for r in told_again] == [asked[row].instruction for row in sorted(asked)]
    rows = fold.resume(record, config).prompt_rows
    living = {prompt: rows.collective[row] for row, prompt in enumerate(rows.prompts)}
    assert len(record.prompt_fitness) == len(record.prompts) == rows.known
    assert all(record.prompt_fitness[p] == count for p, count in living.items() if p >= 0)


def test_curves_of_a_run_whose_prompts_change(finished: tuple[Path, list[Request]]) -> None:
    """At the end of each generation they are where its history is."""
    record = load(finished[0])
    reached, told_in = progress(record), np.sort(record.candidates["told"])
    for generation in range(record.committed_generations):
        last = int(np.searchsorted(told_in, generation, side="right")) - 1
        for name in ("qd_score", "coverage"):
            expected = record.history[f"network_{name}"][generation]
            assert reached[name][last] == pytest.approx(expected)


def test_after_a_kill_the_same_prompts(runs: Run, finished: tuple[Path, list[Request]]) -> None:
    """Gone after every few answers, between a request for a prompt and its commit too, and begun
    again: what was written is asked for once, and all comes out as without."""
    whole, asked = finished
    Writer.asked, killed = [], 0
    for answers in [9, 1, 12, 3, 9, 1, 1] * 9:
        Writer.answers = answers
        try:
            runs("killed")
            break
        except GeneratorError:
            killed += 1
    Writer.answers = -1
    assert killed > 7
    assert [(r.operator, r.seed) for r in Writer.asked] == [(r.operator, r.seed) for r in asked]
    one, other = load(whole), load(whole.parent / "killed")
    assert differences(one, whole.parent / "killed", {}) == []
    assert one.prompts == other.prompts
    for column in schema.REWRITINGS:
        if column.name not in schema.TIMINGS:
            pair = one.rewritings[column.name], other.rewritings[column.name]
            assert equal(*pair), column.name


def test_until_the_first_new_prompt_all_is_as_without(
    runs: Run, finished: tuple[Path, list[Request]]
) -> None:
    """And a run without them has nothing of it in its file."""
    evolved = load(finished[0])
    folder = runs("plain", "search.prompts=archive", f"search.generations={first(evolved) + 1}")
    with h5py.File(RunPaths(folder).record) as file:
        assert "rewritings" not in file
    plain = load(folder)
    assert (plain.rewritings.rows, plain.own_prompts) == (0, 9)
    before = slice(0, 8 * first(evolved))
    for name in ("prompt", "temperature", "sampling_seed", "prompt_cell"):
        assert equal(evolved.candidates[name][before], plain.candidates[name][before])


@pytest.mark.parametrize("what", ["text", "completion", "parent", "row", "failure", "gone", "more"])
def test_an_edited_prompt_is_found(finished: tuple[Path, list[Request]], what: str) -> None:
    """And any other change to what was written, and to what became of it."""
    record = load(finished[0])
    table = record.rewritings
    taken = int(np.flatnonzero(table["prompt"] >= 0)[0])
    prompt = int(table["prompt"][taken])
    words = f"rewritings {taken}: {what} is"
    if what == "text":
        prompts = list(record.prompts)
        prompts[prompt] = "Replace everything"
        record.prompts = tuple(prompts)
        words = f"prompts {prompt}: text is 'Replace everything', what was written says '"
    elif what == "completion":
        table.update_row(taken, {"completion": "Make the network as wide as a street"})
        words = "what was written says 'Make the network as wide as a street'"
    elif what in ("parent", "row"):
        table.update_row(taken, {what: int(table[what][taken]) + 1})
    elif what == "failure":
        table.update_row(taken, {"failure": "repeats a prompt"})
    elif what == "gone":
        words = f"before generation {table['generation'][taken]}, a replay asks for"
        table.update_row(taken, {"generation": 5})
    else:
        table.append([{"generation": 99}])
        words = "some are of other generations than the 6 of the record"
    found = told(record)
    assert any(words in one for one in found), found


def replay_file(folder: Path, *rewritings: str) -> str:
    """A file of completions, of cells and of prompts, as a setting."""
    chosen = CELLS[:64]
    lines = [{"completion": write.source(c), "prompt_tail": ""} for c in chosen]
    lines[3:3] = [{"rewriting": text} for text in rewritings]
    path = folder / "replay.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"generator.replay={path}"


@pytest.mark.slow
def test_a_replay_file_serves_prompts(runs: Run, tmp_path: Path) -> None:
    """Lines of their own, in the order in which they are asked for."""
    texts = [f"Replace a layer {word} another" for word in ("by", "with", "after", "before")]
    file = replay_file(tmp_path, *texts)
    record = load(runs("replay", "generator.kind=replay", file, "search.generations=3"))
    assert told(record) == []
    assert record.rewritings.rows > 0
    assert record.rewritings["completion"].tolist() == texts[: record.rewritings.rows]
    assert list(record.prompts[9:]) == texts[: len(record.prompts) - 9]


def test_a_generator_without_prose_is_refused_before_there_is_a_record(
    runs: Run, tmp_path: Path
) -> None:
    """A replay file without such lines, as any that is found out only when it is opened."""
    with pytest.raises(ConfigError, match=r"search\.prompts = 'evolve' needs a writer of prose"):
        runs(str(tmp_path / "without"), "generator.kind=replay", replay_file(tmp_path))
    assert not RunPaths(tmp_path / "without").record.exists()


def test_of_several_writers_the_first_that_can_writes_prompts(
    runs: Run, tmp_path: Path, test_data: Path
) -> None:
    """The control shares in the networks alone, also where it does not know the prompt."""
    path = tmp_path / "c.toml"
    writers = "".join(
        f'[[generator.writers]]\nname = "{name}"\nkind = "{kind}"\n'
        for name, kind in (("control", "procedural"), ("model", "stand-in"))
    )
    path.write_text(CONFIG.read_text().replace('kind = "procedural"', "") + "\n" + writers)
    config = configuration.load(path, (
        f"problem.table={test_data}/nasbench201.h5", "search.generations=5", "search.batch=8",
        "archive.samples=1000", "search.mutation_probability=1.0", "search.start_elites=4",
        "search.prompts=evolve", "search.prompt_every=1", "search.prompt_rewrites=2",
        "archive.prompt.upper=[12.0, 1.0]", "search.writers=thompson",
    ))  # fmt: skip
    run(config, tmp_path / "run")
    record = load(tmp_path / "run")
    assert told(record) == []
    assert set(record.rewritings["writer"]) == {b"model"}
    assert set(record.candidates["writer"]) == {b"model", b"control"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["generator.kind=procedural"], "there is none that can"),
        (["generator.kind=huggingface", "generator.form=completion"], "there is none that can"),
        (["search.variant=network-archive"], "needs a search.variant with a prompt archive"),
        (["search.prompt_rows=8"], "search.prompt_rows: 9 prompts of the problem and 8 rows"),
        (["search.prompt_rows=0"], "search.prompt_rows must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(runs: Run, settings: list[str], words: str) -> None:
    """With what to do, and without a record."""
    with pytest.raises(ConfigError, match=words):
        runs("refused", *settings)

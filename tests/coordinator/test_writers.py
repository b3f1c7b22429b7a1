"""Runs with several writers: shared out, on the record, replayed, whole where one fails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc import store
from llmatic_hpc.config import GENERATORS, GeneratorSettings
from llmatic_hpc.errors import ConfigError, GeneratorError
from llmatic_hpc.problems.nasbench201 import write
from llmatic_hpc.problems.nasbench201.cells import architecture, cells
from llmatic_hpc.store import Record
from llmatic_hpc.types import Completion, Problem, Request

from ..crash.kill_anywhere import differences
from .command import llmatic, load

CONFIG = Path(__file__).parents[2] / "configs" / "nasbench201.toml"
CELLS = [cell for cell in cells() if 1 not in cell and 0 not in cell]


def answers(folder: Path, count: int) -> None:
    """Write a file of so many chats, each with another cell."""
    lines = [
        {"completion": f"So:\n```python\n{write.source(cell)}```", "form": "chat", "tokens": 50 + n}
        for n, cell in enumerate(CELLS[:count])
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "answers.jsonl").write_text(text)


def config_of(folder: Path, *writer: str) -> Path:
    """A configuration of the benchmark with the control and one writer more."""
    path = folder / "c.toml"
    text = CONFIG.read_text().replace('kind = "procedural"', "")
    lines = ("[[generator.writers]]", 'name = "control"', 'kind = "procedural"',
             "[[generator.writers]]", *writer)  # fmt: skip
    path.write_text("\n".join((text, *lines)))
    return path


@pytest.fixture
def settings(test_data: Path) -> tuple[str, ...]:
    """Settings under which a run takes well under a second."""
    table = f"problem.table={test_data}/nasbench201.h5"
    return (table, "search.generations=2", "search.batch=6", "archive.samples=1000")


def run(config: Path, folder: Path, settings: tuple[str, ...], fails: bool = False) -> str:
    """Run to the end, or to where it fails; what it says."""
    words = [word for setting in settings for word in ("--set", setting)]
    done = llmatic("run", config, "--run-dir", folder, *words, check=not fails)
    assert done.returncode == int(fails), done.stderr
    return done.stderr


def by_writer(record: Record) -> dict[str, list[int]]:
    """Candidates of each writer."""
    names = record.candidates["writer"]
    return {name.decode(): np.flatnonzero(names == name).tolist() for name in set(names)}


def test_two_writers_share_a_run(tmp_path: Path, settings: tuple[str, ...]) -> None:
    """The record says which wrote what; a replay, status, export and compare agree."""
    answers(tmp_path, 12)
    config = config_of(tmp_path, 'name = "file"', 'kind = "replay"', 'replay = "answers.jsonl"')
    run(config, tmp_path / "run", settings)
    record = load(tmp_path / "run")
    assert list(store.verify(record)) == []
    shares = by_writer(record)
    assert set(shares) == {"control", "file"}
    assert min(map(len, shares.values())) > 1
    forms, names = record.candidates["form"], record.candidates["architecture"]
    assert all(forms[row] == b"chat" for row in shares["file"])
    assert all(forms[row] == b"source" for row in shares["control"])
    assert all(names[row] == architecture(CELLS[row]) for row in shares["file"])

    status = json.loads(llmatic("status", tmp_path / "run", "--json").stdout)
    assert status["generator"] == "writers:control+file"
    said = {one["writer"]: one for one in status["rates"]["by_writer"]}
    counts = {name: one["completions"] for name, one in said.items()}
    assert counts == {name: len(rows) for name, rows in shares.items()}
    assert said["file"]["tokens"] == sum(50 + row for row in shares["file"])
    assert sum(one["added"] for one in said.values()) == sum(record.history["added"])
    shown = " ".join(llmatic("status", tmp_path / "run").stdout.split())
    assert "control procedural (control without" in shown
    row = str(shares["file"][0])
    llmatic("export", tmp_path / "run", "--candidate", row, "--output", tmp_path / "net.py")
    assert "written by: file (replay:" in (tmp_path / "net.py").read_text()
    assert "LLMatic (control+file)" in llmatic("compare", tmp_path / "run").stdout

    record.update(shares["file"][0], {"writer": "control"})
    (first,) = list(store.verify(record))
    assert str(first) == f"candidate {row}: writer is control, a replay gives file"


def test_all_writers_answer_a_place(tmp_path: Path, settings: tuple[str, ...]) -> None:
    """One of their answers is kept; a replay tells who wrote it."""
    answers(tmp_path, 24)
    config = config_of(tmp_path, 'name = "file"', 'kind = "replay"', 'replay = "answers.jsonl"')
    run(config, tmp_path / "run", (*settings, "search.writers=each", "search.oversample=2"))
    record = load(tmp_path / "run")
    assert list(store.verify(record)) == []
    names = record.candidates["writer"].reshape(-1, 2)
    assert (names == [b"control", b"file"]).all()
    passed = (record.candidates["status"] == b"passed_over").reshape(-1, 2)
    assert (passed.sum(axis=1) == 1).all()
    assert passed.any(axis=0).all()


class Scripted:
    """A writer whose server is down while ``up`` is False, after its first answer."""

    kind = name = "scripted"
    form = "source"
    repeatable = False
    up = True

    def __init__(self, settings: GeneratorSettings, problem: Problem) -> None:
        pass

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for number, request in enumerate(requests):
            if number and not self.up:
                raise GeneratorError("the server is down")
            cell = CELLS[request.seed % len(CELLS)]
            yield Completion(request.candidate, write.source(cell), "source", tokens=100)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("rule", ["ucb", "thompson"])
def test_a_writer_that_fails_loses_nothing(
    tmp_path: Path, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    """The run stops with 1 and the writer's name, and goes on to the same end once it is back.

    What it wrote is not asked for again; the control, whose texts depend on each other and cost
    nothing, writes all of its own again.
    """
    place = f"{__name__}:Scripted"
    monkeypatch.setitem(GENERATORS.built_in, "scripted", place)  # type: ignore[arg-type]
    settings = *settings, f"search.writers={rule}", "search.token_cost=0.001", "search.batch=12"
    config = config_of(tmp_path, 'name = "far"', 'kind = "scripted"')
    run(config, tmp_path / "whole", settings)
    monkeypatch.setattr(Scripted, "up", False)
    said = run(config, tmp_path / "run", settings, fails=True)
    assert "writer far: the server is down (what control wrote is kept" in said
    assert load(tmp_path / "run").rows == 0
    kept = (tmp_path / "run" / "generation" / "completions.jsonl").read_text().splitlines()
    first = by_writer(load(tmp_path / "whole"))["far"][0]
    assert [json.loads(line)["candidate"] for line in kept] == [first]
    monkeypatch.setattr(Scripted, "up", True)
    run(config, tmp_path / "run", settings)
    assert differences(load(tmp_path / "whole"), tmp_path / "run", {}) == []


def test_place_and_pace_of_a_writer_may_change(tmp_path: Path, settings: tuple[str, ...]) -> None:
    """A run goes on with another ``batch`` of a writer, not with another ``edits``."""
    far = 'name = "far"', 'kind = "procedural"'
    run(config_of(tmp_path, *far), tmp_path / "run", (*settings, "search.generations=1"))
    run(config_of(tmp_path, *far, "batch = 7"), tmp_path / "run", settings)
    other = config_of(tmp_path, *far, 'edits = "free"')
    assert "generator.writers (was [" in run(other, tmp_path / "run", settings, fails=True)


def test_each_writer_may_fall_back(tmp_path: Path, settings: tuple[str, ...]) -> None:
    """The control takes the place of a model that cannot be had, for good, and all say so."""
    model = ('name = "model"', 'kind = "huggingface"', 'model = "nobody/nothing"')
    config = config_of(tmp_path, *model, 'fallback = "procedural"')
    said = llmatic("doctor", config, "--run-dir", tmp_path, "--json", check=False).stdout
    found = {one["what"]: one for one in map(json.loads, said.splitlines())}
    assert found["model of writer control"]["state"] == "ok"
    assert found["model of writer model"]["state"] == "warning"
    said = run(config, tmp_path / "run", settings)
    assert "NOTE: writer model is no language model" in said
    record = load(tmp_path / "run")
    assert record.environment["writers"]["model"]["generator_kind"] == "procedural"
    assert len(by_writer(record)) == 2
    run(config, tmp_path / "run", (*settings, "search.generations=3"))
    assert load(tmp_path / "run").environment["writers"] == record.environment["writers"]
    strict = config_of(tmp_path, *model)
    assert "writer model: nobody/nothing" in run(strict, tmp_path / "x", settings, fails=True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('name = "control"', "another one of the name 'control'"),
        ('name = "a b"', "needs a name"),
        ('name = "x"\nrepair = false', "repair is of all writers"),
        ('name = "x"\nbacth = 3', "unknown setting bacth; did you mean batch?"),
        ('name = "x"\nbatch = 0', "generator.batch must be at least 1"),
        ('name = "x"\nkind = "endpoint"', "writer x: generator.kind = 'endpoint' needs"),
        ('name = "x"\nkind = "procedural"\n[search]\nwriters = "each"', "a multiple of the 2"),
        ('name = "x"\n[generator]\nkind = "replay"', "say the kind of each of them"),
    ],
)
def test_faults_of_a_writer_are_said(tmp_path: Path, wrong: str, said: str) -> None:
    """One line that names the writer and the key."""
    path = tmp_path / "c.toml"
    wrong, _, general = wrong.partition("[generator]")
    path.write_text(
        f'[generator]{general}\n[[generator.writers]]\nname = "control"\nkind = "procedural"\n'
        f"[[generator.writers]]\n{wrong}\n"
    )
    with pytest.raises(ConfigError) as caught:
        configuration.load(path)
    assert said in str(caught.value)


def test_a_bandit_goes_on_where_it_stopped(tmp_path: Path, settings: tuple[str, ...]) -> None:
    """Two controls under Thompson sampling, prompts and all: in pieces as in one go."""
    config = config_of(
        tmp_path, 'name = "far"', 'kind = "procedural"', 'edits = "free"', "unseen = false"
    )
    settings = *settings, "search.writers=thompson", "search.prompts=bandit"
    for generations in (3, 11, 20):
        run(config, tmp_path / "pieces", (*settings, f"search.generations={generations}"))
    run(config, tmp_path / "whole", (*settings, "search.generations=20"))
    assert differences(load(tmp_path / "whole"), tmp_path / "pieces", {}) == []
    assert len(by_writer(load(tmp_path / "whole"))) == 2

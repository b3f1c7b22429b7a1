"""Training data from a record: what was really asked, and no lineage in two parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc import problems, store
from llmatic_hpc.config import GENERATORS, GeneratorSettings
from llmatic_hpc.coordinator.loop import run
from llmatic_hpc.generation import prompts
from llmatic_hpc.problems.nasbench201 import write
from llmatic_hpc.problems.nasbench201.cells import cells
from llmatic_hpc.report.training_data import lineages, training_data
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record
from llmatic_hpc.types import Completion, Problem, Request

from ..coordinator.command import llmatic

CONFIG = Path(__file__).parents[2] / "configs" / "nasbench201.toml"
CELLS = list(cells())
ASKED: dict[int, Request] = {}
"""Requests that the writer below was given, by candidate."""


class Chatting:
    """A writer that notes what it is asked; of each three answers one is nothing."""

    kind = name = "chatting"
    form = "source"
    repeatable = False

    def __init__(self, settings: GeneratorSettings, problem: Problem) -> None:
        pass

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            ASKED[request.candidate] = request
            cell = CELLS[request.seed % 1000]
            text = write.source(cell) if request.seed % 3 else f"nothing {request.seed}"
            yield Completion(request.candidate, text, "source", tokens=9)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def made(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run by that writer and the control, with texts marked as chats afterwards."""
    folder = tmp_path_factory.mktemp("made") / "run"
    ASKED.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GENERATORS.built_in, "chatting", f"{__name__}:Chatting")  # type: ignore[arg-type]
        settings = configuration.load(CONFIG, (
            f"problem.table={test_data}/nasbench201.h5", "search.generations=12", "search.batch=20",
            "search.queries=0", "search.mutation_probability=0.9", "generator.kind=huggingface",
            'generator.writers=[{name = "model", kind = "chatting"}, '
            '{name = "control", kind = "procedural"}]', "archive.samples=1000",
            "search.start_generations=9", "search.start_elites=100",
        ))  # fmt: skip
        run(settings, folder)
        record = store.load(folder / "run.h5")
        # Read as they are, and so without a contained child for each; a real one answers in chats.
        record.candidates["form"] = np.where(
            record.candidates["writer"] == b"model", b"chat", record.candidates["form"]
        )
        store.commit(RunPaths(folder), record)
        yield folder


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prompts_are_what_the_writer_was_asked(made: Path, tmp_path: Path) -> None:
    """Messages and strings as TRL wants them, and each prompt word for word."""
    llmatic("export", made, "--training-data", tmp_path / "data.jsonl")
    problem = problems.problem_of(configuration.from_tables(store.load(made / "run.h5").config, ""))
    seen = 0
    for name in ("data", "data.test", "data.dpo", "data.dpo.test"):
        for row in rows(tmp_path / f"{name}.jsonl"):
            asked = ASKED[row["candidate"]]
            assert row["prompt"] == prompts.chat_messages(asked, problem)
            for key in ("chosen", "rejected") if "dpo" in name else ("completion",):
                (said,) = row[key]
                assert said["role"] == "assistant"
                assert said["content"]
            seen += 1
    assert seen > 20
    assert rows(tmp_path / "data.jsonl")
    assert rows(tmp_path / "data.dpo.jsonl")
    done = llmatic("export", made, "--training-data", tmp_path / "data.jsonl", check=False)
    assert (done.returncode, "--force overwrites" in done.stderr) == (1, True)


def test_pairs_are_of_better_networks_and_preferences_of_one_request(made: Path) -> None:
    """Offspring beats its parents; the rejected one was asked the same, and did not enter."""
    record, found = data_of(made)
    table = record.candidates
    for row in [*found.pairs, *found.pairs_test]:
        candidate, parents = row["candidate"], row["parents"]
        assert table["writer"][candidate] == b"model"
        assert all(table["fitness"][candidate] > table["fitness"][parent] for parent in parents)
        assert parents or table["network_added"][candidate] > 0
    for row in [*found.preferences, *found.preferences_test]:
        chosen, rejected = ASKED[row["candidate"]], ASKED[row["rejected_candidate"]]
        assert chosen.parents == rejected.parents
        assert chosen.instruction == rejected.instruction
        assert table["network_added"][row["candidate"]] > 0
        assert table["network_added"][row["rejected_candidate"]] <= 0


def test_no_lineage_is_in_two_parts(made: Path) -> None:
    """All who share an ancestor or a network are on one side, by a walk of the test's own."""
    record, found = data_of(made)
    table = record.candidates
    near: dict[int, set[int]] = {row: set() for row in range(record.rows)}
    for row in range(record.rows):
        joined = [parent for parent in table["parents"][row].tolist() if parent >= 0]
        joined += np.flatnonzero(
            (table["canonical_sha256"] == table["canonical_sha256"][row])
            & (table["canonical_sha256"] != b"")
        ).tolist()
        for other in joined:
            near[row].add(other)
            near[other].add(row)
    sides = {row["candidate"]: is_test
             for is_test, part in ((False, [*found.pairs, *found.preferences]),
                                   (True, [*found.pairs_test, *found.preferences_test]))
             for row in part}  # fmt: skip
    assert set(sides.values()) == {False, True}
    for start, side in sides.items():
        reached, front = {start}, [start]
        while front:
            front = [n for row in front for n in near[row] - reached]
            reached |= set(front)
        assert all(sides.get(row, side) == side for row in reached)
    assert len(set(lineages(record))) > 2


def data_of(folder: Path):  # type: ignore[no-untyped-def]
    """The record, and what is made of it."""
    record: Record = store.load(folder / "run.h5")
    config = configuration.from_tables(record.config, "")
    return record, training_data(record, config, problems.problem_of(config))


def test_a_run_without_a_model_has_none(test_data: Path, tmp_path: Path) -> None:
    """The control reads no request: exit 1 and a sentence."""
    settings = (f"problem.table={test_data}/nasbench201.h5", "search.generations=2")
    run(configuration.load(CONFIG, settings), tmp_path / "run")
    done = llmatic("export", tmp_path / "run", "--training-data", tmp_path / "x.jsonl", check=False)
    assert done.returncode == 1
    assert "no language model wrote a network here" in done.stderr
    done = llmatic("export", tmp_path / "run", "--best", "--training-data", tmp_path / "x.jsonl",
                   check=False)  # fmt: skip
    assert done.returncode == 2

"""Whole runs whose requests are informed, name niches, and are asked again before any training."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc import store
from llmatic_hpc.coordinator import task
from llmatic_hpc.coordinator.loop import Silent, run
from llmatic_hpc.errors import ConfigError, Interrupted
from llmatic_hpc.problems.evaluator import Immediate
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.report.rates import rates
from llmatic_hpc.report.targets import render, targets
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, fold, requests, schema
from llmatic_hpc.types import PENDING, Descriptors, Outcome, Screened

from ..crash.kill_anywhere import disturbed, equal, finish

ROOT = Path(__file__).parents[2]
SMALL = (
    "search.generations=2", "search.batch=3", "search.start_elites=2", "training.epochs=0",
    "problem.train_images=60", "problem.test_images=50", "cluster.kind=inline",
    "generator.repair=false",
)  # fmt: skip
ASKING = ("generator.request=informed", "search.targets=true", "generator.resample=2",
          "generator.retry=true", "search.oversample=2")  # fmt: skip
BROKEN = "nn.Linear(7, 10)"


def network(width: int, last: str = "") -> str:
    """A network for the digits; of width 0 the initial one."""
    last = last or f"nn.Linear({1024 * max(width, 1)}, 10)"
    return f"""import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, {max(width, 1)}, 1)
        self.fc1 = {last}

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = torch.flatten(x, 1)
        return self.fc1(x)
"""


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of what a model might have written: repeats, and what does not fit."""
    lines = [
        *(network(0), network(2, BROKEN), network(2)),  # its parent; does not fit; new
        *(network(2), network(3)),  # of candidates 0 and 1: a repeat again; corrected
        network(0),  # of candidate 0: its parent, for the third time, and is kept
        *(network(4), network(5, BROKEN), network(0)),  # the next generation
        *(network(6, BROKEN), network(7)),  # of candidates 4 and 5: does not fit, and is kept; new
    ]
    folder = tmp_path_factory.mktemp("replayed")
    file = folder / "replay.jsonl"
    file.write_text("\n".join(
        json.dumps({"completion": f"```python\n{text}```", "form": "chat", "tokens": 7})
        for text in lines
    ))  # fmt: skip
    settings = (*SMALL, "generator.kind=replay", f"generator.replay={file}", "generator.resample=2",
                "generator.retry=true")  # fmt: skip
    run(configuration.load(ROOT / "configs" / "smoke.toml", settings), folder / "run")
    return folder / "run"


def told(record: Record) -> list[str]:
    return [str(difference) for difference in store.verify(record)]


def test_nothing_that_was_sampled_is_lost(replayed: Path) -> None:
    """Replay goes on line by line: a line for each candidate, then for each that is asked again."""
    record = store.load(replayed / "run.h5")
    table = record.candidates
    assert table["resampled"].tolist() == [2, 0, 0, 0, 0, 1]
    assert table["retries"].tolist() == [0, 1, 0, 0, 1, 0]
    widths = [
        int(source.partition("Conv2d(3, ")[2].partition(",")[0]) for source in table["source"]
    ]
    assert widths == [1, 3, 2, 4, 6, 7]
    assert (table["status"] == b"invalid").tolist() == [False] * 4 + [True, False]
    earlier = [json.loads(text) if text else [] for text in table["earlier"]]
    assert [[one["why"] for one in found] for found in earlier[:5]] == [
        ["repeats its parent", "repeats candidate 2"], ["does not fit"], [], [], ["does not fit"]
    ]  # fmt: skip
    assert earlier[5][0]["why"] in ("repeats its parent", "repeats the initial network")
    first, second = earlier[0]
    assert second["completion"] == f"```python\n{network(2)}```"
    assert first["temperature"] == table["temperature"][0]
    assert second["temperature"] == pytest.approx(first["temperature"] + 0.2)
    assert first["seed"] == table["sampling_seed"][0] != second["seed"]
    assert (earlier[1][0]["kind"], earlier[1][0]["fits"]) == ("retry", False)
    assert "7" in earlier[1][0]["failure"]
    counted = rates(record)
    assert (counted["resampled"], counted["retries"], counted["tokens"]) == (3, 2, 77)
    assert told(record) == []


class Stopper(Silent):
    """Asks a run to stop once so many completions are written."""

    def __init__(self, after: int) -> None:
        self.stop, self.left = threading.Event(), after

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        """Count what is written."""
        if name == "generated" and tokens:
            self.left -= 1
            if self.left == 0:
                self.stop.set()


def test_stopped_between_two_answers_of_a_later_round(replayed: Path, tmp_path: Path) -> None:
    """A completion that is written in it is not sampled again, and all comes out as without."""
    config = configuration.load(replayed / "config.toml")
    halfway = Stopper(after=4)  # the first of the second round
    with pytest.raises(Interrupted):
        run(config, tmp_path / "run", observer=halfway, stop=halfway.stop)
    kept = RunPaths(tmp_path / "run").generation
    assert [len((kept / name).read_text().splitlines())
            for name in ("completions.jsonl", "completions-1.jsonl")] == [3, 1]  # fmt: skip
    rest = Stopper(after=100)
    run(config, tmp_path / "run", observer=rest)
    assert 100 - rest.left == 11 - 4
    assert not kept.exists()
    one, other = (store.load(folder / "run.h5") for folder in (replayed, tmp_path / "run"))
    for column in schema.CANDIDATES:
        if column.name not in schema.TIMINGS:
            pair = one.candidates[column.name], other.candidates[column.name]
            assert equal(*pair), column.name


@pytest.mark.parametrize(
    ("change", "row"), [("key", 0), ("seed", 0), ("kept", 1), ("more", 0), ("count", 4)]
)
def test_other_tries_than_a_replay_decides_are_found(replayed: Path, change: str, row: int) -> None:
    """Any change to them."""
    record = store.load(replayed / "run.h5")
    table = record.candidates
    found = json.loads(table["earlier"][0])
    if change == "key":
        found[0]["canonical_sha256"] = "0" * 64
    elif change == "seed":
        found[0]["seed"] += 1
    elif change == "kept":
        table["canonical_sha256"][2] = table["canonical_sha256"][1]
    elif change == "more":
        found *= 2
        table["resampled"][0] = 4
    else:
        table["retries"][4] = 0
    table["earlier"][0] = json.dumps(found)
    assert any(text.startswith(f"candidate {row}: ") for text in told(record))


@pytest.fixture(scope="module")
def informed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the control with informed requests, targets, repeats and retries."""
    folder = tmp_path_factory.mktemp("informed") / "run"
    config = configuration.load(ROOT / "configs" / "smoke.toml", [*SMALL, *ASKING, "search.batch=4",
                                "training.epochs=1"])  # fmt: skip
    run(config, folder)
    return folder


def test_requests_and_targets_come_again_from_the_record(informed: Path) -> None:
    """Digest by digest; a request that was another is found, and so is what it stands on."""
    record = store.load(informed / "run.h5")
    assert told(record) == []
    table = record.candidates
    assert all(len(digest) == 64 for digest in table["request_sha256"])
    assert (table["target"] >= 0).all()
    values = targets(record)
    assert values["targets"] == record.rows
    assert values["state"] == "on"
    assert render(values).row_count == 1 + len(values["by_prompt"])
    assert 0 < values["fit"] <= record.rows
    table["request_sha256"][14] = b"0" * 64
    assert "candidate 14: request_sha256" in told(record)[0]
    table = (record := store.load(informed / "run.h5")).candidates
    best = int(np.nanargmax(table["fitness"][:8]))
    record.task["sentence"] = "Another."
    assert "request_sha256" in told(record)[0]
    assert table["fitness"][best] > 0


def test_a_request_says_what_the_record_knows(informed: Path) -> None:
    """Score, sizes, layers and target of the parent; nothing that was told later."""
    record = store.load(informed / "run.h5")
    config = configuration.from_tables(record.config, "run.h5")
    search = fold.new_search(config, len(record.prompts), record)
    for generation in range(2):
        proposals = search.ask()
        texts = requests.texts(record, config, search, proposals)
        for proposal in proposals:
            text = texts[proposal.candidate]
            assert "Size that is wanted: about" in text
            if not proposal.parents:
                assert generation == 0
                assert "scores 0." not in text
                assert "conv 1x1 1: 1 x 32 x 32 = 1,024 values, 4 parameters" in text
            for parent in proposal.parents:
                assert f"scores {record.candidates['fitness'][parent]:.3f}" in text
        search.tell(fold.evaluations(record, generation))
    assert len(proposals) == 8


class Examiner(Immediate):
    """Images, of which nothing is run."""

    def __init__(self) -> None:
        super().__init__(image_classification(input_shape=(3, 32, 32), classes=10))

    def screen(self, source: str) -> Screened:
        """Anything fits."""
        return Screened(PENDING, canonical_sha256="0" * 64, descriptors=Descriptors(1, 1, 1, 1, 1))

    def score(self, source: str, architecture: str) -> Outcome:
        """Nothing is scored."""
        raise NotImplementedError


def test_a_run_keeps_its_templates(tmp_path: Path) -> None:
    """With another text it is not continued; one that says more than there is room begins none."""
    settings = [*SMALL, "generator.request=informed", f"generator.templates={tmp_path}"]
    file = tmp_path / "mutation.txt"
    file.write_text("$parents\n\n$instruction\n\n$advice")
    config = configuration.load(ROOT / "configs" / "smoke.toml", settings)
    facts = task.facts(config, Examiner())
    assert "3 x 32 x 32" in facts["sentence"]
    task.refuse_other_templates(config, facts)
    file.write_text("$parents\n\n$instruction\n\n$advice Be brief.")
    with pytest.raises(ConfigError, match=r"another mutation\.txt"):
        task.refuse_other_templates(config, facts)
    small = configuration.override(config, ["generator.request_tokens=20"])
    with pytest.raises(ConfigError, match="takes about"):
        task.facts(small, Examiner())
    with pytest.raises(ConfigError, match="is told by informed requests"):
        configuration.load(ROOT / "configs" / "smoke.toml", ["search.targets=true"])


def test_what_a_paper_run_needs_is_nothing() -> None:
    """No facts, no digests: its record is as it was."""
    config = configuration.load(ROOT / "configs" / "smoke.toml", SMALL)
    assert task.facts(config, Examiner()) == {}


def test_trainings_again_are_no_answers(test_data: Path, tmp_path: Path) -> None:
    """A replay samples no network again because it is the one that is trained once more."""
    settings = (
        f"problem.table={test_data / 'nasbench201.h5'}", "problem.table_trainings=single",
        "search.challenge=3", "search.noise=0.01", "search.generations=20", "search.batch=10",
        "search.queries=0", "generator.edits=free", "generator.resample=2",
        "generator.request=informed", "search.targets=true", "archive.samples=5000",
    )  # fmt: skip
    config = configuration.load(ROOT / "configs" / "nasbench201.toml", settings)
    record = run(config, tmp_path / "run")
    assert record.are_repeats.any()
    assert record.candidates["resampled"].any()
    assert told(record) == []


@pytest.mark.slow
def test_invariant_1_killed_while_asking_again(tmp_path: Path) -> None:
    """The same archives, requests and tries, wherever a kill falls."""
    finish(tmp_path / "reference", ASKING)
    found = disturbed(tmp_path / "run", 4, 6.0, random.Random(2), ASKING)
    assert found["failed"] == 0

"""Real completions through a whole run, with repair and without: what the record says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc import store
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.report.rates import rates
from llmatic_hpc.store import Record

from ..coordinator.command import llmatic, load, run

COUNT = 20


@pytest.fixture(scope="module")
def runs(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Folders of two runs over the same completions, by whether they repair."""
    folder = tmp_path_factory.mktemp("rates")
    lines = (test_data / "completions" / "qwen-chat-t06.jsonl").read_text().splitlines()
    (folder / "replay.jsonl").write_text("\n".join(lines[:COUNT]))
    for repair in (True, False):
        run(
            folder / str(repair), "generator.kind=replay", f"search.batch={COUNT}",
            f"generator.replay={folder / 'replay.jsonl'}", "search.generations=1",
            f"generator.repair={str(repair).lower()}",
        )  # fmt: skip
    return {repair: folder / str(repair) for repair in (True, False)}


def scored(record: Record) -> set[str]:
    table = record.candidates
    return set(table["canonical_sha256"][table["status"] == b"scored"].tolist())


def test_repair_multiplies_what_can_be_trained(runs: dict[bool, Path]) -> None:
    """More networks have a score, those of the run without repair among them; both verify."""
    repaired, plain = load(runs[True]), load(runs[False])
    for record in (repaired, plain):
        assert next(iter(store.verify(record)), None) is None
    assert scored(plain) <= scored(repaired)
    assert len(scored(repaired)) >= 5 + len(scored(plain))
    assert not any(plain.candidates["repairs"])
    np.testing.assert_array_equal(plain.candidates["written"], repaired.candidates["written"])


def test_the_record_has_every_change_and_what_was_written(runs: dict[bool, Path]) -> None:
    """Rule, lines before, lines after; and the completion, from which all follows."""
    table, plain = load(runs[True]).candidates, load(runs[False]).candidates
    changed = np.flatnonzero(table["repairs"] != "")
    assert len(changed)
    for row in changed:
        written = extract(table["completion"][row], form="chat").source
        assert written == plain["source"][row] != table["source"][row]
        text = {line.strip() for line in written.split("\n")}
        for change in json.loads(table["repairs"][row]):
            assert set(change) == {"rule", "before", "after"}
            text |= {line.strip() for line in change["after"].split("\n")}
        assert {line.strip() for line in table["source"][row].split("\n")} <= text
        assert table["written"][row] in (b"parsed", b"built")


def test_status_tells_the_rates(runs: dict[bool, Path]) -> None:
    """Overall in a line, by prompt and temperature in tables and as JSON."""
    values = json.loads(llmatic("status", runs[True], "--json").stdout)["rates"]
    record = load(runs[True])
    assert values["completions"] == COUNT
    assert values["parsed"] >= values["built"] >= values["fits"]
    assert values["repaired"] == sum(bool(text) for text in record.candidates["repairs"])
    assert values["distinct"] == len(scored(record)) <= values["trainable"]
    assert values["tokens"] == record.candidates["tokens"].sum()
    for name in ("by_prompt", "by_temperature"):
        for count in ("completions", "repaired", "trainable", "tokens"):
            assert sum(group[count] for group in values[name]) == values[count]
    shown = llmatic("status", runs[True], "--rates").stdout
    assert f"{COUNT}: " in shown
    assert "repaired" in shown.split("prompts")[-1]


def test_generate_shows_what_was_repaired(runs: dict[bool, Path]) -> None:
    """Raw completion, source, repairs, verdict, for people and for programs."""
    replay = runs[True].parent / "replay.jsonl"
    words = (
        "generate", "configs/smoke.toml", "--count", "3", "--set", "generator.kind=replay",
        "--set", f"generator.replay={replay}",
    )  # fmt: skip
    found = [json.loads(line) for line in llmatic(*words, "--json").stdout.splitlines()]
    assert [entry["completion"] for entry in found] == [
        json.loads(line)["completion"] for line in replay.read_text().splitlines()[:3]
    ]
    assert all(entry["verdict"] == "fits" and entry["unrepaired"] for entry in found)
    change = found[0]["repairs"][0]
    shown = llmatic(*words).stdout
    assert f"{change['rule']}:\n  - {change['before']}\n  + {change['after']}\n" in shown
    left = json.loads(
        llmatic(*words, "--json", "--set", "generator.repair=false").stdout.split("\n")[0]
    )
    assert left["verdict"] == "invalid"
    assert not left["repairs"]


def test_the_measurement_of_repair_says_what_is_not_there() -> None:
    """One line in place of a traceback."""
    words = (sys.executable, "-m", "tests.benchmarks.repair", "nope.jsonl")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("error: no such file: nope.jsonl")


def test_a_copy_of_what_stopped_at_a_rung_could_be_trained(runs: dict[bool, Path]) -> None:
    """As the network itself, which has no score either but at the rung."""
    record = load(runs[True])
    table = record.candidates
    first, second = np.flatnonzero(table["status"] == b"scored")[:2].tolist()
    trainable = rates(record)["trainable"]
    table["status"][first] = b"stopped"
    table["status"][second] = b"duplicate"
    table["duplicate_of"][second] = first
    table["failure"][second] = f"stopped at a rung, as candidate {first}"
    assert rates(record)["trainable"] == trainable

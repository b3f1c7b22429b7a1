"""NAS-Bench-201 by whole runs: scores from the table, and a record that survives kills."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from llmatic_hpc import config, store
from llmatic_hpc.commands.main import cli
from llmatic_hpc.config import Config
from llmatic_hpc.errors import ConfigError, DataError, LLMaticError, RecordError
from llmatic_hpc.problems.nasbench201 import cells, write
from llmatic_hpc.problems.nasbench201 import table as table_file
from llmatic_hpc.problems.nasbench201.evaluator import Tabulated, against
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, schema
from llmatic_hpc.store.rows import queries
from llmatic_hpc.types import PENDING

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "nasbench201.toml"


def settings(test_data: Path, *changes: str, name: str = "nasbench201") -> Config:
    path = ROOT / "configs" / f"{name}.toml"
    return config.load(path, (f"problem.table={test_data / 'nasbench201.h5'}", *changes))


def command(folder: Path, test_data: Path, *changes: str, path: Path = CONFIG) -> list[str]:
    words = [f"problem.table={test_data / 'nasbench201.h5'}", *changes]
    options = [word for change in words for word in ("--set", change)]
    return ["run", str(path), "--run-dir", str(folder), *options]


def run(folder: Path, test_data: Path, *changes: str, path: Path = CONFIG) -> Record:
    done = CliRunner().invoke(cli, command(folder, test_data, *changes, path=path))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    record = store.load(RunPaths(folder).record)
    assert list(store.verify(record)) == []
    return record


@pytest.mark.parametrize("dataset", cells.DATASETS)
@pytest.mark.parametrize(
    ("protocol", "epochs", "column"),
    [
        ("paper", 200, "test_acc"),
        ("sound", 200, "valid_acc"),
        ("sound", 12, "valid_acc_12ep"),
        ("paper", 12, "test_acc_12ep"),
    ],
)
def test_scores_are_the_table_s(
    test_data: Path, dataset: str, protocol: str, epochs: int, column: str
) -> None:
    """Fitness by protocol and fidelity; test accuracy and rank always of 200 epochs."""
    changes = (f"problem.dataset={dataset}", f"problem.protocol={protocol}")
    tabulated = Tabulated(settings(test_data, *changes, f"problem.table_epochs={epochs}"))
    with h5py.File(test_data / "nasbench201.h5") as file:
        names = [name.decode() for name in file["arch_str"][:]]
        fitness, test = file[dataset][column][:], file[dataset]["test_acc"][:]
    for row in random.Random(0).sample(range(len(names)), 40):
        cell = cells.cell_of(names[row])
        screened, outcome = tabulated.judge(write.source(cell))
        assert (screened.status, screened.architecture) == (PENDING, names[row])
        assert outcome.fitness == pytest.approx(fitness[row] / 100, abs=1e-7)
        assert outcome.test_accuracy == pytest.approx(test[row] / 100, abs=1e-7)
        assert outcome.epochs == epochs
    facts = tabulated.facts()["benchmark"]
    assert facts["best_fitness"] == pytest.approx(fitness.max() / 100)
    assert facts["best_test_accuracy"] == pytest.approx(test.max() / 100)


def test_a_run_spends_its_queries(test_data: Path, tmp_path: Path) -> None:
    """A repeated cell costs none, whole generations are evaluated, ranks are the table's."""
    record = run(tmp_path / "run", test_data, "search.queries=150", "problem.dataset=cifar100")
    table = record.candidates
    scored = np.flatnonzero(table["status"] == b"scored")
    assert queries(record) == len(scored)
    assert 150 <= len(scored) <= 151
    assert len(set(table["architecture"][scored])) == len(scored), "a cell was queried twice"
    assert set(table["status"]) == {b"scored", b"duplicate"}
    with h5py.File(test_data / "nasbench201.h5") as file:
        names = [name.decode() for name in file["arch_str"][:]]
        accuracy = dict(zip(names, file["cifar100/test_acc"][:].tolist(), strict=True))
        seconds = dict(zip(names, file["cifar100/train_time_200ep_s"][:].tolist(), strict=True))
    for row in scored.tolist():
        name = table["architecture"][row]
        higher = sum(other > accuracy[name] for other in accuracy.values())
        assert table["rank"][row] == 1 + higher
        assert table["train_seconds"][row] == pytest.approx(seconds[name])
    assert record.environment["benchmark"]["cells"] == 15625
    assert {column.name for column in schema.CANDIDATES} == set(table)


@pytest.mark.parametrize(
    "name", ["paper", "random-search", "regularized-evolution", "local-search"]
)
def test_every_variant_runs_and_verifies(test_data: Path, tmp_path: Path, name: str) -> None:
    path = ROOT / "configs" / "nasbench201" / f"{name}.toml"
    record = run(tmp_path / "run", test_data, "search.queries=120", path=path)
    assert queries(record) >= 120
    if name == "random-search":
        assert queries(record) == record.rows, "drawn without replacement"


def test_the_same_seed_is_the_same_run(test_data: Path, tmp_path: Path) -> None:
    first, second, other = (
        run(tmp_path / name, test_data, "search.queries=60", f"run.seed={seed}")
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert same(first, second)
    assert not same(first, other)


def same(first: Record, second: Record) -> bool:
    names = {column.name for column in schema.CANDIDATES} - schema.TIMINGS
    return first.rows == second.rows and all(
        np.array_equal(
            first.candidates[name],
            second.candidates[name],
            equal_nan=first.candidates[name].dtype.kind == "f",
        )
        for name in names
    )


def test_invariant_1_killed_where_generations_are_committed_together(
    test_data: Path, tmp_path: Path
) -> None:
    """SIGKILL while look-ups go on: the record is whole, and ends as an undisturbed one."""
    changes = ("search.queries=600", "problem.protocol=paper")
    reference = run(tmp_path / "reference", test_data, *changes)
    line = [sys.executable, "-m", "llmatic_hpc", *command(tmp_path / "run", test_data, *changes)]
    rng, kills = random.Random(1), 0
    path = RunPaths(tmp_path / "run").record
    for _ in range(2):
        before = path.stat().st_mtime_ns if path.exists() else 0
        with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if path.exists() and path.stat().st_mtime_ns != before:  # past another commit
                    time.sleep(rng.random() * 0.5)
                    break
                time.sleep(0.01)  # a file of another process: nothing to wait on
            kills += process.poll() is None
            process.kill()
        store.load(path)
    assert kills
    assert same(reference, run(tmp_path / "run", test_data, *changes))


def test_completions_of_a_model(test_data: Path, tmp_path: Path) -> None:
    """Right, almost right, repeated, wrong and hostile texts, each with its verdict."""
    initial = write.source(cells.INITIAL)
    renamed = initial.replace("node_", "n_").replace("edge_", "op_")
    almost = initial.replace("self.edge_0_1 = Zero()", "self.edge_0_1 = nn.MaxPool2d(2)")
    hostile = initial.replace("super().__init__()", "super().__init__()\n        torch.os.abort()")
    texts = [initial, renamed, almost, "no code", hostile, "class Net(nn.Module):\n    pass"]
    replay = tmp_path / "replay.jsonl"
    replay.write_text(
        "".join(
            json.dumps({"completion": f"```python\n{text}\n```", "form": "chat"}) + "\n"
            for text in texts
        )
    )
    changes = (
        "generator.kind=replay", f"generator.replay={replay}", "search.generations=1",
        f"search.batch={len(texts)}",
    )  # fmt: skip
    record = run(tmp_path / "run", test_data, *changes)
    table = record.candidates
    assert [status.decode() for status in table["status"]] == [
        "scored", "duplicate", "scored", "invalid", "forbidden", "invalid",
    ]  # fmt: skip
    assert table["repairs"][2]
    assert "avg_pool_3x3~0" in table["architecture"][2]
    assert not table["repairs"][1], "another spelling needs no repair"
    assert "os" in table["failure"][4]


def test_another_table_is_refused(test_data: Path, tmp_path: Path) -> None:
    """A run stands on the numbers that it was started with."""
    run(tmp_path / "run", test_data, "search.queries=10")
    other = tmp_path / "other.h5"
    other.write_bytes((test_data / "nasbench201.h5").read_bytes())
    with h5py.File(other, "r+") as file:
        file["cifar10/valid_acc"][5] += 0.01
    line = command(tmp_path / "run", test_data, "search.queries=20")
    line[line.index(f"problem.table={test_data / 'nasbench201.h5'}")] = f"problem.table={other}"
    done = CliRunner().invoke(cli, line)
    assert isinstance(done.exception, LLMaticError)
    assert "problem.table" in str(done.exception) or isinstance(done.exception, RecordError)


def test_verify_against_the_table(test_data: Path, tmp_path: Path) -> None:
    """A score that is not the table's, or a name that is not the source's, is told."""
    record = run(tmp_path / "run", test_data, "search.queries=30")
    table = table_file.read(test_data / "nasbench201.h5")
    assert list(against(record, table)) == []
    record.candidates["test_accuracy"][3] += 1e-6
    record.candidates["source"][4] = write.source(cells.INITIAL)
    told = [str(difference) for difference in against(record, table)]
    assert len(told) == 2
    assert "candidate 3: test_accuracy" in told[0]
    assert "candidate 4: architecture" in told[1]


def test_a_whole_table_is_not_replaced_by_a_part(test_data: Path, tmp_path: Path) -> None:
    made = tmp_path / "table.h5"
    made.write_bytes((test_data / "nasbench201.h5").read_bytes())
    official = test_data / "NATS-tss-v1_0-3ffb9-simple"
    line = ["prefetch", str(CONFIG), "--from", str(official), "--set", f"problem.table={made}"]
    done = CliRunner().invoke(cli, line)
    assert isinstance(done.exception, DataError)
    assert "left as it is" in str(done.exception)
    assert table_file.read(made).complete


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("archive.network.lower=[0.0, 2.5e8]", "archive.network.upper=[200.0, 5e9]"), "set both"),
        (("search.train_start=false",), "train_start"),
        (("problem.initial=setup.cfg",), "is no cell"),
    ],
)
def test_what_would_search_in_vain(test_data: Path, changes: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Tabulated(settings(test_data, *changes))


def test_without_a_table(tmp_path: Path) -> None:
    """The message says how to get one."""
    for changes in (["problem.table="], [f"problem.table={tmp_path / 'none.h5'}"]):
        with pytest.raises(DataError, match="llmatic prefetch CONFIG --from"):
            Tabulated(config.load(CONFIG, changes))


def test_prefetch_makes_the_table_of_official_files(test_data: Path, tmp_path: Path) -> None:
    """The three cells that the benchmark's authors publish as a sample; not enough for a run."""
    made = tmp_path / "table.h5"
    official = test_data / "NATS-tss-v1_0-3ffb9-simple"
    line = ["prefetch", str(CONFIG), "--from", str(official), "--set", f"problem.table={made}"]
    done = CliRunner().invoke(cli, line)
    assert "3 of 15,625 cells" in done.output
    assert isinstance(done.exception, DataError)
    with h5py.File(made) as ours, h5py.File(test_data / "nasbench201.h5") as whole:
        assert set(ours) == set(whole)
        for row, index in enumerate((0, 11, 284)):
            assert ours["arch_str"][row] == whole["arch_str"][index]
            assert ours["cifar100/test_acc"][row] == whole["cifar100/test_acc"][index]

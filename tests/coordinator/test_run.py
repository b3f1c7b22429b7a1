"""Whole runs through the command line: repeatable, refused when they should be."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from llmatic_hpc import config as configuration
from llmatic_hpc import problems, store
from llmatic_hpc.evaluation.worker import TASK_FILE, TaskSpec
from llmatic_hpc.report.page.paid import paid
from llmatic_hpc.report.rates import rates
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import schema

from ..crash.kill_anywhere import differences
from .command import SMALL, llmatic, load, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder)
    return folder


def test_a_run_leaves_a_verified_record(finished: Path) -> None:
    """Both archives are filled, nothing is left in flight, and verify agrees."""
    record = load(finished)
    assert record.committed_generations == 2
    assert (record.archives["network"].elite >= 0).sum() >= 2
    assert (record.archives["prompt"].elite >= 0).sum() >= 2
    assert sorted(p.name for p in finished.iterdir()) == [
        "config.toml", "coordinator.lock", "logs", "run.h5", "run.prev.h5",
    ]  # fmt: skip
    said = json.loads(llmatic("verify", finished, "--json").stdout)
    assert said["ok"]
    assert said["candidates"] == 12
    table, tried = record.candidates, record.attempts
    assert (tried["ending"] == b"result").sum() == (table["attempts"] > 0).sum()
    assert (tried["start"] <= tried["end"]).all()
    scored = table["status"] == b"scored"
    lengths = [len(json.loads(curve)) for curve in table["train_curve"][scored]]
    assert lengths == table["epochs"][scored].tolist()


@pytest.mark.slow
def test_memory_and_time_are_axes_and_the_replay_agrees(tmp_path: Path) -> None:
    """A time is known once a candidate is trained; duplicates have their original's."""
    axes = ("archive.network.axes=['activation_bytes', 'milliseconds']",
            "archive.network.lower=['auto', 0.01]", "archive.network.upper=['auto', 1000.0]",
            "archive.network.scale=['log', 'log']", "search.generations=1")  # fmt: skip
    run(tmp_path / "run", *axes)
    record = load(tmp_path / "run")
    assert list(store.verify(record)) == []
    table = record.candidates
    scored = np.isin(table["status"], (b"scored", b"duplicate")) & np.isfinite(table["fitness"])
    assert scored.any()
    for column, name in enumerate(("activation_bytes", "milliseconds")):
        found = table["descriptors"][scored, column]
        assert (found == table[name][scored]).all()
        assert (found > 0).all()
    assert np.isnan(table["descriptors"][~scored, 1]).all()
    assert record.config["archive"]["network"]["lower"][1] == 0.01


def test_the_same_seed_gives_the_same_record(finished: Path, tmp_path: Path) -> None:
    """Twice the same: candidate table (timings aside) and archives; another seed differs.

    The place of evaluation changes nothing, worker processes or the coordinator's own.
    """
    run(tmp_path / "again", "cluster.kind=inline", "training.threads=1")
    assert differences(load(finished), tmp_path / "again", {}) == []
    run(tmp_path / "other", "run.seed=1", "search.generations=1", "training.epochs=0")
    sources = [load(root).candidates["source"][:6] for root in (finished, tmp_path / "other")]
    assert list(sources[0]) != list(sources[1])


def test_the_recorded_number_comes_again(finished: Path) -> None:
    """The best trained once more is the same to the last digit; another seed is no repetition."""
    table = load(finished).candidates
    best = int(np.nanargmax(np.where(table["status"] == b"scored", table["fitness"], np.nan)))
    done = llmatic("evaluate", finished, "--candidate", str(best), "--json")
    said = json.loads(done.stdout)
    assert said["equal"]
    assert said["fitness"] == table["fitness"][best]
    assert said["train_loss"] == table["train_loss"][best]
    assert "digits" in done.stderr
    told = "1 epochs, sgd, batch 16, learning rate 0.01, momentum 0.9, seed"
    assert f"{told} {table['seed'][best]}" in done.stderr
    other = llmatic("evaluate", finished / "run.h5", "--candidate", str(best), "--json",
                    "--training-seed", "5")  # fmt: skip
    assert "equal" not in json.loads(other.stdout)
    assert json.loads(other.stdout)["train_loss"] != table["train_loss"][best]


def test_a_number_that_does_not_come_again_is_said(finished: Path, tmp_path: Path) -> None:
    """An edited loss exits with 1, names both numbers, and says that the machine is the same."""
    record = load(finished)
    row = int(np.flatnonzero(record.candidates["status"] == b"scored")[0])
    record.update(row, {"train_loss": 0.25})
    (tmp_path / "run").mkdir()
    store.commit(RunPaths(tmp_path / "run"), record)
    done = llmatic("evaluate", tmp_path / "run", "--candidate", str(row), check=False)
    assert done.returncode == 1
    assert "train loss: recorded 0.25, now" in done.stdout
    assert "machine and packages are those of the record" in done.stdout


def test_the_same_line_again_continues(finished: Path) -> None:
    """A finished run is done at once; more generations go on from there; status says where."""
    before = (finished / "run.h5").read_bytes()
    run(finished)
    assert (finished / "run.h5").read_bytes() == before
    status = json.loads(llmatic("status", finished, "--json").stdout)
    assert status["state"] == "finished"
    assert status["generation"] == 2
    assert "generation" in llmatic("status", finished).stdout


def test_a_changed_configuration_is_refused(finished: Path) -> None:
    """Other search settings in the same directory: a message, exit 1, the record untouched."""
    before = (finished / "run.h5").read_bytes()
    done = run(finished, "training.epochs=7", check=False)
    assert done.returncode == 1
    assert "training.epochs (was 1, now 7)" in done.stderr
    assert (finished / "run.h5").read_bytes() == before


def test_a_retired_value_begins_no_run(tmp_path: Path) -> None:
    """The message says what to choose instead, and no record is made."""
    done = run(tmp_path / "run", "search.parents=curious", check=False)
    assert done.returncode == 1
    assert "search.parents = 'curious' is retired" in done.stderr
    assert not (tmp_path / "run" / "run.h5").exists()


def test_exit_codes_and_messages(tmp_path: Path) -> None:
    """Usage is 2, a bad file is 1, each with one message."""
    assert llmatic("run", "nowhere.toml", check=False, apart=True).returncode == 1
    words = ("run", "configs/smoke.toml", "--set", "search.generation=2")
    wrong = llmatic(*words, check=False, apart=True)
    assert (wrong.returncode, "did you mean" in wrong.stderr) == (2, True)
    assert llmatic("status", tmp_path, check=False).returncode == 1
    assert llmatic("nonsense", check=False, apart=True).returncode == 2
    missing = run(tmp_path / "x", "problem.data=/nowhere/data.h5", check=False)
    assert missing.returncode == 1
    assert "/nowhere/data.h5" in missing.stderr
    (tmp_path / "file").write_text("")
    assert "is a file and no folder" in run(tmp_path / "file", check=False).stderr


def test_slurm_that_is_not_here_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a generation is written, and without a record."""
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin")
    done = run(tmp_path / "run", "cluster.kind=slurm", check=False)
    assert done.returncode == 1
    assert "there is no sbatch here" in done.stderr
    assert not (tmp_path / "run" / "run.h5").exists()
    assert "no sbatch" in (tmp_path / "run" / "logs" / "coordinator.log").read_text()


def images(path: Path, **changed: np.ndarray) -> str:
    """A data file that is well but for what is ``changed``, as a setting."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    whole = {"images": random.integers(0, 256, (60, 8, 8)).astype(np.uint8), "labels": labels}
    np.savez(path, **whole | changed)
    return f"problem.data={path}"


def test_bad_data_are_refused_before_anything_is_generated(tmp_path: Path) -> None:
    """One line and exit 1 from run, doctor and prefetch alike; no record is begun."""
    wrong = images(tmp_path / "data.npz", labels=np.arange(50) % 3)
    done = run(tmp_path / "run", wrong, check=False)
    assert done.returncode == 1
    reading, said = done.stderr.splitlines()
    assert reading.startswith("reading the data, ")
    assert "images has 60 images but 50 labels" in said
    assert not (tmp_path / "run" / "run.h5").exists()
    assert not (tmp_path / "run" / "generation").exists()
    for command in ("doctor", "prefetch"):
        found = llmatic(command, "configs/smoke.toml", "--set", wrong, check=False)
        assert found.returncode == 1
        assert "images has 60 images but 50 labels" in found.stdout + found.stderr


def test_an_initial_network_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Run and doctor say why, for the shape of the data; no record is begun."""
    gray, initial = images(tmp_path / "data.npz"), tmp_path / "initial.py"
    source = (
        "import torch.nn as nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.fc = nn.Linear({}, 3)\n\n"
        "    def forward(self, x):\n        return self.fc(x.flatten(1))\n"
    )
    settings = (gray, f"problem.initial={initial}")
    words = [word for setting in settings for word in ("--set", setting)]
    initial.write_text(source.format(65))
    done = run(tmp_path / "run", *settings, check=False)
    assert done.returncode == 1
    assert f"problem.initial: {initial}: invalid: " in done.stderr
    assert not (tmp_path / "run" / "run.h5").exists()
    doctor = llmatic("doctor", "configs/smoke.toml", *words, check=False)
    assert doctor.returncode == 1
    assert "  fault  problem.initial: invalid: " in doctor.stdout


def test_a_run_continues_on_its_own_data_only(tmp_path: Path) -> None:
    """Both digests are named; a record from before there were digests continues."""
    few = ("search.batch=2", "problem.train_images=0", "problem.test_images=0")
    data, folder = tmp_path / "data.npz", tmp_path / "run"
    run(folder, *few, images(data), "search.generations=1")
    digest = load(folder).data_sha256
    assert len(digest) == 64
    labels = np.roll(np.arange(60) % 3, 1)
    refused = run(folder, *few, images(data, labels=labels), check=False)
    assert refused.returncode == 1
    assert digest in refused.stderr
    assert refused.stderr.count("data_sha256 = ") == 2
    assert "or choose another --run-dir" in refused.stderr
    with h5py.File(folder / "run.h5", "a") as file:
        del file.attrs["data_sha256"]
    run(folder, *few, images(data))
    assert load(folder).committed_generations == 2


def test_a_task_says_which_data_its_run_was_started_with(finished: Path, tmp_path: Path) -> None:
    """By the digest on the record; empty where that has none."""
    record = load(finished)
    config = configuration.from_tables(record.config, "record")
    evaluator = problems.kind_of(config).evaluator(
        config, RunPaths(tmp_path), notice=print, stop=threading.Event()
    )
    assert len(record.data_sha256) == 64
    for digest in (record.data_sha256, ""):
        record.data_sha256 = digest
        evaluator._dispatcher(record).write_task(tmp_path, [])
        text = (tmp_path / TASK_FILE).read_text()
        assert TaskSpec.from_json(text, origin="task").data_sha256 == digest


def test_an_old_run_is_not_validated_on_another_split(tmp_path: Path) -> None:
    """Without a digest it drew a validation split, where this version takes the data's own."""
    few = ("search.batch=2", "problem.train_images=0", "problem.test_images=0")
    random, folder = np.random.default_rng(0), tmp_path / "run"
    pixels, labels = random.integers(0, 256, (60, 8, 8)).astype(np.uint8), np.arange(60) % 3
    parts = {f"{what}_{part}": array for part in ("train", "val", "test")
             for what, array in (("x", pixels), ("y", labels))}  # fmt: skip
    data = images(tmp_path / "data.npz", **parts)
    run(folder, *few, data, "search.generations=1")
    with h5py.File(folder / "run.h5", "a") as file:
        del file.attrs["data_sha256"]
    refused = run(folder, *few, data, check=False)
    assert refused.returncode == 1
    assert "drew the validation split from the training images" in refused.stderr
    assert "with the version that started it, or choose another --run-dir" in refused.stderr


NETWORK = """\
import torch
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3072, 10)

    def forward(self, x):
{body}
        return self.fc(x.flatten(1))
"""


def test_adversarial_completions_end_as_rows(tmp_path: Path) -> None:
    """Anything a model writes becomes a row with a status and a reason, and the run goes on."""
    texts = {
        "empty": "",
        "prose": "I am sorry, I cannot do that. " * 50,
        "long line": "x" * 5_000_000,
        "NUL": "class Net(nn.Module):\x00\n    pass\n",
        "surrogate": "class Net(nn.Module):\n    x = '\ud800'\n",
        "brackets": "x = " + "[" * 5000 + "]" * 5000,
        "no class": "import torch\nprint(torch.zeros(3))\n",
        "two classes": NETWORK.format(body="") * 2,
        "loop": NETWORK.format(body="        while True:\n            x = x"),
        "endless": NETWORK.format(
            body="        n = 0\n        while n < 1:\n            n = n * 1"
        ),
        "exit": NETWORK.format(body="        raise SystemExit(0)"),
        "escape": NETWORK.format(body="        __import__('os').system('true')"),
        "NaN": NETWORK.format(body="        x = x / torch.zeros_like(x)"),
        "good": NETWORK.format(body=""),
    }
    replay = tmp_path / "replay.jsonl"
    replay.write_text(
        "".join(json.dumps({"completion": t, "form": "chat"}) + "\n" for t in texts.values())
    )
    run(
        tmp_path / "run", "generator.kind=replay", f"generator.replay={replay}",
        "search.generations=1", f"search.batch={len(texts)}",
        "containment.screen_seconds=2", "containment.wall_seconds=20",
    )  # fmt: skip
    record = load(tmp_path / "run")
    assert next(iter(store.verify(record)), None) is None
    found = dict(zip(texts, (s.decode() for s in record.candidates["status"]), strict=True))
    assert found["good"] == "duplicate"  # of the last of the two classes
    assert found["two classes"] == "scored"
    assert found["NaN"] == "diverged"
    assert found["escape"] == "forbidden"
    assert found["endless"] in ("too_slow", "forbidden")
    rest = set(texts) - {"good", "two classes", "NaN", "escape", "endless"}
    assert {found[name] for name in rest} <= {"invalid", "forbidden", "too_slow"}
    reasons = dict(zip(texts, record.candidates["failure"], strict=True))
    assert all(reasons[name] for name in rest)


def test_export_is_a_program_with_its_provenance(finished: Path, tmp_path: Path) -> None:
    """The exported source passes the screen, and says where it comes from."""
    target = tmp_path / "best.py"
    llmatic("export", finished, "--best", "--output", target)
    text = target.read_text()
    assert load(finished).run_id in text
    screened = json.loads(llmatic("screen", target, "--json").stdout)
    assert screened["verdict"] == "fits"
    both = llmatic(
        "export", finished, "--best", "--candidate", "1", "--output", target, check=False
    )
    assert both.returncode == 2


def test_evaluate_and_generate(tmp_path: Path) -> None:
    """Single candidates by hand: what the generator writes can be evaluated."""
    generated = llmatic("generate", "configs/smoke.toml", "--count", "2", "--prompt", "6", "--json")
    first, second = map(json.loads, generated.stdout.splitlines())
    assert first["verdict"] == second["verdict"] == "fits"
    source = tmp_path / "net.py"
    source.write_text(first["source"])
    words = ("evaluate", source, "--config", "configs/smoke.toml", "--json")
    outcome = json.loads(llmatic(*words, "--set", "training.epochs=1").stdout)
    assert outcome["status"] == "scored"
    assert 0 <= outcome["test_accuracy"] <= 1


def test_one_completion_for_each_place_is_evaluated(tmp_path: Path) -> None:
    """A replay is consumed place by place; the others are on the record with their descriptors,
    cost no training, are no queries, and are counted on their own."""
    made = [
        f"""import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, {width}, 1)
        self.fc = nn.Linear({features}, 10)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))
"""
        for width, features in [
            *((n, 1024 * n) for n in (2, 3, 4)), (5, 1), (6, 1024 * 6), (7, 1), (2, 2048), (8, 1),
            (9, 1), (10, 1), (11, 1), (12, 1)
        ]
    ]  # fmt: skip
    lines = [json.dumps({"completion": f"```python\n{text}```", "form": "chat"}) for text in made]
    (tmp_path / "replay.jsonl").write_text("\n".join(lines))
    run(
        tmp_path / "run", "search.oversample=3", "search.batch=4", "search.generations=1",
        "generator.kind=replay", f"generator.replay={tmp_path / 'replay.jsonl'}",
        "generator.repair=false", "training.epochs=0", "cluster.kind=inline", "search.proxies=true",
    )  # fmt: skip
    record = load(tmp_path / "run")
    table = record.candidates
    assert [*zip(table["index"].tolist(), table["attempt"].tolist(), strict=True)] == [
        divmod(row, 3) for row in range(12)
    ]
    bodies = [text.partition("class")[2].strip() for text in made]
    assert [source.partition("class")[2].strip() for source in table["source"]] == bodies
    over = table["status"] == b"passed_over"
    assert (over.reshape(4, 3).sum(axis=1) == 2).all()
    fits = np.isfinite(table["descriptors"]).all(axis=1)
    assert fits.tolist() == [row in (0, 1, 2, 4, 6) for row in range(12)]
    assert not over[[4, 6]].any(), "what fits has the place before what does not"
    assert table["duplicate_of"][6] == (-1 if over[0] else 0), "of one that is evaluated"
    assert (table["status"][~over] != b"scored").sum() >= 1
    assert np.isnan(table["train_seconds"][over]).all()
    assert (table["network_cell"][over] == -1).all()
    assert all(record.candidates["failure"][over])
    assert np.array_equal(np.isfinite(table["synflow"]), fits)
    assert np.isnan(table["naswot"]).all(), "they have no activation"
    said = json.loads(llmatic("status", tmp_path / "run", "--json", "--signals").stdout)
    assert [one["signal"] for one in said["signals"]] == ["params", "flops", "naswot", "synflow"]
    assert said["status"]["passed_over"] == said["rates"]["passed_over"] == 8
    assert said["queries"] == (table["status"] == b"scored").sum() <= 4
    assert paid(record)["total"]["valid"] == 5, "also what fits and was passed over"
    record.candidates["earlier"][0] = '[{"tokens": 7}]'
    assert paid(record)["total"]["tokens"] == rates(record)["tokens"] == 7
    assert json.loads(llmatic("verify", tmp_path / "run", "--json").stdout)["ok"]
    other, first = (int(np.flatnonzero(rows[:3])[0]) for rows in (over, ~over))
    table["status"][[other, first]] = b"scored", b"passed_over"
    found = [str(difference) for difference in store.verify(record)]
    assert f"candidate {first}: is passed over, a replay gives it the place" in found
    assert f"candidate {other}: is scored, a replay passes it over" in found


def test_automatic_bounds_are_settled_at_the_start(tmp_path: Path) -> None:
    """They become numbers in record and config, and the same line continues the run."""
    settings = (
        "archive.network.axes=['depth', 'params', 'ratio']",
        "archive.network.scale=['linear', 'log', 'log']",
        "archive.network.lower=auto", "archive.network.upper=auto", "training.epochs=0",
    )  # fmt: skip
    folder = tmp_path / "run"
    run(folder, *settings, "search.generations=1")
    first = load(folder)
    assert first.config["archive"]["network"]["lower"] == [0.4, 1025.4, 0.25]
    assert first.config["archive"]["network"]["upper"] == [400.0, 10_254_000.0, 100.0]
    run(folder, *settings)
    record = load(folder)
    assert record.committed_generations == 2
    assert record.archives["network"].lower.tolist() == [0.4, 1025.4, 0.25]
    assert (record.candidates["descriptors"][:, 0] == record.candidates["depth"]).any()
    assert next(iter(store.verify(record)), None) is None
    words = ("run", folder / "config.toml", "--run-dir", folder, "--set", SMALL[0])
    llmatic(*words, apart=True)


@pytest.mark.slow
def test_seeds_are_the_first_candidates(tmp_path: Path) -> None:
    """They are trained like any other, counted, and parents afterwards."""
    folder = tmp_path / "run"
    settings = ("search.start=seeds", "search.batch=8", "search.mutation_probability=1.0")
    run(folder, *settings, "training.epochs=0")
    record = load(folder)
    table = record.candidates
    assert table["operator"].tolist() == [b"seed"] * 6 + [b"mutation"] * 10
    assert (table["status"][:6] == b"scored").all(), table["failure"][:6]
    assert set(table["parents"][8:, 0].tolist()) & set(range(6))
    assert next(iter(store.verify(record)), None) is None


def test_real_images(test_data: Path, tmp_path: Path) -> None:
    """The paper's configuration on real CIFAR-10 images, small: better than chance."""
    settings = (
        "generator.kind=procedural", f"problem.data={test_data / 'cifar10.h5'}",
        "search.generations=2", "search.batch=4", "search.start_elites=2",
        "training.epochs=2", "training.learning_rate=0.01", "problem.train_images=2000",
        "problem.test_images=500", "containment.max_flops=3e6",
    )  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    llmatic("run", "configs/cifar10.toml", "--run-dir", tmp_path / "run", *words, apart=True)
    record = load(tmp_path / "run")
    assert np.nanmax(record.candidates["fitness"]) > 0.2  # chance is 0.1
    assert (record.archives["prompt"].elite >= 0).any()
    assert next(iter(store.verify(record)), None) is None
    names = {column.name for column in schema.CANDIDATES}
    assert names == set(record.candidates)

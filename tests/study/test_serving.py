"""One model for all runs of a study: who asks it, what becomes of it, and that it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmatic_hpc import config, store
from llmatic_hpc.coordinator.study import results
from llmatic_hpc.coordinator.study.plan import plan, read
from llmatic_hpc.coordinator.study.serving import Server, served, uses
from llmatic_hpc.errors import ConfigError, LLMaticError
from llmatic_hpc.rundir.paths import StudyPaths

from ..cluster.commands import Commands
from ..coordinator.command import ROOT, llmatic
from ..generation.conftest import save_model, save_tokenizer

STUDY = """
config = "{root}/configs/nasbench201.toml"
seeds = 2
at_once = 3
[settings]
problem.table = "{table}"
search = {{ generations = {generations}, batch = 3, queries = 0 }}
archive.samples = 1000
generator.max_new_tokens = 24
[variants.control]
[variants.model.generator]
kind = "huggingface"
model = "{model}"
form = "completion"
[variants.writers.generator]
kind = "huggingface"
[[variants.writers.generator.writers]]
name = "text"
model = "{model}"
form = "completion"
[[variants.writers.generator.writers]]
name = "control"
kind = "procedural"
{more}
"""


def write(folder: Path, table: Path, model: Path, generations: int = 2, more: str = "") -> Path:
    """Write the file of a study with a model, with it among several writers, and without it."""
    file = folder / "shared.toml"
    file.write_text(STUDY.format(
        root=ROOT, table=table, model=model, generations=generations, more=more
    ))  # fmt: skip
    return file


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures, which take longest."""
    monkeypatch.setattr(results, "draw", lambda runs, paths, tell: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a completion model."""
    folder = tmp_path / "tiny"
    save_model(folder, save_tokenizer(folder))
    return folder


def words(file: Path, *more: str) -> list[str]:
    return ["study", str(file), "--serve", "--output", str(file.parent / "out"), *more]


def test_models_become_clients(tmp_path: Path, table: Path) -> None:
    """Nothing else changes; the server has the model with what belongs to it."""
    more = '[variants.adapted.generator]\nkind = "huggingface"\nmodel = "m"\nadapter = "folder"\n'
    file = write(tmp_path, table, Path("m"), more=more)
    paths = StudyPaths(tmp_path / "out")
    runs = plan(read(file), file)
    with pytest.raises(ConfigError, match=r"has 2 models.*: model/seed0: m; adapted/seed0: m$"):
        served(runs, paths, at_once=2)
    with pytest.raises(ConfigError, match="no run has a model"):
        served([run for run in runs if run.variant == "control"], paths, at_once=2)
    runs = [run for run in runs if run.variant != "model" and run.variant != "writers"]
    clients, server = served(runs, paths, at_once=2)
    by_variant = {run.variant: run.config for run in clients}
    assert by_variant["control"] == runs[1].config
    adapted = by_variant["adapted"].generator
    assert (adapted.kind, adapted.adapter, adapted.model) == ("endpoint", "", "m")
    assert adapted.url == str((tmp_path / "out" / "serve.json").absolute())
    assert (server.generator.kind, server.generator.adapter) == ("huggingface", "folder")
    assert server.generator.batch == runs[-1].config.generator.batch
    assert [uses(by_variant[name], paths) for name in ("control", "adapted")] == [False, True]


def test_clients_ask_for_no_more_than_a_server_lets_wait(tmp_path: Path, table: Path) -> None:
    """A batch of each run at once, or their part where many runs ask."""
    file = write(tmp_path, table, Path("m"))
    file.write_text(file.read_text().replace("batch = 3,", "batch = 300,"))
    runs = plan(read(file), file)
    for at_once, most in ((1, 300), (2, 300), (4, 200), (1000, 1)):
        clients, _ = served(runs, StudyPaths(tmp_path / "out"), at_once=at_once)
        asked = {run.config.generator.concurrency for run in clients if run.variant == "model"}
        assert asked == {most}


def test_a_server_that_ends_with_the_study_is_not_started_again(tmp_path: Path) -> None:
    """Slurm tells all processes of a job to stop at once."""
    stop, said = threading.Event(), list[str]()
    server = Server(StudyPaths(tmp_path), stop, said.append)
    with server.running():
        server._process.kill()
        server._process.wait()
        stop.set()
        server.look()
        assert not said
        stop.clear()
        with pytest.raises(LLMaticError, match="the model's server ended"):
            server.look()


def test_a_server_needs_no_rule_of_a_search(tmp_path: Path, table: Path) -> None:
    """Its settings are valid where only a run of several writers, shared by a rule, has a model."""
    file = write(tmp_path, table, Path("m"), more='[variants.writers.search]\nwriters = "ucb"\n')
    runs = [run for run in plan(read(file), file) if run.variant != "model"]
    _, server = served(runs, StudyPaths(tmp_path / "out"), at_once=2)
    config.override(server, [])  # checks all of it
    assert runs[-1].config.search.writers == "ucb"


def test_it_is_loaded_once_and_ends_with_the_study(
    tmp_path: Path, table: Path, model: Path
) -> None:
    """Every run finishes, the record says what served it, and the same line repeats nothing."""
    file = write(tmp_path, table, model)
    file.write_text(file.read_text().replace("seeds = 2", "seeds = 1"))
    done = llmatic(*words(file, "--json"))
    rows = [json.loads(text) for text in done.stdout.splitlines()]
    assert {row["state"] for row in rows} == {"finished"}
    paths = StudyPaths(tmp_path / "out")
    assert not paths.server.exists()
    assert paths.server_log.read_text().count("loading the model") == 1
    for variant, writer in (("model", b""), ("writers", b"text")):
        record = store.load(paths.run(variant, 0).record)
        assert "generator_served" in str(record.environment)
        assert writer in record.candidates["writer"]
    llmatic(*words(file))
    assert paths.server_log.read_text().count("loading the model") == 1
    refused = llmatic("study", file, "--output", paths.root, check=False)
    assert refused.returncode == 1
    assert "generator.kind (was " in refused.stderr


@pytest.mark.slow
def test_it_is_killed_and_comes_back(tmp_path: Path, table: Path, model: Path) -> None:
    """Runs wait for it; when the study is killed it goes, too."""
    file = write(tmp_path, table, model, generations=100_000)
    paths = StudyPaths(tmp_path / "out")
    record = paths.run("model", 0).record
    line = [sys.executable, "-m", "llmatic_hpc", *words(file)]

    def generations() -> int:
        return store.load(record).committed_generations if record.exists() else 0

    with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) as study:
        try:
            until(lambda: generations() >= 2, study)
            first = json.loads(paths.server.read_text())["pid"]
            os.kill(first, signal.SIGKILL)
            before = generations()
            until(lambda: generations() >= before + 3, study)
            second = json.loads(paths.server.read_text())["pid"]
            assert second != first
        finally:
            study.kill()
            assert study.stderr is not None
            said = study.stderr.read()
    assert "the model's server ended: ended by SIGKILL; it is started again" in said
    until(lambda: not Path(f"/proc/{second}").exists())


def until(holds, process: subprocess.Popen[str] | None = None) -> None:  # type: ignore[no-untyped-def]
    """Wait for other processes, which there is nothing to wait on."""
    deadline = time.monotonic() + 120
    while not holds():
        if process is not None and process.poll() is not None:
            raise AssertionError(process.stderr and process.stderr.read())
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_cannot_start(tmp_path: Path, table: Path) -> None:
    """The study ends with its reason, not after every run has waited for it."""
    file = write(tmp_path, table, tmp_path / "nothing.gguf")
    log = StudyPaths(tmp_path / "out").server_log
    log.parent.mkdir()
    log.write_text("llmatic: of an earlier server\n")
    done = llmatic(*words(file), check=False)
    assert done.returncode == 1
    assert "the model's server ended: " in done.stderr
    assert "nothing.gguf" in done.stderr
    assert "serve.log" in done.stderr
    assert "of an earlier server" not in done.stderr


def test_as_a_job(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's job comes first, and no coordinator begins before it."""
    slurm = Commands(tmp_path / "slurm")
    monkeypatch.setenv("PATH", slurm.search_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    slurm.says("sbatch", "71\n")
    file = write(tmp_path, table, Path("m"))
    done = llmatic(*words(file, "--submit"))
    assert "their model is served by job 71; when all have ended: scancel 71" in done.stderr
    first, *others = slurm.calls("sbatch")
    assert first.split()[-2:] == [str(tmp_path / "out" / "serve.toml"), str(tmp_path / "out")]
    assert len(others) == 6  # of the control, too: it is a run of the study
    assert all("--dependency=singleton,after:71" in call for call in others)


@pytest.mark.slow
def test_an_interrupt_is_for_the_study(tmp_path: Path, table: Path, model: Path) -> None:
    """Ctrl-C reaches the whole group: the runs save, the study ends with 75, the server with it."""
    file = write(tmp_path, table, model, generations=100_000)
    paths = StudyPaths(tmp_path / "out")
    line = [sys.executable, "-m", "llmatic_hpc", *words(file)]
    with subprocess.Popen(
        line, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as study:
        until(lambda: paths.server.exists(), study)
        os.killpg(study.pid, signal.SIGINT)
        _, said = study.communicate(timeout=120)
    assert study.returncode == 75, said
    assert "started again" not in said
    assert not paths.server.exists()

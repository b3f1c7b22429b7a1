"""llmatic serve: a process that clients find by its file, and that ends in good order."""

from __future__ import annotations

import http.client
import json
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from llmatic_hpc.cluster.launch import server_name
from llmatic_hpc.commands import doctor
from llmatic_hpc.config import Config, override

from ..cluster.commands import Commands
from ..coordinator.command import ROOT, llmatic
from ..generation.conftest import save_model, save_tokenizer


def complete(address: dict[str, Any], **fields: Any) -> tuple[int, dict[str, Any]]:
    at = urlsplit(address["url"])
    connection = http.client.HTTPConnection(str(at.hostname), at.port, timeout=60)
    body = {"model": address["model"], "prompt": "import torch\n", "seed": 1, **fields}
    headers = {"Authorization": f"Bearer {address['token']}"}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_from_start_to_end(tmp_path: Path) -> None:
    """Its file is for its owner alone and has all that a client needs; TERM lets what runs end,
    removes the file and exits with 0; the token is printed nowhere."""
    folder, file = tmp_path / "tiny", tmp_path / "serve.json"
    save_model(folder, save_tokenizer(folder))
    settings = (f"generator.model={folder}", "generator.device=cpu", "generator.threads=1",
                "generator.kind=huggingface")  # fmt: skip
    words = [word for one in settings for word in ("--set", one)]
    command = [sys.executable, "-m", "llmatic_hpc", "serve", "configs/smoke.toml", *words]
    with subprocess.Popen(
        [*command, "--file", str(file)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        said = []
        try:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if "serving at" in line:
                    break
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            address = json.loads(file.read_text())
            assert (address["pid"], address["model"]) == (process.pid, str(folder))
            status, found = complete(address, max_tokens=8)
            assert status == 200
            assert found["usage"]["completion_tokens"] <= 8
            again = llmatic("serve", "configs/smoke.toml", *words, "--file", file, check=False)
            assert again.returncode == 1
            assert f"(process {process.pid} on " in again.stderr
            answers = []
            asking = threading.Thread(
                target=lambda: answers.append(complete(address, max_tokens=400, stop="never"))
            )
            asking.start()
            while not answers and running(address) == 0:
                pass
            process.send_signal(signal.SIGTERM)
            asking.join(60)
            assert answers[0][0] == 200
            assert process.wait(60) == 0
        finally:
            process.kill()
        said += [*process.stderr, process.stdout.read()]  # type: ignore[union-attr]
    assert not file.exists()
    assert address["token"] not in "".join(said)
    assert "sha256:" in "".join(said)
    assert "Traceback" not in "".join(said)


def running(address: dict[str, Any]) -> int:
    at = urlsplit(address["url"])
    connection = http.client.HTTPConnection(str(at.hostname), at.port, timeout=60)
    try:
        connection.request("GET", "/health")
        return int(json.loads(connection.getresponse().read())["running"])
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("generator.kind=procedural", r"generator.kind = 'procedural'"),
        ('generator.writers=[{name="a", kind="procedural"}]', "generator.writers"),
    ],
)
def test_what_cannot_be_served(tmp_path: Path, setting: str, words: str) -> None:
    """Only a model can be, and one."""
    kind = ("--set", "generator.kind=huggingface")
    done = llmatic(
        "serve", "configs/smoke.toml", *kind, "--set", setting, "--file", tmp_path / "serve.json",
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_job_of_its_own(tmp_path: Path) -> None:
    """A dry run shows both jobs: the server loads the model, the run finds it by its file."""
    run = tmp_path / "run"
    line = ("submit", "configs/quickstart.toml", run, "--serve", "--dry-run", "--set", "run.seed=3")
    first, second = llmatic(*line).stdout.split("# --- command ")
    assert "LLMATIC_SERVE=serve.json" in first
    assert first.rstrip().endswith("--set run.seed=3 --set generator.kind=huggingface")
    command = second.splitlines()[1]
    assert "--dependency=singleton,after:SERVER" in command
    assert "LLMATIC_SERVER_JOB=SERVER" in command
    assert f"--set generator.kind=endpoint --set generator.url={run}/serve.json" in command
    assert not run.exists()
    refused = llmatic("submit", "configs/smoke.toml", run, "--serve", "--dry-run", check=False)
    assert refused.returncode == 1
    assert "--serve is for one language model, and here is kind = 'procedural'" in refused.stderr


def test_one_server_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one in the queue is used again; if the queue is not known, nothing is submitted."""
    slurm = Commands(tmp_path / "slurm")
    monkeypatch.setenv("PATH", slurm.search_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    line = ("submit", "configs/quickstart.toml", tmp_path / "run", "--serve")
    slurm.fails("squeue")
    refused = llmatic(*line, check=False)
    assert refused.returncode == 1
    assert "squeue does not answer, so it is not known whether the model's" in refused.stderr
    assert slurm.calls("sbatch") == []
    slurm.says("sbatch", "71\n")
    slurm.queue(f"70|RUNNING|n1|{server_name((tmp_path / 'run').resolve())}|None")
    assert "Its model is served by job 70." in llmatic(*line).stderr
    (call,) = slurm.calls("sbatch")
    assert "--dependency=singleton,after:70" in call


def test_the_doctor_looks_for_it(tmp_path: Path) -> None:
    """A server that is not there is told at once, and with the file's name."""
    said = ["generator.kind=endpoint", f"generator.url={tmp_path}/serve.json",
            "generator.request_seconds=0.1"]  # fmt: skip
    [found] = doctor._models(override(Config(), said))
    assert found.state == doctor.FAULT
    assert "serve.json: there is no such file, so no server runs" in found.found
    assert "a run waits" in found.advice

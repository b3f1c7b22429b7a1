"""The scripts in slurm/, as far as no cluster is needed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SLURM = Path(__file__).parents[2] / "slurm"
ROOT = SLURM.parent
SCRIPTS = sorted([*SLURM.rglob("*.sh"), *(ROOT / "env").glob("*.sh"), ROOT / ".ci" / "run"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_syntax(script: Path) -> None:
    """bash reads every script, and shellcheck has nothing to say."""
    subprocess.run(["bash", "-n", script], check=True)
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.defpath}")
    assert shellcheck, "shellcheck comes with the development extra: bash env/test.sh"
    subprocess.run([shellcheck, "-x", script], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "words"),
    [
        (["only-one"], {}, 2, "usage: sbatch"),
        (["c", "r"], {"LLMATIC_MAX_RESTARTS": "many"}, 2, "a whole number, got 'many'"),
        (["c", "r"], {"LLMATIC_PYTHON": "/nowhere/python"}, 1, "LLMATIC_PYTHON=/path/to/python"),
        (["c", "r"], {"LLMATIC_SETUP": "true\n[ 1 = 2 ]\n:"}, 1, "at: [ 1 = 2 ]"),
    ],
)
def test_mistakes(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], code: int, words: str
) -> None:
    """A mistake is said before anything runs."""
    done = subprocess.run(
        ["bash", SLURM / "launch.sh", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout.count("coordinator has ended")) == (code, 0)
    assert words in done.stderr


def test_the_virtual_environment_where_sbatch_was_called(tmp_path: Path) -> None:
    """Without LLMATIC_PYTHON the script takes .venv of the folder of the submission."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && echo 1.2.3 || exit 4\n')
    python.chmod(0o755)
    environ = {k: v for k, v in os.environ.items() if k != "LLMATIC_PYTHON"}
    done = subprocess.run(
        ["bash", SLURM / "launch.sh", "c", "r"],
        env={**environ, "SLURM_SUBMIT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert f"llmatic 1.2.3, {python}" in done.stdout


def test_the_childs_code_survives_a_storm_of_signals(tmp_path: Path) -> None:
    """However many signals arrive, a coordinator that leaves keeps its code, and so does the
    script, whose wait each of them interrupts."""
    child = tmp_path / "child.py"
    child.write_text(
        "import sys\n"
        "from llmatic_hpc.commands.process import stop_on_signals\n"
        "with stop_on_signals() as stop:\n"
        "    print('ready', flush=True)\n"
        "    stop.wait()\n"
        "sys.exit(7)\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo 0 || exec {sys.executable} {child}\n')
    python.chmod(0o755)
    script = subprocess.Popen(
        ["bash", SLURM / "launch.sh", "c", "r"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LLMATIC_PYTHON": str(python)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    )
    assert script.stdout is not None
    for line in script.stdout:
        if line == "ready\n":
            break
    for number in (signal.SIGUSR1, signal.SIGTERM) * 50:
        script.send_signal(number)
    output, _ = script.communicate(timeout=30)
    assert script.returncode == 7, output


STAND_IN = """#!/bin/sh
[ "$1" = -c ] && echo 0 && exit
echo "asked for: $*"
[ -z "$LLMATIC_SERVE" ] || { trap 'exit 0' USR1; echo ready; while :; do sleep 0.1; done; }
exit "${CODE:-0}"
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """An environment with another Python, and a scancel that says what it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("python", STAND_IN), ("scancel", '#!/bin/sh\necho "scancel $*"\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "LLMATIC_PYTHON": str(folder / "python")}


def test_a_server_in_place_of_the_coordinator(tmp_path: Path, stand_in: dict[str, str]) -> None:
    """LLMATIC_SERVE turns the job into a server for other machines; warned, it ends with 0, and
    the script with 75, by which the job begins again."""
    said = ""
    with subprocess.Popen(
        ["bash", SLURM / "launch.sh", "c", "r", "--set", "a=1"],
        env={**stand_in, "LLMATIC_SERVE": "serve.json"}, stdout=subprocess.PIPE, text=True,
        cwd=tmp_path,
    ) as script:  # fmt: skip
        assert script.stdout is not None
        for line in script.stdout:
            said += line
            if line == "ready\n":
                script.send_signal(signal.SIGUSR1)
        assert script.wait(timeout=30) == 75
    wanted = "serve c --file r/serve.json --host 0.0.0.0 --set a=1"
    assert f"asked for: -m llmatic_hpc {wanted}" in said


@pytest.mark.parametrize(("code", "ends"), [("0", True), ("1", True), ("75", False)])
def test_a_server_ends_with_its_run(
    tmp_path: Path, stand_in: dict[str, str], code: str, ends: bool
) -> None:
    """The run is done or broken; not where it goes on later."""
    done = subprocess.run(
        ["bash", SLURM / "launch.sh", "c", "r"], capture_output=True, text=True, check=False,
        env={**stand_in, "LLMATIC_SERVER_JOB": "77", "CODE": code}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == int(code)
    assert ("scancel 77" in done.stdout) is ends


def test_a_server_ends_with_a_job_that_does_not_come_back(
    tmp_path: Path, stand_in: dict[str, str]
) -> None:
    """After its last restart nothing asks it any more."""
    done = subprocess.run(
        ["bash", SLURM / "launch.sh", "c", "r"], capture_output=True, text=True, check=False,
        env={
            **stand_in, "LLMATIC_SERVER_JOB": "77", "CODE": "75", "SLURM_JOB_ID": "5",
            "SLURM_RESTART_COUNT": "50",
        },
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 75
    assert "not again" in done.stdout + done.stderr
    assert "scancel 77" in done.stdout

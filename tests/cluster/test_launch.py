"""The submission of the coordinator's job, as far as no Slurm is needed to see it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from llmatic_hpc.cluster import launch
from llmatic_hpc.cluster.site import ArrayResources, Environment, Resources, Site
from llmatic_hpc.config import Config, override
from llmatic_hpc.errors import ClusterError

ROOT = Path(__file__).parents[2]


def plan(run: Path, **more: object) -> launch.Submission:
    return launch.plan(Path("c.toml"), run, Site(), environ={}, **more)  # type: ignore[arg-type]


def test_there_is_one_script() -> None:
    """The package has no copy of the script: what it submits is slurm/launch.sh itself."""
    assert launch.launch_script() == ROOT / "slurm" / "launch.sh"


def test_one_directory_one_name(tmp_path: Path) -> None:
    """However a run directory is spelt, its job has one name; another run has another."""
    real = tmp_path / "a run, no. 1"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    names = {
        plan(path).job_name
        for path in (real, tmp_path / "link", Path(os.path.relpath(real)), real / ".." / real.name)
    }
    assert len(names) == 1
    assert re.fullmatch(r"llmatic-a_run__no._1-[0-9a-f]{8}", names.pop())
    assert plan(tmp_path / "b").job_name != plan(tmp_path / "c" / "b").job_name


def test_command_and_variables(tmp_path: Path) -> None:
    """Resources go onto the command line, the environment into variables, options to the end."""
    site = Site(
        coordinator=Resources(partition="gpu", gres="gpu:1"),
        environment=Environment(setup=("ulimit -c 0", "umask 027")),
    )
    submission = launch.plan(
        Path("c.toml"), tmp_path, site, site_file=Path("s.toml"), options=["--set", "a=b c"],
        environ={},
    )  # fmt: skip
    command = list(submission.command)
    assert {"--partition=gpu", "--gres=gpu:1"} <= set(command[: command.index("--gres=gpu:1") + 1])
    assert command[-5:] == [
        str(ROOT / "slurm" / "launch.sh"),
        str(Path("c.toml").absolute()),
        str(tmp_path),
        "--set",
        "a=b c",
    ]
    assert submission.variables == {
        "LLMATIC_PYTHON": sys.executable,
        "LLMATIC_SETUP": "ulimit -c 0\numask 027",
        "LLMATIC_SITE": str(Path("s.toml").absolute()),
    }


def test_a_server_beside_the_coordinator(tmp_path: Path) -> None:
    """The same script as another job, with the resources of [serve] or else the coordinator's; the
    coordinator starts after it, whatever its script says of dependencies, and ends it."""
    coordinator, own = Resources(partition="cpu", gres=""), Resources(partition="gpu", gres="gpu:1")
    site = Site(coordinator=coordinator, serve=own)
    server = launch.plan_server(Path("c.toml"), tmp_path, site, options=["--port", "1"], environ={})
    assert {"--partition=gpu", "--gres=gpu:1", "--signal=B:USR1@60"} <= set(server.command)
    assert server.command[-5:] == (
        str(launch.launch_script()), str(Path("c.toml").absolute()), str(tmp_path), "--port", "1",
    )  # fmt: skip
    assert server.variables["LLMATIC_SERVE"] == "serve.json"
    assert server.job_name == f"{plan(tmp_path).job_name}-serve"
    said = "sbatch: error: Batch job submission failed: Invalid partition name specified"
    assert "serve.partition" in launch.explain(said, server)
    without = launch.plan_server(Path("c.toml"), tmp_path, Site(coordinator=coordinator))
    assert "--partition=cpu" in without.command
    assert "coordinator.partition" in launch.explain(said, without)
    run = launch.beside_server(launch.plan(Path("c.toml"), tmp_path, site, environ={}), "77")
    place = run.command.index("--dependency=singleton,after:77")
    assert place < run.command.index(str(launch.launch_script()))
    assert run.variables["LLMATIC_SERVER_JOB"] == "77"
    assert "LLMATIC_SERVE" not in run.variables


def test_a_job_inside_a_job_inherits_nothing_of_it(tmp_path: Path) -> None:
    """SLURM_* of the job that submits is dropped; where the cluster is, and SBATCH_*, stay."""
    environ = {
        "SLURM_CONF": "/c", "SLURM_CPU_BIND": "x", "SLURM_ARRAY_JOB_ID": "1",
        "SLURMD_NODENAME": "n", "SRUN_DEBUG": "3", "SBATCH_ACCOUNT": "a", "PATH": "/bin",
        "MY_SLURM_THING": "1",
    }  # fmt: skip
    dropped = ("SLURMD_NODENAME", "SLURM_ARRAY_JOB_ID", "SLURM_CPU_BIND", "SRUN_DEBUG")
    assert launch.inherited_variables(environ) == dropped
    submission = launch.plan(Path("c.toml"), tmp_path, Site(), environ=environ)
    assert (
        " env -u SLURMD_NODENAME -u SLURM_ARRAY_JOB_ID -u SLURM_CPU_BIND -u SRUN_DEBUG sbatch "
        in (str(submission))
    )


def test_no_slurm_at_all(tmp_path: Path) -> None:
    """Without sbatch the message says where to go, and what works without a cluster."""
    submission = plan(tmp_path / "run")
    with pytest.raises(ClusterError, match=r"no such command.*login node.*llmatic run"):
        launch.submit(submission, tmp_path / "run", environ={"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        # As sbatch prints them (Slurm 22.05, slurm_errno.c).
        (
            "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission "
            "failed: Job violates accounting/QOS policy (job submit limit, user's size and/or "
            "time limits)",
            ["as many jobs queued as you may", "coordinator.qos"],
        ),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid "
            "(missing or exceeds some limit)",
            ["coordinator.time", "allows less"],
        ),
        (
            "sbatch: error: Batch job submission failed: User's group not permitted to use this "
            "partition",
            ["coordinator.partition", "may not use it"],
        ),
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            ["accepted all the same", "squeue --me --name=llmatic-run-"],
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller "
            "(connect failure)",
            ["accepted all the same"],
        ),
        ("sbatch: error: something new", ["something new", "It was called as: LLMATIC_PYTHON="]),
    ],
)
def test_explanations(tmp_path: Path, said: str, words: list[str]) -> None:
    """Every refusal becomes one line with Slurm's words and what to do."""
    message = launch.explain(said, plan(tmp_path / "run"))
    assert "\n" not in message
    for word in words:
        assert word in message


def test_array_preview() -> None:
    """Every script that a generation would take: 250 elements in arrays of at most 100."""
    config = override(Config(), ["search.batch=500", "cluster.candidates_per_task=2"])
    site = Site(array=ArrayResources(partition="gpu", max_array_size=100))
    text = launch.array_preview(config, site)
    heads = [line for line in text.splitlines() if line.startswith("# ---")]
    assert [head.split(" -")[1].strip("- ") for head in heads] == [
        "2 arrays a generation, 100 elements, 2 candidates in each",
        "1 array a generation, 50 elements, 2 candidates in each",
    ]
    assert text.count("#SBATCH --partition=gpu") == 2
    assert "#SBATCH --array=0-99%100" in text
    assert "#SBATCH --array=0-49%50" in text
    assert "#SBATCH --job-name=TOKEN" in text


def test_no_arrays_for_local_workers() -> None:
    config = override(Config(), ["cluster.kind=local"])
    assert "no arrays: cluster.kind = 'local'" in launch.array_preview(config, Site())

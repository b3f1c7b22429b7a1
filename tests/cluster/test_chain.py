"""Handing a run over to a successor, by what Slurm's commands are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmatic_hpc.cluster.chain import hand_over, resources_of
from llmatic_hpc.cluster.launch import job_name
from llmatic_hpc.cluster.site import Resources
from llmatic_hpc.errors import ClusterError
from llmatic_hpc.rundir.paths import RunPaths

from .commands import Commands

# What scontrol of Slurm 22.05 printed of a job, with what does not matter left out.
SHOWN = (
    "JobId=40 JobName={name} UserId=root(0) Account=users QOS=normal JobState=RUNNING "
    "Reason=None Dependency=(null) Requeue=1 RunTime=00:00:05 TimeLimit=02:00:00 Partition=coord "
    "ReqNodeList=(null) ExcNodeList=gpu07 NodeList=coord01 NumCPUs=2 NumTasks=1 CPUs/Task=2 "
    "MinCPUsNode=2 MinMemoryNode=4G Features=(null) Command=/x/launch.sh "
    "StdOut={root}/40 logs40/slurm-40.log TresPerNode=gres:gpu:1\n"
)


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    found = RunPaths(tmp_path / "run")
    found.generation.mkdir(parents=True)
    return found


@pytest.fixture
def job(tmp_path: Path, paths: RunPaths, commands: Commands) -> dict[str, str]:
    """Variables of a job of slurm/launch.sh, named by hand."""
    folder = tmp_path / "handover"
    folder.mkdir()
    words = ("/c/my config.toml", str(paths.root), "--set", "search.generations=5")
    (folder / "arguments").write_text("".join(f"{word}\0" for word in words))
    commands.says("scontrol", SHOWN.format(name="llmatic", root=tmp_path))
    commands.says("sbatch", "77\n")
    own = {"LLMATIC_HANDOVER": str(folder), "SLURM_JOB_ID": "40"}
    return {n: v for n, v in os.environ.items() if not n.startswith("LLMATIC_")} | own


def test_the_same_job_again(commands: Commands, paths: RunPaths, job: dict[str, str]) -> None:
    """The successor has the arguments and resources of the job, and waits for all its arrays."""
    assert hand_over(["9_0", "9_1", "12", ""], paths, job) == "77"
    (call,) = commands.calls("sbatch")
    assert "--dependency=afterany:9:12,singleton" in call
    assert "--job-name=llmatic" in call
    assert "--partition=coord" in call and "--time=02:00:00" in call  # noqa: PT018
    assert call.endswith(f"/c/my config.toml {paths.root} --set search.generations=5")
    assert paths.successor.read_text() == "77"
    assert (Path(job["LLMATIC_HANDOVER"]) / "successor").read_text() == "77"


def test_what_a_job_asked_for() -> None:
    """Options are found again; what it says of none is left to the cluster."""
    assert resources_of(SHOWN.format(name="x", root="/r")) == Resources(
        partition="coord", account="users", qos="normal", gres="gpu:1", time="02:00:00", cpus=2,
        mem="4G", exclude="gpu07",
    )  # fmt: skip
    assert resources_of("TimeLimit=UNLIMITED Account=(null) MinMemoryCPU=2G") == Resources(
        extra=("--mem-per-cpu=2G",)
    )


def test_a_successor_that_waits_already(
    commands: Commands, paths: RunPaths, job: dict[str, str], tmp_path: Path
) -> None:
    """A successor that waits already is told what to wait for; no second one is submitted."""
    paths.successor.write_text("50")
    commands.queue("40|RUNNING|coord01|llmatic|None", "50|PENDING||llmatic|Dependency")
    assert hand_over(["9_0"], paths, job) == "50"
    assert commands.calls("sbatch") == []
    assert "update jobid=50 dependency=afterany:9,singleton" in commands.calls("scontrol")

    # Known by a name that only this run has, where nobody wrote it down.
    paths.successor.unlink()
    name = job_name(paths.root.resolve())
    commands.says("scontrol", SHOWN.format(name=name, root=tmp_path))
    commands.queue(f"51|PENDING||{name}|Dependency")
    assert hand_over(["9_0"], paths, job) == "51"


def test_another_run_of_the_same_name_is_left_alone(
    commands: Commands, paths: RunPaths, job: dict[str, str]
) -> None:
    """sbatch slurm/launch.sh names every run's job alike."""
    commands.queue("40|RUNNING|coord01|llmatic|None", "60|PENDING||llmatic|Dependency")
    assert hand_over(["9_0"], paths, job) == "77"


@pytest.mark.parametrize("missing", ["LLMATIC_HANDOVER", "SLURM_JOB_ID", "jobs"])
def test_who_cannot_leave_stays(paths: RunPaths, job: dict[str, str], missing: str) -> None:
    """Outside of the launch script, or with no array to come back for."""
    with pytest.raises(ClusterError, match="stays"):
        hand_over([] if missing == "jobs" else ["9"], paths, {**job, missing: ""})


def test_slurm_refuses(commands: Commands, paths: RunPaths, job: dict[str, str]) -> None:
    """Then there is no successor, and nothing says that there is."""
    commands.fails("sbatch", "sbatch: error: Batch job submission failed: Invalid qos")
    with pytest.raises(ClusterError, match="qos"):
        hand_over(["9"], paths, job)
    assert not paths.successor.exists()
    assert not (Path(job["LLMATIC_HANDOVER"]) / "successor").exists()

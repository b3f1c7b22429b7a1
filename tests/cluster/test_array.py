"""Resources and scripts of job arrays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmatic_hpc.cluster.launch import array_of
from llmatic_hpc.cluster.site import ArrayResources, Environment, Site
from llmatic_hpc.config import ClusterSettings

from .commands import Commands

SITE = Site(
    array=ArrayResources(
        partition="gpu", account="project", gres="gpu:1", time="2:00:00", cpus=4, mem="16G",
        exclude="node01", extra=("--exclusive", "--signal=USR1@60"),
    ),
    environment=Environment(modules=("cuda/12",), variables=("A=b c",), setup=("ulimit -c 0",)),
)  # fmt: skip


def test_a_run_goes_before_its_site() -> None:
    """A limit comes from the configuration, else from the site, else it is an hour."""
    own = array_of(ClusterSettings(partition="mine", time_minutes=30), SITE)
    assert (own.resources.partition, own.resources.account, own.minutes) == ("mine", "project", 30)
    assert array_of(ClusterSettings(), SITE).minutes == 120
    assert array_of(ClusterSettings(), Site()).minutes == 60


def test_parameters() -> None:
    """Options as submitit takes them: time by minutes, nodes to avoid joined, extra last."""
    array = array_of(ClusterSettings(array_parallelism=7), SITE)
    found = array.parameters("name", time_factor=2, exclude=["node02", "node03"])
    more = found["additional_parameters"]
    assert (found["time"], found["job_name"], found["array_parallelism"]) == (240, "name", 7)
    assert more["exclude"] == "node01,node02,node03"
    assert more["signal"] == "USR1@60"
    assert (more["requeue"], more["exclusive"], more["cpus-per-task"]) == (True, True, 4)
    assert "time" not in more
    assert found["setup"][-1] == "ulimit -c 0"


@pytest.mark.parametrize(("limit", "warning"), [(1, 15), (4, 60), (8, 120), (600, 120)])
def test_the_warning_leaves_most_of_the_time(limit: int, warning: int) -> None:
    """Two minutes before the limit; of a short one a quarter. To Python, which is the shell."""
    array = array_of(ClusterSettings(time_minutes=limit), Site())
    assert array.parameters("name")["additional_parameters"]["signal"] == f"B:USR2@{warning}"


def test_the_script() -> None:
    """One Python, no srun; an element alone is no array."""
    array = array_of(ClusterSettings(), SITE)
    text = array.script(5, "name")
    assert "#SBATCH --array=0-4%5" in text
    assert "#SBATCH --exclusive\n" in text
    assert "srun" not in text.split("# command")[-1]
    assert "RUN/generation/submissions/name" in text
    assert "--array" not in array.script(1, "name")


def test_a_coordinators_own_job_does_not_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a job, what describes it is out of the environment; the cluster's place is not."""
    commands = Commands(tmp_path / "slurm")
    monkeypatch.setenv("PATH", commands.search_path)
    for name in ("SLURM_MEM_PER_CPU", "SLURM_ARRAY_JOB_ID", "SBATCH_EXPORT", "LLMATIC_SETUP",
                 "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):  # fmt: skip
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/somewhere/slurm.conf")
    before = dict(os.environ)
    array = array_of(ClusterSettings(), SITE)
    folder = tmp_path / "folder"
    with array.executor(folder, **array.parameters("name")) as executor:
        inside = dict(os.environ)
        assert executor.parameters["job_name"] == "name"
    assert dict(os.environ) == before
    assert inside["SLURM_CONF"] == "/somewhere/slurm.conf"
    assert {n for n in inside if n.startswith(("SLURM_", "SBATCH_", "LLMATIC_SETUP"))} == {
        "SLURM_CONF"
    }
    assert "CUDA_VISIBLE_DEVICES" not in inside
    assert "OMP_NUM_THREADS" not in inside

"""A study's coordinators as jobs, as far as no Slurm is needed to see it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmatic_hpc import config
from llmatic_hpc.cluster.launch import job_name
from llmatic_hpc.rundir import lock
from llmatic_hpc.rundir.paths import StudyPaths

from ..cluster.commands import Commands
from ..coordinator.command import ROOT, llmatic

STUDY = """
config = "{root}/configs/smoke.toml"
seeds = 3
at_once = 2
[variants.llmatic]
[variants.random]
extends = "{root}/configs/ablations/quick/random.toml"
"""
COUNTING = """\
#!/bin/sh
echo "sbatch $*" >>{folder}/calls
wc -l <{folder}/jobs
echo job >>{folder}/jobs
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Stand-ins in front of the search path; sbatch numbers its jobs from 100."""
    found = Commands(tmp_path / "slurm")
    script = found.path / "sbatch"
    script.write_text(COUNTING.format(folder=found.folder))
    (found.folder / "jobs").write_text("job\n" * 100)
    monkeypatch.setenv("PATH", found.search_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of six runs."""
    file = tmp_path / "six.toml"
    file.write_text(STUDY.format(root=ROOT))
    return file


def submitted(study: Path, *more: str | Path, code: int = 0) -> str:
    """Say what the command says on standard error."""
    done = llmatic("study", study, "--submit", "--output", study.parent / "out", *more, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_a_job_a_run_and_so_many_at_once(study: Path, slurm: Commands) -> None:
    """Each has the name of its run, its own settings, and waits for the one two places before."""
    said = submitted(study, "--set", "search.batch=7")
    assert "6 jobs submitted, 0 were queued or running; at most 2 run at once" in said
    calls = slurm.calls("sbatch")
    assert len(calls) == 6
    paths = StudyPaths(study.parent / "out")
    after = [re.search(r"--dependency=singleton(?:,afterany:(\d+))?", call) for call in calls]
    assert [found and found[1] for found in after] == [None, None, "100", "101", "102", "103"]
    names = [(name, seed) for seed in range(3) for name in ("llmatic", "random")]
    for (name, seed), call in zip(names, calls, strict=True):
        run, file = paths.run(name, seed).root, paths.config(name, seed)
        assert f"--job-name={job_name(run.resolve())} " in call
        assert call.endswith(f"launch.sh {file} {run}")
        settings = config.load(file)
        assert (settings.run.seed, settings.search.batch) == (seed, 7)
        assert settings.cluster.array_parallelism == 0  # the machine is not shared


def test_the_same_line_again_submits_what_is_missing(study: Path, slurm: Commands) -> None:
    """Neither what is queued, nor what is held; the rest comes after what is there."""
    paths = StudyPaths(study.parent / "out")
    name = job_name(paths.run("llmatic", 1).root.resolve())
    leaving = job_name(paths.run("random", 0).root.resolve())
    slurm.queue(f"70|RUNNING|n1|{name}|None", "71|PENDING||another|None",
                f"72|COMPLETING|n1|{leaving}|None")  # fmt: skip
    held = paths.run("random", 2)
    held.root.mkdir(parents=True)
    with lock.hold(held.lock):
        said = submitted(study)
    assert "4 jobs submitted, 2 were queued or running" in said
    after = [re.search(r"afterany:(\d+)", call) for call in slurm.calls("sbatch")]
    assert [found and found[1] for found in after] == [None, "70", "100", "101"]


def test_a_scheduler_that_does_not_answer(study: Path, slurm: Commands) -> None:
    """Nothing is submitted twice on a guess; a refusal says what was submitted and what to do."""
    slurm.fails("squeue")
    assert "squeue does not answer" in submitted(study, code=1)
    assert slurm.calls("sbatch") == []
    slurm.queue()
    script = slurm.path / "sbatch"
    refusing = f'[ "$(wc -l <{slurm.folder}/jobs)" -lt 102 ] || '
    refusing += "{ echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1; }\n"
    script.write_text(script.read_text().replace("wc -l", f"{refusing}wc -l", 1))
    said = submitted(study, code=1)
    assert "random/seed0: job 101" in said
    assert "QOSMaxSubmitJobPerUserLimit" in said


def test_a_study_has_a_site(study: Path, slurm: Commands, tmp_path: Path) -> None:
    """The coordinators' resources, as for one run."""
    site = tmp_path / "here.toml"
    site.write_text('[coordinator]\npartition = "long"\n')
    submitted(study, "--site", site)
    assert all("--partition=long" in call for call in slurm.calls("sbatch"))

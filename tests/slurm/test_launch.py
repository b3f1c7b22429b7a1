"""slurm/launch.sh as a job of a real Slurm, with a stand-in for the coordinator.

The stand-in is a package named llmatic_hpc with a few lines that end, wait or note signals as
they are told; the script, the scheduler, signals and requeues are the real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from llmatic_hpc.cluster import launch
from llmatic_hpc.cluster.site import Site
from llmatic_hpc.commands.main import cli
from llmatic_hpc.errors import ClusterError

from .conftest import Slurm

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "slurm" / "launch.sh"

STAND_IN = '''
"""Says what it was called with, then does what its option says.

exit CODE; wait CODE: until a signal, then end with CODE; code 75 once: 75, then 0.
"""
import os, signal, sys, threading

options = sys.argv[sys.argv.index("--run-dir") + 2 :]
stop, seen = threading.Event(), []

def note(number, frame):
    seen.append(signal.Signals(number).name)
    stop.set()

signal.signal(signal.SIGUSR1, note)
signal.signal(signal.SIGTERM, note)
restart = os.environ.get("SLURM_RESTART_COUNT", "0")
print(f"stand-in: {sys.argv[1:]} restart={restart} threads={os.environ['OMP_NUM_THREADS']}"
      f" offline={os.environ['HF_HUB_OFFLINE']} setup={os.environ.get('SET_UP', '')}", flush=True)
action, code = options[0], int(options[1])
if action == "wait" and restart == "0":
    stop.wait(50)
    print("stand-in: saw", sorted(set(seen)), flush=True)
elif action in ("wait", "once") and restart != "0":
    code = 0
sys.exit(code)
'''


@dataclass
class Job:
    """A job of the launch script and its log."""

    id: str
    log: Path

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")


Launch = Callable[..., Job]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables with which the script finds the stand-in; none that it would find otherwise."""
    for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "LLMATIC_SETUP", "LLMATIC_MAX_RESTARTS"):
        monkeypatch.delenv(name, raising=False)
    package = tmp_path / "packages" / "llmatic_hpc"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "stand-in"\n')
    (package / "__main__.py").write_text(STAND_IN)
    return {"PYTHONPATH": str(package.parent), "LLMATIC_PYTHON": sys.executable}


@pytest.fixture
def launched(slurm: Slurm, tmp_path: Path, stand_in: dict[str, str]) -> Launch:
    """Submits the launch script with the stand-in, under a name of the test's own."""

    def submit(*does: str, sbatch: tuple[str, ...] = (), **variables: str) -> Job:
        job = slurm.sbatch(
            f"--job-name={tmp_path.name}",
            f"--output={tmp_path}/%j.log",
            f"--chdir={tmp_path}",
            *sbatch,
            SCRIPT,
            "a config.toml",
            "a run",
            *does,
            env={**stand_in, **variables},
        )
        return Job(job, tmp_path / f"{job}.log")

    return submit


def test_done_and_broken_are_passed_on(slurm: Slurm, launched: Launch) -> None:
    """Code 0 completes the job, any other but 75 fails it as it is; arguments arrive whole."""
    done = launched(
        "exit",
        "0",
        sbatch=("--cpus-per-task=3", "--dependency="),
        LLMATIC_SETUP="export SET_UP='by lines'\ntrue",
    )
    broken = launched("exit", "7", sbatch=("--dependency=",), HF_HUB_OFFLINE="0")
    assert slurm.wait_end(done.id) == ("COMPLETED", 0)
    assert "llmatic stand-in" in done.text()
    assert f"job {done.id}, restart 0 of at most 50" in done.text()
    arguments = ["run", "a config.toml", "--run-dir", "a run", "exit", "0"]
    assert f"stand-in: {arguments} restart=0 threads=3 offline=1 setup=by lines" in done.text()
    assert slurm.wait_end(broken.id) == ("FAILED", 7)
    assert "threads=1 offline=0" in broken.text()


def test_code_75_requeues_up_to_the_cap(slurm: Slurm, launched: Launch) -> None:
    """Code 75 starts the same job again, in the same log, as often as the cap allows."""
    job = launched("exit", "75", LLMATIC_MAX_RESTARTS="1")
    assert slurm.wait_end(job.id, seconds=40) == ("FAILED", 75)
    text = job.text()
    assert text.index("restart=0") < text.index(f"requeued as job {job.id}")
    assert text.index(f"requeued as job {job.id}") < text.index("restart=1")
    assert "requeued 1 times already, LLMATIC_MAX_RESTARTS=1: not again" in text
    assert "restart=2" not in text


def test_the_warning_saves_and_requeues_and_a_second_job_waits(
    slurm: Slurm, launched: Launch
) -> None:
    """USR1 reaches Python, whose 75 requeues the job; of one name, one job runs at a time."""
    first = launched("wait", "75")
    second = launched("exit", "0")
    slurm.wait_text(first.log, "restart=0")
    assert slurm.show(second.id)["Reason"] == "Dependency"
    slurm.command("scancel", "--signal=USR1", "--batch", first.id)
    assert slurm.wait_end(first.id, seconds=40) == ("COMPLETED", 0)
    assert "stand-in: saw ['SIGUSR1']" in first.text()
    assert "restart=1" in first.text()
    assert slurm.wait_end(second.id) == ("COMPLETED", 0)
    (first_end,) = slurm.accounting(first.id, "End")[-1:]
    (second_start,) = slurm.accounting(second.id, "Start")
    assert second_start >= first_end


def test_term_saves_and_does_not_requeue(slurm: Slurm, launched: Launch) -> None:
    """TERM reaches Python, and a job that was cancelled stays cancelled in spite of its 75."""
    cancelled = launched("wait", "75", sbatch=("--dependency=",))
    stopped = launched("wait", "75", sbatch=("--dependency=",))
    slurm.wait_text(cancelled.log, "restart=0")
    slurm.wait_text(stopped.log, "restart=0")
    slurm.command("scancel", cancelled.id)
    slurm.command("scancel", "--signal=TERM", "--batch", stopped.id)
    assert slurm.wait_end(cancelled.id)[0] == "CANCELLED"
    assert slurm.wait_end(stopped.id) == ("FAILED", 75)
    for job in (cancelled, stopped):
        assert "stand-in: saw ['SIGTERM']" in job.text()
        assert "stopped by TERM (" in job.text()
        assert len(slurm.accounting(job.id)) == 1  # one start
    assert "(CANCELLED" in cancelled.text()


def test_a_requeue_from_outside_counts_once(slurm: Slurm, launched: Launch) -> None:
    """After scontrol requeue Slurm starts the job again, once; the script leaves it alone."""
    job = launched("wait", "75")
    slurm.wait_text(job.log, "restart=0")
    slurm.command("scontrol", "requeue", job.id)
    assert slurm.wait_end(job.id, seconds=40) == ("COMPLETED", 0)
    assert "stopped by TERM (REQUEUED)" in job.text()
    # Accounting hears of the end a moment later.
    slurm.wait_until(lambda: slurm.accounting(job.id) == ["REQUEUED", "COMPLETED"], "its account")


def test_a_limit_shorter_than_its_warning(slurm: Slurm, launched: Launch) -> None:
    """A job that is warned right after its start says so instead of requeueing for nothing."""
    job = launched("wait", "75", sbatch=("--time=5",))
    slurm.wait_text(job.log, "restart=0")
    # Slurm itself would send it within its half minute.
    slurm.command("scancel", "--signal=USR1", "--batch", job.id)
    assert slurm.wait_end(job.id) == ("FAILED", 75)
    assert "warned right after the start, for a time limit of 5:00" in job.text()
    assert len(slurm.accounting(job.id)) == 1


def test_preemption(slurm: Slurm, launched: Launch) -> None:
    """A preempted job is warned like one at its limit, and goes on once the other is done."""
    node = ("--nodelist=gpu08", "--exclusive")
    job = launched("wait", "75", sbatch=("--partition=preempt", *node))
    slurm.wait_text(job.log, "restart=0")
    other = slurm.sbatch("--partition=high", *node, "--output=/dev/null", "--wrap=true")
    assert slurm.wait_end(other) == ("COMPLETED", 0)
    assert slurm.wait_end(job.id, seconds=40) == ("COMPLETED", 0)
    assert "stand-in: saw" in job.text()  # USR1, or TERM where preemption sends no user signal
    assert len(slurm.accounting(job.id)) == 2


# --- llmatic submit ---------------------------------------------------------------------------


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(
        '[coordinator]\npartition = "coord"\ntime = "1:00:00"\nmem = "1G"\n'
        f'[environment]\nvariables = ["SET_UP=of the site", "PYTHONPATH={tmp_path}/packages"]\n'
    )
    return path


def submit_command(*words: str | Path) -> list[str]:
    return ["submit", str(ROOT / "configs" / "smoke.toml"), *map(str, words)]


def test_submit(
    slurm: Slurm,
    tmp_path: Path,
    stand_in: dict[str, str],
    site_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job gets the site's resources and environment, and its log lies in the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # as inside a job: must not leak into the new one
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    words = submit_command("run%j", "--site", site_file, "--set", "search.batch=3")
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    job = result.stdout.strip()
    slurm.submitted.append(job)
    assert result.exit_code == 0
    log = tmp_path / "run%j" / "logs" / f"slurm-{job}.log"
    assert f"Submitted job {job}" in result.stderr
    slurm.wait_text(log, "stand-in:")
    assert "'--set', 'search.batch=3'" in log.read_text()
    assert "setup=of the site" in log.read_text()
    shown = slurm.show(job)
    assert (shown["Partition"], shown["TimeLimit"]) == ("coord", "01:00:00")
    assert shown["JobName"] == launch.job_name(tmp_path.resolve() / "run%j")


def test_dry_run_prints_what_would_run(
    slurm: Slurm,
    tmp_path: Path,
    stand_in: dict[str, str],
    site_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--dry-run submits nothing; the command line that it prints, run by a shell, does."""
    monkeypatch.chdir(tmp_path)

    def jobs() -> set[str]:
        listed = slurm.command("squeue", "--noheader", "--states=all", "--format=%A")
        return set(listed.stdout.split())

    before = jobs()
    result = CliRunner().invoke(cli, submit_command("run", "--site", site_file, "--dry-run"))
    assert result.exit_code == 0
    assert jobs() <= before  # older ones may be forgotten meanwhile
    assert not (tmp_path / "run").exists()
    assert SCRIPT.read_text() in result.stdout
    assert "2 elements, 10 candidates in each" in result.stdout
    printed = result.stdout.partition("# --- " + str(SCRIPT))[0]
    (tmp_path / "run" / "logs").mkdir(parents=True)
    job = subprocess.run(
        ["bash", "-c", printed], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.strip()
    slurm.submitted.append(job)
    slurm.wait_text(tmp_path / "run" / "logs" / f"slurm-{job}.log", "setup=of the site")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('partition = "nowhere"', ["coordinator.partition (now nowhere)", "sinfo -s"]),
        ('account = "nobody"', ["coordinator.account (now nobody)", "sacctmgr show assoc"]),
        ('qos = "urgent"', ["coordinator.qos (now urgent)", "sacctmgr show assoc"]),
        ('gres = "gpu:9"', ["coordinator.cpus", "cpus, mem and gres together"]),
        ('gres = "tpu:1"', ["coordinator.gres (now tpu:1)"]),
        ('constraint = "h100"', ["coordinator.constraint (now h100)"]),
        ('exclude = "node99"', ["coordinator.exclude (now node99)", "sinfo -N"]),
        ('mem = "much"', ["coordinator.mem (now much)"]),
        ('extra = ["--no-such-option"]', ["coordinator.extra"]),
    ],
)
def test_refusals_say_what_to_change(
    slurm: Slurm, tmp_path: Path, setting: str, words: list[str]
) -> None:
    """Refusals of the real sbatch name the setting, its value, and where to look."""
    path = tmp_path / "site.toml"
    path.write_text(f"[coordinator]\n{setting}\n")
    result = CliRunner().invoke(cli, submit_command(tmp_path / "run", "--site", path))
    assert result.exit_code == 1
    message = str(result.exception)
    assert isinstance(result.exception, ClusterError)
    assert "\n" not in message
    for word in [*words, str(path)]:
        assert word in message


def test_a_limit_on_submissions(slurm: Slurm, tmp_path: Path) -> None:
    """With as many jobs as one may have, the message says to wait; later the same call works."""
    change = ("sacctmgr", "--immediate", "modify", "user", "root", "set")
    run = tmp_path / "run"
    submission = launch.plan(Path("c.toml"), run, Site())
    slurm.sbatch("--hold", "--wrap=true")
    slurm.command(*change, "MaxSubmitJobs=1")
    try:
        with pytest.raises(ClusterError, match=r"wait for some to end \('squeue --me'\)"):
            launch.submit(submission, run)
    finally:
        slurm.command(*change, "MaxSubmitJobs=-1")
    slurm.submitted.append(launch.submit(submission, run))


def test_no_controller(slurm: Slurm, tmp_path: Path) -> None:
    """A controller that cannot be reached may have taken the job: the message says how to see."""
    conf = tmp_path / "slurm.conf"
    lines = Path("/etc/slurm/slurm.conf").read_text().splitlines()
    changed = [
        "SlurmctldPort=9" if line.startswith("SlurmctldPort=") else
        "MessageTimeout=2" if line.startswith("MessageTimeout=") else line
        for line in lines
    ]  # fmt: skip
    conf.write_text("\n".join(changed) + "\n")
    submission = launch.plan(Path("c.toml"), tmp_path / "run", Site())
    environ = {**os.environ, "SLURM_CONF": str(conf)}
    with pytest.raises(ClusterError, match=r"accepted all the same.*squeue --me --name=llmatic-"):
        launch.submit(submission, tmp_path / "run", environ=environ, seconds=4)

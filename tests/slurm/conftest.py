"""A real Slurm for the tests of this folder: the one-machine cluster of slurm/testbed.

``slurm`` starts it once a session, or uses the one that is up (``slurm/testbed/up.sh`` before
pytest saves the start). Jobs that a test submits through it are cancelled when the test ends.
Modules that use it say  pytestmark = pytest.mark.slurm.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TESTBED = Path(__file__).parents[2] / "slurm" / "testbed"
PACKAGES_UNAVAILABLE = 69  # exit code of up.sh
POLL_SECONDS = 0.1
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


@dataclass
class Slurm:
    """Slurm's own commands, and patience with a deadline."""

    submitted: list[str] = field(default_factory=list)

    def command(
        self, *words: str | Path, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with what it says captured; with ``check``, it must succeed."""
        done = subprocess.run(
            [str(word) for word in words],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done

    def sbatch(self, *words: str | Path, env: Mapping[str, str] | None = None) -> str:
        """Submit a job, to be cancelled when the test ends; returns its id."""
        job = self.command("sbatch", "--parsable", *words, env=env).stdout.strip()
        self.submitted.append(job)
        return job

    def show(self, job: str) -> dict[str, str]:
        """All that the controller knows of a job, by scontrol's names (JobState, Reason, ...)."""
        text = self.command("scontrol", "--oneliner", "show", "job", job).stdout
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def state(self, job: str) -> str:
        """A job's state in the controller's words: PENDING, RUNNING, COMPLETING, ..."""
        return self.show(job)["JobState"]

    def accounting(self, job: str, *columns: str) -> list[str]:
        """The columns that sacct has of a job, one text a start, the first start first."""
        wanted = ",".join(columns or ("State",))
        words = ("sacct", "-nXPD", f"--jobs={job}", f"--format={wanted}")
        return self.command(*words).stdout.splitlines()

    def wait_until(
        self, condition: Callable[[], object], what: str = "", *, seconds: float = 30
    ) -> None:
        """Poll until ``condition()`` is true; fails the test after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                queue = self.command("squeue", "--all", check=False).stdout
                pytest.fail(f"not within {seconds} s: {what}\n{queue}")
            time.sleep(POLL_SECONDS)

    def wait_state(self, job: str, *states: str, seconds: float = 30) -> str:
        """Wait until a job is in one of ``states``; returns which."""
        found = ""

        def reached() -> bool:
            nonlocal found
            found = self.state(job)
            return found in states

        self.wait_until(reached, f"job {job} in {' or '.join(states)}", seconds=seconds)
        return found

    def wait_end(self, job: str, *, seconds: float = 30) -> tuple[str, int]:
        """Wait until a job has ended for good; returns its state and exit code."""
        state = self.wait_state(job, *ENDED, seconds=seconds)
        return state, int(self.show(job)["ExitCode"].split(":")[0])

    def wait_text(self, path: Path, text: str, *, seconds: float = 30) -> None:
        """Wait until a file, such as a job's log, has ``text``."""
        self.wait_until(
            lambda: path.exists() and text in path.read_text(encoding="utf-8"),
            f"{text!r} in {path}",
            seconds=seconds,
        )

    def cancel(self) -> None:
        """End all that was submitted, however it takes a signal, and wait until it is gone."""
        for job in self.submitted:
            # Cancelled, a job of these tests could requeue itself.
            self.command("scontrol", "update", f"jobid={job}", "requeue=0", check=False)
        if self.submitted:
            self.command("scancel", *self.submitted, check=False)
            jobs = ",".join(self.submitted)
            self.wait_until(
                lambda: not self.command("squeue", "-h", "-j", jobs, check=False).stdout,
                f"jobs {jobs} gone",
            )
        self.submitted.clear()


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[None]:
    """The test bed is up; skips, and says why, where it cannot be."""
    name = _running_cluster()
    if name == "tb":
        yield
        return
    if name:
        pytest.skip(f"another Slurm, {name}, is in charge here: these tests want their own")
    if os.geteuid() != 0:
        pytest.skip("only root can start slurm/testbed/up.sh")
    if not Path("/etc/debian_version").exists():
        pytest.skip("slurm/testbed/up.sh needs Debian's packages")
    kept = Path(os.environ.get("SLURM_TB", "/var/lib/slurm-tb")).exists()
    up = subprocess.run([TESTBED / "up.sh"], capture_output=True, text=True, check=False)
    if up.returncode == PACKAGES_UNAVAILABLE:
        pytest.skip(f"Slurm's packages cannot be installed: {up.stderr.strip()[-300:]}")
    assert up.returncode == 0, f"up.sh: {up.stdout}{up.stderr}"
    yield
    subprocess.run(
        [TESTBED / "down.sh", *([] if kept else ["--wipe"])], capture_output=True, check=True
    )


def _running_cluster() -> str:
    """The name of the cluster whose controller answers; empty if none does."""
    if shutil.which("scontrol") is None:
        return ""
    asked = subprocess.run(
        ["scontrol", "show", "config"], capture_output=True, text=True, check=False
    )
    found = re.search(r"^ClusterName\s*=\s*(\S+)", asked.stdout, re.MULTILINE)
    return found[1] if asked.returncode == 0 and found else ""


@pytest.fixture
def slurm(slurm_cluster: None) -> Iterator[Slurm]:
    """Slurm's commands; ends what the test submitted."""
    commands = Slurm()
    yield commands
    commands.cancel()

"""Slurm's own commands and the daemons of slurm/testbed, for tests and for tests/crash."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TESTBED = Path(__file__).parents[2] / "slurm" / "testbed"
POLL_SECONDS = 0.1
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


class TooLateError(AssertionError):
    """Something did not happen in time."""


@dataclass(frozen=True)
class Element:
    """A line of squeue."""

    job: str
    state: str
    name: str
    node: str


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

    def queue(self, name: str = "") -> list[Element]:
        """Jobs and elements in the queue whose name begins with ``name``."""
        text = self.command("squeue", "--noheader", "--array", "--format=%i|%T|%j|%N").stdout
        found = [Element(*line.split("|")) for line in text.splitlines()]
        return [element for element in found if element.name.startswith(name)]

    def wait_until(
        self, condition: Callable[[], object], what: str = "", *, seconds: float = 30
    ) -> None:
        """Poll until ``condition()`` is true; raises :class:`TooLateError` after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                queue = self.command("squeue", "--all", check=False).stdout
                raise TooLateError(f"not within {seconds} s: {what}\n{queue}")
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

    def cancel_named(self, name: str) -> None:
        """End what is in the queue under names that begin with ``name``."""
        self.submitted += sorted({job.job.split("_")[0] for job in self.queue(name)})
        self.cancel()

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


class Bed:
    """The daemons of the test bed. Whoever breaks one calls :meth:`mend` afterwards."""

    def __init__(self) -> None:
        self.folder = Path(os.environ.get("SLURM_TB", "/var/lib/slurm-tb"))

    def up(self, **settings: str) -> None:
        """Start what does not run, with these settings (SLURM_TB_...)."""
        done = subprocess.run(
            [TESTBED / "up.sh"],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"up.sh: {done.stdout}{done.stderr}"

    def mend(self) -> None:
        """Daemons, nodes, settings and limits as ``up.sh`` alone makes them."""
        self.up()
        limits = ("MaxSubmitJobs=-1", "MaxJobs=-1")
        Slurm().command("sacctmgr", "-i", "modify", "user", "root", "set", *limits, check=False)

    def pid(self, daemon: str) -> int:
        """Process id of ``slurmctld``, ``slurmdbd`` or ``slurmd.NODE``."""
        return int((self.folder / "run" / f"{daemon}.own").read_text().split()[0])

    def kill(self, daemon: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a daemon alone, and wait until it is gone."""
        pid = self.pid(daemon)
        os.kill(pid, number)
        Slurm().wait_until(lambda: not _is_alive(pid), f"{daemon} gone")

    def crash_node(self, node: str) -> None:
        """SIGKILL to all of a node at once: its slurmd, its steps and what they run."""
        log = str(self.folder / "log" / f"slurmd.{node}.log")
        steps = [pid for pid in _processes() if _is_step_of(pid, log)]
        os.kill(self.pid(f"slurmd.{node}"), signal.SIGKILL)
        for pid in [p for step in steps for p in (step, *descendants(step))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Children of a process, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for other in _processes():
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(other)
    found, new = [], [pid]
    while new:
        new = [child for parent in new for child in children.get(parent, ())]
        found += new
    return found


def processes_with(*words: str) -> list[int]:
    """Processes with all of ``words`` among those of their command lines."""
    found = []
    for pid in _processes():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if {word.encode() for word in words} <= set(command):
                found.append(pid)
    return found


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _is_step_of(pid: int, log: str) -> bool:
    """Return whether a process is a slurmstepd of the node with that log, which it holds open."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "slurmstepd":
            return any(os.readlink(f"/proc/{pid}/fd/{n}") == log for n in (3, 4, 5)
                       if os.path.lexists(f"/proc/{pid}/fd/{n}"))  # fmt: skip
    return False

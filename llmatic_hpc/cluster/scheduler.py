"""Slurm's own commands, and how their answers are read.

Nothing here decides anything. A scheduler that does not answer is no error either: what it
would have said is unknown then, and who asked goes on with what it knew.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

ANSWER_SECONDS = 60.0
"""Wait for a command's answer; longer than Slurm's MessageTimeout (10 s, at some sites 30)."""

MOST_IDS = 500
"""Job ids on one command line."""

WHERE = frozenset(("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_CONF_SERVER"))
"""Variables that say where the cluster is. All else named SLURM_... describes a job that we may be
in ourselves, and a job submitted from it would take it for its own."""

# One line a job. The reason comes last: it is free text.
_QUEUE_FORMAT = "%i|%T|%N|%j|%r"
_FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_")
_ACCOUNT_FIELDS = ("JobID", "JobName", "State", "NodeList", "ElapsedRaw")

WAITING = frozenset(("PENDING", "REQUEUED", "CONFIGURING", "RESV_DEL_HOLD", "REQUEUE_FED"))
LEAVING = frozenset(("COMPLETING", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL"))
"""States of a job that squeue may still list although its processes are gone."""
HELD_FOR_GOOD = frozenset(("REQUEUE_HOLD", "SPECIAL_EXIT"))
_HELD_REASON = re.compile(r"requeued.held|JobHoldMaxRequeue")
_STUCK_REASON = re.compile(
    r"JobHeld|BadConstraints|Partition(Node|Time)Limit|Invalid|NotAllowed|Max\w+Per(Job|Node)|"
    r"NeverSatisfied"
)


@dataclass(frozen=True)
class Queued:
    """A job, or an element of an array, in the queue."""

    job: str
    """``123``, or ``123_4`` for an element."""
    state: str
    node: str
    name: str
    reason: str

    @property
    def is_waiting(self) -> bool:
        """True where it has not started, or starts again."""
        return self.state in WAITING

    @property
    def is_leaving(self) -> bool:
        """True where it is only still listed."""
        return self.state in LEAVING

    @property
    def is_held(self) -> bool:
        """True where Slurm has given up starting it (nodes failed to)."""
        return self.state in HELD_FOR_GOOD or _HELD_REASON.search(self.reason) is not None

    @property
    def is_stuck(self) -> bool:
        """True where it waits for what a person has to do: a hold, a limit that it exceeds."""
        return self.is_waiting and _STUCK_REASON.search(self.reason) is not None


@dataclass(frozen=True)
class Account:
    """Accounting's entry on a job's last start."""

    name: str
    state: str
    """Without what follows it, such as the user in ``CANCELLED by 1000``."""
    node: str
    seconds: float


@dataclass(frozen=True)
class Limits:
    """Limits of one user on a cluster; 0: none that it tells."""

    array_size: int = 0
    submitted: int = 0


def answer(*words: str) -> str | None:
    """Return what a command prints; None where it fails, is missing or does not answer in time."""
    # A user's own SQUEUE_PARTITION or SACCT_FORMAT would hide jobs, or change what is read.
    kept = {n: v for n, v in os.environ.items() if not n.startswith(_FILTERS)}
    # Without a bound on the text of array expressions they are cut to '1-5,7...'.
    variables = {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            words,
            env={**kept, **variables},
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("%s: %s", words[0], getattr(error, "stderr", None) or error)
        return None
    return done.stdout


def queue() -> dict[str, Queued] | None:
    """Ask squeue for the user's own jobs by id; None where it does not answer."""
    text = answer("squeue", "--me", "--noheader", "--array", f"--format={_QUEUE_FORMAT}")
    return None if text is None else parse_queue(text)


def parse_queue(text: str) -> dict[str, Queued]:
    """Read the answer of squeue, passing over lines that are not its own (warnings)."""
    lines = (line.strip().split("|", 4) for line in text.splitlines())
    return {
        parts[0]: Queued(*parts)
        for parts in lines
        if len(parts) == 5 and re.fullmatch(r"\d+(_\d+)?", parts[0])
    }


def accounts(jobs: Iterable[str]) -> dict[str, Account]:
    """Ask sacct about jobs; those that it does not know are left out."""
    ids = list(jobs)
    found: dict[str, Account] = {}
    for first in range(0, len(ids), MOST_IDS):
        text = answer(
            "sacct",
            "--noheader",
            "--allocations",
            "--parsable2",
            f"--jobs={','.join(ids[first : first + MOST_IDS])}",
            f"--format={','.join(_ACCOUNT_FIELDS)}",
        )
        found |= parse_accounts(text or "")
    return found


def parse_accounts(text: str) -> dict[str, Account]:
    """Read the answer of sacct: of several starts of a job the last."""
    found = {}
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) == len(_ACCOUNT_FIELDS) and parts[2]:
            job, name, state, node, seconds = parts
            found[job] = Account(
                name,
                state.split()[0].rstrip("+"),
                "" if node == "None assigned" else node,
                float(seconds) if seconds.isdecimal() else 0.0,
            )
    return found


def cancel(jobs: Sequence[str]) -> bool:
    """End jobs: they get TERM, and after KillWait KILL. False: not all could be told."""
    told = True
    for first in range(0, len(jobs), MOST_IDS):
        told &= answer("scancel", *jobs[first : first + MOST_IDS]) is not None
    return told


def cancel_named(name: str) -> bool:
    """End all jobs of that name, if there are any. False: no answer."""
    return answer("scancel", "--me", f"--name={name}") is not None


def limits(*, account: str = "", qos: str = "") -> Limits:
    """Ask the cluster what it allows this user; unknown limits are 0."""
    config = answer("scontrol", "show", "config") or ""
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.MULTILINE)
    user = os.environ.get("SLURM_JOB_USER") or _user()
    associations = answer(
        "sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}",
        "format=Account,MaxSubmitJobs,DefaultQOS",
    )  # fmt: skip
    services = answer(
        "sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=Name,MaxSubmitJobsPerUser"
    )
    submitted = submit_limit(associations or "", services or "", account=account, qos=qos)
    # The largest index is one less than MaxArraySize, and ours begin at 0.
    return Limits(int(size[1]) if size else 0, submitted)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container need not know its user's name
        return ""


def submit_limit(associations: str, services: str, *, account: str = "", qos: str = "") -> int:
    """Return the smallest MaxSubmitJobs that applies, by sacctmgr's answers; 0: none."""
    rows = [line.split("|") for line in associations.splitlines() if line.count("|") == 2]
    rows = [row for row in rows if not account or row[0] == account]
    named = dict(line.split("|")[:2] for line in services.splitlines() if "|" in line)
    applied = {qos} if qos else {row[2] for row in rows if row[2]}
    texts = [row[1] for row in rows] + [named.get(name, "") for name in applied]
    return min((int(text) for text in texts if text.isdecimal()), default=0)

"""Messages with which sbatch refuses a job: wait and try again, or what to change."""

from __future__ import annotations

import re

_TIME = "the partition or qos allows less: 'sinfo -o \"%P %l\"' shows how long"
_LIMIT = (
    "a limit of your account or qos: 'sacctmgr show qos' and 'sacctmgr show associations "
    "user=$USER' show them"
)

# What Slurm says (slurm_errno.c, and the reasons of its limits), the setting that it is about,
# and what to do. The first match counts.
_REFUSALS = (
    (r"invalid partition", "partition", "sinfo -s lists what there is"),
    (
        r"invalid account|account/partition",
        "account",
        "'sacctmgr show associations user=$USER format=account,partition,qos' lists yours",
    ),
    (r"invalid qos", "qos", "'sacctmgr show associations user=$USER format=account,qos' lists "
     "yours"),
    (r"invalid job array", "max_array_size", "'scontrol show config | grep -i array' shows what "
     "an array may have"),
    (r"TimeLimit|MaxWall", "time", _TIME),
    (r"MaxCpu\w*Per(Job|Node)", "cpus", _LIMIT),
    (r"MaxMem\w*Per(Job|Node)", "mem", _LIMIT),
    (r"MaxGRES\w*Per(Job|Node)", "gres", _LIMIT),
    (r"Submit\w*Limit|MaxSubmit|MaxJobs|job submit limit", "qos", "you have as many jobs queued "
     "as you may: wait for some to end ('squeue --me'), or use another qos or account"),
    (r"time limit", "time", _TIME),
    (r"generic resource|gres", "gres", "'sinfo -o \"%P %G\"' shows what the nodes have"),
    (r"invalid feature|constraint", "constraint", "'sinfo -o \"%P %f\"' shows what there is"),
    (r"memory specification|--mem|MaxMem", "mem", "'sinfo -o \"%P %m\"' shows megabytes"),
    (r"node configuration is not available|more processors|CPU count", "cpus",
     "no node of the partition has so much of cpus, mem and gres together: 'sinfo -o \"%P %c %m "
     "%G\"' shows what they have"),
    (r"invalid node name", "exclude", "'sinfo -N' lists the nodes"),
    (r"accounting/QOS policy", "qos", _LIMIT),
    (r"(unrecognized|unknown|invalid) option", "extra", "'sbatch --help' lists the options"),
    (r"not permitted|permission denied|access", "partition", "this account or user may not use "
     "it"),
)  # fmt: skip


_BUSY = re.compile(
    r"Submit\w*Limit|MaxSubmit|job submit limit|temporarily unable|too many jobs|rate limit", re.I
)
_PERMANENT = re.compile(r"Per(Job|Node)|MaxWall|QOSMin", re.I)
_UNSURE = re.compile(
    r"timed out|unable to contact|connection (refused|reset)|try again|communication|zero bytes",
    re.I,
)


def sentence(stderr: str) -> str:
    """Return what sbatch wrote in one line and without its own name."""
    return " ".join(
        line.removeprefix("sbatch: ").removeprefix("error: ").strip()
        for line in stderr.splitlines()
        if line.strip()
    )


def is_busy(said: str) -> bool:
    """Return whether a limit on what may wait or run was met, which time may cure."""
    # Older versions say 'job submit limit' of every limit, and name it only in front.
    return _BUSY.search(said) is not None and _PERMANENT.search(said) is None


def is_unsure(said: str) -> bool:
    """Return whether the controller may have taken the job although sbatch failed."""
    return _UNSURE.search(said) is not None


def advice(said: str) -> tuple[str, str]:
    """Return the key of a site's resources to change, and how; two empty texts if unknown."""
    return next(
        ((key, text) for pattern, key, text in _REFUSALS if re.search(pattern, said, re.I)),
        ("", ""),
    )

"""Versions, host and cores that a run ran on, for its record."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import RecordError

if TYPE_CHECKING:
    from ..problems.evaluator import Evaluator
    from ..store import Record

PACKAGES = (
    "torch", "torchvision", "transformers", "numpy", "scipy", "h5py", "fvcore", "submitit",
)  # fmt: skip


def spare_machine() -> None:
    """Let libraries take no more of the machine than they need. Call it before torch is imported.

    Idle threads sleep instead of spinning: those make a model slower, not faster, as soon as
    anything else wants a core, and here the workers do. oneDNN keeps the 64 products that it
    compiled last, not 1,024: a batch has other shapes with every text that comes or goes. What
    the user has set stays.
    """
    for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0"),
                        ("TOKENIZERS_PARALLELISM", "false"),
                        ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")):  # fmt: skip
        os.environ.setdefault(name, value)


def generator_kind(recorded: Mapping[str, Any]) -> str:
    """Return the ``generator.kind`` of what writes a run; empty where nothing has written yet.

    ``recorded`` is the environment of its record. It differs from the kind of the settings after
    a fallback.
    """
    if "generator_kind" in recorded:
        return str(recorded["generator_kind"])
    # Records of version 0.1 have the displayed name alone: 'procedural (control ...)', or the kind
    # and a colon before the model or digest.
    name = str(recorded.get("generator") or "")
    return "procedural" if name.startswith("procedural") else name.partition(":")[0]


def describe() -> dict[str, Any]:
    """Versions, host and cores. No secrets: of the environment, only Slurm's own names."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    slurm = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_JOB_PARTITION")
    return {
        "llmatic_hpc": __version__,
        "commit": commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": versions,
        "slurm": {name: os.environ[name] for name in slurm if name in os.environ},
    }


def commit(root: Path = Path(__file__).parents[2]) -> str:
    """Return the commit of the checkout that this package runs from; empty where it is none.

    ``with changes`` is said where tracked files differ from it.
    """
    if not (root / ".git").exists() or not (root / "setup.cfg").exists():
        return ""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True,
            timeout=10, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
        return done.stdout.strip()

    try:
        found = git("rev-parse", "HEAD")
        return f"{found} with changes" if git("status", "--porcelain", "-uno") else found
    except (OSError, subprocess.SubprocessError):
        return ""


def refuse_other_data(record: Record, evaluator: Evaluator, data_sha256: str, path: Path) -> None:
    """Refuse to continue a run on other data than it was started with.

    Raises :class:`RecordError`, which names ``path``, the record. A record from before there was
    a digest of its data is continued, unless the data have a validation split of their own: the
    versions of that time did not know it, and drew one from the training images.
    """
    if evaluator.own_validation and not record.data_sha256:
        raise RecordError(
            f"{path}: this run was started by a version that drew the validation split from the "
            "training images; this one takes the split that the data have of their own. Continue "
            "it with the version that started it, or choose another --run-dir"
        )
    facts = evaluator.facts()
    known = {name: record.environment.get(name) for name in facts}
    here = dict(facts)
    if record.data_sha256:
        known["data_sha256"], here["data_sha256"] = record.data_sha256, data_sha256
    if here != known:
        was, found = (
            ", ".join(f"{name} = {value!r}" for name, value in one.items()) for one in (known, here)
        )
        raise RecordError(
            f"{path}: this run was started on other data: it says {was}; here is {found}. "
            "Continue it with the data that it was started with, or choose another --run-dir"
        )

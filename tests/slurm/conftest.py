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
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bed import TESTBED, Bed, Slurm

__all__ = ["Bed", "Slurm"]

PACKAGES_UNAVAILABLE = 69  # exit code of up.sh


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
    if kept:  # a bed that ended without down.sh comes back with the jobs it had
        Slurm().cancel_named("")
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


@pytest.fixture
def bed(slurm_cluster: None) -> Iterator[Bed]:
    """The daemons of the test bed, whole again afterwards."""
    daemons = Bed()
    yield daemons
    daemons.mend()

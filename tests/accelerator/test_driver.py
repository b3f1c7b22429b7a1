"""Broken nodes, with PyTorch's own CUDA: a stub of the driver, and a GPU in a /dev of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

NAMESPACE = """
set -e
mkdir "$1/dev"
mount -t tmpfs none "$1/dev"
cp -a /dev/null /dev/zero /dev/urandom /dev/random /dev/full "$1/dev/"
mkdir "$1/dev/shm"
for name in nvidia0 nvidiactl nvidia-uvm; do mknod -m 666 "$1/dev/$name" c 1 3; done
mount --bind "$1/dev" /dev
exec "$2" -W ignore -m tests.accelerator.on_a_node "$1/run"
"""


def on_a_node(root: Path, *, init: int, version: int, **variables: str) -> dict[str, Any]:
    """Return what a node tells whose driver starts with ``init`` and is ``version``."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace can be had here (it takes root)")
    if not torch.version.cuda:
        pytest.skip("this PyTorch is built without CUDA")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", f"-DINIT={init}", f"-DVERSION={version}",
         "-o", root / "libcuda.so.1", Path(__file__).with_name("driver.c")],
        check=True,
    )  # fmt: skip
    hidden = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", NAMESPACE, "sh", root, sys.executable],
        env=environ | {"LD_LIBRARY_PATH": str(root)} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize(
    ("init", "version", "words"),
    [
        (100, 13000, "No CUDA GPUs are available"),
        (0, 12040, "driver on your system is too old (found version 12040)"),
        (46, 13000, "busy or unavailable"),
    ],
    ids=["no device", "old driver", "busy device"],
)
def test_no_candidate_is_scored_on_the_cpu_unasked(
    tmp_path: Path, init: int, version: int, words: str
) -> None:
    """A worker says infrastructure, doctor names the fault: both with torch's own words."""
    told = on_a_node(tmp_path, init=init, version=version)
    assert told["expected"] == "there is /dev/nvidia0"
    assert words in told["doctor"]
    assert "training.device = 'cpu'" in told["doctor"]
    assert (told["status"], told["device"]) == ("infrastructure", "")
    assert "there is /dev/nvidia0, but no cuda: " in told["failure"]
    assert words in told["failure"]


def test_an_empty_list_of_devices_means_the_cpu(tmp_path: Path) -> None:
    """Though a GPU is there, and Slurm gave one."""
    variables = {"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_GPUS": "0"}
    told = on_a_node(tmp_path, init=100, version=13000, **variables)
    assert (told["expected"], told["status"], told["device"]) == (None, "scored", "cpu")

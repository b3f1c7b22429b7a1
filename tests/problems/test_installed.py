"""A problem and a generator of another package: installed, searched with, looked at, verified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "installed"

CONFIG = """\
[problem]
kind = "sequences"
options = {longest = 12}

[generator]
kind = "dice"
options = {sides = 10}

[search]
generations = 6
batch = 20
start_elites = 5

[archive.network]
cells = 64
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has the package."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(PACKAGE, folder / "package")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--quiet",
         "--disable-pip-version-check", "--target", folder / "site", folder / "package"],
        check=True,
    )  # fmt: skip
    paths = f"{folder / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "PYTHONPATH": paths}


def llmatic(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmatic_hpc", *map(str, words)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def test_a_search_with_an_installed_problem(installed: dict[str, str], tmp_path: Path) -> None:
    """It runs, continues, reports, exports and verifies as one of this package does."""
    config, run = tmp_path / "toy.toml", tmp_path / "run"
    config.write_text(CONFIG)
    for generations in ("3", "6"):
        done = llmatic(installed, "run", config, "--run-dir", run, "--generations", generations)
        assert done.returncode == 0, done.stderr
    done = llmatic(installed, "verify", run)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    status = json.loads(llmatic(installed, "status", run, "--json").stdout)
    assert status["generation"] == 6
    assert status["network_elites"] > 10
    assert "test accuracy" in llmatic(installed, "status", run).stdout
    done = llmatic(installed, "export", run, "--best", "--output", tmp_path / "best.py")
    assert done.returncode == 0, done.stderr
    code = (
        "import llmatic_hpc as lm, sys; run = lm.read(sys.argv[1]); a = run.network_archive; "
        "print(a.names, a.scales, a.centroids.shape, run.candidates['descriptors'].shape)"
    )
    read = subprocess.run(
        [sys.executable, "-c", code, run], capture_output=True, text=True, check=True, env=installed
    )
    assert read.stdout.split("\n")[0] == (
        "('length', 'sum', 'spread') ('linear', 'log', 'linear') (64, 3) (120, 3)"
    )


def test_without_the_package(installed: dict[str, str], tmp_path: Path) -> None:
    """One line says which kinds there are; an installed one is among them where it is."""
    config = tmp_path / "toy.toml"
    config.write_text(CONFIG.replace('"sequences"', '"sequence"'))
    done = llmatic(installed, "run", config, "--run-dir", tmp_path / "run")
    assert done.returncode == 1
    assert "did you mean sequences?" in done.stderr
    done = llmatic(dict(os.environ), "run", config, "--run-dir", tmp_path / "run")
    assert done.returncode == 1
    assert "problem.kind must be one of 'image_classification', 'nasbench201', got" in done.stderr
    assert done.stderr.count("\n") == 1

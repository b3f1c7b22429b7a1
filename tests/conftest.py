"""Fixtures that all tests share: where real data and a real model lie, if they do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a process a whole file of tests, and all that uses the one Slurm to the same process."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc,unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "slurm" if file.startswith("tests/slurm/") else file

    return ByFile(config, log)


def _from_environment(variable: str, what: str) -> Path:
    value = os.environ.get(variable, "")
    if not value or not Path(value).exists():
        pytest.skip(f"{what} not here: set {variable}")
    return Path(value)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real images, tables and completions."""
    return _from_environment("LLMATIC_TEST_DATA", "real test data")


@pytest.fixture(scope="session")
def test_model() -> Path:
    """A real small instruct model, one GGUF file."""
    return _from_environment("LLMATIC_TEST_MODEL", "a real small language model")


@pytest.fixture(scope="session")
def benchmark_runs(
    test_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str, int], Path]:
    """Small finished runs of NAS-Bench-201 by method, data set and seed; not to be changed."""
    from .report.benchmark_runs import make_all

    return make_all(tmp_path_factory.mktemp("benchmark"), test_data / "nasbench201.h5")

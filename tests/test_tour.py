"""The notebook of the documentation, on a small recorded run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = (
    "search.generations=2", "search.batch=6", "search.start_elites=2", "training.epochs=1",
    "problem.train_images=200", "problem.test_images=100", "cluster.kind=inline",
)  # fmt: skip


@pytest.mark.slow
def test_the_tour_runs_as_it_stands(tmp_path: Path) -> None:
    """Its cells, one after the other in one namespace; they keep no outputs in the repository."""
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    words = [word for setting in SMALL for word in ("--set", setting)]
    command = [sys.executable, "-m", "llmatic_hpc", "run", str(ROOT / "configs/smoke.toml"), *words]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join("".join(cell["source"]) for cell in cells)],
        cwd=tmp_path, env={**os.environ, "MPLBACKEND": "agg"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "class Net" in done.stdout
    assert "ArchiveStats(num_elites=" in done.stdout
    assert (tmp_path / "runs" / "smoke" / "report" / "index.html").stat().st_size > 10_000

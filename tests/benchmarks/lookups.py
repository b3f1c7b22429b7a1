"""Cost of a query of NAS-Bench-201, and of a generation of 100 of them in the coordinator.

    python -m tests.benchmarks.lookups TABLE.h5

Prints look-ups a second (architecture string to accuracies), and the median seconds of a
generation of 100: proposing, writing and reading the cells, both archives and a durable commit of
the whole record after each generation (a run commits several together).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

from llmatic_hpc import config
from llmatic_hpc.coordinator import loop
from llmatic_hpc.coordinator.loop import Coordinator
from llmatic_hpc.problems.nasbench201 import table
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record

from .coordinator import Watch

ROOT = Path(__file__).parents[2]
LOOKUPS = 500_000


class Clock(Watch):
    """Takes the time of each generation."""

    def __init__(self) -> None:
        super().__init__()
        self.marks = [time.perf_counter()]

    def generation_done(self, record: Record) -> None:
        """It is committed."""
        self.marks.append(time.perf_counter())


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--generations", type=int, default=20)
    options = parser.parse_args()
    benchmark = table.read(options.table)
    accuracies = benchmark.datasets["cifar100"]
    names = list(benchmark.rows)
    asked = [names[i * 7919 % len(names)] for i in range(LOOKUPS)]
    began = time.perf_counter()
    total = 0.0
    for name in asked:
        row = benchmark.row(name)
        total += accuracies.valid[row] + accuracies.test[row]
    print(f"{LOOKUPS / (time.perf_counter() - began):,.0f} look-ups a second")

    loop.COMMIT_SECONDS, loop.COMMIT_SHARE = 0.0, 1e9
    settings = config.load(
        ROOT / "configs" / "nasbench201" / "paper.toml",
        [f"problem.table={options.table}", f"search.generations={options.generations}"],
    )
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        Coordinator(settings, RunPaths(Path(folder)), clock, threading.Event()).run()
    seconds = [b - a for a, b in zip(clock.marks[1:], clock.marks[2:], strict=False)]
    print(
        f"a generation of {settings.search.batch} with its commit: median "
        f"{statistics.median(seconds):.3f} s, the last {seconds[-1]:.3f} s, at most "
        f"{max(seconds):.3f} s"
    )


if __name__ == "__main__":
    main()

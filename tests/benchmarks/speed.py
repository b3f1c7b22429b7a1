"""Speed of two trees of this package on NAS-Bench-201 with the control, side by side.

    python -m tests.benchmarks.speed TABLE.h5 BASE_TREE [NEW_TREE] [--repeats 2] [--queries 2000]

Runs ``llmatic run configs/nasbench201.toml`` of either tree in turn (A B A B ...), each into a
folder of its own, and prints the CPU seconds of each run and the ratio of medians. A first run of
either, which is not counted, compiles its modules, as an installation does.
``--profile`` prints where the new tree spends its time instead.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parents[2]


def seconds(
    tree: Path, table: Path, compiled: str, queries: int, *, profile: bool = False
) -> float:
    """CPU seconds of one run of the tree at ``tree``; ``compiled``: folder of compiled modules."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    options = ["-m", "cProfile", "-s", "tottime"] if profile else []
    with tempfile.TemporaryDirectory() as folder:
        line = [
            sys.executable, *options, "-m", "llmatic_hpc", "run", "configs/nasbench201.toml",
            "--run-dir", f"{folder}/run",
            "--set", f"search.queries={queries}", "--set", f"problem.table={table.resolve()}",
        ]  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            line, cwd=tree, check=True, capture_output=True, text=True,
            env=environment | {"PYTHONPATH": str(tree.resolve()), "PYTHONPYCACHEPREFIX": compiled},
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if profile:
        print("\n".join(done.stdout.splitlines()[:60]))
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=HERE)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as compiled:
        if options.profile:
            seconds(options.new, options.table, compiled, options.queries, profile=True)
            return
        found: dict[Path, list[float]] = {options.base: [], options.new: []}
        for tree in found:
            seconds(tree, options.table, compiled, 2)
        for _ in range(options.repeats):
            for tree, times in found.items():
                times.append(seconds(tree, options.table, compiled, options.queries))
                print(f"{tree}: {times[-1]:.1f} s", flush=True)
    base, new = (statistics.median(times) for times in found.values())
    print(f"{base:.1f} s / {new:.1f} s = {base / new:.2f} times as fast")


if __name__ == "__main__":
    main()

"""Plan a few runs, run them, and print actual / planned: hours of devices, wall time, tokens, disk.

    python -m tests.benchmarks.planning cifar10.h5 --results FILE.jsonl
    python -m tests.benchmarks.planning cifar10.h5 --results FILE.jsonl --model FILE.gguf

Every line of the results is a run; what is in the file is not run again. Other work on the machine
slows plan and run, but not always alike: each run is planned before and after, and the ratio to
the mean of both is shown, and to the first alone. ``quiet`` is the ratio of the hours of devices
without the time that trainings waited for a core, in plan and run, as the kernel counted it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmatic_hpc import store
from llmatic_hpc.report.plan import compared, planned
from llmatic_hpc.rundir.paths import RunPaths

ROOT = Path(__file__).parents[2]
IMAGES = ("containment.max_flops=2e7", "problem.test_images=400")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "few images": ("smoke", (*IMAGES, "problem.train_images=400", "search.generations=4",
                             "search.batch=8")),
    "many images": ("smoke", (*IMAGES, "problem.train_images=4000", "search.generations=2",
                              "search.batch=6", "training.epochs=1", "training.batch=32")),
    "halving": ("smoke", (*IMAGES, "problem.train_images=1000", "search.generations=3",
                          "search.batch=9", 'training.rungs=[[2, "niche"], [6]]',
                          "training.promotion=halving")),
    "small model": ("quickstart", ("search.generations=2",)),
}  # fmt: skip
"""Name: configuration, and what is set otherwise."""


def measured(
    name: str, data: Path, model: Path | None, folder: Path, *, once: bool
) -> dict[str, Any]:
    """Plan and run in ``folder``; return both numbers of each kind. ``once``: plan before only."""
    config, changes = RUNS[name]
    settings = [*changes]
    if config == "quickstart":
        settings += [f"generator.model={model}"]
    else:
        settings += [f"problem.data={data}"]
    words = [w for setting in settings for w in ("--set", setting)]
    plans, slower = [], []
    for command in ("plan", "run") if once else ("plan", "run", "plan"):
        line = [sys.executable, "-m", "llmatic_hpc", command, f"configs/{config}.toml",
                "--run-dir", str(folder), *words]  # fmt: skip
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            slower.append(slowdown(process))
        assert process.returncode == 0, line
        if command == "plan" and (told := planned(RunPaths(folder))) is not None:
            plans.append(told)
    paths = RunPaths(folder)
    record = store.load(paths.record)
    paths.estimate.write_text(plans[0].to_json())
    plan, found = plans[0], compared(record, paths)
    assert found is not None
    if not once:
        found["device_hours"]["after"] = plans[1].hours
        found["wall_hours"]["after"] = plans[1].wall
        found["tokens"]["after"] = plans[1].tokens
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    found["disk_bytes"] = {"planned": plan.disk_bytes, "actual": disk}
    found["trainings"] = {
        "planned": plan.trainings,
        "actual": int((record.candidates["attempts"] > 0).sum()),
    }
    found["quiet"] = {"planned": plan.hours / slower[0],
                      "actual": found["device_hours"]["actual"] / slower[1]}  # fmt: skip
    return {"run": name, "slower": slower, "settings": settings, **found,
            "parts": dict(plan.device_hours),
            "wall": dict(plan.wall_hours), "range": [plan.least_hours, plan.most_hours],
            "history": {k: record.history[f"{k}_seconds"].tolist()
                        for k in ("generate", "screen", "evaluate")}}  # fmt: skip


def slowdown(process: subprocess.Popen[bytes]) -> float:
    """Wait for a command; return by how much its trainings took longer for waiting for a core."""
    times: dict[int, tuple[int, int]] = {}
    while process.poll() is None:
        parents = {pid: parent for pid, parent, _ in _processes()}
        for pid, parent, line in _processes():
            if "evaluation.warm" in line and " train" in line and parent in parents:
                family = _ancestors(pid, parents)
                with contextlib.suppress(OSError, ValueError):
                    if process.pid in family and "evaluation.warm" in _line(parent):
                        on, waiting, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
                        times[pid] = int(on), int(waiting)
        time.sleep(0.1)
    on, waiting = (sum(one[n] for one in times.values()) for n in range(2))
    return (on + waiting) / on if on else 1.0


def _processes() -> list[tuple[int, int, str]]:
    """Number, parent and command line of every process of this Python."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            found.append((int(folder.name), parent, _line(int(folder.name))))
    return found


def _line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")


def _ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    found = set()
    while (pid := parents.get(pid, 0)) > 1:
        found.add(pid)
    return found


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for each run: actual / planned."""
    kinds = ("device_hours", "quiet", "wall_hours", "trainings", "tokens", "disk_bytes")
    print("run".ljust(14), *(kind.rjust(13) for kind in kinds))
    for row in rows:
        ratios = [
            f"{row[k]['actual'] / _mean(row[k]):.2f} ({row[k]['actual'] / row[k]['planned']:.2f})"
            if row[k]["planned"]
            else "-"
            for k in kinds
        ]
        print(row["run"].ljust(14), *(ratio.rjust(13) for ratio in ratios))


def _mean(values: dict[str, Any]) -> float:
    both = [float(values[name]) for name in ("planned", "after") if values.get(name)]
    return sum(both) / len(both)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="CIFAR-10 as an HDF5 file")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="a GGUF file, for the run with a model")
    parser.add_argument("--once", action="store_true", help="plan before the run, not after it")
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS))
    options = parser.parse_args()
    text = options.results.read_text() if options.results.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    for name in options.only:
        needs = RUNS[name][0] == "quickstart" and options.model is None
        if needs or any(row["run"] == name for row in rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measured(name, options.data.resolve(), options.model, Path(folder) / "run",
                           once=options.once)  # fmt: skip
        rows.append(row)
        with options.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        show([row])
    show(rows)


if __name__ == "__main__":
    main()

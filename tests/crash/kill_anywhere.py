"""SIGKILL a run at random instants, start it again each time, compare with an undisturbed one.

    python -m tests.crash.kill_anywhere --kills 100
    python -m tests.crash.kill_anywhere --kills 50 --rungs niche     # or halving, elites
    python -m tests.crash.kill_anywhere --config FILE         # such as one with several writers

Every other kill takes the coordinator alone, so that its workers live on and are adopted; the
rest take the workers with it. Afterwards must hold (invariants 1 and 2 of the design):

- the candidate table (timings aside) and both archives equal those of the undisturbed run,
- ``llmatic verify`` finds nothing,
- no candidate whose result was on disk at a kill was evaluated again, at any rung.

Prints a line per kill and 'N passed, M failed' at the end; exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from llmatic_hpc import store
from llmatic_hpc.cluster.local import _task_processes
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, schema

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "smoke.toml"
SETTINGS = (
    "search.generations=3", "search.batch=6", "search.start_elites=3", "training.epochs=1",
    "problem.train_images=300", "problem.test_images=100", "cluster.poll_seconds=0.1",
    "training.checkpoint_seconds=0",
)  # fmt: skip
RUNGS = {
    mode: ("training.rungs=[[1,'niche'],[2]]", f"training.promotion={mode}")
    for mode in ("niche", "halving", "elites")
}
"""Settings of runs whose candidates earn their training; by a name in that of the folder of a run,
so that every function here knows them."""


def command(run: Path, settings: Sequence[str] = ()) -> list[str]:
    """The command that starts and continues a run, with further ``settings``."""
    settings = (*SETTINGS, *RUNGS.get(run.parent.name, ()), *settings)
    options = [word for setting in settings for word in ("--set", setting)]
    line = ["llmatic_hpc", "run", str(CONFIG), "--run-dir", str(run)]
    return [sys.executable, "-m", *line, *options]


def start(run: Path, settings: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start or continue a run in a session of its own."""
    return subprocess.Popen(
        command(run, settings), cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(run: Path, settings: Sequence[str] = ()) -> None:
    """Run to the end, undisturbed."""
    words = command(run, settings)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{run}: exit code {done.returncode}\n{done.stderr}")


def workers(run: Path) -> Iterator[int]:
    """Processes of the run's tasks."""
    generation = RunPaths(run.resolve()).generation
    return (pid for folder, pid in _task_processes() if generation in folder.resolve().parents)


def kill(process: subprocess.Popen[bytes], run: Path, *, everything: bool) -> None:
    """SIGKILL the coordinator, and its workers with it if asked."""
    os.kill(process.pid, signal.SIGKILL)
    if everything:
        for _ in range(3):  # a worker may just be starting another process
            for pid in workers(run):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    process.communicate()


Seen = dict[tuple[int, int], int]
"""Attempt of a result that was on disk, by candidate and rung."""


def results(run: Path) -> Seen:
    """Results on disk."""
    found: Seen = {}
    for paths in RunPaths(run).at_rungs():
        for path in paths.results.glob("*.*.json") if paths.results.exists() else ():
            candidate, attempt = map(int, path.name.split(".")[:2])
            known = (candidate, paths.rung)
            found[known] = min(attempt, found.get(known, attempt))
    return found


def differences(reference: Record, run: Path, seen: Seen) -> list[str]:
    """List what a disturbed run has otherwise than the undisturbed one."""
    record = store.load(RunPaths(run).record)
    found = [f"verify: {difference}" for difference in store.verify(record)][:3]
    for column in schema.CANDIDATES:
        mine, other = record.candidates[column.name], reference.candidates[column.name]
        if column.name not in schema.TIMINGS and not equal(mine, other):
            found.append(f"column {column.name} differs")
    for name, state in reference.archives.items():
        for column in ("elite", "fitness", "curiosity", "centroids", "rung", "trainings"):
            mine, other = getattr(record.archives[name], column), getattr(state, column)
            if (mine is None) != (other is None) or (mine is not None and not equal(mine, other)):
                found.append(f"archives/{name}/{column} differs")
    for candidate in {candidate for candidate, _ in seen}:
        known = [attempt for (other, _), attempt in seen.items() if other == candidate]
        trainings = max(1, int(np.isfinite(record.candidates["rung_scores"][candidate]).sum()))
        attempts = int(record.candidates["attempts"][candidate])
        if attempts != sum(known) and len(known) == trainings:
            found.append(
                f"candidate {candidate} had results of attempts {known} and was evaluated "
                f"{attempts} times"
            )
    return found


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal, NaN included."""
    if a.shape != b.shape:
        return False
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def disturbed(
    run: Path, kills: int, longest: float, rng: random.Random, settings: Sequence[str] = ()
) -> dict[str, int]:
    """A run that is killed up to ``kills`` times and then left alone; how often it was."""
    done = 0
    seen: Seen = {}
    while done < kills:
        process = start(run, settings)
        try:
            process.wait(rng.uniform(0.0, longest))
            error = process.communicate()[1]
            if process.returncode:
                raise SystemExit(f"{run}: exit code {process.returncode}\n{error.decode()}")
            break
        except subprocess.TimeoutExpired:
            everything = rng.random() < 0.5
            kill(process, run, everything=everything)
            done += 1
            for known, attempt in results(run).items():
                seen.setdefault(known, attempt)
            what = "all" if everything else "coordinator"
            print(f"kill {done} of {run.name} ({what}): {len(seen)} results seen", flush=True)
    finish(run, settings)
    return {"kills": done, "failed": report(run, seen)}


def report(run: Path, seen: Seen) -> int:
    """Print and count the differences of a run."""
    found = differences(store.load(RunPaths(run.parent / "reference").record), run, seen)
    for text in found:
        print(f"FAILED {run.name}: {text}", flush=True)
    return len(found)


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    global CONFIG
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="what is run: configs/smoke.toml"
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--kills-per-run", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, help="seconds that a start lives at most; by "
                        "default 10, or a third of what the undisturbed run takes")  # fmt: skip
    parser.add_argument("--rungs", choices=tuple(RUNGS), help="candidates earn their training so")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE",
                        help="settings of the run beyond this script's")  # fmt: skip
    parser.add_argument("--keep", type=Path, help="folder for the runs, kept afterwards")
    options = parser.parse_args(arguments)
    CONFIG = options.config.resolve()
    rng = random.Random(options.seed)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="llmatic-crash-"))
    folder = folder / options.rungs if options.rungs else folder
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    finish(folder / "reference", options.settings)
    took = time.monotonic() - began
    print(f"undisturbed: {took:.1f} s", flush=True)
    longest = options.longest or max(10.0, took / 3)
    kills = runs = failed = 0
    while kills < options.kills:
        count = min(options.kills_per_run, options.kills - kills)
        run = folder / f"run{runs}"
        found = disturbed(run, count, longest, rng, options.settings)
        kills, runs, failed = kills + found["kills"], runs + 1, failed + bool(found["failed"])
    if not options.keep:
        shutil.rmtree(folder)
    print(f"{kills} kills in {runs} runs")
    print(f"{runs - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

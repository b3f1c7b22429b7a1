"""SIGKILL a run at random instants, start it again each time, compare with an undisturbed one.

    python -m tests.crash.kill_anywhere --kills 100

Every other kill takes the coordinator alone, so that its workers live on and are adopted; the
rest take the workers with it. Afterwards must hold (invariants 1 and 2 of the design):

- the candidate table (timings aside) and both archives equal those of the undisturbed run,
- ``llmatic verify`` finds nothing,
- no candidate whose result was on disk at a kill was evaluated again.

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
SETTINGS = (
    "search.generations=3", "search.batch=6", "search.start_elites=3", "training.epochs=1",
    "problem.train_images=300", "problem.test_images=100", "cluster.poll_seconds=0.1",
    "training.checkpoint_seconds=0",
)  # fmt: skip


def command(run: Path, settings: Sequence[str] = ()) -> list[str]:
    """The command that starts and continues a run, with further ``settings``."""
    options = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    config = str(ROOT / "configs" / "smoke.toml")
    return [sys.executable, "-m", "llmatic_hpc", "run", config, "--run-dir", str(run), *options]


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
    tasks = RunPaths(run.resolve()).tasks
    return (pid for folder, pid in _task_processes() if folder.resolve().parent == tasks)


def kill(process: subprocess.Popen[bytes], run: Path, *, everything: bool) -> None:
    """SIGKILL the coordinator, and its workers with it if asked."""
    os.kill(process.pid, signal.SIGKILL)
    if everything:
        for _ in range(3):  # a worker may just be starting another process
            for pid in workers(run):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    process.communicate()


def results(run: Path) -> dict[int, int]:
    """Attempt of each result on disk, by candidate."""
    paths = RunPaths(run)
    found: dict[int, int] = {}
    for path in paths.results.glob("*.*.json") if paths.results.exists() else ():
        candidate, attempt = map(int, path.name.split(".")[:2])
        found[candidate] = min(attempt, found.get(candidate, attempt))
    return found


def differences(reference: Record, run: Path, seen: dict[int, int]) -> list[str]:
    """What a disturbed run has otherwise than the undisturbed one."""
    record = store.load(RunPaths(run).record)
    found = [f"verify: {difference}" for difference in store.verify(record)][:3]
    for column in schema.CANDIDATES:
        mine, other = record.candidates[column.name], reference.candidates[column.name]
        if column.name not in schema.TIMINGS and not equal(mine, other):
            found.append(f"column {column.name} differs")
    for name, state in reference.archives.items():
        for column in ("elite", "fitness", "curiosity", "centroids"):
            if not equal(getattr(record.archives[name], column), getattr(state, column)):
                found.append(f"archives/{name}/{column} differs")
    for candidate, attempt in seen.items():
        attempts = int(record.candidates["attempts"][candidate])
        if attempts != attempt:
            found.append(
                f"candidate {candidate} had a result of attempt {attempt} and was evaluated "
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
    seen: dict[int, int] = {}
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
            for candidate, attempt in results(run).items():
                seen.setdefault(candidate, attempt)
            what = "all" if everything else "coordinator"
            print(f"kill {done} of {run.name} ({what}): {len(seen)} results seen", flush=True)
    finish(run, settings)
    return {"kills": done, "failed": report(run, seen)}


def report(run: Path, seen: dict[int, int]) -> int:
    """Print and count the differences of a run."""
    found = differences(store.load(RunPaths(run.parent / "reference").record), run, seen)
    for text in found:
        print(f"FAILED {run.name}: {text}", flush=True)
    return len(found)


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--kills-per-run", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=10.0, help="seconds that a start lives at most"
    )
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE",
                        help="settings of the run beyond this script's")  # fmt: skip
    parser.add_argument("--keep", type=Path, help="folder for the runs, kept afterwards")
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="llmatic-crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    finish(folder / "reference", options.settings)
    print(f"undisturbed: {time.monotonic() - began:.1f} s", flush=True)
    kills = runs = failed = 0
    while kills < options.kills:
        count = min(options.kills_per_run, options.kills - kills)
        run = folder / f"run{runs}"
        found = disturbed(run, count, options.longest, rng, options.settings)
        kills, runs, failed = kills + found["kills"], runs + 1, failed + bool(found["failed"])
    if not options.keep:
        shutil.rmtree(folder)
    print(f"{kills} kills in {runs} runs")
    print(f"{runs - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

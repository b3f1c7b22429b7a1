"""A run's history in a tracker: TensorBoard, Weights & Biases or MLflow, into the run's folder.

The program ``python -m llmatic_hpc.report.trackers KIND RUN`` is a process of its own beside the
coordinator: it may fail, hang or be killed and nothing else notices. It reads the record, which
stays the truth, mirrors what the tracker lacks, and does so again for each byte on its standard
input until that ends.
"""

from __future__ import annotations

import fcntl
import glob
import logging
import math
import os
import shutil
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ..rundir.paths import RunPaths
from ..store import Record, load, schema
from ..store.hours import part

MIRROR_SECONDS = 600
"""Longest time that a tracker may take for what it lacks; then the kernel ends the process."""
NICE = 10
"""Less of the cores for this than for anything else of the run."""
PROJECT = "llmatic"
"""Name of the project, or of the experiment, where a tracker has such."""


def history(record: Record) -> list[dict[str, float]]:
    """Return what is mirrored of each generation, by the names of the history's columns.

    Beside the columns that are numbers: ``best``, the highest fitness so far; ``valid_share``, that
    of the generation's candidates which got a score, the machine's faults apart; ``queries`` and
    ``device_hours`` (GPU-hours, on a GPU) so far. What is unknown (NaN) is left out.
    """
    table, past = record.candidates, record.history
    generations = record.committed_generations
    told = table["told"]
    counts = ~np.isin(table["status"], (b"infrastructure", b"passed_over")) & ~record.are_repeats
    candidates = np.bincount(told[counts & (told >= 0)], minlength=generations)
    scored = np.isin(table["status"], (b"scored", b"stopped", b"duplicate")) & counts
    valid = np.bincount(told[scored & (told >= 0)], minlength=generations)
    own = (table["status"] == b"scored") & ~record.are_repeats
    seconds = np.where(told >= 0, np.nan_to_num(table["train_seconds"]), 0.0) * part(record)
    spent = np.bincount(np.maximum(told, 0), seconds, minlength=generations)
    columns: dict[str, Any] = {
        column.name: past[column.name]
        for column in schema.HISTORY
        if not column.width
        and column.dtype[0] in "if"
        and column.name not in ("generation", "started", "finished")
    }
    with np.errstate(invalid="ignore"):
        columns |= {
            "best": np.fmax.accumulate(past["best_fitness"]) if generations else [],
            "valid_share": valid / np.where(candidates, candidates, np.nan),
            "queries": np.cumsum(np.bincount(told[own & (told >= 0)], minlength=generations)),
            "device_hours": np.cumsum(spent) / 3600,
        }
    return [
        {n: float(v[row]) for n, v in columns.items() if math.isfinite(v[row])}
        for row in range(generations)
    ]


class Tracker(ABC):
    """A tracker's side of one run; a step is a generation, and none is written twice."""

    @abstractmethod
    def __init__(self, folder: Path, record: Record, name: str) -> None:
        """Open what belongs to the run in ``folder``; ``name`` is for people."""

    @abstractmethod
    def write(self, step: int, when: float, values: dict[str, float]) -> None:
        """Write the values of a generation that ended at ``when``, seconds since 1970."""

    @abstractmethod
    def flush(self) -> None:
        """Make what was written visible to readers, and durable if the tracker can."""

    def close(self) -> None:
        """End the run's session, in which more may be written at another time."""
        self.flush()


class TensorBoard(Tracker):
    """Event files. Each start writes all generations into a new one, which replaces the others."""

    def __init__(self, folder: Path, record: Record, name: str) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._proto, self._summary = event_pb2, summary_pb2
        self._former = sorted(folder.glob("events.out.tfevents.*"))
        self._writer = EventFileWriter(str(folder))
        # A server that has read the former file forgets what it had from there.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=0, session_log=start))

    def write(self, step: int, when: float, values: dict[str, float]) -> None:
        value = self._summary.Summary.Value
        found = self._summary.Summary(
            value=[value(tag=name, simple_value=number) for name, number in values.items()]
        )
        self._writer.add_event(self._proto.Event(wall_time=when, step=step, summary=found))

    def flush(self) -> None:
        self._writer.flush()
        for file in self._former:
            file.unlink(missing_ok=True)
        self._former = []

    def close(self) -> None:
        self.flush()
        self._writer.close()


class WeightsAndBiases(Tracker):
    """Offline unless WANDB_MODE says otherwise; then a run of the run's id, which is resumed.

    Offline nothing can be resumed: each start writes all generations, and what earlier ones wrote
    and nobody has uploaded goes.
    """

    def __init__(self, folder: Path, record: Record, name: str) -> None:
        import wandb

        former = glob.glob(f"{glob.escape(str(folder))}/wandb/offline-run-*-{record.run_id}")
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
        )
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=record.run_id, name=name,
            dir=str(folder), config=record.config, mode=mode, settings=settings,
            resume="allow" if mode == "online" else None,
        )  # fmt: skip
        self._first = int(self._run.step) if mode == "online" else 0
        for one in former:
            if not glob.glob(f"{glob.escape(one)}/*.synced"):
                shutil.rmtree(one, ignore_errors=True)

    def write(self, step: int, when: float, values: dict[str, float]) -> None:
        if step >= self._first:
            self._run.log({**values, "finished": when}, step=step, commit=True)

    def flush(self) -> None:
        return  # its own process writes

    def close(self) -> None:
        self._run.finish()


class MLflow(Tracker):
    """Files in the run's folder unless MLFLOW_TRACKING_URI names a server.

    The run is found again by a tag, and of each value only what lies after its last step is
    written.
    """

    def __init__(self, folder: Path, record: Record, name: str) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Metric, RunStatus
        from mlflow.tracking import MlflowClient

        self._metric, self._finished = Metric, RunStatus.to_string(RunStatus.FINISHED)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or folder.resolve().as_uri()
        self._client = client = MlflowClient(tracking_uri=uri)
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        known = client.get_experiment_by_name(title)
        experiment = known.experiment_id if known else client.create_experiment(title)
        tag = f"tags.`llmatic.run_id` = '{record.run_id}'"
        found = client.search_runs([experiment], filter_string=tag)
        tags = {"llmatic.run_id": record.run_id}
        tags["llmatic.generator"] = str(record.environment.get("generator"))
        run = found[0] if found else client.create_run(experiment, run_name=name, tags=tags)
        self._id = run.info.run_id
        self._last: defaultdict[str, int] = defaultdict(lambda: -1)
        for metric in run.data.metrics:
            steps = [one.step for one in client.get_metric_history(self._id, metric)]
            self._last[metric] = max(steps, default=-1)

    def write(self, step: int, when: float, values: dict[str, float]) -> None:
        new = {name: number for name, number in values.items() if step > self._last[name]}
        if new:
            stamp = round(when * 1000)
            metrics = [self._metric(name, number, stamp, step) for name, number in new.items()]
            self._client.log_batch(self._id, metrics=metrics)
            self._last.update(dict.fromkeys(new, step))

    def flush(self) -> None:
        return  # log_batch has written

    def close(self) -> None:
        self._client.set_terminated(self._id, status=self._finished)


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def mirror(record: Record, tracker: Tracker, done: int) -> int:
    """Write the generations from ``done`` on; return how many there are."""
    rows, when = history(record), record.history["finished"]
    for step in range(done, len(rows)):
        tracker.write(step, float(when[step]), rows[step])
    tracker.flush()
    return len(rows)


def follow(kind: str, paths: RunPaths) -> None:
    """Mirror a run now, and whenever a byte comes in, until the input ends."""
    folder = paths.trackers / kind
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as mine:
        signal.alarm(MIRROR_SECONDS)
        fcntl.flock(mine, fcntl.LOCK_EX)  # that of the coordinator before may be about to end
        record = load(paths.record)
        tracker, done = TRACKERS[kind](folder, record, paths.root.resolve().name), 0
        is_open = True
        while is_open:
            if record.committed_generations > done:
                done = mirror(record, tracker, done)
            signal.alarm(0)
            is_open = bool(os.read(sys.stdin.fileno(), 4096))
            signal.alarm(MIRROR_SECONDS)
            record = load(paths.record)
        mirror(record, tracker, done)
        tracker.close()


def main() -> None:
    """Follow a run; an error is the last line of what is printed, and the exit code 1."""
    kind, root = sys.argv[1:]
    os.nice(NICE)
    try:
        follow(kind, RunPaths(Path(root)))
    except Exception as error:  # whatever a library raises is told in a line
        logging.basicConfig()
        logging.exception("tracker %s", kind)
        first = (str(error).strip().splitlines() or [""])[0]
        print(f"{type(error).__name__}: {first}", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Tasks on this machine: as processes, through submitit's local executor, or in our own.

submitit starts every submission at once and knows a job by its process id, which the system
hands out again. So the dispatcher bounds how many tasks live, every task has a fresh folder,
and a task is recognised by that folder standing in a process's command line: also after the
coordinator was killed between starting a task and writing down that it had.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import submitit

from ..config import accelerators
from ..errors import ClusterError
from .backend import Backend, Ending, Nodes, Task

DEVICE = "device"
"""File in a task's folder with the name of the device that it was given."""


@dataclass(frozen=True)
class OnDevice:
    """Function of a task that sees one device; what submitit pickles."""

    run_task: Callable[[Path], int]
    environment: dict[str, str | None]

    def __call__(self, folder: Path) -> int:
        for name, value in self.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        return self.run_task(folder)


@dataclass(eq=False)
class LocalBackend(Backend):
    """Worker processes that outlive a killed coordinator and are adopted by the next one."""

    run_task: Callable[[Path], int]
    _: KW_ONLY
    parallelism: int
    time_minutes: int
    pause_seconds: float
    outlives = False
    _jobs: dict[Path, submitit.Job[int]] = field(default_factory=dict, init=False)

    def room(self, alive: int) -> int:
        return max(0, self.parallelism - alive)

    def submit(
        self, folders: Sequence[Path], token: str, *, time_factor: int = 1, avoid: Nodes = ()
    ) -> list[str]:
        return [self._submit(folder, time_factor) for folder in folders]

    def _submit(self, folder: Path, time_factor: int) -> str:
        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(
            timeout_min=self.time_minutes * time_factor, signal_delay_s=60, stderr_to_stdout=True
        )
        # submitit hides all GPUs of a vendor and knows indices alone: this undoes it.
        environment = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES")}
        if (device := self._free_device(folder)) is not None:
            (folder / DEVICE).write_text(device)
            environment |= accelerators.only(device)
        # Processes inherit it: Ctrl-C on the terminal is the coordinator's, which tells them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            job = executor.submit(Task(OnDevice(self.run_task, environment), folder))
        except OSError as error:
            raise ClusterError(
                f"{folder}: no worker process could be started: {error}. "
                "Free some memory, processes or disk space, then start the run again"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._jobs[folder] = job
        return str(job.job_id)

    def _free_device(self, folder: Path) -> str | None:
        """Return the device with the fewest tasks, those of a coordinator that is gone included."""
        busy = []
        for task in self.alive(folder.parent.iterdir()):
            with contextlib.suppress(OSError):
                busy.append((task / DEVICE).read_text())
        return min(accelerators.visible(), key=busy.count, default=None)

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        # Our own are asked, too: a process that is about to end has no command line any more
        # while its exit status cannot be collected yet.
        own = {folder for folder, job in self._jobs.items() if not job.done()}
        running = {folder for folder, _ in _task_processes()}
        return {folder for folder in folders if folder in own or folder.resolve() in running}

    def ending(self, folder: Path) -> Ending:
        return Ending(output=next(folder.glob("*_log.out"), None))

    def stop(self, folders: Iterable[Path]) -> None:
        _stop({folder.resolve() for folder in folders}.__contains__)


@dataclass(eq=False)
class InlineBackend(Backend):
    """Tasks in the coordinator's own process, one by one: for debugging under pdb.

    ``submit`` returns when they are done. The candidates themselves still run in contained
    children; what pdb sees is our own code.
    """

    run_task: Callable[[Path], int]
    pause_seconds = 0.0
    outlives = False

    def room(self, alive: int) -> int:
        return 1

    def submit(
        self, folders: Sequence[Path], token: str, *, time_factor: int = 1, avoid: Nodes = ()
    ) -> list[str]:
        for folder in folders:
            Task(self.run_task, folder)()
        return ["inline" for _ in folders]

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        return set()


def stop_orphans(tasks: Path) -> int:
    """Ask every task below the folder ``tasks`` to save and leave; returns how many there are."""
    above = tasks.resolve()
    return len(_stop(lambda folder: above in folder.parents))


def _task_processes() -> Iterator[tuple[Path, int]]:
    """Yield (resolved folder, process id) of submitit's controllers and tasks on this machine.

    Their folders are absolute however a run's own was given.
    """
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/cmdline", "rb") as file:
                words = file.read().decode("utf-8", "surrogateescape").split("\0")
        except OSError:  # gone meanwhile, or somebody else's
            continue
        if "submitit.core._submit" in words or "submitit.local._local" in words:
            folder = next((w for w in reversed(words) if w), "")
            yield Path(folder).resolve(), int(entry.name)


def _stop(is_meant: Callable[[Path], bool]) -> set[Path]:
    """Ask the tasks in folders that are meant to save and leave; return those that there are."""
    found = [(folder, pid) for folder, pid in _task_processes() if is_meant(folder)]
    for _, pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    return {folder for folder, _ in found}

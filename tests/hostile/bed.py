"""Targets of candidates: canaries, listeners, a victim, secrets; and whether they got them."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmatic_hpc.config import ContainmentSettings, TrainingSettings
from llmatic_hpc.evaluation import data, trainer
from llmatic_hpc.evaluation.data import Dataset, Split
from llmatic_hpc.sandbox import confine
from llmatic_hpc.sandbox.container import Container, Job
from llmatic_hpc.source import gate

from .table import Hostile

CONFIGURATIONS = ("whole", "child", "gate")
"""Gate and child with every layer; the child alone; the gate before a child without kernel
layers."""
KERNEL_LAYERS = frozenset({"landlock", "seccomp"})

SECONDS = 1.5
PATIENCE = 5.0
SETTINGS = ContainmentSettings(
    wall_seconds=SECONDS, screen_seconds=SECONDS, memory_bytes=400 << 20, file_bytes=4 << 20,
    max_params=10**6, max_flops=1e8, max_layers=200,
)  # fmt: skip
TRAINING = TrainingSettings(epochs=1, batch=32, learning_rate=0.01, device="cpu")
LUCKY = 0.5
"""An accuracy that no guessing among ten classes reaches."""


def available() -> frozenset[str]:
    """The kernel layers that this version, on this machine, confines a child with."""
    layers = getattr(confine, "available", frozenset)()
    return frozenset(layers)


@dataclass(frozen=True)
class Seen:
    """Outcome of one step of one candidate."""

    step: str
    said: str
    """``status: failure``."""
    seconds: float


class Bed:
    """A context manager; one for many candidates, which are run one after the other."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self.secret = f"s3cret-{self.token}"
        self._stack = contextlib.ExitStack()
        self._containers: dict[frozenset[str], Container] = {}
        self.dataset = _dataset()

    def __enter__(self) -> Bed:
        with contextlib.ExitStack() as stack:
            self._environment = {"HF_TOKEN": self.secret, "OMP_LLMATIC_BED": self.token}
            former = {name: os.environ.get(name) for name in self._environment}
            stack.callback(_put_back, former)
            os.environ.update(self._environment)
            self._folders = [
                self._canary(stack, Path.home()), self._canary(stack, Path(tempfile.gettempdir())),
            ]  # fmt: skip
            self._listeners = self._listen(stack)
            self._start_victim()
            stack.callback(lambda: self._end_victim())
            self._before = self._snapshot()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- running --------------------------------------------------------------------------

    def run(self, hostile: Hostile, configuration: str) -> list[Seen]:
        """Every step that the candidate gets to, in order."""
        source = self._filled(hostile.source)
        seen: list[Seen] = []
        self._replies: list[bytes] = []
        if configuration != "child":
            started = time.monotonic()
            verdict = gate.check(source, max_bytes=SETTINGS.source_bytes)
            said = f"{verdict.status}: {verdict.failure}"
            seen.append(Seen("gate", said, time.monotonic() - started))
            if verdict.status != "pending":
                return seen
        container = self._container(configuration)
        measured = container.run(_measuring(source))
        self._keep(measured.failure, measured.payload, repr(measured.values))
        said = f"{measured.status}: {measured.failure}"
        seen.append(Seen("measure", said, measured.seconds))
        if configuration == "child" or measured.status == "pending":
            seen.append(self._train(container, source))
        return seen

    def _train(self, container: Container, source: str) -> Seen:
        with tempfile.TemporaryDirectory(prefix="llmatic-", ignore_cleanup_errors=True) as folder:
            evaluator = trainer.Trainer(container, self.dataset, TRAINING, SETTINGS, threads=1)
            job = evaluator.job(source, seed=1, epochs=1, folder=Path(folder))
            reply = container.run(job)
            outcome = evaluator.outcome(job, reply)
            self._keep(reply.failure, outcome.failure, reply.payload, repr(reply.values))
            for path in Path(folder).rglob("*"):
                if path.is_file() and not path.is_symlink():
                    self._keep(path.read_bytes()[: 8 << 20])
            said = f"{outcome.status}: {outcome.failure}"
            accuracies = (outcome.valid_accuracy, outcome.test_accuracy)
            if outcome.status == "scored" and max(accuracies) >= LUCKY:
                said = f"fooled: an accuracy of {max(accuracies)}"
            return Seen("train", said, reply.seconds)

    def _keep(self, *parts: str | bytes) -> None:
        self._replies += [p.encode() if isinstance(p, str) else p for p in parts]

    def _container(self, configuration: str) -> Container:
        without = KERNEL_LAYERS if configuration == "gate" else frozenset[str]()
        if "without" not in inspect.signature(Container).parameters:
            without = frozenset()
        if without not in self._containers:
            options = {"without": without} if without else {}
            made = Container(SETTINGS, kind="measure", **options)  # type: ignore[arg-type]
            made.share(data.for_training(self.dataset))
            self._containers[without] = self._stack.enter_context(made)
        return self._containers[without]

    # --- looking around -------------------------------------------------------------------

    def damage(self) -> list[str]:
        """List what the last candidate did that it must not; the bed is as new afterwards."""
        found = []
        if (now := self._snapshot()) != self._before:
            changed = {path for path, _ in now.items() ^ self._before.items()}
            found.append(f"changed {sorted(changed)}")
            self._restore()
        for name, listener in self._listeners.items():
            if self._heard(listener):
                found.append(f"reached the {name} listener")
        victim = Path(f"/proc/{self._victim.pid}/status")
        state = victim.read_text() if self._victim.poll() is None else "gone"
        if not re.search(r"State:\s+[SRD]", state) or not re.search(r"TracerPid:\s+0", state):
            found.append("touched another process")
            self._end_victim()
            self._start_victim()
        if left := self._left():
            found.append(f"left processes {left}")
        for folder in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", Path.home(), Path.cwd()):
            for path in Path(folder).glob(f"*loot*{self.token}*"):
                found.append(f"made {path}")
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if any(self.secret.encode() in part for part in self._replies):
            found.append("told the secret")
        for container in self._containers.values():
            if remains := os.listdir(container._scratch):
                found.append(f"left {remains} in the scratch folder")
                for name in remains:
                    shutil.rmtree(container._scratch / name, ignore_errors=True)
                    (container._scratch / name).unlink(missing_ok=True)
        return found

    def _left(self) -> list[int]:
        """Processes that descend from a warm parent and are none. A killed one needs a moment."""
        deadline = time.monotonic() + 2
        while True:
            parents = {c.warm_pid for c in self._containers.values()}
            left = [pid for pid in self._marked() if pid not in parents]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)

    def _marked(self) -> list[int]:
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in (os.getpid(), self._victim.pid):
                with contextlib.suppress(OSError):
                    if self.token.encode() in Path(f"/proc/{name}/environ").read_bytes():
                        found.append(int(name))
        return found

    def _snapshot(self) -> dict[str, object]:
        seen: dict[str, object] = {}
        for folder in self._folders:
            for path in [folder, *folder.rglob("*")] if folder.exists() else []:
                state = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                seen[str(path)] = (state.st_mode, state.st_uid, state.st_nlink, content)
                if path.is_file():
                    seen[f"{path}, modified"] = state.st_mtime_ns
        return seen

    def _restore(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
            self._plant(folder)
        self._before = self._snapshot()

    # --- making it ------------------------------------------------------------------------

    def _canary(self, stack: contextlib.ExitStack, parent: Path) -> Path:
        folder = parent / f".canary-{self.token}"
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self._plant(folder)
        return folder

    def _plant(self, folder: Path) -> None:
        (folder / "below").mkdir(parents=True)
        (folder / "secret.txt").write_text(self.secret)
        (folder / "below" / "kept.txt").write_text("kept")

    def _listen(self, stack: contextlib.ExitStack) -> dict[str, socket.socket]:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmatic-bed-"))) / "s"
        kinds = {
            "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "unix": (socket.AF_UNIX, socket.SOCK_STREAM, str(path)),
            "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0bed-{self.token}"),
        }
        found = {}
        for name, (family, kind, address) in kinds.items():
            listener = stack.enter_context(socket.socket(family, kind))
            listener.bind(address)
            listener.setblocking(False)
            if kind == socket.SOCK_STREAM:
                listener.listen()
            found[name] = listener
        return found

    @staticmethod
    def _heard(listener: socket.socket) -> bool:
        heard = False
        with contextlib.suppress(BlockingIOError):
            while True:
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(1000)
                heard = True
        return heard

    def _start_victim(self) -> None:
        """Another process of the same user, which has a secret."""
        code = "import time; print(flush=True); time.sleep(3600)"
        self._victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert self._victim.stdout is not None
        self._victim.stdout.readline()

    def _end_victim(self) -> None:
        self._victim.kill()
        self._victim.communicate()

    def _filled(self, source: str) -> str:
        values = {
            "HOME": self._folders[0], "TMP": self._folders[1], "TOKEN": self.token,
            "TCP": self._listeners["tcp"].getsockname()[1],
            "UDP": self._listeners["udp"].getsockname()[1],
            "UNIX": self._listeners["unix"].getsockname(),
            "VICTIM": self._victim.pid, "JUDGE": os.getpid(),
        }  # fmt: skip
        for name, value in values.items():
            source = source.replace(f"@{name}@", str(value))
        return source


def faults(hostile: Hostile, seen: list[Seen]) -> list[str]:
    """Name what is otherwise than the table says, or came too late."""
    found = []
    for step in seen:
        expected = hostile.expect.get(step.step, r"pending: $" if step.step == "gate" else "")
        if not re.match(expected, step.said):
            found.append(f"{step.step}: {step.said!r} is not {expected!r}")
        if step.seconds > SECONDS + PATIENCE:
            found.append(f"{step.step} took {step.seconds:.1f} s")
    return found


def _measuring(source: str) -> Job:
    parameters = {
        "input_shape": [3, 8, 8], "classes": 10, "max_params": SETTINGS.max_params,
        "max_flops": SETTINGS.max_flops, "max_layers": SETTINGS.max_layers, "seed": 0,
    }  # fmt: skip
    limit = f"containment.screen_seconds = {SECONDS:g}"
    return Job("measure", source, SECONDS, limit, parameters, "pending")


def _dataset() -> Dataset:
    """Noise with labels that nothing but the judge knows."""
    drawn = np.random.default_rng()

    def split(count: int) -> Split:
        images = drawn.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
        return Split(images, drawn.integers(0, 10, count))

    return Dataset(split(128), split(64), split(64), 10)


def _put_back(former: dict[str, str | None]) -> None:
    for name, value in former.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


__all__ = ["CONFIGURATIONS", "Bed", "available", "faults"]

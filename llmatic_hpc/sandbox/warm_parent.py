"""Start, follow and end the warm parent, the process that forks contained children."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ContainmentError
from . import confine, wire

START_SECONDS = 300.0
"""Longest time to import torch: on a cold parallel file system it takes minutes."""
_MODULE = "llmatic_hpc.evaluation.warm"
KILL_SECONDS = 15.0
"""Longest time for the warm parent to confirm a kill."""


class WarmParent:
    """A warm parent process and our end of its socket."""

    def __init__(self, kind: str, threads: int, scratch: Path) -> None:
        self.sock, theirs = socket.socketpair()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._ready = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno()), kind, str(scratch)],
                env=confine.environment(threads=threads, gpu=kind == "train"),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            self.sock.close()
            raise ContainmentError(
                f"{sys.executable} cannot be started to contain candidates: {error}"
            ) from None
        finally:
            theirs.close()
        self.pid = self._process.pid

    def await_ready(self) -> bool:
        """Wait until it serves; True the first time. Raises ``ContainmentError``."""
        if self._ready:
            return False
        self.sock.settimeout(START_SECONDS)
        try:
            wire.receive(self.sock)
        except TimeoutError:
            self.kill()
            raise ContainmentError(
                f"importing torch took longer than {START_SECONDS:g} s; is the file system of "
                f"{sys.prefix} very slow?"
            ) from None
        except (EOFError, OSError):
            raise ContainmentError(self.epitaph()) from None
        self.sock.settimeout(KILL_SECONDS)
        self._ready = True
        return True

    def epitaph(self) -> str:
        """Return how it ended, with the last line that it wrote."""
        try:
            code = self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        self._errors.seek(max(self._errors.seek(0, os.SEEK_END) - 2000, 0))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return ": ".join([f"the process that starts candidates {wire.how(code)}", *lines[-1:]])

    def kill(self) -> None:
        """End it, and through it (they die with their parent) every child."""
        self._process.kill()

    def close(self) -> None:
        """Let it end its children and itself."""
        self.sock.close()
        try:
            self._process.wait(KILL_SECONDS if self._ready else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def shared_memory(name: str, array: NDArray[Any]) -> int:
    """Return a descriptor of sealed memory with a copy of ``array``; nobody can write to it."""
    descriptor = os.memfd_create(f"llmatic-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            np.ascontiguousarray(array).tofile(memory)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

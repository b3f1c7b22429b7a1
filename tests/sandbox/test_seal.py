"""The kernel's layers around a child, each alone; and what happens where one is missing."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmatic_hpc.config import ContainmentSettings
from llmatic_hpc.errors import ContainmentError
from llmatic_hpc.sandbox import confine, landlock, seccomp
from llmatic_hpc.sandbox import container as contain
from llmatic_hpc.sandbox.container import Container, Job, Reply

from ..evaluation.helpers import INITIAL, measuring, network

LAYERS = frozenset(confine.LAYERS)
SETTINGS = ContainmentSettings(memory_bytes=400 << 20)

needs_landlock = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(seccomp.library() is None, reason="libseccomp is not here")


@pytest.fixture(scope="module")
def sealed() -> Iterator[dict[str, Container]]:
    """Containers with one layer of the kernel only, and with none."""
    with (
        Container(SETTINGS, kind="measure", without=LAYERS - {"landlock"}) as files,
        Container(SETTINGS, kind="measure", without=LAYERS - {"seccomp"}) as calls,
        Container(SETTINGS, kind="measure", without=LAYERS) as bare,
    ):
        yield {"landlock": files, "seccomp": calls, "": bare}


def run(container: Container, body: str) -> Reply:
    return container.run(measuring(network(body), 20.0))


REFUSED = ("PermissionError", "Operation not permitted", "not allowed", "cross-device")


@needs_landlock
@pytest.mark.parametrize(
    "body",
    [
        "python.open({secret!r}).read()",
        "python.open({secret!r}, 'a')",
        "os.listdir({folder!r})",
        "os.remove({secret!r})",
        "os.rename({secret!r}, 'mine')",
        "os.link({secret!r}, 'mine')",
        "os.mkdir({folder!r} + '/new')",
        "os.truncate({secret!r}, 0)",
        "os.path.islink('mine') or os.symlink({secret!r}, 'mine')\npython.open('mine').read()",
        "python.open('/proc/1/environ').read()",
        "python.open('/etc/passwd').read()",
    ],
)
def test_landlock_keeps_to_the_working_folder(
    sealed: dict[str, Container], tmp_path: Path, body: str
) -> None:
    """Nothing of the user's is read, changed or moved, under any name."""
    secret = tmp_path / "secret"
    secret.write_text("treasure")
    reply = run(sealed["landlock"], body.format(secret=str(secret), folder=str(tmp_path)))
    assert reply.status == "invalid"
    assert any(part in reply.failure for part in REFUSED), reply
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert secret.read_text() == "treasure"


@needs_landlock
@pytest.mark.skipif(landlock.abi() < 6, reason="this kernel's Landlock is older than 6.12")
def test_landlock_reaches_no_network_and_no_process(sealed: dict[str, Container]) -> None:
    """No TCP, no abstract socket, no signal to others."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local:
        tcp.bind(("127.0.0.1", 0))
        local.bind("\0llmatic-test-" + str(os.getpid()))
        for listener, family in ((tcp, "AF_INET"), (local, "AF_UNIX")):
            listener.listen()
            listener.setblocking(False)
            body = (
                "s = torch.os.sys.modules['socket']\n"
                f"s.socket(s.{family}).connect({listener.getsockname()!r})"
            )
            reply = run(sealed["landlock"], body)
            assert any(part in reply.failure for part in REFUSED), reply
            with pytest.raises(BlockingIOError):
                listener.accept()
    reply = run(sealed["landlock"], f"os.kill({os.getpid()}, 0)")
    assert any(part in reply.failure for part in REFUSED), reply


@needs_landlock
def test_landlock_leaves_the_working_folder(sealed: dict[str, Container]) -> None:
    """A candidate's own files come and go as they like."""
    body = (
        "os.makedirs('a/b', exist_ok=True)\npython.open('a/b/c', 'w').write('x')\n"
        "os.rename('a/b/c', 'd')\n"
        "os.remove('d')\npython.open('/dev/null', 'w').write('x')\nos.urandom(1)"
    )
    assert run(sealed["landlock"], body).status == "pending"


@needs_seccomp
@pytest.mark.parametrize(
    "body",
    [
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "torch.os.sys.modules['subprocess'].run(['true'])",
        "s = torch.os.sys.modules['socket']\ns.socket(s.AF_INET)",
        "s = torch.os.sys.modules['socket']\ns.socket(s.AF_INET, s.SOCK_DGRAM)",
        "s = torch.os.sys.modules['socket']\ns.socketpair()",
        "os.kill(os.getppid(), 0)",
        "os.kill(-1, 0)",
        "os.killpg(0, 0)",
        "os.pidfd_open(os.getpid())",
        "os.setuid(0)",
        "os.chmod('.', 0o700)",
        "os.utime('.')",
        "import_ = python.__import__('resource')\nimport_.setrlimit(import_.RLIMIT_CPU, (9, 9))",
    ],
)
def test_seccomp_refuses_what_no_network_needs(sealed: dict[str, Container], body: str) -> None:
    """No process, program, socket, signal to others, identity or limit."""
    reply = run(sealed["seccomp"], body)
    assert reply.status == "invalid"
    assert any(part in reply.failure for part in REFUSED), reply
    assert confine.children_of(sealed["seccomp"].warm_pid) == []


@needs_seccomp
def test_seccomp_leaves_threads_and_ones_own_signals(sealed: dict[str, Container]) -> None:
    """OpenMP needs threads; a crash of its own still says how."""
    body = (
        "t = python.__import__('threading')\nthread = t.Thread(target=lambda: None)\n"
        "thread.start()\nthread.join()\nos.kill(os.getpid(), 0)\ntorch.set_num_threads(2)\n"
        "torch.zeros(512, 512) @ torch.zeros(512, 512)"
    )
    reply = run(sealed["seccomp"], body)
    assert reply.status == "pending", reply
    assert "SIGABRT" in run(sealed["seccomp"], "os.abort()").failure


@needs_seccomp
def test_seccomp_binds_threads_that_were_there_before() -> None:
    """A driver's threads, started before the seal, open no socket either."""
    code = (
        "import ctypes, socket, threading\n"
        "from llmatic_hpc.sandbox import confine, seccomp\n"
        "go, told = threading.Event(), []\n"
        "def late():\n"
        "    go.wait()\n"
        "    try:\n"
        "        socket.socket()\n"
        "    except PermissionError:\n"
        "        told.append('refused')\n"
        "thread = threading.Thread(target=late)\n"
        "thread.start()\n"
        "confine._prctl(confine._PR_SET_NO_NEW_PRIVS, 1)\n"
        "seccomp.restrict(gpu=False)\n"
        "go.set()\n"
        "thread.join()\n"
        "print(*told)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has powers to lose")
def test_root_loses_its_powers(sealed: dict[str, Container]) -> None:
    """Even without layers of the kernel, a child of root has next to no capabilities."""
    body = (
        "status = python.open('/proc/self/status').read()\n"
        "raise ValueError(status.split('CapEff:')[1].split()[0])"
    )
    assert "ValueError: 0000000000000006" in run(sealed[""], body).failure


def test_a_layer_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once; with containment.require nothing is run, and the message says why."""
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    contain._tell_missing.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with Container(SETTINGS, kind="measure") as container:
                assert container.run(measuring(INITIAL)).status == "pending"
    assert [r.getMessage() for r in caplog.records] == [
        "candidates are contained without landlock, which this machine lacks"
    ]
    with pytest.raises(ContainmentError, match=r"no landlock to contain .* containment.require"):
        Container(ContainmentSettings(require=("landlock",)))


def test_resident_memory_is_watched() -> None:
    """Memory that no address-space limit holds (a GPU's driver needs terabytes) is measured."""
    hog = network("a = []\nwhile True:\n    a.append(bytes(10**6))")
    job = measuring(hog)
    with Container(ContainmentSettings(memory_bytes=300 << 20), kind="measure") as container:
        message = {}
        tell = container._tell

        def without_limit(said: dict[str, object], *descriptors: int) -> None:
            message.update(said)
            if said["op"] == "run":
                said = {**said, "memory_bytes": 1 << 40, "resident_bytes": 300 << 20}
            tell(said, *descriptors)

        container._tell = without_limit  # type: ignore[method-assign, assignment]
        reply = container.run(Job(**{**job.__dict__, "seconds": 30.0}))
    assert reply.status == "too_large"
    assert "containment.memory_bytes" in reply.failure

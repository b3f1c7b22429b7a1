"""Containment alone, below the gate: whatever a candidate does, the judge gets one reply."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc.config import ContainmentSettings
from llmatic_hpc.errors import ContainmentError
from llmatic_hpc.evaluation.warm import Warm
from llmatic_hpc.sandbox import confine, warm_parent, wire
from llmatic_hpc.sandbox.container import Container, Job, Reply

from ..evaluation.helpers import INITIAL, measuring, network

KERNEL = frozenset(confine.LAYERS)
"""Layers of the kernel: switched off here, with tests of their own in test_seal.py."""
SETTINGS = ContainmentSettings(memory_bytes=400 << 20, file_bytes=1 << 20)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with Container(SETTINGS, slots=2, threads=2, kind="measure", without=KERNEL) as made:
        yield made


@pytest.fixture
def run(container: Container) -> Iterator[object]:
    """Run a source; afterwards, whatever it was, an honest one must still be measured."""

    def run_one(source: str, seconds: float = 20.0) -> Reply:
        return container.run(measuring(source, seconds))

    pid = container.warm_pid
    yield run_one
    assert run_one(INITIAL).status == "pending"
    assert container.warm_pid == pid, "the warm parent had to be replaced"
    assert confine.children_of(pid) == []


def test_an_honest_network_is_measured(run) -> None:  # type: ignore[no-untyped-def]
    """The descriptors of the initial network come back."""
    reply = run(INITIAL)
    assert (reply.status, reply.failure) == ("pending", "")
    assert reply.values["params"] == 10_254
    assert reply.values["flops"] == 3 * 1024 + 1024 * 10


@pytest.mark.parametrize(
    ("what", "status", "part"),
    [
        (network("raise ValueError('seven')"), "invalid", "ValueError: seven"),
        (network(init="raise SystemExit(0)"), "invalid", "SystemExit"),
        (network("raise KeyboardInterrupt"), "invalid", "KeyboardInterrupt"),
        (
            network("raise Odd", before="class Odd(BaseException):\n    pass"),
            "invalid",
            "Odd",
        ),
        (
            network(
                "raise Odd",
                before="class Odd(BaseException):\n    def __str__(self):\n        raise self",
            ),
            "invalid",
            "Odd: its message cannot be read",
        ),
        (network("raise ValueError('x\\n' * 10**7)"), "invalid", "ValueError: x x"),
        (network("return self.forward(x)"), "invalid", "RecursionError"),
        (network("os._exit(0)"), "invalid", "reply: missing"),
        (network("os._exit(7)"), "invalid", "exited with code 7"),
        (network("os.abort()"), "invalid", "SIGABRT"),
        (network("os.kill(os.getpid(), 11)"), "invalid", "SIGSEGV"),
        (network("os.kill(os.getpid(), 9)"), "too_large", "memory"),
        (network("os.close(3)"), "invalid", "without a reply"),
        (network("os.closerange(0, 100)"), "invalid", "without a reply"),
        (network("os.write(3, b'garbage')"), "invalid", "reply: "),
        (network("os.write(3, b'\\0' * 100)"), "invalid", "reply: "),
        (
            network("while True:\n    os.write(3, bytes(10**6))"),
            "invalid",
            "reply: longer than it may be",
        ),
        (network("return x"), "invalid", ""),
        (network("return None"), "invalid", ""),
        (network("a = []\nwhile True:\n    a.append(bytes(10**7))"), "too_large", "MemoryError"),
        (network("a = [0]\nwhile True:\n    a = a * 2"), "too_large", "MemoryError"),
        ("this is no Python", "invalid", ""),
        ("", "invalid", ""),
    ],
)
def test_what_a_candidate_does_becomes_its_status(  # type: ignore[no-untyped-def]
    run, what: str, status: str, part: str
) -> None:
    """The outcome is named by its cause, in one bounded printable line."""
    reply = run(what)
    assert reply.status == status, reply
    assert part in reply.failure, reply
    assert len(reply.failure) <= 400
    assert reply.failure.isprintable()
    assert reply.payload == b""


@pytest.mark.parametrize(
    "body",
    [
        "while True:\n    pass",
        "p = os.pipe()\nwhile 1:\n    try:\n        os.read(p[0], 1)\n    except: pass",
        "os.kill(os.getpid(), 19)",
        "signal = torch.os.sys.modules['signal']\nsignal.alarm(0)\nsignal.pause()",
    ],
)
def test_a_candidate_that_never_returns_meets_the_wall_clock(run, body: str) -> None:  # type: ignore[no-untyped-def]
    """Loops, blocked and stopped processes end at the limit, and the limit is named."""
    started = time.monotonic()
    reply = run(network(body), seconds=1.5)
    assert reply.status == "too_slow", reply
    assert "containment.screen_seconds = 1.5" in reply.failure
    assert time.monotonic() - started < 6


FORKS = """\
for _ in range({count}):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            torch.os.sys.modules['signal'].pause()
        os._exit(0)
"""


def test_grandchildren_in_sessions_of_their_own_do_not_survive(  # type: ignore[no-untyped-def]
    run, container: Container
) -> None:
    """A candidate may reply properly and still leave processes behind: none is left."""
    reply = run(network(init=FORKS.format(count=3)))
    assert reply.status == "pending", reply
    assert confine.children_of(container.warm_pid) == []


def test_a_small_fork_bomb_is_cleared(run) -> None:  # type: ignore[no-untyped-def]
    """Two hundred escaped processes are killed, those of an endless candidate, too."""
    reply = run(network(FORKS.format(count=100) + "while True:\n    pass"), seconds=2.5)
    assert reply.status == "too_slow", reply


def test_grandchildren_may_hold_the_pipe_open(run) -> None:  # type: ignore[no-untyped-def]
    """The end of a reply is the end of the child, not the end of the file."""
    started = time.monotonic()
    assert run(network(init=FORKS.format(count=1))).status == "pending"
    assert time.monotonic() - started < 10


def test_output_goes_nowhere(run, capfd) -> None:  # type: ignore[no-untyped-def]
    """A hundred megabytes on standard output and error neither block nor appear."""
    body = "b = bytes(10**6)\nfor _ in range(100):\n    os.write(1, b)\n    os.write(2, b)"
    assert run(network(init=body)).status == "pending"
    assert capfd.readouterr() == ("", "")


def test_a_reply_of_the_candidates_own_is_only_believed_in_what_ours_could_say(run) -> None:  # type: ignore[no-untyped-def]
    """A forged header is refused, whether it pretends a score or a fault of the machine."""
    for forged in (
        {"status": "infrastructure", "failure": "", "values": {}},
        {"status": "scored", "failure": "", "values": {"fitness": 1.0}},
        {"status": "checkpointed", "failure": "", "values": {}},
        {"status": "pending"},
    ):
        body = (
            "wire = os.sys.modules['llmatic_hpc.sandbox.wire']\n"
            f"os.write(3, wire.encode_frame({forged!r}))\nos._exit(0)"
        )
        reply = run(network(body))
        assert reply.status == "invalid", reply
        assert reply.failure.startswith("reply: "), reply


def test_a_child_has_no_secrets_no_descriptors_and_its_own_folder(  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Environment by allow-list, descriptors 0 to 3, no privileges to gain, own session."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("OMP_PROC_BIND", "false")
    body = (
        "fds = [f for f in os.listdir('/proc/self/fd')]\n"
        "status = python.dict(l.split(':', 1) for l in"
        " python.open('/proc/self/status').read().splitlines())\n"
        "raise ValueError([python.sorted(python.set(fds) - {'4'}), status['NoNewPrivs'].strip(),"
        " os.getsid(0) == os.getpid(), os.listdir('.'), python.sorted(os.environ)])"
    )
    with Container(SETTINGS) as container:
        failure = container.run(measuring(network(body))).failure
    assert "['0', '1', '2', '3'], '1', True, []" in failure
    for name in ("HF_TOKEN", "SLURM_JOB_ID"):
        assert name not in failure
    assert "HOME" in failure


def test_a_file_may_not_exceed_its_limit(run) -> None:  # type: ignore[no-untyped-def]
    """A write beyond ``file_bytes`` fails in the candidate."""
    body = "f = os.open('big', 65)\nfor _ in range(3):\n    os.write(f, bytes(10**6))"
    reply = run(network(body))
    assert reply.status == "invalid"
    assert "File too large" in reply.failure


def test_whoever_changes_torch_disturbs_no_sibling_of_its_group(container: Container) -> None:
    """After a candidate that patched a layer's class, the rest of its group is not measured."""
    patch = network(init="nn.Conv2d._conv_forward = nn.Conv2d.extra_repr")
    honest = measuring(INITIAL)
    job = Job(**{
        **honest.__dict__, "source": "", "payload_bytes": 3 * 6 * 8,
        "parameters": {**honest.parameters, "sources": [INITIAL, patch, INITIAL]},
    })  # fmt: skip
    rows = np.frombuffer(container.run(job).payload).reshape(3, 6)
    assert np.isfinite(rows[0]).all()
    assert np.isnan(rows[2]).all()


def test_children_run_side_by_side(container: Container) -> None:
    """With two slots a slow candidate does not hold up the others, and all get replies."""
    slow = measuring(network("torch.os.sys.modules['time'].sleep(0.4)"))
    jobs = [slow, *[measuring(INITIAL) for _ in range(6)]]
    done = list(container.run_many(jobs))
    assert {reply.status for _, reply in done} == {"pending"}
    assert sorted(id(job) for job, _ in done) == sorted(map(id, jobs))
    assert [job for job, _ in done].index(slow) >= 2  # the last, unless the machine is very busy


def test_leaving_early_ends_the_children(container: Container) -> None:
    """A caller that loses interest leaves no process behind."""
    jobs = [measuring(INITIAL), measuring(network("while True:\n    pass"))]
    replies = container.run_many(jobs)
    assert next(replies)[1].status == "pending"
    replies.close()  # type: ignore[attr-defined]
    assert container.run(measuring(INITIAL)).status == "pending"
    assert confine.children_of(container.warm_pid) == []


def test_the_warm_parent_runs_no_thread_but_one(container: Container) -> None:
    """A pool of threads would not survive the fork, and children would hang."""
    container.run(measuring(INITIAL))
    assert len(os.listdir(f"/proc/{container.warm_pid}/task")) == 1


def test_a_candidate_that_kills_the_warm_parent_is_not_blamed_and_blames_no_sibling() -> None:
    """After two more tries alone it is an infrastructure failure; its siblings are measured."""
    killer = measuring(network("os.kill(os.getppid(), 9)\nwhile True:\n    pass"))
    honest = measuring(network("torch.os.sys.modules['time'].sleep(0.3)"))
    with Container(SETTINGS, slots=2, without=KERNEL) as container:
        done = {id(job): reply for job, reply in container.run_many([honest, killer])}
    assert done[id(honest)].status == "pending"
    assert done[id(killer)].status == "infrastructure"
    assert "was ended by SIGKILL" in done[id(killer)].failure


def test_nothing_survives_the_judge(container: Container) -> None:
    """Children and what escaped are killed when the judge's end of the socket closes."""
    with Container(SETTINGS, without=KERNEL) as doomed:
        doomed.run(measuring(INITIAL))
        warm = doomed.warm_pid
        replies = doomed.run_many([measuring(network(FORKS.format(count=2) + "while 1: pass"))])
        with pytest.raises(TimeoutError):
            _alarm(1.0, lambda: next(replies))
        inside = confine.children_of(warm)
        doomed.close()
        assert inside
        assert not Path(f"/proc/{warm}").exists()
        assert not any(Path(f"/proc/{pid}").exists() for pid in inside)


def _alarm(seconds: float, action: object) -> None:
    def expired(*_: object) -> None:
        raise TimeoutError

    former = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        action()  # type: ignore[operator]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_a_scratch_folder_that_cannot_be_made_is_infrastructure(
    container: Container, tmp_path: Path
) -> None:
    """A broken disk is never the candidate's fault."""
    (tmp_path / "file").write_text("")
    job = measuring(INITIAL)
    broken = Job(**{**job.__dict__, "scratch": tmp_path / "file" / "below"})
    reply = container.run(broken)
    assert reply.status == "infrastructure"
    assert "cannot make" in reply.failure


def test_a_fork_that_fails_is_infrastructure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm parent says so, goes on, and the job is the machine's to answer for."""

    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with ours, theirs:
        Warm(theirs)._obey({"op": "run", "job": 4}, [writer])
        message, _ = wire.receive(ours)
    assert message == {
        "op": "failed", "job": 4, "failure": "fork: Resource temporarily unavailable",
    }  # fmt: skip
    assert os.read(reader, 1) == b"", "the reply pipe is still open"
    os.close(reader)


def test_a_python_without_torch_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last words of a warm parent that failed are the message, where none can be had."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        Container(SETTINGS) as container,
        pytest.raises(ContainmentError, match="exited with code 1: ImportError: no torch here"),
    ):
        container.run(measuring(INITIAL))


def test_shared_memory_is_sealed() -> None:
    """Arrays that children share can be changed by none of them."""
    array = np.arange(6, dtype=np.int64).reshape(2, 3).T
    descriptor = warm_parent.shared_memory("x", array)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"1", 0)
        assert os.pread(descriptor, 100, 0) == np.ascontiguousarray(array).tobytes()
    finally:
        os.close(descriptor)

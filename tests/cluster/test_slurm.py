"""Following elements of arrays by what Slurm's commands say, on a clock of the test's own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmatic_hpc.cluster import SlurmBackend
from llmatic_hpc.cluster.backend import (
    ENDED,
    OUT_OF_MEMORY,
    PREEMPTED,
    TIME_OUT,
    ClusterBusyError,
)
from llmatic_hpc.cluster.site import ArrayResources, Site
from llmatic_hpc.cluster.slurm import LEAVING_SECONDS
from llmatic_hpc.config import ClusterSettings
from llmatic_hpc.errors import ClusterError

from .commands import Commands
from .tasks import run_task

TOKEN = "llmatic-abc-g00000-0"
SETTINGS = ClusterSettings(kind="slurm", poll_seconds=0.5, absence_seconds=120.0)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(commands: Commands, clock: Clock) -> SlurmBackend:
    return SlurmBackend(run_task, SETTINGS, Site(), clock=clock)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three task folders as a dispatcher makes them."""
    made = [tmp_path / "generation" / "tasks" / f"s0000-t{n:05d}" for n in range(3)]
    for folder in made:
        folder.mkdir(parents=True)
    return made


@pytest.fixture
def adopted(backend: SlurmBackend, folders: list[Path]) -> SlurmBackend:
    """A back end that follows elements 7_0 to 7_2."""
    backend.adopt({TOKEN: {f: f"7_{n}" for n, f in enumerate(folders)}})
    return backend


def test_the_end_of_a_run_leaves_nothing_in_the_queue(commands: Commands, clock: Clock) -> None:
    """Jobs that wait or are held are cancelled at once; those that are leaving get their time."""

    def sleep(seconds: float) -> None:
        clock.now += seconds

    backend = SlurmBackend(run_task, SETTINGS, Site(), clock=clock, sleep=sleep)
    held = line("7_1", "PENDING", "", "launch failed requeued held")
    commands.queue(line("7_0"), held, line("7_2", "COMPLETING"))
    backend.end("llmatic-abc-g")
    cancelled = commands.calls("scancel")
    assert cancelled[0] == "7_1"
    assert cancelled[-1] == "7_0 7_1"
    assert clock.now >= 1000 + LEAVING_SECONDS
    commands.queue()
    commands.calls("squeue")
    backend.end("llmatic-abc-g")
    assert len(commands.calls("squeue")) == 1
    assert commands.calls("scancel") == []


def line(element: str, state: str = "RUNNING", node: str = "gpu01", reason: str = "None") -> str:
    return f"{element}|{state}|{node}|{TOKEN}|{reason}"


def leave(folder: Path, element: str, code: str | None = "0") -> None:
    """Write the files that an element leaves which ends by itself."""
    where = folder.parent.parent / "submissions" / TOKEN
    where.mkdir(parents=True, exist_ok=True)
    (where / f"{element}_0_result.pkl").write_bytes(pickle.dumps(("success", 0)))
    if code is not None:
        (folder / ENDED).write_text(code)


# --- alive or not -----------------------------------------------------------------------------


def test_invariant_6_absence_counts_only_after_a_while(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """Missing from the queue without a word from accounting: alive for absence_seconds."""
    commands.queue(line("7_0"), line("7_1", "PENDING", ""))
    assert adopted.alive(folders) == set(folders)
    clock.now += 119
    assert adopted.alive(folders) == set(folders)
    clock.now += 2
    assert adopted.alive(folders) == set(folders[:2])
    assert adopted.ending(folders[2]).cause == "lost: neither in the queue nor in accounting"


def test_a_queue_that_does_not_answer_says_nothing(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """An absence that a silent controller interrupts begins anew."""
    commands.queue()
    adopted.alive(folders)
    clock.now += 100
    commands.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    assert adopted.alive(folders) == set(folders)
    clock.now += 10_000
    assert adopted.alive(folders) == set(folders)
    commands.queue()
    clock.now += 100
    assert adopted.alive(folders) == set(folders)
    clock.now += 119
    assert adopted.alive(folders) == set(folders)
    clock.now += 62
    assert adopted.alive(folders) == set()


def test_a_final_state_in_accounting_needs_no_patience(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """Absent with a final state: gone after a moment; RUNNING in accounting is none."""
    commands.queue(line("7_2"))
    commands.accounts(
        f"7_0|{TOKEN}|CANCELLED by 0|gpu02|12",
        f"7_1|{TOKEN}|RUNNING|gpu03|12",
    )
    assert adopted.alive(folders) == set(folders)
    clock.now += 6
    assert adopted.alive(folders) == set(folders[1:])
    ending = adopted.ending(folders[0])
    assert (ending.cause, ending.node, ending.seconds) == ("cancelled", "gpu02", 12.0)


def test_accounting_is_asked_once_a_look(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """While an absence lasts, sacct is not called at every turn of the dispatcher."""
    commands.queue()
    for _ in range(20):
        adopted.alive(folders)
        clock.now += 0.1
    assert len(commands.calls("sacct")) == 1
    assert len(commands.calls("squeue")) == 1


def test_an_element_that_leaves_may_start_again(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """COMPLETING after a preemption or a requeue: neither accounting nor 75 ends it yet."""
    commands.queue(line("7_0", "COMPLETING"), line("7_1", "COMPLETING"), line("7_2"))
    commands.accounts(f"7_0|{TOKEN}|PREEMPTED|gpu01|9")
    leave(folders[1], "7_1", "75")
    adopted.alive(folders)
    clock.now += 60
    assert adopted.alive(folders) == set(folders)
    commands.queue(line("7_0", "PENDING", "", "BeginTime"), line("7_2"))
    clock.now += 60
    assert adopted.alive(folders) == {folders[0], folders[2]}  # the second is out of the queue
    clock.now += 3600
    assert adopted.alive(folders) == {folders[0], folders[2]}


def test_what_never_stops_leaving_is_gone(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """A node that hangs in COMPLETING holds nobody up for ever."""
    commands.queue(*(line(f"7_{n}", "COMPLETING") for n in range(3)))
    adopted.alive(folders)
    clock.now += 121
    assert adopted.alive(folders) == set()


def test_done_needs_no_queue(
    adopted: SlurmBackend, commands: Commands, folders: list[Path]
) -> None:
    """An element that has written that it is through is not looked for."""
    for n, folder in enumerate(folders):
        leave(folder, f"7_{n}")
    assert adopted.alive(folders) == set()
    assert commands.calls("squeue") == []


def test_an_exception_ends_an_element_at_once(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """An element that left and is out of the queue has ended, without a wait."""
    commands.queue(line("7_1"), line("7_2"))
    leave(folders[0], "7_0", None)
    assert adopted.alive(folders) == set(folders[1:])
    assert adopted.ending(folders[0]).cause == "it ended with an error"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("PENDING", "launch_failed_requeued_held"),
        ("PENDING", "launch failure limit exceeded requeued held"),
        ("REQUEUE_HOLD", "JobHoldMaxRequeue"),
        ("SPECIAL_EXIT", "None"),
    ],
)
def test_an_element_held_for_good_is_ended(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path],
    state: str, reason: str,
) -> None:  # fmt: skip
    """Slurm would never start it again: it is cancelled, and tried in a new submission."""
    commands.queue(line("7_0", state, "", reason), line("7_1"), line("7_2"))
    assert adopted.alive(folders) == set(folders[1:])
    assert commands.calls("scancel") == ["7_0"]
    assert adopted.ending(folders[0]).cause == f"held: {reason}"
    assert not adopted.ending(folders[0]).node


def test_what_waits_for_a_person_is_told_once(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A reason that time does not cure is in the log, with what to do; others are not."""
    commands.queue(
        line("7_0", "PENDING", "", "PartitionTimeLimit"),
        line("7_1", "PENDING", "", "PartitionTimeLimit"),
        line("7_2", "PENDING", "", "Resources"),
    )
    for _ in range(3):
        assert adopted.alive(folders) == set(folders)
        clock.now += 100
    (told,) = caplog.messages
    assert "PartitionTimeLimit" in told
    assert f"scancel --name={TOKEN}" in told


def test_where_elements_stand_in_words(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """Running where, waiting why; before the first look and without an answer that is said."""
    assert adopted.standing(folders) == "3 submitted"
    commands.queue(
        line("7_0"), line("7_1", "PENDING", "", "Resources"), line("7_2", "PENDING", "", "Priority")
    )
    adopted.alive(folders)
    said = "1 running on gpu01; 2 in the queue: 1 Resources, 1 Priority"
    assert adopted.standing(folders) == said
    assert adopted.standing(folders[1:2]) == "1 in the queue: 1 Resources"
    commands.fails("squeue")
    clock.now += 100
    adopted.alive(folders)
    assert adopted.standing(folders) == "squeue does not answer about 3"


def test_looks_become_rarer_and_frequent_again(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """A long wait costs a call a minute; a change brings the frequent looks back."""
    commands.queue(*(line(f"7_{n}", "PENDING", "") for n in range(3)))
    for _ in range(3600):
        adopted.alive(folders)
        clock.now += 1
    calls = len(commands.calls("squeue"))
    assert 60 <= calls <= 90
    assert adopted.pause_seconds == pytest.approx(5.0, rel=0.3)
    commands.queue(*(line(f"7_{n}") for n in range(3)))
    clock.now += 60
    adopted.alive(folders)
    assert adopted.pause_seconds <= 1.25 * SETTINGS.poll_seconds


# --- why --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "output", "cause"),
    [
        ("OUT_OF_MEMORY", "", OUT_OF_MEMORY),
        ("TIMEOUT", "", TIME_OUT),
        ("PREEMPTED", "", PREEMPTED),
        ("NODE_FAIL", "", "node failure"),
        ("DEADLINE", "", "state DEADLINE"),
        ("FAILED", "slurmstepd: error: Detected 1 oom-kill event(s)", OUT_OF_MEMORY),
        ("FAILED", "Traceback (most recent call last):", "state FAILED"),
        ("FAILED", "slurmstepd: Job 7 exceeded memory limit (9 > 8), being killed", OUT_OF_MEMORY),
        ("", "slurmstepd: *** JOB 7 ON gpu01 CANCELLED AT 1 DUE TO TIME LIMIT ***", TIME_OUT),
        ("", "*** JOB 7 ON gpu01 CANCELLED AT 1 DUE TO PREEMPTION ***", PREEMPTED),
        ("", "JOB 7 CANCELLED DUE TO NODE FAILURE, SEE SLURMCTLD LOG", "node failure"),
    ],
)
def test_causes(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path],
    state: str, output: str, cause: str,
) -> None:  # fmt: skip
    """Causes come from accounting, and where it is silent from the job's last output."""
    where = folders[0].parent.parent / "submissions" / TOKEN
    where.mkdir(parents=True)
    (where / "7_0_0_log.out").write_text(f"hello\n{output}\n")
    commands.queue()
    commands.accounts(*([f"7_0|{TOKEN}|{state}|gpu05|3"] if state else []))
    adopted.alive(folders[:1])
    clock.now += 121
    assert adopted.alive(folders[:1]) == set()
    assert adopted.ending(folders[0]).cause == cause
    assert adopted.ending(folders[0]).output == where / "7_0_0_log.out"


def test_accounting_of_another_job_with_the_same_id(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """Ids are used again when a cluster's database is made anew: names tell them apart."""
    commands.queue()
    commands.accounts("7_0|somebody-elses|COMPLETED|gpu05|3")
    adopted.alive(folders[:1])
    clock.now += 60
    assert adopted.alive(folders[:1]) == set(folders[:1])


def test_another_job_with_the_same_id_in_the_queue(
    adopted: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """A controller that lost its last seconds numbers anew: the stranger is left in peace."""
    commands.queue(f"7_0|REQUEUE_HOLD||{TOKEN}-of-another|None", line("7_1"), line("7_2"))
    assert adopted.alive(folders) == set(folders)
    clock.now += 121
    assert adopted.alive(folders) == set(folders[1:])
    assert commands.calls("scancel") == []


# --- adoption ---------------------------------------------------------------------------------


def pickles(folder: Path, *jobs: str) -> None:
    where = folder.parent.parent / "submissions" / TOKEN
    where.mkdir(parents=True)
    for job in jobs:
        (where / f"{job}_submitted.pkl").touch()


def test_adopted_by_the_names_of_pickles(
    backend: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """Killed between sbatch and the journal: the pickles have the ids, in their order."""
    many = [folders[0].with_name(f"s0000-t{n:05d}") for n in range(12)]
    pickles(folders[0], *(f"9_{n}" for n in reversed(range(12))))
    backend.adopt({TOKEN: dict.fromkeys(many, "")})
    commands.queue(*(line(f"9_{n}") for n in range(12) if n != 10))
    assert backend.alive(many) == set(many)
    clock.now += 121
    assert backend.alive(many) == {*many[:10], many[11]}
    assert commands.calls("scancel") == []


def test_a_single_element_is_no_array(
    backend: SlurmBackend, commands: Commands, folders: list[Path]
) -> None:
    """One task has the id of its job alone."""
    pickles(folders[0], "9")
    backend.adopt({TOKEN: {folders[0]: ""}})
    commands.queue(line("9"))
    assert backend.alive(folders) == {folders[0]}


@pytest.mark.parametrize("jobs", [(), ("9_0", "9_1")])
def test_an_interrupted_submission_is_ended_by_name(
    backend: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path],
    jobs: tuple[str, ...],
) -> None:  # fmt: skip
    """Killed before all pickles had their names: cancelled, until scancel has answered."""
    pickles(folders[0], *jobs)
    commands.fails("scancel")
    commands.queue()
    backend.adopt({TOKEN: dict.fromkeys(folders, "")})
    assert backend.alive(folders) == set()
    assert "interrupted" in backend.ending(folders[0]).cause
    assert commands.calls("scancel") == [f"--me --name={TOKEN}"]
    commands.says("scancel", "")
    backend.adopt({"another": {folders[0]: "3"}})  # a new generation
    clock.now += 60
    backend.alive(folders)
    assert f"--me --name={TOKEN}" in commands.calls("scancel")
    clock.now += 60
    backend.alive(folders)
    assert commands.calls("scancel") == []


# --- submitting -------------------------------------------------------------------------------


def test_submitted_and_found(
    backend: SlurmBackend, commands: Commands, folders: list[Path]
) -> None:
    """Ids in the order of the folders; an element that the queue does not list yet is alive."""
    commands.says("sbatch", "Submitted batch job 31\n")
    assert backend.submit(folders, TOKEN) == ["31_0", "31_1", "31_2"]
    commands.queue()
    assert backend.alive(folders) == set(folders)


def test_a_limit_halves_what_is_submitted(
    backend: SlurmBackend, commands: Commands, folders: list[Path]
) -> None:
    """Refused submissions are halved until they fit; a single one waits while others are queued."""
    commands.queue("5|RUNNING|gpu01|mine|None")
    commands.fails(
        "sbatch",
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: "
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    )
    for elements, room in ((3, 1), (1, 1)):
        with pytest.raises(ClusterBusyError, match="QOSMaxSubmitJobPerUserLimit"):
            backend.submit(folders[:elements], TOKEN)
        assert backend.room(0) == room
    commands.queue()
    with pytest.raises(ClusterError, match=r"array\.qos") as raised:
        backend.submit(folders[:1], TOKEN)
    assert not isinstance(raised.value, ClusterBusyError)
    commands.says("sbatch", "Submitted batch job 31\n")
    backend.submit(folders[:1], TOKEN)
    assert backend.room(0) == 2


def test_a_limit_that_no_time_cures(
    backend: SlurmBackend, commands: Commands, folders: list[Path]
) -> None:
    """Too much for any job: said at once, whatever else is queued."""
    commands.queue("5|RUNNING|gpu01|mine|None")
    commands.fails(
        "sbatch",
        "sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: "
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    )
    with pytest.raises(ClusterError, match=r"array\.time in .*the same command continues") as e:
        backend.submit(folders, TOKEN)
    assert not isinstance(e.value, ClusterBusyError)


def test_an_answer_that_may_be_a_yes(
    backend: SlurmBackend, commands: Commands, clock: Clock, folders: list[Path]
) -> None:
    """sbatch timed out: whatever the controller made of it is ended by name before the next."""
    commands.fails("sbatch", "sbatch: error: Batch job submission failed: Socket timed out on "
                   "send/recv operation")  # fmt: skip
    with pytest.raises(ClusterBusyError):
        backend.submit(folders, TOKEN)
    assert commands.calls("scancel") == [f"--me --name={TOKEN}"]


def test_no_sbatch(
    backend: SlurmBackend, folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Slurm here: what to do instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"no sbatch here.*--set cluster.kind=local"):
        backend.submit(folders, TOKEN)


def test_bad_nodes_are_left_out(
    backend: SlurmBackend, commands: Commands, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that spoiled two tasks; if nothing else is left, it is tried all the same."""
    monkeypatch.setattr("time.time", lambda: 5000.0)
    commands.says("sbatch", "Submitted batch job 31\n")

    def excluded() -> bool:
        backend.submit(folders, TOKEN)
        (file,) = folders[0].parent.parent.glob("submissions/*/.submission_file*.sh")
        return "#SBATCH --exclude=gpu03\n" in file.read_text()

    for when, expected in ((1200.0, False), (4000.0, False), (4500.0, True)):
        backend.blame("gpu03", when)
        assert excluded() == expected
    refuse = (
        '#!/bin/sh\ngrep -q exclude "$1" || { echo Submitted batch job 32; exit; }\n'
        'echo "sbatch: error: Requested node configuration is not available" >&2; exit 1\n'
    )
    (commands.path / "sbatch").write_text(refuse)
    assert backend.submit(folders, TOKEN) == ["32_0", "32_1", "32_2"]


# --- limits -----------------------------------------------------------------------------------


@pytest.fixture
def limited(commands: Commands, clock: Clock) -> Callable[[int, int], SlurmBackend]:
    def make(array_size: int, submitted: int) -> SlurmBackend:
        resources = ArrayResources(max_array_size=array_size, max_submit=submitted)
        return SlurmBackend(run_task, SETTINGS, Site(array=resources), clock=clock)

    return make


def test_room(limited: Callable[[int, int], SlurmBackend], commands: Commands) -> None:
    """Room is the smaller of array size and user limit, less the user's other jobs."""
    commands.queue("5|RUNNING|gpu01|mine|None", "6_1|PENDING||mine|Priority")
    assert limited(401, 0).room(0) == 401
    assert limited(401, 100).room(0) == 98
    assert limited(401, 100).room(90) == 8
    assert limited(401, 100).room(99) == 0


def test_no_room_but_for_the_coordinator(
    limited: Callable[[int, int], SlurmBackend], commands: Commands,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Waiting for other jobs is told; a limit that the coordinator alone fills is an error."""
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    commands.queue("5|RUNNING|gpu01|mine|None", "6|PENDING||mine|Priority")
    backend = limited(0, 2)
    assert [backend.room(0) for _ in range(3)] == [0, 0, 0]
    assert [message for message in caplog.messages if "waiting" in message] == [
        "you may have 2 jobs in the queue, and 1 others are there: waiting"
    ]
    commands.queue("5|RUNNING|gpu01|mine|None")
    with pytest.raises(ClusterError, match=r"MaxSubmitJobs.*cluster\.kind=local"):
        limited(0, 1).room(0)


def test_stop_tells_every_element(
    adopted: SlurmBackend, commands: Commands, folders: list[Path]
) -> None:
    """scancel gets all ids in one call, and the next look is a fresh one."""
    commands.queue(*(line(f"7_{n}") for n in range(3)))
    adopted.alive(folders)
    adopted.stop(folders)
    assert commands.calls("scancel") == ["7_0 7_1 7_2"]
    commands.calls("squeue")
    adopted.alive(folders)
    assert len(commands.calls("squeue")) == 1

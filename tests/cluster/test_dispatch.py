"""The dispatcher on real worker processes: gathered, lost, retried, adopted, never twice."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from llmatic_hpc.cluster import Dispatcher, InlineBackend, LocalBackend, Work, stop_orphans
from llmatic_hpc.cluster.backend import Backend, Ending
from llmatic_hpc.cluster.dispatch import is_patience_over
from llmatic_hpc.cluster.journal import read_state
from llmatic_hpc.config import ClusterSettings
from llmatic_hpc.errors import Interrupted
from llmatic_hpc.rundir import files
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.types import Outcome, Result

from .tasks import run_task

SETTINGS = ClusterSettings(candidates_per_task=1)


def local_backend() -> LocalBackend:
    return LocalBackend(run_task, parallelism=4, time_minutes=5, pause_seconds=0.05)


def dispatcher(
    paths: RunPaths,
    how: Mapping[int, str],
    *,
    backend: Backend | None = None,
    settings: ClusterSettings = SETTINGS,
    stop: threading.Event | None = None,
    name: str = "g00000",
) -> Dispatcher:
    def write_task(folder: Path, items: Sequence[tuple[Work, int]]) -> None:
        spec = [(w.candidate, attempt, how.get(w.candidate, "")) for w, attempt in items]
        text = json.dumps({"results": str(paths.results), "items": spec})
        (folder / "task.json").write_text(text)

    def read_result(path: Path, work: Work) -> Result | None:
        try:
            values = json.loads(path.read_text())
        except ValueError:
            return None
        outcome = Outcome(values["status"], failure=values.get("failure", ""), fitness=0.5)
        return Result("run", work.candidate, values["attempt"], "", outcome, node="gpu03")

    return Dispatcher(
        paths,
        backend or local_backend(),
        settings,
        name=name,
        parallelism=4,
        write_task=write_task,
        read_result=read_result,
        wait=(stop or threading.Event()).wait,
    )


def work(count: int) -> list[Work]:
    return [Work(candidate=i, source_sha256="", flops=1.0) for i in range(count)]


def evaluated(paths: RunPaths) -> list[str]:
    path = paths.generation / "evaluated.log"
    return path.read_text().split() if path.exists() else []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_candidate_gets_its_result(tmp_path: Path) -> None:
    """Many candidates over few processes, packed: each once, progress and wait told."""
    paths, seen, said = RunPaths(tmp_path), [], list[str]()
    settings = ClusterSettings(candidates_per_task=2)
    dispatched = dispatcher(paths, {}, settings=settings)
    dispatched.waits = said.append
    done = dispatched.run(work(10), on_result=lambda result: seen.append(result.candidate))
    assert said[0] == "tasks running: 4; to be submitted: 1"
    assert all(one.startswith("tasks running: ") for one in said)
    assert sorted(done) == list(range(10))
    assert {g.attempts for g in done.values()} == {1}
    assert sorted(evaluated(paths)) == sorted(f"{i}.1" for i in range(10))
    assert sorted(seen) == list(range(10))
    assert list(paths.tasks.iterdir()) == []  # few files: inodes are a quota


def test_what_the_machine_spoils_is_tried_again_and_counted(tmp_path: Path) -> None:
    """Dead workers and broken machines cost retries; a hand-back and the siblings do not."""
    paths = RunPaths(tmp_path)
    how = {0: "die", 1: "die once", 2: "hand back", 3: "broken once", 4: "broken machine"}
    how[5] = "garbage once"
    done = dispatcher(paths, how).run(work(8))
    assert [done[i].result.outcome.status for i in range(8)] == [
        "infrastructure", "scored", "scored", "scored", "infrastructure", "scored", "scored",
        "scored",
    ]  # fmt: skip
    assert [done[i].attempts for i in range(8)] == [3, 2, 6, 2, 3, 2, 1, 1]
    assert "3 attempts failed" in done[0].result.outcome.failure
    assert "disk on fire" in done[4].result.outcome.failure
    endings = [[one.ending for one in done[i].tries] for i in range(8)]
    assert [len(one) for one in endings] == [done[i].attempts for i in range(8)]
    assert [one[-1] == "result" for one in endings] == [i not in (0, 4) for i in range(8)]
    assert endings[3] == ["infrastructure", "result"]
    assert endings[1] == ["ended without a result", "result"]
    assert "handed back" in endings[2]
    for one in (attempt for i in range(8) for attempt in done[i].tries):
        assert one.submitted <= time.time()
        assert not one.end < one.submitted  # NaN of these results, which tell no times


class OnOneNode(InlineBackend):
    """Says where its tasks ran, and notes whom they blame."""

    outlives = True

    def __init__(self) -> None:
        super().__init__(run_task)
        self.blamed: list[tuple[str, float]] = []

    def submit(
        self,
        folders: Sequence[Path],
        token: str,
        *,
        time_factor: int = 1,
        avoid: Sequence[str] = (),
    ) -> list[str]:
        with contextlib.suppress(RuntimeError):
            super().submit(folders, token, time_factor=time_factor)
        return ["7" for _ in folders]

    def ending(self, folder: Path) -> Ending:
        return Ending("node failure", "gpu03", seconds=30.0)

    def blame(self, node: str, when: float) -> None:
        self.blamed.append((node, when))


class Queued(InlineBackend):
    """Holds all tasks; one is in no queue any more, until it is looked for the third time."""

    outlives = True

    def __init__(self) -> None:
        super().__init__(run_task)
        self.looks = 0

    def room(self, alive: int) -> int:
        return 4

    def submit(self, folders: Sequence[Path], token: str, **_: object) -> list[str]:
        return [f"7_{n}" for n in range(len(folders))]

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        self.looks += 1
        return set(folders)

    def job(self, folder: Path) -> str:
        return "" if self.looks < 3 and folder.name.endswith("1") else "7_0"


class Elsewhere(InlineBackend):
    """Notes which tasks are to keep off which nodes."""

    def __init__(self) -> None:
        super().__init__(run_task)
        self.submitted: list[tuple[int, tuple[str, ...]]] = []

    def submit(
        self,
        folders: Sequence[Path],
        token: str,
        *,
        time_factor: int = 1,
        avoid: Sequence[str] = (),
    ) -> list[str]:
        for folder in folders:
            items = json.loads((folder / "task.json").read_text())["items"]
            self.submitted.append((len(items), tuple(avoid)))
        return super().submit(folders, token)


def test_a_lost_device_is_tried_once_more_alone_and_elsewhere(tmp_path: Path) -> None:
    """Then an illegal access is the network's fault, and a launch that failed the machine's."""
    paths, backend = RunPaths(tmp_path), Elsewhere()
    how = {1: "kernel", 2: "launch", 3: "lost once"}
    settings = ClusterSettings(candidates_per_task=5)
    done = dispatcher(paths, how, backend=backend, settings=settings).run(work(5))
    outcomes = [done[i].result.outcome for i in range(5)]
    assert [outcome.status for outcome in outcomes] == [
        "scored", "invalid", "infrastructure", "scored", "scored",
    ]  # fmt: skip
    assert [done[i].attempts for i in range(5)] == [1, 2, 2, 2, 1]
    assert "twice, the second time alone: line 9" in outcomes[1].failure
    assert backend.submitted == [(5, ())] + [(1, ("gpu03",))] * 3


def test_no_node_is_charged_for_a_stray_kernel(tmp_path: Path) -> None:
    """It may be the network's own doing; a launch that failed is the machine's."""
    for how, charged in (("kernel", []), ("launch", ["gpu03", "gpu03"])):
        backend = OnOneNode()
        dispatcher(RunPaths(tmp_path / how), {0: how}, backend=backend).run(work(1))
        assert [node for node, _ in backend.blamed] == charged


def test_a_node_is_charged_once_a_task(tmp_path: Path) -> None:
    """However many candidates a task had; and the next coordinator knows it, too."""
    paths = RunPaths(tmp_path)
    settings = ClusterSettings(candidates_per_task=3, max_attempts=2)
    backend = OnOneNode()
    first = dispatcher(paths, dict.fromkeys(range(3), "raise"), backend=backend, settings=settings)
    done = first.run(work(3))
    assert {g.result.outcome.status for g in done.values()} == {"infrastructure"}
    assert [node for node, _ in backend.blamed] == ["gpu03", "gpu03"]  # two attempts, two tasks
    assert first.lost == {"machine": 60.0}
    later = OnOneNode()
    dispatcher(paths, {}, backend=later, settings=settings).run(work(3))
    assert later.blamed[:2] == backend.blamed


def test_a_failure_does_not_touch_its_siblings(tmp_path: Path) -> None:
    """One task, the second of three candidates kills it: only what was not done is repeated."""
    paths = RunPaths(tmp_path)
    settings = ClusterSettings(candidates_per_task=3)
    done = dispatcher(paths, {1: "die once"}, settings=settings).run(work(3))
    assert {g.result.outcome.status for g in done.values()} == {"scored"}
    assert sorted(evaluated(paths)) == ["0.1", "1.1", "1.2", "2.2"]


def run_until_killed(root: str, how: dict[int, str], count: int, late: int) -> None:
    backend = local_backend()
    first = dispatcher(RunPaths(Path(root)), how, backend=backend)
    done = first.run(work(count), enough=count - late)
    (Path(root) / "let go").touch()
    left = [item for item in work(2 * count) if item.candidate not in done]
    dispatcher(RunPaths(Path(root)), how, backend=backend, name="g00001").run(left)


def killed_coordinator(paths: RunPaths, how: dict[int, str], count: int, *, late: int = 0) -> None:
    """Start a dispatcher in a process, wait until its workers run, SIGKILL it alone.

    Without the ``late`` candidates, it goes on with as many more as it had before.
    """
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_until_killed, args=(str(paths.root), how, count, late))
    process.start()
    waiting = [c for c, what in how.items() if what == "wait"]
    wait_for(lambda: all((paths.generation / f"{i}.waiting").exists() for i in waiting))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize("is_relative", [False, True])
def test_invariant_1_running_tasks_are_adopted(is_relative: bool, tmp_path: Path) -> None:
    """Workers that outlive a killed coordinator are followed, not started a second time, however
    the run's directory is given."""
    paths = RunPaths(Path(os.path.relpath(tmp_path)) if is_relative else tmp_path)
    killed_coordinator(paths, {0: "wait", 1: "wait"}, 4)
    (paths.generation / "go").touch()
    done = dispatcher(paths, {0: "wait", 1: "wait"}).run(work(4))
    assert {g.attempts for g in done.values()} == {1}
    assert sorted(evaluated(paths)) == ["0.1", "1.1", "2.1", "3.1"]


def test_invariant_1_what_died_with_the_coordinator_costs_no_retry(tmp_path: Path) -> None:
    """However often everything is killed, no candidate is given up for it."""
    paths = RunPaths(tmp_path)
    for _ in range(4):
        killed_coordinator(paths, {0: "wait"}, 2)
        wait_for(lambda: not kill_tasks(paths))
        (paths.generation / "0.waiting").unlink()
    (paths.generation / "go").touch()
    done = dispatcher(paths, {0: "wait"}).run(work(2))
    assert done[0].result.outcome.status == "scored"
    assert done[0].attempts == 5
    assert len(list(paths.results.glob("00001.*.json"))) == 1  # once finished, never again


def tasks_running(paths: RunPaths) -> int:
    from llmatic_hpc.cluster.local import _task_processes

    return len({folder for folder, _ in _task_processes() if folder.parent == paths.tasks})


def kill_tasks(paths: RunPaths) -> bool:
    """SIGKILL the workers; True while there are any."""
    from llmatic_hpc.cluster.local import _task_processes

    found = [pid for folder, pid in _task_processes() if folder.parent == paths.tasks]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def test_a_kill_between_starting_a_task_and_noting_its_id(tmp_path: Path) -> None:
    """A task that the journal only announces is found by its folder all the same."""
    paths = RunPaths(tmp_path)
    killed_coordinator(paths, {0: "wait"}, 1)
    lines = paths.journal.read_text().splitlines()
    paths.journal.write_text(lines[0] + '\n{"event": "subm')  # torn in the second line
    (paths.generation / "go").touch()
    done = dispatcher(paths, {0: "wait"}).run(work(1))
    assert (done[0].attempts, evaluated(paths)) == (1, ["0.1"])


def test_invariant_6_only_a_valid_result_counts(tmp_path: Path) -> None:
    """Garbage and foreign names in the results folder are not results."""
    paths = RunPaths(tmp_path)
    paths.results.mkdir(parents=True)
    (paths.results / "00000.1.json").write_text("half a res")
    (paths.results / "00001.x.json").write_text("{}")
    (paths.results / "notes.txt").write_text("hello")
    done = dispatcher(paths, {}).run(work(2))
    assert sorted(evaluated(paths)) == ["0.1", "1.1"]
    assert {g.result.outcome.status for g in done.values()} == {"scored"}


def test_two_results_of_one_candidate(tmp_path: Path) -> None:
    """The lowest attempt wins, whatever arrives later."""
    paths = RunPaths(tmp_path)
    paths.results.mkdir(parents=True)
    for attempt in (2, 1, 3):
        values = {"candidate": 0, "attempt": attempt, "status": "scored"}
        (paths.results / f"00000.{attempt}.json").write_text(json.dumps(values))
    done = dispatcher(paths, {}).run(work(1))
    assert done[0].result.attempt == 1
    assert evaluated(paths) == []


def test_no_coordinator_hands_over_a_task_that_is_missing(tmp_path: Path) -> None:
    """The next one could wait for it as little, and so for ever."""
    dispatched = dispatcher(RunPaths(tmp_path), {}, backend=(backend := Queued()))
    asked: list[Sequence[str]] = []

    def leave(jobs: Sequence[str]) -> None:
        asked.append(jobs)
        raise Interrupted("another one goes on")

    dispatched.leave = leave
    with pytest.raises(Interrupted):
        dispatched.run(work(2))
    assert asked == [["7_0", "7_0"]]
    assert backend.looks == 3


def test_a_result_that_cannot_be_read_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays, and counts at the next look."""
    paths, is_away = RunPaths(tmp_path), iter([True])
    paths.results.mkdir(parents=True)
    paths.result(0, 1).write_text('{"status": "scored", "attempt": 1}')
    dispatched = dispatcher(paths, {})
    read = dispatched.read_result
    dispatched.read_result = lambda path, one: None if next(is_away, False) else read(path, one)
    monkeypatch.setattr(files, "can_be_read", lambda path: False)
    assert dispatched.run(work(1))[0].result.outcome.status == "scored"
    assert [path.name for path in paths.results.iterdir()] == ["00000.1.json"]


@pytest.mark.parametrize("is_relative", [False, True])
def test_a_request_to_stop(is_relative: bool, tmp_path: Path) -> None:
    """Stopping raises Interrupted and leaves no worker behind; going on loses nothing."""
    paths = RunPaths(Path(os.path.relpath(tmp_path)) if is_relative else tmp_path)
    stop = threading.Event()
    with pytest.raises(Interrupted):
        dispatcher(paths, {1: "die"}, stop=stop).run(work(6), on_result=lambda result: stop.set())
    assert stop_orphans(tmp_path) == 0
    before = evaluated(paths)
    done = dispatcher(paths, {}).run(work(6))
    assert len(done) == 6
    finished = {name.split(".")[0] for name in before} - {"1"}
    assert all(evaluated(paths).count(f"{i}.1") == 1 for i in finished)


# --- enough is enough ---------------------------------------------------------------------------


def test_with_enough_results_the_rest_is_left_and_found_again(tmp_path: Path) -> None:
    """A late candidate goes on; the next generation follows it and returns its result."""
    paths, backend = RunPaths(tmp_path), local_backend()
    how = {3: "wait"}
    done = dispatcher(paths, how, backend=backend).run(work(5), enough=4)
    assert sorted(done) == [0, 1, 2, 4]
    assert tasks_running(paths) == 1
    later = [*work(5)[3:4], *work(8)[5:]]
    second = dispatcher(paths, how, backend=backend, name="g00001")
    assert sorted(second.run(later, enough=3)) == [5, 6, 7]
    (paths.generation / "go").touch()
    last = dispatcher(paths, how, backend=backend, name="g00002").run(work(4)[3:])
    assert (last[3].attempts, last[3].result.outcome.status) == (1, "scored")
    assert sorted(evaluated(paths)) == sorted(f"{c}.1" for c in range(8))
    tokens = read_state(paths.journal).tokens_of(range(8))
    assert len({token.split("-")[1] for token in tokens}) == len(tokens)
    assert {token.split("-")[0] for token in tokens} == {"g00000", "g00001"}
    assert list(paths.tasks.iterdir()) == []


def test_invariant_1_killed_after_some_were_left(tmp_path: Path) -> None:
    """Late ones are followed by the next coordinator, too; their results count once."""
    paths, how = RunPaths(tmp_path), {0: "wait", 1: "wait", 7: "wait"}
    killed_coordinator(paths, how, 4, late=2)
    wait_for(lambda: (tmp_path / "let go").exists())
    (paths.generation / "go").touch()
    later = [*work(2), *work(8)[4:]]
    done = dispatcher(paths, how, name="g00001").run(later)
    assert {c: g.attempts for c, g in done.items()} == dict.fromkeys((0, 1, 4, 5, 6, 7), 1)
    assert sorted(evaluated(paths)) == sorted(f"{c}.1" for c in range(8))


def test_a_late_candidate_keeps_its_failures(tmp_path: Path) -> None:
    """Two failures are two, whichever generation they fall into."""
    paths, how, backend = RunPaths(tmp_path), {0: "die late", 1: "wait"}, local_backend()
    settings = ClusterSettings(candidates_per_task=1, max_attempts=2)
    first = dispatcher(paths, how, settings=settings, backend=backend).run(work(4), enough=2)
    assert sorted(first) == [2, 3]
    again = dispatcher(paths, how, settings=settings, backend=backend, name="g00001")
    done = again.run(
        [*work(2), *work(5)[4:]], on_result=lambda result: (paths.generation / "go").touch()
    )
    assert (done[0].attempts, done[0].result.outcome.status) == (2, "infrastructure")
    assert done[1].attempts == 1


def test_what_has_been_gathered_is_not_looked_at_again(tmp_path: Path) -> None:
    """A second result of a candidate of an earlier generation is nobody's."""
    paths = RunPaths(tmp_path)
    dispatcher(paths, {}).run(work(2))
    (paths.results / "00001.2.json").write_text("late and torn")
    assert sorted(dispatcher(paths, {}, name="g00001").run(work(4)[2:])) == [2, 3]
    assert (paths.results / "00001.2.json").exists()


def test_patience() -> None:
    """Waiting takes as long again as until enough were in; after a restart it begins anew."""
    started = {"submitted": 1000.0, "began": 1000.0}
    arrived = [1010.0, 1300.0]
    assert not is_patience_over(arrived, 3, **started, now=9999.0)
    arrived += [1050.0, 1020.0]  # now the third came after 50 s, whatever came later
    assert not is_patience_over(arrived, 3, **started, now=1100.0)
    assert is_patience_over(arrived, 3, **started, now=1100.1)
    restarted = {"submitted": 1000.0, "began": 5000.0}
    assert not is_patience_over([1050.0], 1, **restarted, now=5049.0)
    assert is_patience_over([1050.0], 1, **restarted, now=5051.0)


@pytest.mark.parametrize("lines", [1, 2])
def test_a_refused_submission_is_made_again_after_a_kill(tmp_path: Path, lines: int) -> None:
    """Nothing is left behind that the journal announced and the scheduler refused."""
    paths = RunPaths(tmp_path)
    paths.generation.mkdir()
    events = [
        {
            "event": "submitting",
            "token": "g00000-0",
            "tasks": {"s0000-t00000": [[0, 1]]},
            "time": 0,
        },
        {"event": "refused", "token": "g00000-0"},
    ]
    paths.journal.write_text("".join(json.dumps(e) + "\n" for e in events[:lines]))
    done = dispatcher(paths, {}).run(work(1))
    assert done[0].result.outcome.status == "scored"


def test_inline(tmp_path: Path) -> None:
    """The same protocol without any process."""
    paths = RunPaths(tmp_path)
    backend = InlineBackend(run_task)
    done = dispatcher(paths, {2: "hand back"}, backend=backend).run(work(4))
    assert [done[i].attempts for i in range(4)] == [1, 1, 6, 1]

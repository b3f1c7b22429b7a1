"""The worker: real children, real digits, real signals; its results are whole or absent."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmatic_hpc.config import Config, ContainmentSettings, ProblemSettings, TrainingSettings
from llmatic_hpc.errors import LLMaticError
from llmatic_hpc.evaluation import data, trainer, worker
from llmatic_hpc.evaluation.tasks import write_result
from llmatic_hpc.evaluation.worker import CandidateSpec, TaskSpec, read_result, run_task
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.sandbox import confine, container
from llmatic_hpc.types import Outcome, Result

from .helpers import INITIAL, network

pytest.importorskip("sklearn")

TRAINING = TrainingSettings(
    epochs=2, learning_rate=0.01, fitness_split="validation", device="cpu", checkpoint_seconds=0.0
)
SLOW = network("os.sys.modules['time'].sleep(0.02)")
"""Each step takes a while: there is time to interrupt it."""


def sha(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def candidate(number: int, source: str, *, attempt: int = 1, epochs: int = 2) -> CandidateSpec:
    return CandidateSpec(
        candidate=number, attempt=attempt, source=source,
        source_sha256=sha(source), training_seed=7, epochs=epochs, flops=1e4,
    )  # fmt: skip


def task(root: Path, candidates: Sequence[CandidateSpec], **changes: Any) -> Path:
    paths = RunPaths(root)
    spec = TaskSpec(
        run_id="run", results=str(paths.results),
        checkpoints=str(paths.checkpoints), problem=ProblemSettings(), training=TRAINING,
        containment=ContainmentSettings(), seed=0, threads=1, candidates=tuple(candidates),
    )  # fmt: skip
    root.mkdir(exist_ok=True)
    (root / "task.json").write_text(replace(spec, **changes).to_json())
    return root / "task.json"


def result_of(root: Path, spec: CandidateSpec) -> Result | None:
    return read_result(
        RunPaths(root).result(spec.candidate, spec.attempt),
        run_id="run", candidate=spec.candidate, source_sha256=spec.source_sha256,
    )  # fmt: skip


def test_importing_the_worker_does_not_import_torch() -> None:
    """A judge is small and starts at once."""
    code = "import llmatic_hpc.evaluation.worker, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CANDIDATES = [
    candidate(0, INITIAL),
    candidate(1, network("os._exit(3)")),
    candidate(2, network("torch.empty(1 << 40)")),
    candidate(3, network("return self.fc(torch.flatten(x, 1)) * float('nan')")),
    candidate(4, network("raise ValueError('x' * 10**6)")),
    candidate(5, INITIAL.replace("fc1", "other"), epochs=0),
    candidate(6, network("while True:\n    pass")),
    candidate(7, INITIAL),
    replace(candidate(8, INITIAL), training_seed=8),
    candidate(9, SLOW),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunPaths, list[Result]]:
    """One undisturbed task with everything in it."""
    root = tmp_path_factory.mktemp("finished")
    settings = ContainmentSettings(wall_seconds=8.0)
    assert run_task(task(root, CANDIDATES, containment=settings)) == 0
    return RunPaths(root), [found for c in CANDIDATES if (found := result_of(root, c))]


def test_every_candidate_gets_its_own_result(finished: tuple[RunPaths, list[Result]]) -> None:
    """A failing one touches no sibling; scores are real; checkpoints are gone afterwards."""
    paths, results = finished
    outcomes = [result.outcome for result in results]
    assert [o.status for o in outcomes] == [
        "scored", "invalid", "too_large", "diverged", "invalid", "scored", "too_slow",
        "scored", "scored", "scored",
    ]  # fmt: skip
    best, untrained = outcomes[0], outcomes[5]
    assert best.fitness == best.valid_accuracy
    assert best.valid_accuracy > 0.7
    assert best.test_accuracy > 0.7
    assert 0 < best.train_loss < 2
    assert best.epochs == 2
    assert best.train_curve[0] > best.train_curve[1] == pytest.approx(best.train_loss, rel=1e-5)
    assert (untrained.epochs, math.isnan(untrained.train_loss)) == (0, True)
    assert untrained.train_curve == ()
    assert untrained.fitness < 0.4
    assert "containment.wall_seconds = 8" in outcomes[6].failure
    assert "code 3" in outcomes[1].failure
    assert all(math.isnan(o.fitness) for o in outcomes if o.status != "scored")
    assert list(paths.checkpoints.iterdir()) == []
    assert len(list(paths.results.iterdir())) == len(CANDIDATES)
    assert all(r.started <= r.finished <= time.time() and r.node for r in results)


def test_cores_are_those_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job takes no more than it asked for, where a cluster binds nobody to cores, too."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    assert worker._cores() == 64
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    assert worker._cores() == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert worker._cores() == 4


def test_side_by_side_changes_no_result(
    finished: tuple[RunPaths, list[Result]], tmp_path: Path
) -> None:
    """Three at a time: the same outcomes, whatever siblings crash, hang or devour."""
    settings = ContainmentSettings(wall_seconds=8.0)
    path = task(tmp_path, CANDIDATES, containment=settings, workers=3, threads=3)
    assert run_task(path) == 0
    for spec, alone in zip(CANDIDATES, finished[1], strict=True):
        found = result_of(tmp_path, spec)
        assert found is not None
        untimed = {"train_seconds": 0.0, "milliseconds": 0.0}
        assert replace(found.outcome, **untimed) == replace(
            alone.outcome, **untimed, train_loss=found.outcome.train_loss
        )
        assert found.outcome.train_loss == alone.outcome.train_loss or math.isnan(
            found.outcome.train_loss
        )
    spans = [(r.started, r.finished) for c in CANDIDATES if (r := result_of(tmp_path, c))]
    assert any(a[0] < b[0] < a[1] for a in spans for b in spans)  # they did overlap


def test_out_of_memory_on_a_shared_device_is_tried_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what does not fit alone either is too large."""
    tried: list[tuple[str, int]] = []
    tell = container.Container._tell

    def noted(self: Any, message: Any, *descriptors: int) -> None:
        if message["op"] == "run":
            tried.append((sha(message["source"]), message["sharing"]))
        tell(self, message, *descriptors)

    monkeypatch.setattr(container.Container, "_tell", noted)
    candidates = [candidate(0, network("torch.empty(1 << 40)")), candidate(1, INITIAL)]
    training = replace(TRAINING, device="auto")
    assert run_task(task(tmp_path, candidates, workers=2, threads=2, training=training)) == 0
    large, fine = (result_of(tmp_path, c) for c in candidates)
    assert large is not None
    assert fine is not None
    assert (large.outcome.status, fine.outcome.status) == ("too_large", "scored")
    assert tried == [(c.source_sha256, 2) for c in candidates] + [(candidates[0].source_sha256, 1)]


def test_a_kill_beside_siblings_is_not_yet_a_verdict(tmp_path: Path) -> None:
    """The kernel, short of memory, may have chosen the wrong one: alone it is scored."""
    body = "if not os.path.exists('seen'):\n    os.mkdir('seen')\n    os.kill(os.getpid(), 9)"
    candidates = [candidate(0, network(init=body)), candidate(1, INITIAL)]
    assert run_task(task(tmp_path, candidates, workers=2, threads=2)) == 0
    results = [result_of(tmp_path, c) for c in candidates]
    assert [r.outcome.status for r in results if r] == ["scored", "scored"]


def test_a_stop_reaches_all_who_train_side_by_side(
    finished: tuple[RunPaths, list[Result]], tmp_path: Path
) -> None:
    """Each saves and none has a result; the same call then ends them as if undisturbed."""
    candidates = [replace(candidate(n, SLOW), training_seed=7 + n) for n in range(3)]
    path = task(tmp_path, candidates, workers=2, threads=2)
    paths = RunPaths(tmp_path)

    def saved() -> list[Path]:
        return list(paths.checkpoints.glob("*/training.safetensors"))

    _when(lambda: bool(saved()), lambda: _signal(signal.SIGUSR2))
    assert run_task(path) == worker.CHECKPOINTED
    assert len(saved()) == 2
    assert not any(result_of(tmp_path, c) for c in candidates)
    assert run_task(path) == 0
    results = [result_of(tmp_path, c) for c in candidates]
    assert [r.outcome.status for r in results if r] == ["scored"] * 3
    assert results[0] is not None
    alone = finished[1][9].outcome
    untimed = {"train_seconds": 0.0, "milliseconds": 0.0}
    assert replace(results[0].outcome, **untimed) == replace(alone, **untimed)
    assert len(list(paths.results.iterdir())) == 3
    assert list(paths.checkpoints.iterdir()) == []


def test_evaluations_repeat_to_the_bit_and_follow_their_seed(
    finished: tuple[RunPaths, list[Result]],
) -> None:
    """Same seed, same loss; another seed, another."""
    losses = [finished[1][i].outcome.train_loss for i in (0, 7, 8)]
    assert losses[0] == losses[1] != losses[2]


def test_what_has_a_result_is_not_evaluated_again(tmp_path: Path) -> None:
    """Results of any attempt count; but an infrastructure failure only for its own attempt.

    And time that earlier attempts used up counts: nobody outlasts a limit by interruptions.
    """
    done, retried = candidate(0, SLOW, attempt=3), candidate(1, INITIAL, attempt=2)
    late = candidate(2, INITIAL)
    paths = RunPaths(tmp_path)
    paths.results.mkdir(parents=True)
    for spec, outcome in [
        (done, Outcome("scored", fitness=0.5, test_accuracy=0.5)),
        (retried, Outcome("infrastructure", "no disk")),
    ]:
        earlier = Result("run", spec.candidate, 1, spec.source_sha256, outcome)
        write_result(paths.result(spec.candidate, 1), earlier)
    folder = paths.checkpoint(2)
    folder.mkdir(parents=True)
    (folder / "seconds").write_text("99999")
    assert run_task(task(tmp_path, [done, retried, late])) == 0
    assert not paths.result(done.candidate, 3).exists()
    again, slow = result_of(tmp_path, retried), result_of(tmp_path, late)
    assert again is not None
    assert again.outcome.status == "scored"
    assert slow is not None
    assert (slow.outcome.status, slow.outcome.train_seconds) == ("too_slow", 99999)


@pytest.mark.parametrize("room", [1 << 30, 0])
def test_a_promotion_continues_where_there_is_room_for_its_state(tmp_path: Path, room: int) -> None:
    """Else it is trained again; the same bits. A state that was kept is there after a kill, too."""
    training, paths = replace(TRAINING, rung_disk_bytes=room), RunPaths(tmp_path / "run")
    spec, broken = candidate(0, INITIAL), candidate(1, network("raise ValueError('x')"))
    rung = [replace(one, until=1) for one in (spec, broken)]
    file = task(tmp_path / "run", rung, training=training)
    for _ in range(2):  # the second time all results are there
        assert run_task(file) == 0
        kept = [path.name for path in paths.checkpoints.glob("*/training.safetensors")]
        assert len(kept) == (1 if room else 0)
        assert not paths.checkpoint(1).exists()
    first = result_of(tmp_path / "run", spec)
    last = task(tmp_path / "run", [spec], training=training, results=str(tmp_path / "on"))
    assert run_task(last) == 0
    straight = candidate(0, INITIAL)
    assert run_task(task(tmp_path / "straight", [straight])) == 0
    whole = result_of(tmp_path / "straight", straight)
    on = read_result(
        tmp_path / "on" / "00000.1.json", run_id="run", candidate=0, source_sha256=sha(INITIAL)
    )
    assert first is not None
    assert on is not None
    assert whole is not None
    assert (first.outcome.epochs, on.outcome.epochs) == (1, 2)
    untimed = {"train_seconds": 0.0, "milliseconds": 0.0}
    assert replace(on.outcome, **untimed) == replace(whole.outcome, **untimed)
    assert list(paths.checkpoints.iterdir()) == []


def test_without_anything_to_do_no_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task whose results are all there ends at once."""
    spec = candidate(0, INITIAL)
    paths = RunPaths(tmp_path)
    paths.results.mkdir(parents=True)
    outcome = Outcome("invalid", "x")
    write_result(paths.result(0, 1), Result("run", spec.candidate, 1, spec.source_sha256, outcome))
    monkeypatch.setattr(container, "WarmParent", None)
    assert run_task(task(tmp_path, [spec])) == 0


def test_interrupted_in_every_way_it_ends_in_the_same_result(
    tmp_path: Path, finished: tuple[RunPaths, list[Result]]
) -> None:
    """SIGKILL, then SIGUSR2, then SIGTERM, then to the end: to the bit as if undisturbed.

    No signal leaves a half result or a process, and asking nicely returns 75.
    """
    spec = CANDIDATES[9]
    file = task(tmp_path, [spec])
    folder = RunPaths(tmp_path).checkpoint(9)
    saved = folder / "training.safetensors"

    run = "from llmatic_hpc.evaluation.worker import run_task\nfrom pathlib import Path\n"
    (tmp_path / "temporary").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", f"{run}run_task(Path({str(file)!r}))"],
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    _await(saved.exists)
    process.kill()
    process.wait()
    _await(lambda: not any((tmp_path / "temporary").iterdir()))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert result_of(tmp_path, spec) is None

    for number in (signal.SIGUSR2, signal.SIGTERM):
        before = saved.stat().st_ino
        heard: list[int] = []
        former = signal.signal(number, lambda n, _, heard=heard: heard.append(n))
        try:
            _when(_a_child_runs, lambda n=number: _signal(n))
            assert run_task(file) == worker.CHECKPOINTED
        finally:
            signal.signal(number, former)
        assert heard == ([number] if number == signal.SIGTERM else [])
        assert result_of(tmp_path, spec) is None
        assert saved.stat().st_ino != before
        assert float((folder / "seconds").read_text()) > 0

    assert run_task(file) == 0
    found, expected = result_of(tmp_path, spec), finished[1][9]
    assert found is not None
    for name in ("status", "train_loss", "valid_accuracy", "test_accuracy", "epochs"):
        assert getattr(found.outcome, name) == getattr(expected.outcome, name)
    assert not folder.exists()


def _a_child_runs() -> bool:
    """Return whether the warm parent below this process has a child."""
    return any(confine.children_of(warm) for warm in confine.children_of(os.getpid()))


def _signal(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def _when(condition: Callable[[], bool], action: Callable[[], None]) -> None:
    def watch() -> None:
        _await(condition)
        action()

    threading.Thread(target=watch, daemon=True).start()


def test_missing_data_is_infrastructure(tmp_path: Path) -> None:
    """Every candidate left gets a result that says what is missing."""
    candidates = [candidate(0, INITIAL), candidate(1, INITIAL)]
    problem = ProblemSettings(data=str(tmp_path / "none.npz"))
    assert run_task(task(tmp_path, candidates, problem=problem)) == 0
    for spec in candidates:
        found = result_of(tmp_path, spec)
        assert found is not None
        assert found.outcome.status == "infrastructure"
        assert "none.npz: no such file" in found.outcome.failure


def test_other_data_on_a_node_are_infrastructure(tmp_path: Path) -> None:
    """Both digests are named; on the data of the run the same candidate is scored."""
    _, right, _ = data.checked(ProblemSettings(), TRAINING, seed=0)
    spec, again = candidate(0, INITIAL, epochs=0), candidate(0, INITIAL, epochs=0, attempt=2)
    run_task(task(tmp_path, [spec], data_sha256="0" * 64))
    found = result_of(tmp_path, spec)
    assert found is not None
    assert found.outcome.status == "infrastructure"
    assert "other data on this node than the run was started with" in found.outcome.failure
    assert right in found.outcome.failure
    assert "0" * 64 in found.outcome.failure
    run_task(task(tmp_path, [again], data_sha256=right))
    found = result_of(tmp_path, again)
    assert found is not None
    assert found.outcome.status == "scored"


def test_a_device_that_is_not_there_is_infrastructure(tmp_path: Path) -> None:
    """Asking for CUDA on a machine without is not the candidate's fault."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    spec = candidate(0, INITIAL)
    run_task(task(tmp_path, [spec], training=replace(TRAINING, device="cuda")))
    found = result_of(tmp_path, spec)
    assert found is not None
    assert found.outcome.status == "infrastructure"


def test_no_child_to_be_had_is_infrastructure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every candidate's result says so where torch cannot be imported."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    spec = candidate(0, INITIAL)
    assert run_task(task(tmp_path, [spec])) == 0
    found = result_of(tmp_path, spec)
    assert found is not None
    assert found.outcome.status == "infrastructure"
    assert "no torch here" in found.outcome.failure


def test_results_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    """There is nothing to report them with."""
    (tmp_path / "file").write_text("")
    file = task(tmp_path, [candidate(0, INITIAL)], results=str(tmp_path / "file" / "x"))
    with pytest.raises(LLMaticError, match="cannot be written"):
        run_task(file)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"problem": 1}', "\x00", '{"candidates": []}'])
def test_a_task_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    """Never a bare traceback."""
    (tmp_path / "task.json").write_text(text)
    with pytest.raises(LLMaticError, match=r"task\.json"):
        run_task(tmp_path / "task.json")
    with pytest.raises(LLMaticError, match="cannot be read"):
        run_task(tmp_path / "none.json")


def test_a_task_file_reads_back_equal(tmp_path: Path) -> None:
    """Settings, candidates and all."""
    file = task(tmp_path, [candidate(0, 'a "b" \u00e9\n'), candidate(1, "")])
    spec = TaskSpec.from_json(file.read_text(), origin="x")
    assert TaskSpec.from_json(spec.to_json(), origin="x") == spec
    assert spec.training == TRAINING


# --- result files -----------------------------------------------------------------------------

GOOD = Result(
    run_id="run", candidate=3, attempt=1, source_sha256="0" * 64,
    outcome=Outcome("scored", fitness=0.5, test_accuracy=0.5, epochs=2, train_seconds=1.0),
    node="n1", slurm_job="1_2", started=1.0, finished=2.0,
)  # fmt: skip


def read(path: Path, **changes: Any) -> Result | None:
    known: dict[str, Any] = {"run_id": "run", "candidate": 3, "source_sha256": "0" * 64}
    return read_result(path, **(known | changes))


def test_a_result_reads_back_with_null_for_nan(tmp_path: Path) -> None:
    """The file is plain JSON, and nothing else lies in the folder."""
    path = tmp_path / "00003.1.json"
    write_result(path, GOOD)
    assert json.loads(path.read_text())["outcome"]["valid_accuracy"] is None
    found = read(path)
    assert found is not None
    assert math.isnan(found.outcome.valid_accuracy)
    assert str(found) == str(GOOD)
    assert os.listdir(tmp_path) == [path.name]


def test_foreign_results_are_none(tmp_path: Path) -> None:
    """Results of another run, candidate or source are none; nor is one that is not there."""
    path = tmp_path / "r.json"
    assert read(path) is None
    write_result(path, GOOD)
    assert read(path, run_id="other") is None
    assert read(path, candidate=4) is None
    assert read(path, source_sha256="1" * 64) is None
    assert read(tmp_path) is None


@given(st.integers(0, 400))
def test_no_prefix_of_a_result_is_one(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    """A half-written file does not count."""
    path = tmp_path_factory.mktemp("r") / "r.json"
    write_result(path, GOOD)
    text = path.read_text()
    path.write_text(text[: min(size, len(text) - 1)])
    assert read(path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"attempt": -1},
        {"attempt": 1.0},
        {"candidate": True},
        {"node": 3},
        {"node": "x" * 70_000},
        {"started": None},
        {"started": -1},
        {"finished": 1e400},
        {"more": 1},
        {"outcome": {}},
        {"outcome": None},
        {"outcome": {"status": "pending"}},
        {"outcome": {"status": 1}},
        {"outcome": {"fitness": 1.5}},
        {"outcome": {"fitness": None}},
        {"outcome": {"fitness": True}},
        {"outcome": {"fitness": "0.5"}},
        {"outcome": {"epochs": 1.5}},
        {"outcome": {"train_loss": -1}},
        {"outcome": {"failure": "x" * 5000}},
        {"outcome": {"more": 1}},
    ],
)
def test_results_with_odd_values_are_none(tmp_path: Path, change: dict[str, Any]) -> None:
    """Other keys, types, or numbers out of their range."""
    path = tmp_path / "r.json"
    write_result(path, GOOD)
    plain = json.loads(path.read_text())
    inner = change.get("outcome")
    if isinstance(inner, dict) and inner:
        change = {"outcome": plain["outcome"] | inner}
    path.write_text(json.dumps(plain | change))
    assert read(path) is None


@given(st.binary(max_size=300))
def test_no_bytes_make_reading_a_result_raise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Any bytes that lie there are no result, and raise nothing."""
    path = tmp_path_factory.mktemp("r") / "r.json"
    path.write_bytes(content)
    assert read(path) is None


# --- a single source ----------------------------------------------------------------------------


def test_evaluating_one_source() -> None:
    """Screened and trained as a node would."""
    config = Config(training=TRAINING)
    source = INITIAL.replace("F.relu(self.conv1(x))", "self.conv1(x)")
    screened, outcome = worker.evaluate_source(source, config)
    assert (screened.status, outcome.status) == ("pending", "scored")
    assert screened.descriptors is not None
    assert outcome.valid_accuracy > 0.7
    screened, outcome = worker.evaluate_source("import os", config)
    assert screened.status == outcome.status in ("forbidden", "invalid")


def test_a_result_of_an_earlier_version_is_taken(tmp_path: Path) -> None:
    """It lacks what nobody measured then; its training is not done again."""
    write_result(tmp_path / "r.json", GOOD)
    plain = json.loads((tmp_path / "r.json").read_text())
    for name in ("milliseconds", "device", "train_curve"):
        del plain["outcome"][name]
    (tmp_path / "r.json").write_text(json.dumps(plain))
    assert str(read(tmp_path / "r.json")) == str(GOOD)


def test_options_at_their_defaults_leave_a_checkpoint_what_it_was() -> None:
    """A training that an earlier version began goes on; any other option begins anew."""
    dataset = data.load(ProblemSettings(), TRAINING, seed=0)

    def identity(training: TrainingSettings) -> str:
        made = trainer.Trainer(None, dataset, training, ContainmentSettings(), 1)  # type: ignore[arg-type]
        job = made.job("", seed=0, epochs=1, folder=Path("none"))
        return str(job.parameters["identity"])

    plain = identity(TRAINING)
    original = trainer._RECIPE
    trainer._RECIPE = original[: original.index("optimizer")]
    try:
        assert identity(TRAINING) == plain
    finally:
        trainer._RECIPE = original
    assert identity(replace(TRAINING, schedule="cosine")) != plain

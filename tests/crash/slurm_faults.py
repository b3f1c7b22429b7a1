"""Break a real Slurm in every way we know, each while a run is on it, and compare with no fault.

    slurm/testbed/up.sh
    python -m tests.crash.slurm_faults               # all, a quarter of an hour
    python -m tests.crash.slurm_faults --only node-down --seed 3
    python -m tests.crash.slurm_faults --rungs niche # trainings in two rungs; or halving, elites

The coordinator is a job of ``llmatic submit``, candidates are elements of arrays, and each fault
strikes at a random moment while elements of a random generation run. Afterwards must hold:

- the run has ended by itself, or after the one command that the README names,
- the candidate table (timings aside) and both archives equal those of the same completions
  evaluated undisturbed by ``cluster.kind = local``; so no candidate is lost or counted twice,
- ``llmatic verify`` finds nothing,
- nothing of the run is left in the queue.

Prints a line per fault and 'N passed, M failed' at the end; exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from llmatic_hpc import store
from llmatic_hpc.cluster.launch import job_name
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record

from ..slurm.bed import Bed, Element, Slurm, TooLateError
from .kill_anywhere import differences

ROOT = Path(__file__).parents[2]
PATIENCE = 150.0
"""Seconds that a run may take after its fault, where undisturbed it takes 30; on a slow machine
twice what the reference took."""

PROMOTIONS = ("niche", "halving", "elites")
RUNGS = "training.rungs=[[1,'niche'],[3]]"

CONFIG = """\
extends = "{root}/configs/smoke.toml"

[search]
generations = 2
batch = {batch}
start_elites = 4
train_start = true

[generator]
kind = "replay"
replay = "{replay}"

[training]
epochs = {epochs}
threads = 1
checkpoint_seconds = 0.0

[cluster]
kind = "slurm"
candidates_per_task = 4
poll_seconds = 0.2
absence_seconds = 20.0
"""

SITE = """\
extends = "{root}/configs/sites/testbed.toml"
[environment]
python = "{python}"
variables = ["OMP_NUM_THREADS=1", "PYTHONPATH={path}"]
"""


def llmatic(
    *words: str | Path, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "llmatic_hpc", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip
    if check and done.returncode:
        raise AssertionError(f"llmatic {words[0]}: exit code {done.returncode}: {done.stderr}")
    return done


@dataclass
class Bench:
    """Common to all runs: a configuration with its completions, and the record to compare with."""

    folder: Path
    batch: int = 16
    epochs: int = 3
    settings: tuple[str, ...] = ()
    """Further settings of all runs, each KEY=VALUE."""
    config: Path = field(init=False)
    reference: Record = field(init=False)
    patience: float = field(init=False)
    """Seconds that a run may take after its fault."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "config.toml"
        replay = self.folder / "completions.jsonl"
        self.config.write_text(
            CONFIG.format(root=ROOT, replay=replay, batch=self.batch, epochs=self.epochs)
        )
        words = ("--set", "generator.kind=procedural", "--set", "generator.replay=")
        count = str(2 * self.batch)
        written = llmatic(
            "generate", self.config, "--prompt", "6", "--count", count, "--json", *words
        )
        replay.write_text(written.stdout)
        local = ("--set", "cluster.kind=local", "--set", "cluster.poll_seconds=0.05")
        again = (*local, *self.options)
        began = time.monotonic()
        llmatic("run", self.config, "--run-dir", self.folder / "reference", *again)
        self.patience = max(PATIENCE, 2 * (time.monotonic() - began))
        self.reference = store.load(RunPaths(self.folder / "reference").record)

    @property
    def options(self) -> list[str]:
        """The further settings as options of a command."""
        return [word for setting in self.settings for word in ("--set", setting)]


@dataclass
class Run:
    """A run whose coordinator is a job."""

    bench: Bench
    name: str
    rng: random.Random
    slurm: Slurm = field(default_factory=Slurm)
    bed: Bed = field(default_factory=Bed)
    job: str = ""
    told: list[str] = field(default_factory=list)
    """Facts that a person would like to know about how it went."""

    @property
    def folder(self) -> Path:
        return self.bench.folder / self.name

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.folder)

    def submit(
        self, site: str = "", *settings: str, coordinator: str = "", path: str = str(ROOT)
    ) -> None:
        """Submit it, with additions to the site file and to the configuration."""
        file = self.bench.folder / f"{self.name}.toml"
        text = SITE.format(root=ROOT, python=sys.executable, path=path)
        file.write_text(f"{text}\n[array]\n{site}\n[coordinator]\n{coordinator}\n")
        words = [word for setting in settings for word in ("--set", setting)]
        words += self.bench.options
        done = llmatic("submit", self.bench.config, self.folder, "--site", file, *words)
        self.job = done.stdout.strip()

    # --- what is going on ---------------------------------------------------------------------

    @property
    def array_name(self) -> str:
        """The beginning of the names of all of its arrays."""
        return f"llmatic-{store.load(self.paths.record).run_id[:12]}"

    def elements(self, generation: int, *states: str) -> list[Element]:
        """Its elements in the queue."""
        if not self.paths.record.exists():
            return []
        found = self.slurm.queue(f"{self.array_name}-g{generation:05d}")
        return [element for element in found if not states or element.state in states]

    def results(self) -> list[Path]:
        """Result files of the generation in flight."""
        return sorted(self.paths.results.glob("*.*.json"))

    def midway(self, *, late: float = 12.0) -> tuple[int, list[Element]]:
        """A random moment while elements run, at most so late; its generation, and the elements."""
        generation = self.rng.randrange(2)
        running: list[Element] = []

        def are_running() -> bool:
            running[:] = self.elements(generation, "RUNNING") or running
            return bool(running)

        self.wait(are_running, f"elements of generation {generation}", 90)
        first, later = len(running), time.monotonic() + self.rng.uniform(0.0, late)
        # Once one of them has left, the others are about to.
        self.wait(lambda: are_running() and (time.monotonic() > later or len(running) < first),
                  "a random moment", 30)  # fmt: skip
        self.told.append(f"generation {generation}, {len(self.results())} results")
        return generation, list(running)

    def array_jobs(self, generation: int) -> set[str]:
        """The arrays that it ever submitted in a generation, by accounting."""
        name = f"{self.array_name}-g{generation:05d}"
        told = self.slurm.command("sacct", "-nXP", "--format=JobID,JobName").stdout
        rows = [line.split("|") for line in told.splitlines()]
        return {job.split("_")[0] for job, of in rows if of.startswith(name)}

    def one_of(self, elements: list[Element]) -> Element:
        """Any of them."""
        return self.rng.choice(sorted(elements, key=lambda element: element.job))

    def coordinator(self) -> int:
        """The process of the coordinator, from the file of its lock."""
        return int(json.loads(self.paths.lock.read_text())["pid"])

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Wait for an event of the run; a coordinator that failed ends the wait."""
        self.slurm.wait_until(condition, f"{self.name}: {what}", seconds=seconds)

    def wait_log(self, text: str, seconds: float = 60) -> None:
        """Wait until the coordinator has said so."""
        self.slurm.wait_text(self.paths.log, text, seconds=seconds)

    # --- the end ------------------------------------------------------------------------------

    def wait_end(self, *, requeue: bool = False, times: float = 1) -> None:
        """Wait until it has ended well, for some times its patience; ``requeue``: its coordinator
        has to be told to go on."""
        if requeue:
            assert self.slurm.wait_end(self.job)[0] == "FAILED"
            self.slurm.command("scontrol", "requeue", self.job)
        state, code = self.slurm.wait_end(self.job, seconds=times * self.bench.patience)
        assert (state, code) == ("COMPLETED", 0), f"job {self.job}: {state} {code}{self.log()}"

    def log(self) -> str:
        """The end of what its coordinator wrote."""
        log = self.paths.logs / f"slurm-{self.job}.log"
        return "\n" + "".join(log.read_text().splitlines(keepends=True)[-15:])

    def check(self) -> None:
        """All that must hold afterwards; raises :class:`AssertionError`."""
        assert not (found := differences(self.bench.reference, self.folder, {})), found
        verified = llmatic("verify", self.folder, check=False)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        table = store.load(self.paths.record).candidates
        assert b"infrastructure" not in table["status"]
        self.wait(lambda: not self.left(), "empty queue", 15)
        assert not self.paths.generation.exists()
        assert not list(self.paths.checkpoints.glob("*"))
        again = table["attempts"][table["attempts"] > 1]
        self.told.append(f"{len(again)} candidates again, at most {max(again, default=1)} attempts")

    def left(self) -> list[Element]:
        """Its jobs and elements in the queue."""
        names = (job_name(self.folder.resolve()), self.array_name)
        return [element for element in self.slurm.queue() if element.name.startswith(names)]

    def clean_up(self) -> None:
        """Nothing of it stays in the queue, whatever happened."""
        self.bed.mend()
        self.slurm.cancel()
        self.slurm.cancel_named(job_name(self.folder.resolve()))
        if self.paths.record.exists():
            self.slurm.cancel_named(self.array_name)


FAULTS: dict[str, Callable[[Run], None]] = {}


def fault(function: Callable[[Run], None]) -> Callable[[Run], None]:
    """Adds a fault under its function's name."""
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


# --- the coordinator --------------------------------------------------------------------------


@fault
def coordinator_killed(run: Run) -> None:
    """SIGKILL of the coordinator; Slurm fails its job, and a requeue continues the run."""
    run.submit()
    run.midway()
    os.kill(run.coordinator(), signal.SIGKILL)
    run.wait_end(requeue=True)


@fault
def coordinator_requeued(run: Run) -> None:
    """scontrol requeue of the coordinator's job."""
    run.submit()
    run.midway()
    run.slurm.command("scontrol", "requeue", run.job)
    run.wait_end()
    assert "REQUEUED" in run.slurm.accounting(run.job)


@fault
def coordinator_time_limit(run: Run) -> None:
    """The coordinator is warned of its time limit, saves and requeues itself."""
    # Slurm warns up to a minute early: in effect 5 to 35 s after each start, of which imports take
    # the first ones and what follows a stop is lost; each start waits some seconds in the queue.
    run.submit(coordinator='time = "0:30:00"\nextra = ["--signal=B:USR1@1765"]')
    run.wait_end(times=3)
    starts = run.slurm.accounting(run.job)
    run.told.append(f"{len(starts)} starts")
    assert len(starts) > 1


# --- elements ---------------------------------------------------------------------------------


@fault
def element_cancelled(run: Run) -> None:
    """scancel of one element."""
    run.submit()
    _, running = run.midway()
    run.slurm.command("scancel", run.one_of(running).job)
    run.wait_end()


@fault
def element_killed(run: Run) -> None:
    """SIGKILL of an element's process: neither its result nor its last words."""
    run.submit()
    _, running = run.midway()
    run.slurm.command("scancel", "--signal=KILL", "--batch", run.one_of(running).job)
    run.wait_end()


@fault
def preempted(run: Run) -> None:
    """Preemption of the whole array by jobs of a higher partition, with the user signal."""
    _preempted(run)


@fault
def preempted_at_once(run: Run) -> None:
    """The same without any warning: SIGTERM, and two seconds later SIGKILL."""
    run.bed.up(SLURM_TB_USERSIG="0", SLURM_TB_GRACE="0")
    _preempted(run)


def _preempted(run: Run) -> None:
    run.submit('partition = "preempt"')
    _, running = run.midway()
    nodes = ",".join(sorted({element.node for element in running}))
    others = ("--partition=high", f"--nodes={len(nodes.split(','))}", f"--nodelist={nodes}")
    high = run.slurm.sbatch(*others, "--exclusive", "--output=/dev/null", "--wrap=sleep 5")
    assert run.slurm.wait_end(high, seconds=90)[0] == "COMPLETED"
    run.wait_end()
    states = sorted({s for e in running for s in run.slurm.accounting(e.job)})
    run.told.append(f"{len(running)} elements: {', '.join(states)}")


@fault
def element_time_limit(run: Run) -> None:
    """Elements that do not get through before their time limit save and go on in new ones."""
    # Warned when Slurm first looks at it, which is every half minute.
    site = 'time = "1"\nextra = ["--signal=B:USR2@59"]'
    run.submit(site, "cluster.candidates_per_task=16")
    run.wait_end(times=3)  # on a slow machine a start is half of what it has
    assert max(store.load(run.paths.record).candidates["attempts"]) > 1, "it met no limit"


@fault
def out_of_memory(run: Run) -> None:
    """One element takes more memory than it asked for, and is ended for it."""
    hook = run.bench.folder / f"{run.name}-hook"
    hook.mkdir(exist_ok=True)
    (hook / "greedy").touch()
    (hook / "sitecustomize.py").write_text(GREEDY.format(sign=hook / "greedy"))
    # A candidate that is alone in its element would be too large by that.
    run.submit('mem = "1500M"', "cluster.candidates_per_task=16", path=f"{hook}:{ROOT}")
    run.wait_log("out of memory", 90)
    run.wait_end(times=3)  # sixteen candidates after each other


# Python imports it by itself at its start. The first element to remove the sign is the one.
GREEDY = """\
import contextlib, os, threading, time

def take():
    time.sleep(6)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("{sign}")
        held = bytearray(4 << 30)
        for first in range(0, len(held), 4096):
            held[first] = 1

if "-g0000" in os.environ.get("SLURM_JOB_NAME", ""):
    threading.Thread(target=take, daemon=True).start()
"""


@fault
def result_twice(run: Run) -> None:
    """Elements that are made to run twice: one with results, and one that has ended."""
    run.submit()
    run.wait(lambda: run.results() and run.elements(0, "RUNNING"), "a result", 90)
    run.slurm.command("scontrol", "requeue", run.one_of(run.elements(0, "RUNNING")).job)
    run.wait(lambda: run.elements(1, "RUNNING"), "generation 1", 120)
    running = {element.job for element in run.elements(1, "RUNNING")}
    run.wait(lambda: running - {e.job for e in run.elements(1)}, "an element's end", 60)
    ended = running - {element.job for element in run.elements(1)}
    run.slurm.command("scontrol", "requeue", sorted(ended)[0])
    run.wait_end()


@fault
def stale_results(run: Run) -> None:
    """Files of another run, of another candidate, half a file, under names that are due."""
    run.submit()
    run.wait(lambda: run.results() and run.elements(0, "RUNNING"), "a result", 90)
    whole = json.loads(run.results()[0].read_text())
    waiting = [c for c in range(16) if not list(run.paths.results.glob(f"{c:05d}.*"))]
    run.rng.shuffle(waiting)
    stale = [
        json.dumps({**whole, "run_id": "0" * 32, "candidate": waiting[0]}),
        json.dumps(whole),
        json.dumps({**whole, "candidate": waiting[2]})[:-40] if len(waiting) > 2 else "",
    ]
    planted = waiting[: len(stale)]
    for candidate, text in zip(planted, stale, strict=False):
        (run.paths.results / f"{candidate:05d}.{run.rng.randint(1, 2)}.json").write_text(text)
    run.told.append(f"planted for {planted}")
    run.wait_end()


# --- nodes and daemons ------------------------------------------------------------------------


@fault
def node_down(run: Run) -> None:
    """A node is set down, and its element starts elsewhere."""
    run.submit()
    _, running = run.midway()
    node = run.one_of(running).node
    words = ("scontrol", "update", f"nodename={node}")
    run.slurm.command(*words, "state=down", "reason=test")
    run.wait_end()
    run.slurm.command(*words, "state=resume")


@fault
def node_crashed(run: Run) -> None:
    """A node dies with all that runs on it."""
    run.submit()
    _, running = run.midway()
    run.bed.crash_node(run.one_of(running).node)
    run.wait_end()


@fault
def slurmd_killed(run: Run) -> None:
    """A node's daemon dies alone: Slurm starts the element elsewhere while the first runs on."""
    run.submit()
    _, running = run.midway(late=2.0)
    element = run.one_of(running)
    run.bed.kill(f"slurmd.{element.node}")
    # Slurm would notice in half a minute; the first has to be there still.
    run.slurm.command("scontrol", "update", f"nodename={element.node}", "state=down", "reason=test")
    run.wait_end()
    run.told.append(", ".join(run.slurm.accounting(element.job, "State", "NodeList")))


@fault
def controller_killed(run: Run) -> None:
    """slurmctld dies and comes back after elements have ended without it."""
    run.submit()
    run.midway()
    run.bed.kill("slurmctld")
    run.wait_log("squeue does not answer")
    run.bed.up()
    run.wait_end()


@fault
def controller_away(run: Run) -> None:
    """slurmctld dies, and a generation is due to be submitted before it comes back."""
    run.submit()
    run.wait(lambda: run.elements(0, "RUNNING"), "generation 0", 90)
    run.bed.kill("slurmctld")
    run.wait_log("; again in ", 120)
    run.bed.up()
    run.wait_end()
    run.told.append(f"{len(run.array_jobs(1))} arrays")


@fault
def accounting_stopped(run: Run) -> None:
    """Without slurmdbd an element dies: the queue and its absence have to do."""
    run.bed.kill("slurmdbd", signal.SIGTERM)
    run.submit()
    _, running = run.midway()
    run.slurm.command("scancel", "--signal=KILL", "--batch", run.one_of(running).job)
    run.wait_end()


# --- the script -------------------------------------------------------------------------------


def strike(bench: Bench, name: str, seed: int) -> bool:
    """One fault: strike, wait, compare, clean up, tell; whether all held."""
    run = Run(bench, name, random.Random(f"{seed} {name}"))
    shutil.rmtree(run.folder, ignore_errors=True)
    began = time.monotonic()
    failure = ""
    try:
        FAULTS[name](run)
        run.check()
    except TooLateError as error:
        failure = f"{error}"
    except Exception:
        failure = traceback.format_exc()
    finally:
        run.clean_up()
    seconds = time.monotonic() - began
    print(f"{'FAILED' if failure else 'passed'} {name:22} {seconds:5.0f} s  {'; '.join(run.told)}")
    if failure:
        print(f"    {failure}", flush=True)
    sys.stdout.flush()
    return not failure


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", choices=FAULTS, help="may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--rungs", choices=PROMOTIONS, help="candidates earn their training so")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE",
                        help="a further setting of all runs; may be repeated")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="the faults and what they are")
    parser.add_argument("--keep", type=Path, help="folder for the runs, kept afterwards")
    options = parser.parse_args(arguments)
    if options.list:
        for name, function in FAULTS.items():
            print(f"{name:24}{function.__doc__}")
        return 0
    # A folder that was kept has its reference already: a finished run is done at once.
    folder = options.keep or Path(tempfile.mkdtemp(prefix="llmatic-faults-"))
    Bed().mend()
    began = time.monotonic()
    rungs = (RUNGS, f"training.promotion={options.rungs}") if options.rungs else ()
    bench = Bench(folder, settings=(*rungs, *options.settings))
    print(f"reference: {time.monotonic() - began:.0f} s", flush=True)
    names = options.only or list(FAULTS)
    failed = sum(not strike(bench, name, options.seed) for name in names)
    if not options.keep and not failed:
        shutil.rmtree(folder)
    print(f"{len(names) - failed} passed, {failed} failed" + (f"; see {folder}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

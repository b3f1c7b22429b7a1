"""Seconds that screening takes a candidate, side by side with another version of this package.

    LLMATIC_TEST_DATA=DATA python -m tests.benchmarks.screening --base main [--turns 8]

Both trees screen the same sources, in turn (A B A B), each in a process of its own with a warm
parent that is ready: a generation of the procedural control as it stands late in a run, real
completions of small language models (``DATA/completions``; without them that row is left out) and
honest networks of people (``tests/honest``). Every turn screens anew, nothing is remembered.
Printed are medians of the milliseconds a candidate on the wall clock, the ratio base / here, and
the ratio of CPU seconds of coordinator and children together, which a busy machine disturbs less.
Ends with 1 where a verdict, a repair, a digest or a descriptor that both know differs in a single
bit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmatic_hpc.config import Config
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.generation.procedural.control import Procedural
from llmatic_hpc.generation.prompts import PREFIX
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.types import Request

from ..golden import compare
from ..honest.test_honest import MODELS

SHAPE, CLASSES = (3, 32, 32), 10
EDITS = 2
"""Edits between the initial network and those of the control."""

SIDE = """
import dataclasses, json, resource, sys, time
from llmatic_hpc.config import ContainmentSettings
from llmatic_hpc.evaluation.screen import Screener
from llmatic_hpc.sandbox.container import Container
from llmatic_hpc.sandbox import confine

with open(sys.argv[1]) as file:
    workloads = json.load(file)
settings = ContainmentSettings()
problem = {"input_shape": (3, 32, 32), "classes": 10, "containment": settings}
slots = int(sys.argv[2]) or len(__import__("os").sched_getaffinity(0))
container = Container(settings, slots=slots, kind="measure")

def cpu():
    with open(f"/proc/{container.warm_pid}/stat") as file:
        ticks = sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
    own = resource.getrusage(resource.RUSAGE_SELF)
    return ticks / 100 + own.ru_utime + own.ru_stime

for line in sys.stdin:
    screener = Screener(**problem, container=container)
    sources = workloads[line.strip()]
    before, began = cpu(), time.perf_counter()
    found = screener.examine(sources, repair=True)
    seconds, used = time.perf_counter() - began, cpu() - before
    told = [dataclasses.asdict(one) for one in found]
    print(json.dumps([seconds, used, told]), flush=True)
"""


@dataclass
class Side:
    """A tree that screens, in a process of its own."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, tree: Path, workloads: Path, slots: int) -> Side:
        """Start it; it sees no other version of the package."""
        return cls(
            subprocess.Popen(
                [sys.executable, "-c", SIDE, str(workloads), str(slots)],
                cwd=tree, env={**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip

    def turn(self, name: str) -> tuple[float, float, list[Any]]:
        """Screen a workload; return seconds on the wall clock, CPU seconds, and what was found."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(name, file=self.process.stdin, flush=True)
        seconds, used, told = json.loads(self.process.stdout.readline())
        return seconds, used, told

    def end(self) -> None:
        """Close its input, upon which it ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def controls(count: int) -> list[str]:
    """Networks of the procedural control, some edits away from the initial one."""
    settings = Config().problem
    problem = image_classification(input_shape=SHAPE, classes=CLASSES, settings=settings)
    sources = [problem.initial_source] * count
    for edit in range(EDITS):
        requests = [
            Request(n, "mutation", (n + edit) % 13, problem.prompts[(n + edit) % 13], (source,),
                    0.8, 1000 * edit + n)
            for n, source in enumerate(sources)
        ]  # fmt: skip
        written = {c.candidate: c for c in Procedural(problem).generate(requests)}
        sources = [
            extract(written[n].text, form=written[n].form, prefix=written[n].prefix).source
            for n in range(count)
        ]
    return sources


def completions(folder: Path) -> list[str]:
    """Sources that are extracted from the recorded completions; empty sources are left out."""
    settings = Config().problem
    initial = image_classification(
        input_shape=SHAPE, classes=CLASSES, settings=settings
    ).initial_source
    sources = []
    for file in sorted(folder.glob("*.jsonl")):
        for entry in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            prefix = PREFIX if entry["form"] == "completion" else ""
            text = entry["completion"]
            found = extract(text, form=entry["form"], prefix=prefix, context=(initial,))
            sources.append(found.source)
    return [source for source in sources if source]


def main() -> int:
    """Take turns, print a row for each workload."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", default="main", metavar="REV", help="what to compare with")
    parser.add_argument("--turns", type=int, default=8, help="of each side and workload")
    parser.add_argument("--most", type=int, help="sources of each workload")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these workloads")
    parser.add_argument("--slots", type=int, default=0, help="children at a time; 0: the cores")
    options = parser.parse_args()
    workloads = {"control": controls(100)}
    if data := os.environ.get("LLMATIC_TEST_DATA"):
        workloads["completions"] = completions(Path(data, "completions"))
    workloads["honest"] = [path.read_text() for path in MODELS.values()]
    chosen = options.only or workloads
    workloads = {name: w[: options.most] for name, w in workloads.items() if name in chosen}
    with compare.trees(options.base) as trees, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "workloads.json")
        file.write_text(json.dumps(workloads))
        sides = [Side.start(tree.root, file, options.slots) for tree in (trees.base, trees.new)]
        try:
            differ = [row(name, len(w), sides, options.turns) for name, w in workloads.items()]
        finally:
            for side in sides:
                side.end()
    return 1 if any(differ) else 0


def row(name: str, count: int, sides: list[Side], turns: int) -> bool:
    """Measure and print one workload; return whether the sides differ in what they found."""
    told: list[Any] = [side.turn(name)[2] for side in sides]  # and all that is done once
    taken = [[side.turn(name)[:2] for side in sides] for _ in range(turns)]
    wall = [statistics.median(turn[n][0] for turn in taken) * 1000 / count for n in (0, 1)]
    cpu = [statistics.median(turn[n][1] for turn in taken) for n in (0, 1)]
    pairs = sorted(base[0] / here[0] for base, here in taken)
    print(f"{name:<12} {count:>4} sources: base {wall[0]:6.2f} ms, here {wall[1]:6.2f} ms a "
          f"candidate, ratio {wall[0] / wall[1]:.2f} (turns {pairs[0]:.2f} to {pairs[-1]:.2f}), "
          f"of CPU time {cpu[0] / cpu[1]:.2f} ({cpu[0] * 1000 / count:.1f} / "
          f"{cpu[1] * 1000 / count:.1f} ms)", flush=True)  # fmt: skip
    differ = [n for n, (one, other) in enumerate(zip(*told, strict=True)) if not _agree(one, other)]
    for n in differ[:5]:
        base, here = (repr(side[n])[:600] for side in told)
        print(f"  source {n} differs:\n    base {base}\n    here {here}")
    return bool(differ)


def _agree(one: Any, other: Any) -> bool:
    """Return whether two findings are equal in all that both versions know."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_agree(one[key], other[key]) for key in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_agree, one, other))
    return bool(one == other)


if __name__ == "__main__":
    sys.exit(main())

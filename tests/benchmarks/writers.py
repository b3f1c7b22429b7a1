"""Several writers against each of them alone, on NAS-Bench-201 at equal queries.

    python -m tests.benchmarks.writers search TABLE.h5 --results FILE.jsonl [--seconds 240]
    python -m tests.benchmarks.writers real STUDY --results FILE.jsonl
    python -m tests.benchmarks.writers show FILE.jsonl

The control is the real one. Ten seeds of a hundred queries of every method are more than a language
model on a CPU can write, so two writers stand in for models, with shares of answers that are
settings of this file:

``measured`` the shares that 260 answers of Qwen2.5-Coder-0.5B-Instruct came to, see
             configs/nasbench201/README.md: 35 of 100 repeat their parent, 3 are no cell, the others
             change one to three edges at random, whatever the prompt says. The second one, which
             continues text, repeats its parent twice as often.
``apt``      a model that is better than the control: of ten answers seven put a 3x3 convolution
             where there is none, the others are as above. The second one as above, too.

Each method searches by mutation until its queries are spent, or 300 generations of ten candidates.
``search`` appends a line for each run and makes none again that is there. ``show`` prints the test
accuracy of the fittest cell so far, mean and standard deviation over seeds, the share of candidates
that the control wrote, and in how many seeds a rule is behind the best single writer. ``real``
gathers the runs of ``llmatic study configs/studies/writers_nasbench201.toml`` with a real model.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmatic_hpc import config as configuration
from llmatic_hpc import store
from llmatic_hpc.config import GENERATORS, GeneratorSettings
from llmatic_hpc.coordinator.loop import Silent, run
from llmatic_hpc.problems.nasbench201 import write
from llmatic_hpc.problems.nasbench201.cells import CONV3, INITIAL
from llmatic_hpc.problems.nasbench201.write import cell_written
from llmatic_hpc.store import Record
from llmatic_hpc.types import Completion, Problem, Request

CONFIG = Path(__file__).parents[2] / "configs" / "nasbench201.toml"
QUERIES = (25, 50, 100)
WORLDS = ("measured", "apt")
SHARES = {
    ("measured", "chat"): (0.35, 0.03, 0.0),
    ("measured", "text"): (0.70, 0.06, 0.0),
    ("apt", "chat"): (0.11, 0.01, 0.70),
    ("apt", "text"): (0.70, 0.06, 0.0),
}
"""Shares of answers that repeat the parent, are no cell, and add a 3x3 convolution."""
TOKENS = 185
"""Length of an answer, as the real model's."""
ALONE = ("control", "chat", "text")
RULES = {
    "uniform": ("search.writers=uniform",),
    "ucb": ("search.writers=ucb",),
    "thompson": ("search.writers=thompson",),
    "thompson, prompts too": ("search.writers=thompson", "search.prompts=bandit"),
}
RULES |= {f"{name}, prior 8": (*settings, "search.writers_prior=8")
          for name, settings in RULES.items() if name != "uniform"}  # fmt: skip
RULES["each"] = ("search.writers=each", "search.oversample=3")
"""Each place is answered by all three, and a query is what the map lacks most."""
RULES["control, three answers"] = ("search.oversample=3",)
"""The control alone, asked as often: what several answers bring by themselves."""

SAME = ("control", "text", "control, three answers")
"""Methods that know no difference between the worlds."""


class StandIn:
    """A writer that answers as a model would, by shares; ``options`` name its world and form."""

    kind = "standin"
    form = "source"
    repeatable = True

    def __init__(self, settings: GeneratorSettings, problem: Problem) -> None:
        self.name = f"standin:{settings.options['form']}"
        self.shares = SHARES[settings.options["world"], settings.options["form"]]

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield an answer to each request, from its seed and parent alone."""
        for request in requests:
            rng = random.Random(request.seed)
            cell = list(cell_written(request.parents[0]) or INITIAL)
            repeats, fails, adds = np.cumsum(self.shares)
            chance = rng.random()
            text = ""
            if repeats <= chance < fails:
                text = "class Net(nn.Module):\n    pass\n"
            elif fails <= chance < adds:
                if edges := [edge for edge in range(6) if cell[edge] != CONV3]:
                    cell[rng.choice(edges)] = CONV3
            elif chance >= adds:
                for edge in rng.sample(range(6), rng.choice((1, 1, 2, 3))):
                    cell[edge] = rng.randrange(5)
            text = text or write.source(tuple(cell))  # type: ignore[arg-type]
            yield Completion(request.candidate, text, "source", tokens=TOKENS)

    def close(self) -> None:
        """Do nothing: nothing is held."""


class Quiet(Silent):
    """Observer that says nothing."""

    def notice(self, text: str) -> None:
        """Do nothing."""


def writer(name: str, world: str) -> dict[str, Any]:
    """Settings of a writer."""
    if name == "control":
        return {"name": name, "kind": "procedural"}
    return {"name": name, "kind": "standin", "options": {"form": name, "world": world}}


def searched(table: Path, dataset: str, world: str, method: str, seed: int) -> Record:
    """Run one search."""
    names = (method.partition(",")[0],) if method.startswith(ALONE) else ALONE
    writers = json.dumps([writer(name, world) for name in names]).replace(": ", " = ")
    config = configuration.load(CONFIG, [
        f"problem.table={table}", f"problem.dataset={dataset}", f"run.seed={seed}",
        "search.batch=10", "search.generations=300", f"search.queries={max(QUERIES)}",
        "search.variant=mutation-only", "search.small_batches=false", "generator.kind=huggingface",
        f"generator.writers={writers}",
        "archive.samples=5000", *RULES.get(method, ()),
    ])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return run(config, folder, observer=Quiet())


def search(options: argparse.Namespace) -> None:
    """Make what runs are missing, for so many seconds."""
    GENERATORS.built_in["standin"] = "tests.benchmarks.writers:StandIn"  # type: ignore[index]
    known = {tuple(one["key"]) for one in read(options.results)}
    ends = time.monotonic() + options.seconds
    for seed in range(options.seeds):
        for dataset in options.datasets:
            for world in WORLDS:
                for method in options.methods:
                    of = "both" if method in SAME else world
                    if (dataset, of, method, seed) in known:
                        continue
                    if time.monotonic() > ends:
                        sys.exit("not all runs are there yet: the same command goes on")
                    record = searched(options.table, dataset, world, method, seed)
                    line = {"key": [dataset, of, method, seed], **facts(record)}
                    with options.results.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(line) + "\n")
                    known.add((dataset, of, method, seed))


def real(options: argparse.Namespace) -> None:
    """Sum up the runs of a study of real models anew, as far as each of them is."""
    lines = []
    for path in sorted(options.study.glob("*/seed*/run.h5")):
        record = store.load(path)
        method = path.parts[-3].replace("writers", "thompson")
        key = (record.config["problem"]["dataset"], "real", method, record.config["run"]["seed"])
        if (found := facts(record))["best"]:
            lines.append(json.dumps({"key": key, **found}) + "\n")
    options.results.write_text("".join(lines), encoding="utf-8")


def facts(record: Record) -> dict[str, Any]:
    """Sum up a run: the fittest's test accuracy after so many queries, who wrote, what it took."""
    table = record.candidates
    rows = np.flatnonzero(table["status"] == b"scored")
    best = [
        float(100 * table["test_accuracy"][rows[np.argmax(table["fitness"][rows[:count]])]])
        for count in QUERIES if count <= len(rows)
    ]  # fmt: skip
    return {
        "best": best,
        "queries": len(rows),
        "candidates": record.rows,
        "elites": int((record.archives["network"].elite >= 0).sum()),
        "tokens": int(table["tokens"].sum()),
        "control": float(np.mean(table["writer"] == b"control")),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Read the results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(options: argparse.Namespace) -> None:
    """Print the tables."""
    found: dict[tuple[str, str], dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for one in read(options.results):
        dataset, of, method, seed = one["key"]
        for world in WORLDS if of == "both" else (of,):
            found[dataset, world][method][seed] = one
    for (dataset, world), methods in sorted(found.items()):
        print(f"\n{dataset}, {world}\n")
        head = "".join(f" after {count} |" for count in QUERIES)
        print(f"| writers | n |{head} elites | candidates | tokens | of the control | behind |")
        print("| --- |" + " ---: |" * (len(QUERIES) + 6))
        last = len(QUERIES) - 1
        single = {m: mean(methods[m], last) for m in ALONE if m in methods}
        best = max(single, key=lambda m: single[m])
        for method in (*ALONE, *RULES):
            runs = methods.get(method, {})
            if not runs:
                continue
            cells = "".join(
                f" {spread([r['best'][i] for r in runs.values() if len(r['best']) > i])} |"
                for i in range(len(QUERIES))
            )
            both = [s for s in runs if s in methods[best]]
            behind = sum(at(runs[s], last) < at(methods[best][s], last) for s in both)
            ahead = sum(at(runs[s], last) > at(methods[best][s], last) for s in both)
            told = f"{behind} (ahead {ahead})" if method != best else "the best single"
            numbers = "".join(
                f" {statistics.fmean(r[key] for r in runs.values()):,.{digits}f} |"
                for key, digits in (("elites", 1), ("candidates", 0), ("tokens", 0), ("control", 2))
            )
            print(f"| {method} | {len(runs)} |{cells}{numbers} {told} |")


def at(one: dict[str, Any], index: int) -> float:
    """Return the accuracy after so many queries, or the last there is."""
    return float(one["best"][min(index, len(one["best"]) - 1)])


def mean(runs: dict[int, Any], index: int) -> float:
    """Return the mean accuracy over seeds."""
    return statistics.fmean(at(one, index) for one in runs.values())


def spread(values: list[float]) -> str:
    """Write mean and standard deviation, and of how many where not all got so far."""
    if len(values) < 2:
        return "-"
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    steps = parser.add_subparsers(dest="step", required=True)
    searching = steps.add_parser("search")
    searching.add_argument("table", type=Path)
    searching.add_argument("--results", type=Path, required=True)
    searching.add_argument("--seconds", type=float, default=240.0)
    searching.add_argument("--seeds", type=int, default=10)
    searching.add_argument("--datasets", nargs="+", default=["cifar100"])
    methods = (*ALONE, *RULES)
    searching.add_argument("--methods", nargs="+", choices=methods, default=methods)
    gathering = steps.add_parser("real")
    gathering.add_argument("study", type=Path)
    gathering.add_argument("--results", type=Path, required=True)
    showing = steps.add_parser("show")
    showing.add_argument("results", type=Path)
    options = parser.parse_args()
    {"search": search, "real": real, "show": show}[options.step](options)


if __name__ == "__main__":
    main()

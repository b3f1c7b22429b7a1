"""Several writers against each of them alone on images, without training and without a model.

    python -m tests.benchmarks.writers_on_images search IMAGES.h5 --results FILE.jsonl
    python -m tests.benchmarks.writers_on_images show FILE.jsonl

The settings are those of configs/studies/quick_cifar10.toml. The control and the screen are real,
so niches are; trainings and models are stood in for, so that a search takes ten seconds:

fitness  grows with the logarithm of FLOPs, by chance more or less for each network, between 0.02
         and 0.45, as 1,000 images and 3 epochs bring it about.
models   fail in a quarter (*chat*) or a third (*text*) of their answers, and edit the initial
         network in place of the parent in half of the others. Alone they fill more of the map than
         the real one did (docs/operators.md), and so are easier to share with; the control
         fills as much as with real trainings.

``search`` appends a line for each run and makes none again that is there. ``show`` prints the QD
score, mean and standard deviation over seeds, and how it differs from the control's of the same
seeds, with the standard error of that. A budget is 128 candidates, or 112 networks with a score.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import threading
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmatic_hpc import config as configuration
from llmatic_hpc import problems
from llmatic_hpc.config import GENERATORS, Config, GeneratorSettings
from llmatic_hpc.coordinator import rehearsal
from llmatic_hpc.coordinator.loop import Coordinator
from llmatic_hpc.coordinator.observing import Silent
from llmatic_hpc.generation.procedural.control import Procedural
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record
from llmatic_hpc.types import Completion, Problem, Request

STUDY = Path(__file__).parents[2] / "configs" / "studies" / "quick_cifar10.toml"
SHARES = {"chat": (0.25, 0.45), "text": (0.35, 0.35)}
"""Shares of answers that are no network, and that are edits of the initial one."""
TOKENS = 180
"""Length of an answer, as the real model's."""
BUDGETS: dict[str, dict[str, Any]] = {
    "128 candidates": {},
    "112 queries": {"queries": 112, "generations": 40},
}
RULES: dict[str, dict[str, Any]] = {
    "thompson": {},
    "thompson, prior 16": {"writers_prior": 16.0},
    "thompson, prior 16, place 1": {"writers_prior": 16.0, "place_cost": 1.0},
    "each": {"writers": "each", "oversample": 3},
}
ALONE: dict[str, dict[str, Any]] = {
    "control": {},
    "chat": {},
    "text": {},
    "control, three answers": {"oversample": 3},
}
"""One writer; with three answers it is asked as often for a place as all three under ``each``."""
FACTS = ("qd", "elites", "trainings", "candidates", "control")
METHODS = (*ALONE, *RULES)


class StandIn:
    """A writer that answers as a small model would, by shares; ``options`` name its form."""

    kind = "standin"
    form = "completion"
    repeatable = True

    def __init__(self, settings: GeneratorSettings, problem: Problem) -> None:
        self.name = f"standin:{settings.options['form']}"
        self._shares = SHARES[settings.options["form"]]
        self._control, self._initial = Procedural(problem), problem.initial_source

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield an answer to each request, from its seed and parents alone."""
        fails, starts = self._shares
        for request in requests:
            chance = random.Random(request.seed).random()
            if chance < fails:
                text = "class Net(nn.Module):\n    pass\n"
                yield Completion(request.candidate, text, self.form, tokens=TOKENS)
                continue
            if chance < fails + starts:
                parents = (self._initial,) * len(request.parents)
                request = replace(request, parents=parents, temperature=0.3)
            (edited,) = self._control.generate([request])
            yield replace(edited, tokens=TOKENS)

    def close(self) -> None:
        """Do nothing: nothing is held."""


class Guessed(rehearsal.Untrained):
    """Evaluator that screens, and guesses a network's fitness from its FLOPs."""

    def score(self, record: Record, row: int) -> float:
        """Return the number that stands in for a candidate's fitness, the same for a network."""
        table = record.candidates
        rng = np.random.default_rng((int(bytes(table["canonical_sha256"][row])[:8], 16),))
        size = math.log10(max(float(table["flops"][row]), 1.0)) - 5.3
        guess = 0.12 + 0.22 / (1 + math.exp(-1.5 * size)) * rng.uniform(0.3, 1.2)
        return min(max(round(guess + rng.normal(0, 0.02), 2), 0.02), 0.45)


class Quiet(Silent):
    """Observer that says nothing."""

    def notice(self, text: str) -> None:
        """Do nothing."""


def settings_of(images: Path, method: str, budget: str, seed: int) -> Config:
    """Return the settings of one search."""
    study = tomllib.loads(STUDY.read_text(encoding="utf-8"))
    common = configuration.load(STUDY.parent / study["config"])
    known = configuration.to_tables(common)
    for table, values in study["settings"].items():
        known[table] |= values
    names = ("chat", "text", "control") if method in RULES else (method.partition(",")[0],)
    writers = [
        {"name": name, "kind": "procedural"}
        if name == "control"
        else {"name": name, "kind": "standin", "options": {"form": name}}
        for name in names
    ]
    known["generator"] |= {"fallback": "", "resample": 2, "writers": writers}
    known["problem"]["data"] = str(images.resolve())
    known["run"]["seed"] = seed
    rule = {"writers": "thompson"} if len(names) > 1 else {}
    known["search"] |= rule | RULES.get(method, {}) | ALONE.get(method, {}) | BUDGETS[budget]
    return configuration.from_tables(known, str(STUDY))


def searched(config: Config) -> Record:
    """Make one search."""
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder) / "run")
        kind = problems.kind_of(config)
        with closing(
            kind.evaluator(config, paths, notice=lambda text: None, stop=stop, backend=None)
        ) as real:
            guessed = Guessed(real, config, config.run.seed, stop, seconds=math.inf)
            return Coordinator(config, paths, Quiet(), stop, evaluator=guessed).run()


def search(options: argparse.Namespace) -> None:
    """Make what runs are missing, for so many seconds."""
    GENERATORS.built_in["standin"] = f"{StandIn.__module__}:StandIn"  # type: ignore[index]
    known = {tuple(one["key"]) for one in read(options.results)}
    ends = time.monotonic() + options.seconds
    for seed in range(options.seeds):
        for budget in BUDGETS:
            for method in options.methods:
                if (method, budget, seed) in known:
                    continue
                if time.monotonic() > ends:
                    sys.exit("not all runs are there yet: the same command goes on")
                record = searched(settings_of(options.images, method, budget, seed))
                line = {"key": [method, budget, seed], **facts(record)}
                with options.results.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")


def facts(record: Record) -> dict[str, float]:
    """Sum up a search."""
    return {
        "qd": float(record.history["network_qd_score"][-1]),
        "elites": int(record.history["network_elites"][-1]),
        "trainings": int((record.candidates["status"] == b"scored").sum()),
        "candidates": record.rows,
        "control": float(np.mean(record.candidates["writer"] == b"control")),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Read the results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(options: argparse.Namespace) -> None:
    """Print a table for each budget."""
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = defaultdict(dict)
    for one in read(options.results):
        method, budget, seed = one["key"]
        found[method, budget][seed] = one
    for budget in BUDGETS:
        print(f"\n{budget}\n\n| writers | n | elites | QD score | less the control's | better |"
              " trainings | candidates | of the control |")  # fmt: skip
        print("| --- |" + " ---: |" * 8)
        control = found["control", budget]
        for method in METHODS:
            if not (runs := found[method, budget]):
                continue
            means = {name: statistics.fmean(run[name] for run in runs.values()) for name in FACTS}
            scores = [run["qd"] for run in runs.values()]
            apart = [run["qd"] - control[seed]["qd"] for seed, run in runs.items()]
            error = statistics.stdev(apart) / math.sqrt(len(apart))
            less = "" if method == "control" else f"{statistics.fmean(apart):+.2f} ± {error:.2f}"
            ahead = "" if method == "control" else sum(one > 0 for one in apart)
            print(
                f"| {method} | {len(runs)} | {means['elites']:.1f} | {means['qd']:.2f} ± "
                f"{statistics.stdev(scores):.2f} | {less} | {ahead} | {means['trainings']:.0f} | "
                f"{means['candidates']:.0f} | {means['control']:.2f} |"
            )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    steps = parser.add_subparsers(dest="step", required=True)
    searching = steps.add_parser("search")
    searching.add_argument("images", type=Path)
    searching.add_argument("--results", type=Path, required=True)
    searching.add_argument("--seconds", type=float, default=3600.0)
    searching.add_argument("--seeds", type=int, default=16)
    searching.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    showing = steps.add_parser("show")
    showing.add_argument("results", type=Path)
    options = parser.parse_args()
    {"search": search, "show": show}[options.step](options)


if __name__ == "__main__":
    main()

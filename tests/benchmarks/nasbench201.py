"""Unique queries until the best cell of NAS-Bench-201 is found, for every method in one run.

    python -m tests.benchmarks.nasbench201 TABLE.h5                # the methods
    python -m tests.benchmarks.nasbench201 TABLE.h5 --settings     # one setting changed at a time

A method is a configuration; its search, generator and evaluator are those of a run, and only the
record is left out. What has a score already costs no query. Prints the median of the queries
(and the mean, and the most) over the seeds for each data set, and beside it how often the best
cell was found within the budget. The protocol is the paper's: the best test accuracy seen.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from llmatic_hpc import config as configuration
from llmatic_hpc.config import Config
from llmatic_hpc.generation import create
from llmatic_hpc.problems.nasbench201.cells import DATASETS
from llmatic_hpc.problems.nasbench201.evaluator import Tabulated
from llmatic_hpc.store.fold import new_search
from llmatic_hpc.types import Evaluation, Proposal, Request

ROOT = Path(__file__).parents[2] / "configs"
NAMES = ("llmatic", "paper", "local-search", "regularized-evolution", "random-search")

SETTINGS = {
    "as it is": (),
    "cells may be seen": ("generator.unseen=false",),
    "free edits": ("generator.edits=free",),
    "parents uniform": ("search.parents=uniform",),
    "tournament of 5": ("search.tournament=5",),
    "tournament of 40": ("search.tournament=40",),
    "batch of 1": ("search.batch=1",),
    "batch of 10": ("search.batch=10",),
    "batch of 100": ("search.batch=100",),
    "mutation 0.7": ("search.mutation_probability=0.7",),
    "mutation 1.0": ("search.mutation_probability=1.0",),
    "start 10": ("search.start_elites=10",),
}


def method(name: str, table: Path, dataset: str, *changes: str) -> Config:
    """The configuration of a method."""
    path = ROOT / "nasbench201.toml" if name == "llmatic" else ROOT / "nasbench201" / f"{name}.toml"
    where = (f"problem.table={table}", f"problem.dataset={dataset}", "problem.protocol=paper")
    return configuration.load(path, (*where, *changes))


@cache
def evaluator(config: Config) -> Tabulated:
    """One for all seeds."""
    return Tabulated(config)


def queries(config: Config, seed: int, budget: int) -> Iterator[float]:
    """The fitness of each cell in the order in which the method asks for them, each once."""
    tabulated = evaluator(config)
    settings = configuration.override(config, [f"run.seed={seed}", "archive.samples=5000"])
    search = new_search(settings, len(tabulated.problem.prompts))
    generator = create(config.generator, tabulated.problem, notify=print)
    sources: list[str] = []
    fitness: dict[str, float] = {}
    while len(fitness) < budget:
        proposals = search.ask()
        requests = [_request(p, sources, tabulated, frozenset(fitness)) for p in proposals]
        written = [completion.text for completion in generator.generate(requests)]
        evaluations = []
        for proposal, source in zip(proposals, written, strict=True):
            screened, outcome = tabulated.judge(source)
            assert screened.descriptors is not None
            if screened.architecture not in fitness:
                fitness[screened.architecture] = outcome.fitness
                yield outcome.fitness
            evaluations.append(
                Evaluation(
                    proposal.candidate,
                    "scored",
                    outcome.fitness,
                    (screened.descriptors.ratio, screened.descriptors.flops),
                )
            )
        sources += written
        search.tell(evaluations)


def _request(
    proposal: Proposal, sources: list[str], tabulated: Tabulated, seen: frozenset[str]
) -> Request:
    return Request(
        candidate=proposal.candidate,
        operator=proposal.operator,
        prompt=proposal.prompt,
        instruction="",
        parents=tuple(sources[p] for p in proposal.parents) or (tabulated.problem.initial_source,),
        temperature=proposal.temperature,
        seed=proposal.sampling_seed,
        neighbour=proposal.individual if proposal.operator == "neighbour" else -1,
        seen=seen,
    )


def needed(config: Config, seed: int, budget: int) -> int:
    """Queries until the best cell is found; beyond the budget where it is not."""
    best = evaluator(config).facts()["benchmark"]["best_fitness"]
    for number, fitness in enumerate(queries(config, seed, budget), start=1):
        if fitness == best:
            return number
        if number >= budget:
            break
    return budget + 1


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budget", type=int, default=4000)
    parser.add_argument("--settings", action="store_true")
    parser.add_argument("--only", nargs="*", help="some of the methods or settings")
    parser.add_argument("--set", nargs="*", default=[], help="settings of all of them")
    options = parser.parse_args()
    lines = {
        name: ("llmatic", changes) if options.settings else (name, ())
        for name, changes in (SETTINGS.items() if options.settings else [(n, ()) for n in NAMES])
        if not options.only or name in options.only
    }
    if not options.settings and not options.only:
        lines["local-search, first improvement"] = (
            "local-search", ("search.first_improvement=true",),
        )  # fmt: skip
        lines["regularized-evolution, 10 of 3"] = (
            "regularized-evolution", ("search.population=10", "search.tournament=3"),
        )  # fmt: skip
    print(f"queries to the best cell, {options.seeds} seeds: median (mean, most), found")
    with ProcessPoolExecutor() as pool:
        for name, (configured, changes) in lines.items():
            began, cells = time.perf_counter(), []
            for dataset in DATASETS:
                config = method(configured, options.table, dataset, *changes, *options.set)
                jobs = [
                    pool.submit(needed, config, seed, options.budget)
                    for seed in range(options.seeds)
                ]
                found = [job.result() for job in jobs]
                share = sum(n <= options.budget for n in found)
                cells.append(
                    f"{dataset} {statistics.median(found):6.1f} ({statistics.mean(found):5.0f}, "
                    f"{max(found):5d}) {share}/{len(found)}"
                )
            seconds = time.perf_counter() - began
            print(f"{name:34s} {' | '.join(cells)}  [{seconds:.0f} s]", flush=True)


if __name__ == "__main__":
    main()

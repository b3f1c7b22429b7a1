"""Seconds, memory and size of a page, of a made-up record with as many candidates as you like.

    python -m tests.benchmarks.report --candidates 2000 --candidates 20000

A line of JSON for each: seconds, those of a core, and peak memory of ``llmatic report`` in a
process of its own, megabytes of the page, and seconds until Chromium, where there is one, has
drawn it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from llmatic_hpc import store
from llmatic_hpc.config import Config
from llmatic_hpc.config.fields import to_tables
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record
from llmatic_hpc.store.fold import advance, archive_states, new_search
from llmatic_hpc.store.record import PROPOSED
from llmatic_hpc.store.rows import proposal_columns
from llmatic_hpc.types import Proposal

from ..report import browser

BATCH, EPOCHS = 100, 20
FAILURES = (
    "mat1 and mat2 shapes cannot be multiplied ({0}x512 and {1}x10)",
    "name 'x{0}' is not defined",
    "it has {0}00 multiply-adds for one image, more than containment.max_flops = {1}00",
)


def settings(generations: int) -> Config:
    """Settings with a map that fills."""
    base = Config()
    network = replace(
        base.archive.network, lower=(0.1, 1e4), upper=(400.0, 1e9), scale=("log", "log")
    )
    return replace(
        base,
        search=replace(base.search, generations=generations, batch=BATCH),
        archive=replace(base.archive, network=network),
        training=replace(base.training, epochs=EPOCHS, fitness_split="validation"),
    )


def written(rng: np.random.Generator) -> str:
    """Source of a network of one or two kilobytes, different from all others."""
    widths = rng.integers(8, 512, rng.integers(4, 14)).tolist()
    layers = [
        f"        self.conv{n} = nn.Conv2d({a}, {b}, kernel_size=3, padding=1)  # {b} channels"
        for n, (a, b) in enumerate(zip([3, *widths], widths, strict=False))
    ]
    steps = [f"        x = F.relu(self.conv{n}(x))" for n in range(len(layers))]
    head = f"        self.head = nn.Linear({widths[-1]}, 10)"
    return "\n".join([
        "import torch", "import torch.nn as nn", "import torch.nn.functional as F", "", "",
        "class Net(nn.Module):", "    def __init__(self):", "        super().__init__()", *layers,
        head, "", "    def forward(self, x):", *steps,
        "        return self.head(x.mean(dim=(2, 3)))", "",
    ])  # fmt: skip


def proposed(proposal: Proposal, rng: np.random.Generator) -> dict[str, Any]:
    """Row of a candidate that was screened."""
    source = written(rng)
    digest = hashlib.sha256(source.encode()).hexdigest()
    flops, ratio = 10.0 ** rng.uniform(3.5, 9.2), 10.0 ** rng.uniform(-1.2, 2.8)
    values = {
        "form": "chat", "tokens": len(source) // 3, "written": "parsed", "source": source,
        "completion": f"Here is the network:\n\n```python\n{source}\n```\nIt has more layers.",
        "repairs": json.dumps([{"rule": "shapes", "before": "10)", "after": "10)  # mended"}]),
        "source_sha256": digest, "canonical_sha256": digest, "status": "pending", "flops": flops,
        "ratio": ratio, "descriptors": (ratio, flops), "params": int(flops / 100) + 10,
        "width": int(ratio * 9) + 1, "depth": 9, "generate_seconds": 3.0,
    }  # fmt: skip
    return {**proposal_columns(proposal), **values}


def evaluated(
    record: Record, row: int, began: float, rng: np.random.Generator
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Result of a candidate, and its attempts."""
    again = row % 50 == 7
    start = began + rng.uniform(1, 300)
    took = float(rng.uniform(20, 90))
    tries = [("node failure", start - 20, start - 1)] if again else []
    tries.append(("result", start, start + took))
    attempts = [
        {"candidate": row, "attempt": n, "submitted": began, "start": first, "end": last,
         "job": f"77_{row % 100}", "node": f"gpu{row % 7}", "ending": ending}
        for n, (ending, first, last) in enumerate(tries, 1)
    ]  # fmt: skip
    common = {"node": f"gpu{row % 7}", "slurm_job": f"77_{row % 100}", "attempts": len(tries),
              "train_seconds": took, "queue_seconds": start - began,
              "device": "cuda NVIDIA A100"}  # fmt: skip
    if row % 4 == 3:
        why = FAILURES[row // 4 % 3].format(*rng.integers(1, 999, 2))
        return {**common, "status": "invalid", "failure": why}, attempts
    size = np.log10(float(record.candidates["flops"][row])) / 10
    fitness = float(np.clip(0.2 + 0.5 * size + rng.normal(0, 0.08), 0.1, 0.97))
    losses = [float(f"{2.3 * np.exp(-0.1 * n * fitness):.6g}") for n in range(EPOCHS)]
    return {
        **common, "status": "scored", "fitness": fitness, "valid_accuracy": fitness,
        "test_accuracy": max(0.0, fitness - 0.01), "train_loss": losses[-1], "epochs": EPOCHS,
        "train_curve": json.dumps(losses),
    }, attempts  # fmt: skip


def made(candidates: int, seed: int = 0) -> Record:
    """Record of a run that never was, sound in all that ``llmatic verify`` looks at."""
    chosen = settings(max(1, candidates // BATCH))
    problem = image_classification(input_shape=(3, 32, 32), classes=10)
    search = new_search(chosen, len(problem.prompts))
    record = Record(
        run_id=f"{seed:032x}", config=to_tables(chosen), prompts=problem.prompts,
        environment={"generator": "made up", "initial_network": problem.initial_source},
        archives=archive_states(search), data_sha256="0" * 64,
    )  # fmt: skip
    rng, now = np.random.default_rng(seed), 1.8e9
    for _ in range(chosen.search.generations):
        record.append_candidates([proposed(proposal, rng) for proposal in search.ask()])
        record.phase = PROPOSED
        results = {}
        for row in record.out():
            results[row], attempts = evaluated(record, row, now, rng)
            record.attempts.append(attempts)
        advance(record, search, results, {"started": now, "evaluate_seconds": 400.0})
        now += 500.0
        record.history["finished"][-1] = now
        record.archives = archive_states(search)
    return record


def measured(folder: Path, candidates: int) -> dict[str, Any]:
    """Figures of one page."""
    folder.mkdir(parents=True)
    store.commit(RunPaths(folder), made(candidates))
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "llmatic_hpc", "report", str(folder)])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    page = RunPaths(folder).report / "index.html"
    found = {
        "candidates": candidates,
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "page_mb": round(page.stat().st_size / 1e6, 2),
    }
    if browser.executable():
        with browser.browser() as opened:
            opened.look(1280, 900)
            found["open_seconds"] = round(opened.open(page.as_uri()), 2)
            found["faults"] = opened.faults()
    return found


@click.command()
@click.option("--candidates", multiple=True, type=int, default=(2000, 20000))
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the runs.")
def main(candidates: tuple[int, ...], keep: Path | None) -> None:
    """Print the figures of a page for each number of candidates."""
    with tempfile.TemporaryDirectory() as scratch:
        for number in candidates:
            found = measured((keep or Path(scratch)) / f"made-{number}", number)
            click.echo(json.dumps(found))


if __name__ == "__main__":
    main()

"""Costs of containment: the static part by sources a second, the child by candidate.

    python -m tests.benchmarks.containment [--count 200]

The static part is the gate and the canonical digest over networks of the procedural control, on
one core. The child is a training of one epoch, contained (fork, seal, train, predict, reply,
judge) against the same training called here, in turn, in one run. Exit code 1 where a bound is
not met: 50 sources a second, 0.15 s a candidate.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from llmatic_hpc.config import Config, ProblemSettings, TrainingSettings
from llmatic_hpc.evaluation import build, data, trainer, training
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.generation.procedural.control import Procedural
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.sandbox import confine
from llmatic_hpc.sandbox.container import Container
from llmatic_hpc.source import canonical, gate
from llmatic_hpc.types import Request

SOURCES_A_SECOND, SECONDS_A_CANDIDATE = 50.0, 0.15
CONFIG = Config(
    problem=ProblemSettings(train_images=300, test_images=100),
    training=TrainingSettings(epochs=1, device="cpu", threads=1),
)


def sources(count: int) -> list[str]:
    """Different networks, as the control writes them from the initial one."""
    shape, classes = data.describe(CONFIG.problem)
    problem = image_classification(input_shape=shape, classes=classes, settings=CONFIG.problem)
    requests = [
        Request(n, "mutation", n % 13, problem.prompts[n % 13], (problem.initial_source,), 0.8, n)
        for n in range(count)
    ]
    written = Procedural(problem).generate(requests)
    return [extract(c.text, form=c.form, prefix=c.prefix).source for c in written]


def static_rate(texts: list[str]) -> float:
    """Sources a second through gate and canonical form."""
    began = time.perf_counter()
    for text in texts:
        gate.check(text, max_bytes=CONFIG.containment.source_bytes)
        canonical.canonical_sha256(text)
    return len(texts) / (time.perf_counter() - began)


def main() -> int:
    """Measure, print, compare with the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="sources of the static part")
    parser.add_argument("--pairs", type=int, default=20, help="trainings of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = sources(options.count)
    rate = static_rate(texts)
    print(f"static part: {rate:.0f} sources a second on one core "
          f"({sum(map(len, texts)) / len(texts):.0f} characters each)")  # fmt: skip

    dataset = data.load(CONFIG.problem, CONFIG.training, seed=0)
    arrays = data.for_training(dataset)
    images = training.Images(**{name: torch.from_numpy(a) for name, a in arrays.items()})
    shape, classes = data.describe(CONFIG.problem)
    source = image_classification(
        input_shape=shape, classes=classes, settings=CONFIG.problem
    ).initial_source
    contained, plain = [], []
    with Container(CONFIG.containment, arrays=arrays) as container:
        evaluator = trainer.Trainer(container, dataset, CONFIG.training, CONFIG.containment, 1)
        for turn in range(options.pairs + 1):
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                outcome = evaluator.evaluate(source, seed=0, epochs=1, folder=Path(folder))
                contained.append(time.perf_counter() - began)
                assert outcome.status == "scored", outcome
            with tempfile.TemporaryDirectory() as folder:
                job = evaluator.job(source, seed=0, epochs=1, folder=Path(folder))
                recipe = training.Recipe(**job.parameters["recipe"])
                began = time.perf_counter()
                torch.manual_seed(0)
                training.train(
                    lambda: build.build(source), images, recipe, classes=classes,
                    folder=Path(folder), identity="", asked=lambda: False,
                )  # fmt: skip
                plain.append(time.perf_counter() - began)
            if turn == 0:  # of both: what is done once
                contained.clear()
                plain.clear()
    one, other = statistics.median(contained), statistics.median(plain)
    layers = ", ".join(sorted(confine.available())) or "none"
    print(f"contained {one:.3f} s, plain {other:.3f} s (medians of {options.pairs}): containment "
          f"adds {one - other:.3f} s a candidate; layers of the kernel: {layers}")  # fmt: skip
    return 0 if rate >= SOURCES_A_SECOND and one - other <= SECONDS_A_CANDIDATE else 1


if __name__ == "__main__":
    sys.exit(main())

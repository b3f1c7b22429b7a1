"""Accuracy that recipes of training come to on CIFAR-10, at equal epochs and batches.

    python -m tests.benchmarks.recipes [--images 1000] [--epochs 8] [--seeds 3] [--data FILE]

Two networks of ``problems/images/seeds.py``, the plain and the residual one, are trained on a
stratified part of the training images by each recipe, and judged on test images that decide
nothing. What is printed is the mean and the sample standard deviation over seeds, in percent, with
the CPU seconds of one training. ``--data`` is ``cifar10.h5`` of ``LLMATIC_TEST_DATA`` unless given.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmatic_hpc.config import ProblemSettings, TrainingSettings
from llmatic_hpc.evaluation import build, data, score, training
from llmatic_hpc.evaluation.training import Images, Recipe
from llmatic_hpc.problems.images.seeds import seeds

ADAMW = {"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.05}
COSINE = {"schedule": "cosine"}
AUGMENTED = {"augmentation": ("flip", "crop")}
RECIPES: dict[str, dict[str, Any]] = {
    "sgd, 0.001 (the paper's)": {"learning_rate": 0.001},
    "sgd, 0.01": {"learning_rate": 0.01},
    "sgd, 0.03, cosine, decay 5e-4": {"learning_rate": 0.03, "weight_decay": 5e-4, **COSINE},
    "adamw, 0.003, decay 0.05": ADAMW,
    "adamw, 0.003, cosine, decay 0.05": ADAMW | COSINE,
    "adamw, 0.003, cosine, decay 0.05, flip, crop": ADAMW | COSINE | AUGMENTED,
}
BATCH = 32


def trained(source: str, dataset: data.Dataset, recipe: Recipe) -> tuple[float, float]:
    """Return test accuracy in percent and CPU seconds of a training."""
    arrays = data.for_training(dataset)
    images = Images(**{n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in arrays.items()})
    random.seed(recipe.seed)
    np.random.seed(recipe.seed)
    began = time.process_time()
    found = training.train(lambda: build.build(source), images, recipe, classes=dataset.classes)
    seconds = time.process_time() - began
    return 100 * score.accuracy(found.predictions[1], dataset.test.labels), seconds


def main() -> None:
    """Print a row for every recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1000, help="to train on")
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="", help="recipes whose names contain it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.data or Path(os.environ["LLMATIC_TEST_DATA"]) / "cifar10.h5"
    problem = ProblemSettings(
        data=str(path), train_images=options.images, test_images=options.test_images
    )
    dataset = data.load(problem, TrainingSettings(fitness_split="test"), seed=0)
    networks = seeds(dataset.input_shape, dataset.classes)[:2]
    print(
        f"{len(dataset.train)} images, {options.epochs} epochs, batch {BATCH}, {len(dataset.test)} "
        f"test images, n = {options.seeds} seeds\n"
    )
    print("| recipe | plain | seconds | residual | seconds |\n| --- | ---: | ---: | ---: | ---: |")
    for name, changes in RECIPES.items():
        if options.only not in name:
            continue
        cells = []
        for source in networks:
            found = [
                trained(source, dataset, Recipe(**{
                    "epochs": options.epochs, "batch": BATCH, "momentum": 0.9, "seed": seed,
                    "checkpoint_seconds": 1e9, "evaluation_batch": 500, **changes,
                }))
                for seed in range(options.seeds)
            ]  # fmt: skip
            accuracies, seconds = zip(*found, strict=True)
            spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
            cells += [f"{statistics.mean(accuracies):.1f} ± {spread:.1f}"]
            cells += [f"{statistics.median(seconds):.1f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

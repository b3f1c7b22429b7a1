"""Cells of the map that real networks fill: by the paper's axes, and by the shipped ones.

    python -m tests.benchmarks.map FOLDER_OR_FILE... [--samples 200]

Reads completions of the initial network as :mod:`.repair` does, measures what fits (repaired where
rules make it fit), and draws batches of 100 completions: the mean number of cells that one fills,
over batches and five tessellations, and how many of its networks lie outside of the bounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from llmatic_hpc import config
from llmatic_hpc.config import Config
from llmatic_hpc.evaluation.screen import Screener
from llmatic_hpc.problems.images.kind import DESCRIPTORS, FURTHER, image_classification
from llmatic_hpc.search import Purpose, generator, network_tessellation
from llmatic_hpc.store.rows import measured

from .repair import CLASSES, SHAPE, entries_of, examined

BATCH = 100
SEEDS = 5
AUTO = ("archive.network.lower=auto", "archive.network.upper=auto")
LOG = "archive.network.scale=['log', 'log']"


def axes(*names: str) -> tuple[str, ...]:
    """Automatic bounds on logarithmic axes."""
    return f"archive.network.axes={list(names)}", LOG, *AUTO


MAPS = {
    "the paper's": (),
    "ratio, FLOPs; linear, to 10 MegaFLOPS": (
        "archive.network.lower=[0.0, 0.0]", "archive.network.upper=[200.0, 1e7]"),
    "ratio, FLOPs (quickstart)": (*axes("ratio", "flops"), "containment.max_flops=5e7"),
    "ratio, parameters": axes("ratio", "params"),
    "FLOPs, parameters": axes("flops", "params"),
    "depth, parameters": axes("depth", "params"),
    "depth, width": axes("depth", "width"),
}  # fmt: skip


def filled(
    settings: Config, networks: list[dict[str, float] | None], samples: int
) -> tuple[float, int, float]:
    """Cells that a batch of completions fills on average, all of them, and the share clipped."""
    archive = settings.archive
    chosen = config.network_axes(archive.network, DESCRIPTORS + FURTHER)
    points = [None if n is None else [n[axis.name] for axis in chosen] for n in networks]
    counts, everything = [], []
    for seed in range(SEEDS):
        rng = generator(seed, 0, Purpose.NETWORK_TESSELLATION)
        cells = network_tessellation(archive.network, chosen, samples=archive.samples, rng=rng)
        found = iter(cells.locate([point for point in points if point is not None]))
        places = [None if point is None else next(found) for point in points]
        draw = np.random.default_rng(seed)
        for _ in range(samples // SEEDS):
            batch = draw.choice(len(places), min(BATCH, len(places)), replace=False).tolist()
            counts.append(len({place.cell for n in batch if (place := places[n])}))
        everything.append(len({place.cell for place in places if place}))
    clipped = [place.clipped for place in places if place]
    return float(np.mean(counts)), round(np.mean(everything)), float(np.mean(clipped))


def main() -> None:
    """Print a row for every map."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FOLDER_OR_FILE")
    parser.add_argument("--samples", type=int, default=200, help="batches that are drawn")
    options = parser.parse_args()
    files = [f for p in options.files for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p])]
    entries = [entry for file in files for entry in entries_of(file)]
    with Screener(input_shape=SHAPE, classes=CLASSES, containment=Config().containment) as screener:
        seen = [found.screened for found in examined(entries, screener)]
        first = image_classification(input_shape=SHAPE, classes=CLASSES).initial_source
        (initial,) = screener.screen([first])
    networks = [measured(verdict) if verdict.descriptors else None for verdict in seen]
    networks += [None] * (len(entries) - len(networks))  # without a class
    distinct = len({verdict.canonical_sha256 for verdict in seen if verdict.descriptors})
    fit = sum(network is not None for network in networks)
    print(f"{len(entries)} completions, {fit} fit, {distinct} of them distinct\n")
    print(f"| axes | bounds | cells of 100, a batch of {BATCH} | all {len(entries)} | clipped |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name, settings in MAPS.items():
        chosen = config.settled(config.override(Config(), settings), measured(initial))
        mean, everything, clipped = filled(chosen, networks, options.samples)
        network = chosen.archive.network
        bounds = ", ".join(
            f"{low:.3g} to {high:.3g}"
            for low, high in zip(network.lower, network.upper, strict=True)
        )
        print(f"| {name} | {bounds} | {mean:.1f} | {everything} | {clipped:.0%} |")


if __name__ == "__main__":
    main()

"""Seeds of image classification."""

from __future__ import annotations

import pytest

from llmatic_hpc import config
from llmatic_hpc.config import Config
from llmatic_hpc.evaluation.measure import measure
from llmatic_hpc.problems.images.kind import (
    DESCRIPTORS,
    FURTHER,
    ImageClassification,
    image_classification,
)
from llmatic_hpc.problems.images.seeds import seeds
from llmatic_hpc.search import Purpose, generator, network_tessellation
from llmatic_hpc.source import gate


def initial(shape: tuple[int, ...]) -> dict[str, float]:
    """Measures of the initial network, by which the map is laid out."""
    if len(shape) == 3:
        return {"ratio": 2.5, "flops": 13_312}
    source = image_classification(input_shape=shape, classes=7).initial_source
    found = measure(
        source, input_shape=shape, classes=7, max_params=10**6, max_flops=3e7, max_layers=50
    )
    assert found.descriptors
    return {"ratio": found.descriptors.ratio, "flops": found.descriptors.flops}


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 28, 28), (4, 7, 9), (6, 128), (1, 5), (2, 1000), (30,), (4,), (784,)]
)
def test_seeds_fit_the_data_and_lie_apart(shape: tuple[int, ...]) -> None:
    """They pass the gate, fit images of odd sizes, too, sequences and tables. No two of those for
    images share a cell of the map, and at most two of the others."""
    sources = seeds(shape, 7)
    assert len(sources) == ImageClassification.seeds
    points = []
    for source in sources:
        assert gate.check(source, max_bytes=10_000).status == "pending"
        found = measure(
            source, input_shape=shape, classes=7, max_params=10**6, max_flops=3e7, max_layers=50
        )
        assert found.descriptors, found.failure
        points.append((found.descriptors.ratio, found.descriptors.flops))
    words = ("axes=['ratio', 'flops']", "scale=['log', 'log']", "lower=auto", "upper=auto")
    asked = config.override(Config(), [f"archive.network.{word}" for word in words])
    archive = config.settled(asked, initial(shape)).archive.network
    rng = generator(0, 0, Purpose.NETWORK_TESSELLATION)
    axes = config.network_axes(archive, DESCRIPTORS + FURTHER)
    cells = network_tessellation(archive, axes, samples=25_000, rng=rng)
    apart = len({place.cell for place in cells.locate(points)})
    assert apart >= len(sources) - (len(shape) != 3)

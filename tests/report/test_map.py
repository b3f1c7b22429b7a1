"""The map of the network archive as characters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmatic_hpc.report.map import network_map
from llmatic_hpc.store import Record

from ..store.conftest import made_up


def with_cells(record: Record, centroids: list[list[float]], fitness: list[float]) -> Record:
    """The record with other cells; NaN: no elite."""
    values = np.array(fitness)
    record.archives["network"] = replace(
        record.archives["network"],
        centroids=np.array(centroids), fitness=values, elite=np.where(np.isnan(values), -1, 0),
    )  # fmt: skip
    return record


def test_cells_lie_where_their_axes_say() -> None:
    """Low FLOPs are at the bottom, digits go from the worst elite to the best."""
    quarters = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    record = with_cells(made_up(), quarters, [0.1, 0.5, float("nan"), 0.9])
    lines = network_map(record, width=28, height=4).splitlines()
    assert lines == [
        "FLOPs (FLOP)",
        "5e+09 |" + "." * 14 + "9" * 14 + "|",
        "      |" + "." * 14 + "9" * 14 + "|",
        "      |" + "0" * 14 + "5" * 14 + "|",
        "2e+08 |" + "0" * 14 + "5" * 14 + "|",
        "       0     width / depth      200",
        "0 to 9: fitness 0.1000 to 0.9000; . no elite",
    ]


def test_an_elite_in_the_smallest_of_cells_is_seen() -> None:
    """Between a thousand empty cells each elite has its character; so has one at the border."""
    rng = np.random.default_rng(0)
    centroids = rng.random((3000, 2))
    centroids[0] = 1.0
    fitness = np.where(np.arange(3000) < 40, 0.5, np.nan)
    text = network_map(with_cells(made_up(), centroids.tolist(), fitness.tolist()))
    drawn = {tuple((p * (60, 20)).astype(int).clip(max=(59, 19))) for p in centroids[:40]}
    assert text.rpartition("\n")[0].count("9") >= len(drawn)
    assert "9: fitness 0.5000; . no elite" in text


def test_more_axes_than_two_and_nothing_found() -> None:
    """The first two are shown; an archive without elites is a map of dots."""
    record = with_cells(made_up(), [[0.2, 0.2, 0.9], [0.8, 0.8, 0.1]], [float("nan")] * 2)
    archive = record.archives["network"]
    record.archives["network"] = replace(
        archive,
        axes=(*archive.axes, "memory"), names=(*archive.names, "memory"),
        scales=("linear", "log", "linear"),
        lower=np.array([1.0, 1.0, 1.0]), upper=np.array([2.0, 100.0, 2.0]),
    )  # fmt: skip
    lines = network_map(record).splitlines()
    assert lines[0] == "FLOPs (FLOP, log)"
    assert lines[1] == "100 |" + "." * 60 + "|"
    assert lines[-1] == ". no elite yet"
    assert len(lines) == 23

"""Packing: everything once, balanced, longest first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmatic_hpc.cluster import Work
from llmatic_hpc.cluster.placement import FIXED_COST_FLOPS, pack, task_count


def items(flops: list[float]) -> list[Work]:
    return [Work(candidate=i, source_sha256="", flops=f) for i, f in enumerate(flops)]


@given(st.lists(st.floats(0, 1e10), min_size=1, max_size=60), st.integers(1, 12))
def test_pack(flops: list[float], tasks: int) -> None:
    """Each candidate is in one task; no task is longer than Graham's bound."""
    packed = pack(items(flops), tasks)
    assert sorted(w.candidate for task in packed for w in task) == list(range(len(flops)))
    assert all(task for task in packed)
    for task in packed:
        assert [w.flops for w in task] == sorted((w.flops for w in task), reverse=True)
    costs = [f + FIXED_COST_FLOPS for f in flops]
    longest = max(sum(w.flops + FIXED_COST_FLOPS for w in task) for task in packed)
    assert longest <= sum(costs) / tasks + max(costs) + 1e-3


@given(st.lists(st.floats(0, 1e10), min_size=1, max_size=60), st.integers(1, 12))
def test_no_task_has_more_than_it_may(flops: list[float], most: int) -> None:
    """However uneven they are: candidates_per_task is a bound, not a mean."""
    packed = pack(items(flops), task_count(len(flops), parallelism=1, per_task=most), most=most)
    assert sorted(w.candidate for task in packed for w in task) == list(range(len(flops)))
    assert max(map(len, packed)) <= most


def test_task_count() -> None:
    """Zero per task spreads evenly; else as many tasks as it takes."""
    assert task_count(100, parallelism=2, per_task=0) == 2
    assert task_count(1, parallelism=8, per_task=0) == 1
    assert task_count(100, parallelism=2, per_task=30) == 4
    assert task_count(0, parallelism=2, per_task=0) == 0

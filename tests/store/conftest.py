"""A record with three generations of made-up but consistent history."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from llmatic_hpc.config import Config
from llmatic_hpc.config.fields import to_tables
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.store import Record
from llmatic_hpc.store.fold import advance, archive_states, new_search
from llmatic_hpc.store.record import PROPOSED
from llmatic_hpc.store.rows import proposal_columns


def small_config() -> Config:
    base = Config()
    return replace(base, search=replace(base.search, generations=3, batch=12, start_elites=4))


def made_up(
    generations: int = 3,
    *,
    in_flight: bool = False,
    late: bool = False,
    settings: Config | None = None,
) -> Record:
    """A record as a coordinator would write it, with results from a generator of numbers.

    ``late``: of every generation the last two candidates are told with the next one.
    """
    settings = settings or small_config()
    problem = image_classification(input_shape=(3, 32, 32), classes=10)
    search = new_search(settings, len(problem.prompts))
    record = Record(
        run_id="0123", config=to_tables(settings), environment={},
        prompts=problem.prompts, archives=archive_states(search),
    )  # fmt: skip
    rng = np.random.default_rng(7)
    for generation in range(generations + in_flight):
        rows = []
        for proposal in search.ask():
            source = f"x = {rng.integers(1 << 40)}\n"
            digest = hashlib.sha256(source.encode()).hexdigest()
            ratio, flops = rng.uniform(0, 220), rng.uniform(0, 6e9)
            rows.append(
                {
                    **proposal_columns(proposal),
                    "source": source, "source_sha256": digest, "canonical_sha256": digest,
                    "status": "pending", "ratio": ratio, "flops": flops,
                    "descriptors": (ratio, flops),
                }
            )  # fmt: skip
        record.append_candidates(rows)
        record.phase = PROPOSED
        if generation == generations:
            break
        held_back = range(record.rows - 2, record.rows) if late else ()
        results = {}
        for row in set(record.out()) - set(held_back):
            status = ("scored", "scored", "scored", "invalid", "infrastructure")[row % 5]
            fitness = rng.uniform(0.1, 0.9) if status == "scored" else np.nan
            results[row] = {"status": status, "fitness": fitness}
        advance(record, search, results, {})
        record.archives = archive_states(search)
    return record


@pytest.fixture
def record() -> Record:
    return made_up()

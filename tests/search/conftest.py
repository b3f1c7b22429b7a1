"""Tessellations that many tests share, and a synthetic world to search in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmatic_hpc.config import ArchiveSettings, SearchSettings
from llmatic_hpc.problems.images.kind import DESCRIPTORS
from llmatic_hpc.search import Purpose, Search, Tessellation, generator
from llmatic_hpc.search.tessellation import network_tessellation, prompt_tessellation
from llmatic_hpc.types import Evaluation, Proposal

PROMPTS = 13
TEMPERATURE = 0.6


@pytest.fixture(scope="session")
def network_cells() -> Tessellation:
    settings = ArchiveSettings()
    rng = generator(0, 0, Purpose.NETWORK_TESSELLATION)
    return network_tessellation(settings.network, DESCRIPTORS, samples=settings.samples, rng=rng)


@pytest.fixture(scope="session")
def prompt_cells() -> Tessellation:
    settings = ArchiveSettings()
    rng = generator(0, 0, Purpose.PROMPT_TESSELLATION)
    return prompt_tessellation(settings.prompt, samples=settings.samples, rng=rng)


@pytest.fixture(scope="session")
def make_search(network_cells: Tessellation, prompt_cells: Tessellation) -> Callable[..., Search]:
    """A search with the paper's archives and some settings changed."""

    def make(*, seed: int = 0, names: Sequence[str] = (), **changes: Any) -> Search:
        return Search(
            replace(SearchSettings(), **changes),
            ArchiveSettings(),
            descriptors=DESCRIPTORS,
            prompts=PROMPTS,
            temperature=TEMPERATURE,
            seed=seed,
            writers=names,
            network_cells=network_cells,
            prompt_cells=prompt_cells,
        )

    return make


def evaluate(proposals: Sequence[Proposal]) -> list[Evaluation]:
    """A synthetic world: a candidate's fate depends on its training seed alone.

    Three in four are trained, some hit the machine's faults, the rest cannot be trained.
    """
    evaluations = []
    for proposal in proposals:
        rng = np.random.default_rng(proposal.training_seed)
        chance, fitness, ratio, flops = rng.random(4)
        status = "scored" if chance < 0.75 else "infrastructure" if chance < 0.8 else "untrainable"
        evaluations.append(
            Evaluation(proposal.candidate, status, fitness, (ratio * 200, flops * 5e9))
            if status == "scored"
            else Evaluation(proposal.candidate, status)
        )
    return evaluations


def state(search: Search) -> dict[str, object]:
    """Everything that a search remembers, comparable with ``==``."""
    networks, prompts = search.network_archive, search.prompt_archive
    members, individuals = search.network_population, search.prompt_population
    return {
        "generation": search.generation,
        "best": search.best,
        "collective": search.collective,
        "network": [array.tobytes() for array in (networks.elites, networks.fitness)],
        "network_descriptors": networks.descriptors.tobytes(),
        "prompt": [a.tobytes() for a in (prompts.elites, prompts.fitness, prompts.curiosity)],
        "prompt_descriptors": prompts.descriptors.tobytes(),
        "members": members.candidates().tolist() if members else [],
        "individuals": individuals
        and [
            (*individuals.individual(slot), individuals.scores[slot])
            for slot in range(len(individuals))
        ],
    }

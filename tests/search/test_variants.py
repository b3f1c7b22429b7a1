"""The ablations of the paper's section 4.2 run, each by its own rules."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmatic_hpc.config import SearchSettings
from llmatic_hpc.search import NetworkPopulation, PromptPopulation, Search, Told
from llmatic_hpc.search.tessellation import Location
from llmatic_hpc.types import NO_PROMPT, Evaluation, Proposal

from .conftest import PROMPTS, TEMPERATURE, evaluate

MakeSearch = Callable[..., Search]
History = list[tuple[tuple[Proposal, ...], list[Evaluation], Told]]


def run(search: Search, generations: int = 10) -> History:
    history: History = []
    for _ in range(generations):
        proposals = search.ask()
        evaluations = evaluate(proposals)
        history.append((proposals, evaluations, search.tell(evaluations)))
    return history


@pytest.mark.parametrize(
    ("variant", "operators"),
    [
        ("llmatic", {"mutation", "crossover"}),
        ("network-archive", {"mutation", "crossover"}),
        ("prompt-archive", {"mutation", "crossover"}),
        ("mutation-only", {"mutation"}),
        ("crossover-only", {"mutation", "crossover"}),
        ("random", {"random"}),
    ],
)
def test_every_variant_runs(make_search: MakeSearch, variant: str, operators: set[str]) -> None:
    """Ten generations with well-formed proposals; the networks found are archived."""
    search = make_search(variant=variant, batch=30, population=20, seed=1)
    history = run(search)
    assert {row.generation.operator for _, _, row in history} == operators
    for proposals, _, told in history:
        for p in proposals:
            assert p.operator == told.generation.operator
            assert all(0 <= parent < p.generation * 30 for parent in p.parents)
            expected = {"mutation": (0, 1), "crossover": (2,), "random": (0,)}[p.operator]
            assert len(p.parents) in expected
            assert (p.prompt == NO_PROMPT) == (p.operator != "mutation")
    assert search.network_archive.num_elites > 50


def test_variants_are_those_of_the_settings() -> None:
    """A variant that is added to the settings must be added here."""
    choices = SearchSettings.__dataclass_fields__["variant"].metadata["choices"]
    assert choices == (
        "llmatic", "network-archive", "prompt-archive", "mutation-only", "crossover-only", "random",
        "regularized-evolution", "local-search",
    )  # fmt: skip


def test_crossover_only_starts_as_usual(make_search: MakeSearch) -> None:
    """Mutations of the initial network first, then crossover and nothing else."""
    rows = [told.generation for _, _, told in run(make_search(variant="crossover-only", batch=30))]
    assert [(row.phase, row.operator) for row in rows] == [("start", "mutation")] + [
        ("search", "crossover")
    ] * 9


# --- random generation ------------------------------------------------------------------------


def test_random_generation_learns_nothing(make_search: MakeSearch) -> None:
    """Every generation asks the same of the initial network; prompts are not archived."""
    search = make_search(variant="random", batch=30)
    for proposals, _, told in run(search, 3):
        assert {(p.parents, p.prompt, p.temperature, p.individual) for p in proposals} == {
            ((), NO_PROMPT, TEMPERATURE, -1)
        }
        assert told.generation.phase == "search"
    assert search.prompt_archive.num_elites == 0


# --- without a prompt archive -------------------------------------------------------------------


def test_network_archive_variant_has_a_prompt_population(make_search: MakeSearch) -> None:
    """Individuals come from the population; the prompt archive's columns stay -1."""
    search = make_search(variant="network-archive", batch=40, mutation_probability=1.0)
    assert search.prompt_population is not None
    assert len(search.prompt_population) == 100
    for proposals, _, told in run(search):
        slots = [p.individual for p in proposals]
        if told.generation.phase == "start":
            assert set(slots) == {-1}
        else:
            assert all(0 <= slot < 100 for slot in slots)
            for p in proposals:
                assert p.prompt == search.prompt_population.individual(p.individual).prompt
        assert {(u.prompt_cell, u.prompt_added) for u in told.updates} == {(-1, -1)}
    assert search.prompt_archive.num_elites == 0


def test_network_archive_variant_scores_and_warms_its_individuals(
    make_search: MakeSearch,
) -> None:
    """+1 and 0.1 warmer if added, -0.5 and -1 and 0.1 cooler if not."""
    search = make_search(variant="network-archive", batch=60, mutation_probability=1.0)
    run(search, 1)
    population = search.prompt_population
    assert population is not None
    scores = list(population.scores)
    temperatures = [population.individual(slot).temperature for slot in range(100)]
    proposals = search.ask()
    evaluations = evaluate(proposals)
    told = search.tell(evaluations)
    for p, e, u in zip(proposals, evaluations, told.updates, strict=True):
        if e.status == "infrastructure":
            assert math.isnan(u.new_temperature)
            continue
        added = u.network_added > 0
        delta = -1.0 if e.status == "untrainable" else 1.0 if added else -0.5
        scores[p.individual] += delta
        moved = temperatures[p.individual] + (0.1 if added else -0.1)
        temperatures[p.individual] = min(1.0, max(0.05, moved))
        assert u.curiosity_delta == delta
        assert u.new_temperature == temperatures[p.individual]
    assert list(population.scores) == scores
    assert [population.individual(slot).temperature for slot in range(100)] == temperatures


def test_network_archive_variant_prefers_what_scored(make_search: MakeSearch) -> None:
    """The first half of the batch takes the ten highest scores."""
    search = make_search(variant="network-archive", batch=40, mutation_probability=1.0)
    run(search, 4)
    assert search.prompt_population is not None
    scores = search.prompt_population.scores
    chosen = {p.individual for p in search.ask()[:20]}
    assert len(chosen) == 10
    assert (
        sorted((scores[slot] for slot in chosen), reverse=True)
        == (sorted(scores, reverse=True)[:10])
    )


def test_prompt_population_is_random() -> None:
    """Prompts and temperatures cover their ranges."""
    rng = np.random.default_rng(0)
    population = PromptPopulation(500, PROMPTS, lower=0.05, upper=1.0, rng=rng)
    individuals = [population.individual(slot) for slot in range(500)]
    assert {i.prompt for i in individuals} == set(range(PROMPTS))
    temperatures = [i.temperature for i in individuals]
    assert 0.05 <= min(temperatures) < 0.1
    assert 0.95 < max(temperatures) <= 1.0


# --- without a network archive --------------------------------------------------------------------


def test_prompt_archive_variant_draws_parents_from_the_population(
    make_search: MakeSearch,
) -> None:
    """Parents are members; what enters the population earns curiosity."""
    search = make_search(variant="prompt-archive", batch=40, population=25)
    population = search.network_population
    assert population is not None
    fitness: dict[int, float] = {}
    for _ in range(8):
        members = set(population.candidates().tolist())
        proposals = search.ask()
        evaluations = evaluate(proposals)
        told = search.tell(evaluations)
        assert {parent for p in proposals for parent in p.parents} <= members
        fitness |= {e.candidate: e.fitness for e in evaluations if e.status == "scored"}
        best = sorted(fitness, key=lambda candidate: -fitness[candidate])[:25]
        assert population.candidates().tolist() == sorted(best)
        for p, u in zip(proposals, told.updates, strict=True):
            if p.candidate in best and p.operator == "mutation":
                assert u.curiosity_delta == 1.0
    assert search.prompt_archive.num_elites > 0


def test_prompt_archive_variant_fills_the_network_archive_for_the_record(
    make_search: MakeSearch,
) -> None:
    """The archive is the one that any other variant would have made of the same results."""
    search = make_search(variant="prompt-archive", batch=40)
    history = run(search, 5)
    best: dict[int, tuple[float, int]] = {}
    for _, evaluations, told in history:
        for e, u in zip(evaluations, told.updates, strict=True):
            if e.status == "scored" and e.fitness > best.get(u.network_cell, (-1.0, -1))[0]:
                best[u.network_cell] = (e.fitness, e.candidate)
    archive = search.network_archive
    assert {cell: int(archive.elites[cell]) for cell in best} == {
        cell: candidate for cell, (_, candidate) in best.items()
    }


def test_prompt_archive_variant_starts_until_the_population_is_large_enough(
    make_search: MakeSearch,
) -> None:
    """Ten members end the start phase even if they share one cell of the archive."""
    search = make_search(variant="prompt-archive", batch=5)
    phases = []
    for _ in range(4):
        evaluations = [Evaluation(p.candidate, "scored", 0.5, (100.0, 1e9)) for p in search.ask()]
        phases.append(search.tell(evaluations).generation.phase)
    assert phases == ["start", "start", "search", "search"]
    assert search.network_archive.num_elites == 1


def place(x: float, y: float) -> Location:
    return Location((x, y), (x, y), 0, False)


def test_mate_is_the_most_similar_by_cosine() -> None:
    """The direction counts, not the distance."""
    population = NetworkPopulation(10)
    places = [(0.1, 0.1), (0.9, 0.8), (0.1, 0.2), (0.2, 0.0)]
    for candidate, point in enumerate(places):
        population.offer(candidate, 0.5, place(*point))
    assert population.most_similar(0, np.random.default_rng(0)) == 1
    assert population.most_similar(3, np.random.default_rng(0)) == 1


def test_equally_similar_mates_are_drawn_at_random() -> None:
    """Networks clipped to the FLOPs bound all point the same way: each may be the mate."""
    population = NetworkPopulation(10)
    for candidate in range(4):
        population.offer(candidate, 0.5, place(0.1 + candidate / 7, 0.0))
    mates = Counter(population.most_similar(1, np.random.default_rng(s)) for s in range(300))
    assert set(mates) == {0, 2, 3}
    assert min(mates.values()) > 60


def test_a_mate_needs_another_member() -> None:
    """A population of one has none; a stranger is a KeyError."""
    population = NetworkPopulation(10)
    population.offer(4, 0.5, place(0, 0))
    with pytest.raises(ValueError, match="candidate 4 is the only member"):
        population.most_similar(4, np.random.default_rng(0))
    with pytest.raises(KeyError):
        population.most_similar(5, np.random.default_rng(0))


@given(
    st.integers(1, 6),
    st.lists(st.one_of(st.integers(0, 4).map(float), st.just(math.nan)), max_size=40),
)
def test_network_population_keeps_the_first_of_the_fittest(size: int, fitness: list[float]) -> None:
    """Members are the `size` fittest, the older of equals; a refused one never entered."""
    population = NetworkPopulation(size)
    for candidate, value in enumerate(fitness):
        entered = population.offer(candidate, value, place(0.5, 0.5))
        assert entered == (candidate in population.candidates())
    usable = [candidate for candidate, value in enumerate(fitness) if not math.isnan(value)]
    best = sorted(usable, key=lambda candidate: (-fitness[candidate], candidate))[:size]
    assert population.candidates().tolist() == sorted(best)
    assert len(population) == len(best)

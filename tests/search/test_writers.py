"""Sharing of candidates among writers: by rule, by seed, and by what was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from llmatic_hpc.search import Search
from llmatic_hpc.types import Evaluation, Proposal

from .conftest import evaluate, state

NAMES = ("good", "poor", "dear")
RULES = ("uniform", "ucb", "thompson")


def world(proposals: tuple[Proposal, ...]) -> list[Evaluation]:
    """A world in which one writer's networks fit, another's seldom, and a third's cost thrice."""
    found = []
    for one, proposal in zip(evaluate(proposals), proposals, strict=True):
        fits = proposal.writer != "poor" or proposal.candidate % 8 == 0
        cost = 3.0 if proposal.writer == "dear" else 1.0
        status = one.status if fits or one.status == "infrastructure" else "untrainable"
        descriptors = one.descriptors if status == "scored" else ()
        found.append(replace(one, status=status, descriptors=descriptors, trainings=cost))
    return found


def shares(search: Search, generations: int) -> Counter[str]:
    """Candidates by writer, over a search in :func:`world`."""
    found: Counter[str] = Counter()
    for _ in range(generations):
        proposals = search.ask()
        found.update(proposal.writer for proposal in proposals)
        search.tell(world(proposals))
    return found


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_finds_who_brings_most_for_its_cost(
    make_search: Callable[..., Search], rule: str
) -> None:
    """Evenly under uniform; by far the most to the good and cheap one under the others."""
    search = make_search(names=NAMES, writers=rule, batch=20, start_elites=5, writers_memory=0)
    found = shares(search, 30)
    assert found.total() == 600
    if rule == "uniform":
        assert min(found.values()) > 160
    else:
        assert found["good"] > 300
        assert found["good"] > 2 * max(found["poor"], found["dear"])
        assert min(found.values()) >= 3  # nobody is given up for good


@pytest.mark.parametrize("rule", RULES[1:])
def test_what_is_known_of_a_writer_spreads_to_its_prompts(
    make_search: Callable[..., Search], rule: str
) -> None:
    """The larger ``writers_prior``, the fewer candidates go to a poor writer's untried prompts."""
    settings = {
        "names": NAMES, "writers": rule, "batch": 20, "start_elites": 5, "writers_memory": 0,
    }  # fmt: skip
    little, much = (
        shares(make_search(**settings, writers_prior=prior), 12) for prior in (0.5, 20.0)
    )
    assert much["poor"] + much["dear"] < little["poor"] + little["dear"]
    assert min(much.values()) >= 1


@pytest.mark.parametrize("rule", RULES[1:])
def test_a_dear_place_is_kept_from_who_fails_for_nothing(
    make_search: Callable[..., Search], rule: str
) -> None:
    """Failures that are never trained cost their places, by ``place_cost`` alone."""

    def free(proposals: tuple[Proposal, ...]) -> list[Evaluation]:
        every = zip(evaluate(proposals), proposals, strict=True)
        return [
            replace(one, trainings=1.0)
            if proposal.writer == "good" or proposal.candidate % 4 == 0
            else replace(one, status="untrainable", descriptors=(), trainings=0.0)
            for one, proposal in every
        ]

    found = []
    for cost in (0.0, 1.0):
        search = make_search(
            names=NAMES[:2], writers=rule, batch=20, start_elites=5, writers_memory=0,
            place_cost=cost,
        )  # fmt: skip
        given: Counter[str] = Counter()
        for _ in range(30):
            proposals = search.ask()
            given.update(proposal.writer for proposal in proposals)
            search.tell(free(proposals))
        found.append(given["poor"])
    assert found[1] < 0.7 * found[0], found


@pytest.mark.parametrize("prompts", ["archive", "bandit"])
@pytest.mark.parametrize("rule", RULES[1:])
def test_the_same_told_the_same_asked(
    make_search: Callable[..., Search], rule: str, prompts: str
) -> None:
    """A fresh search that is told the same asks for the same, writers included."""
    settings = {"names": NAMES, "writers": rule, "prompts": prompts, "batch": 12}
    first, again = make_search(**settings), make_search(**settings)
    told = []
    for _ in range(8):
        told.append(world(first.ask()))
        first.tell(told[-1])
    for evaluations in told:
        again.ask()
        again.tell(evaluations)
    assert state(first) == state(again)
    assert first.ask() == again.ask()
    assert (first.writers.cost == again.writers.cost).all()


def test_the_bandit_chooses_prompts_too(make_search: Callable[..., Search]) -> None:
    """One prompt alone fits: it is asked for most, as hot as its most curious individual."""
    search = make_search(
        writers="thompson", prompts="bandit", batch=20, start_elites=2, start_generations=3,
        mutation_probability=1.0, writers_memory=0,
    )  # fmt: skip
    found: Counter[int] = Counter()
    for generation in range(30):
        proposals = search.ask()
        known = search.prompt_archive
        if generation >= 3:
            found.update(proposal.prompt for proposal in proposals)
            for proposal in (one for one in proposals if one.individual >= 0):
                individual = known.individual(proposal.individual)
                assert individual.prompt == proposal.prompt
                best = max(
                    known.curiosity[known.cell_of(n)] for n in known.of_prompt(proposal.prompt)
                )
                assert known.curiosity[known.cell_of(proposal.individual)] == best
                assert abs(proposal.temperature - individual.temperature) <= 0.1 + 1e-9
        search.tell(
            [
                one if p.prompt == 4 else Evaluation(one.candidate, "untrainable", trainings=1.0)
                for one, p in zip(world(proposals), proposals, strict=True)
            ]
        )
    assert found.most_common(1)[0][0] == 4
    assert found[4] > 3 * found.most_common(2)[1][1]


def test_what_the_machine_spoiled_and_seeds_teach_nothing(
    make_search: Callable[..., Search],
) -> None:
    """Faults of the machine leave the shares as they are; what is passed over only costs."""
    search = make_search(names=NAMES, writers="ucb", batch=4)
    proposals = search.ask()
    search.tell([Evaluation(p.candidate, "infrastructure", trainings=1.0) for p in proposals])
    assert not search.writers.told.any()
    assert not search.writers.cost.any()
    proposals = search.ask()
    search.tell(
        [Evaluation(p.candidate, "passed_over", trainings=0.0, tokens=5000) for p in proposals]
    )
    assert not search.writers.told.any()
    assert search.writers.cost.sum() == pytest.approx(2.0)


def test_old_facts_count_less(make_search: Callable[..., Search]) -> None:
    """With a memory of 20 candidates at most 20 count; with none, all do."""
    for memory, most in ((20, 20.0), (0, 200.0)):
        search = make_search(names=NAMES, writers="ucb", batch=20, writers_memory=memory)
        for _ in range(10):
            search.tell([replace(e, trainings=1.0) for e in world(search.ask())])
        assert search.writers.told.sum() <= most
        assert search.writers.told.sum() > 0.8 * most


def test_each_writer_answers_every_place(make_search: Callable[..., Search]) -> None:
    """As often as any other, in the order of attempts, from the start on; nothing is learned."""
    search = make_search(names=NAMES, writers="each", batch=4, oversample=6, start_elites=2)
    for _ in range(4):
        proposals = search.ask()
        assert [one.writer for one in proposals] == [*NAMES, *NAMES] * 4
        for place in range(4):
            same = proposals[6 * place : 6 * place + 6]
            assert len({(one.prompt, one.temperature, one.parents) for one in same}) == 1
            assert len({one.sampling_seed for one in same}) == 6
        search.tell(world(proposals))
    assert search.writers.told.sum() == 0


def test_one_writer_is_asked_as_before(make_search: Callable[..., Search]) -> None:
    """The names of writers change neither parents, prompts nor seeds; one writer has no name."""
    alone, several = make_search(), make_search(names=NAMES)
    for one, other in zip(alone.ask(), several.ask(), strict=True):
        assert one.writer == ""
        assert other == replace(one, writer=other.writer)
        assert other.writer in NAMES

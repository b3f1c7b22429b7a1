"""Several completions for a place: who gets it, against brute force; the others change nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmatic_hpc.search import Purpose, Search, draw_seed
from llmatic_hpc.search.oversampling import Answer, Places, chosen
from llmatic_hpc.types import Evaluation

from .conftest import evaluate, state

CELLS = 5
ANSWERS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.integers(-1, CELLS - 1)), min_size=1, max_size=6
)
FITNESS = st.lists(st.sampled_from([math.nan, 0.1, 0.5]), min_size=CELLS, max_size=CELLS)
AIMS = st.dictionaries(st.integers(0, CELLS - 1), st.integers(1, 2))


def best(
    answers: Sequence[tuple[bool, bool, int]], fitness: Sequence[float], aims: dict[int, int]
) -> list[int]:
    """All that deserve the place: one rule of the specification after the other."""
    left = list(range(len(answers)))

    def keep(good: Callable[[int], bool]) -> None:
        left[:] = [n for n in left if good(n)] or left

    keep(lambda n: answers[n][0])
    if not answers[left[0]][0]:
        return left
    keep(lambda n: not answers[n][1])
    if answers[left[0]][1]:
        return left
    keep(lambda n: answers[n][2] >= 0)
    if answers[left[0]][2] < 0:
        return left
    fewest = min(aims.get(answers[n][2], 0) for n in left)
    keep(lambda n: aims.get(answers[n][2], 0) == fewest)
    keep(lambda n: math.isnan(fitness[answers[n][2]]))
    if math.isnan(fitness[answers[left[0]][2]]):
        return left
    weakest = min(fitness[answers[n][2]] for n in left)
    return [n for n in left if fitness[answers[n][2]] == weakest]


@given(answers=ANSWERS, fitness=FITNESS, aims=AIMS)
def test_the_place_goes_to_what_the_map_lacks_most(
    answers: list[tuple[bool, bool, int]], fitness: list[float], aims: dict[int, int]
) -> None:
    """Every draw gives one of those that deserve it, and each of them is drawn."""
    told = [Answer(fits, fits and copy, ()) for fits, copy, _ in answers]
    wanted = best([(a.fits, a.is_duplicate, cell) for a, (_, _, cell) in
                   zip(told, answers, strict=True)], fitness, aims)  # fmt: skip
    cells = [cell for _, _, cell in answers]
    draws = (np.arange(len(wanted)) + 0.5) / len(wanted)
    assert [chosen(told, cells, fitness, aims, draw) for draw in draws] == wanted


def test_places_take_account_of_earlier_ones(make_search: Callable[..., Search]) -> None:
    """The second place gets the empty niche of two that the first place left."""
    search = make_search()
    centroids = search.network_archive.tessellation.centroids
    one, other = ((200 * x, 2e8 + y * 4.8e9) for x, y in centroids[[3, 70]].tolist())
    answers = [Answer(True, False, one), Answer(True, False, other)]
    places = Places(search.network_archive, seed=0, generation=0)
    assert {places.give(0, answers), places.give(1, answers)} == {0, 1}
    again = Places(search.network_archive, seed=0, generation=0)
    drawn = [Places(search.network_archive, seed=0, generation=0).give(n, answers)
             for n in range(20)]  # fmt: skip
    assert again.give(0, answers) == drawn[0]
    assert set(drawn) == {0, 1}


def test_attempts_differ_in_their_seeds_alone(make_search: Callable[..., Search]) -> None:
    """The first of a place is what was asked for without oversampling."""
    plain, search = make_search(batch=7), make_search(batch=7, oversample=3)
    expected, asked = plain.ask(), search.ask()
    assert [p.candidate for p in asked] == list(range(21))
    assert [(p.index, p.attempt) for p in asked] == [divmod(n, 3) for n in range(21)]
    for proposal in asked:
        known = expected[proposal.index]
        changed = {"candidate": proposal.candidate, "attempt": proposal.attempt}
        seeds = {
            name: draw_seed(0, 0, purpose, proposal.index, proposal.attempt)
            for name, purpose in (
                ("sampling_seed", Purpose.SAMPLING), ("training_seed", Purpose.TRAINING)
            )
        }  # fmt: skip
        assert proposal == replace(known, **changed, **seeds)
        if proposal.attempt == 0:
            assert proposal == replace(known, candidate=proposal.candidate)
    assert len({p.sampling_seed for p in asked} | {p.training_seed for p in asked}) == 42


def test_a_later_attempt_has_a_spawn_key_of_its_own() -> None:
    """(generation, purpose, candidate, attempt), as numpy makes it."""
    sequence = np.random.SeedSequence(entropy=5, spawn_key=(2, Purpose.SAMPLING, 17, 1))
    assert draw_seed(5, 2, Purpose.SAMPLING, 17, 1) == sequence.generate_state(1, np.uint64) >> 1


def test_who_is_passed_over_changes_nothing(make_search: Callable[..., Search]) -> None:
    """With any attempt evaluated, and the others told as passed over, a search goes as one without
    oversampling does that is told the same: archives, curiosity, temperatures, parents."""
    plain, search = make_search(batch=8), make_search(batch=8, oversample=3)
    rng = np.random.default_rng(0)
    phases = Counter[str]()
    for _ in range(12):
        expected, asked = plain.ask(), search.ask()
        for proposal, known in zip(asked[::3], expected, strict=True):
            assert tuple(n // 3 for n in proposal.parents) == known.parents
            assert (proposal.prompt, proposal.temperature) == (known.prompt, known.temperature)
        told = evaluate(expected)
        won = [3 * e.candidate + int(rng.integers(3)) for e in told]
        by_number = dict(zip(won, told, strict=True))
        row = search.tell([
            replace(by_number[p.candidate], candidate=p.candidate)
            if p.candidate in by_number else Evaluation(p.candidate, "passed_over")
            for p in asked
        ]).generation  # fmt: skip
        assert row == plain.tell(told).generation
        phases[row.operator] += 1
    assert len(phases) == 2
    mine, other = state(search), state(plain)
    assert mine["network_descriptors"] == other["network_descriptors"]
    assert mine["prompt_descriptors"] == other["prompt_descriptors"]
    curiosity = search.prompt_archive.curiosity, plain.prompt_archive.curiosity
    assert np.array_equal(*curiosity, equal_nan=True)
    assert np.array_equal(search.network_archive.elites // 3, plain.network_archive.elites)

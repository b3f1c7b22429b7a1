"""Networks that are trained again: who holds a niche, against brute force; who is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from llmatic_hpc.search import AskTellError, Search
from llmatic_hpc.search.challenge import FEWEST, Challenges
from llmatic_hpc.search.seeds import again
from llmatic_hpc.types import NO_PROMPT, REPEAT, Evaluation, Proposal

from .conftest import state

GENERATIONS = 40


class World:
    """Networks whose trainings differ: the fate of one follows from its seeds.

    It knows by itself what the archive should hold.
    """

    def __init__(self, *, possible: int = 0) -> None:
        self.possible = possible
        self.trainings: dict[int, list[float]] = {}
        """Scores by network, in the order in which networks were told."""
        self.cells: dict[int, int] = {}
        self.asked: dict[int, list[Proposal]] = {}

    def evaluate(self, search: Search, proposals: tuple[Proposal, ...]) -> list[Evaluation]:
        """Train what was asked for."""
        found = []
        for proposal in proposals:
            noise = np.random.default_rng(proposal.training_seed)
            network = proposal.parents[0] if proposal.operator == REPEAT else proposal.candidate
            chance, quality, ratio, flops = np.random.default_rng(network).random(4)
            luck = float(noise.random())
            if proposal.operator == REPEAT:
                self.asked.setdefault(network, []).append(proposal)
            if luck > 0.95:
                found.append(Evaluation(proposal.candidate, "infrastructure"))
            elif chance > 0.8 or luck > 0.9:
                found.append(Evaluation(proposal.candidate, "untrainable"))
            else:
                where = ratio * 20, flops * 5e8  # few niches
                score = 0.4 * quality + 0.4 * luck
                self.trainings.setdefault(network, []).append(score)
                if network not in self.cells:
                    self.cells[network] = search.network_archive.tessellation.locate([where])[
                        0
                    ].cell
                found.append(
                    Evaluation(
                        proposal.candidate, "scored", score, where, possible=self.possible
                    )
                )  # fmt: skip
        return found

    def mean(self, network: int) -> float:
        """The mean over a network's trainings."""
        return math.fsum(self.trainings[network]) / len(self.trainings[network])

    def ranked(self, cell: int) -> list[int]:
        """Networks of a niche, the best mean first, of equals who came first."""
        members = [network for network, there in self.cells.items() if there == cell]
        return sorted(members, key=lambda network: -self.mean(network))

    def open_contests(self, noise: float) -> set[int]:
        """Networks of all contests that noise leaves open, may they be trained or not."""
        found = set[int]()
        for cell in set(self.cells.values()):
            first, *others = self.ranked(cell)
            if others:
                m, n = (len(self.trainings[one]) for one in (first, others[0]))
                if self.mean(first) - self.mean(others[0]) <= noise * math.sqrt(
                    (m + n) / (2 * m * n)
                ):
                    found |= {first, others[0]}
        return found


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("further", [1, 3])
def test_the_elite_has_the_best_mean(
    further: int, noise: float, make_search: Callable[..., Search]
) -> None:
    """Against brute force, every generation: elites, fitness, who is asked for, and how often."""
    search, world = make_search(batch=6, challenge=further, noise=noise), World()
    repeats, fell = 0, 0
    for _ in range(GENERATIONS):
        known = [scores for scores in world.trainings.values() if len(scores) > 1]
        pairs = [abs(a - b) for scores in known for a, b in combinations(scores, 2)]
        margin = noise or (np.median(pairs) / 0.6745 if len(known) >= FEWEST else math.inf)
        due = {
            network for network in world.open_contests(margin)
            if len(world.asked.get(network, [])) < further
        }  # fmt: skip
        proposals = search.ask()
        asked = [p.parents[0] for p in proposals if p.operator == REPEAT]
        assert asked == sorted(due)[:3]
        are_last = [p.operator == REPEAT for p in proposals]
        assert are_last == sorted(are_last)
        told = search.tell(world.evaluate(search, proposals))
        archive = search.network_archive
        expected = {cell: world.ranked(cell)[0] for cell in set(world.cells.values())}
        assert {c: e for c, e in enumerate(archive.elites.tolist()) if e >= 0} == expected
        for cell, network in expected.items():
            assert archive.fitness[cell] == world.mean(network)
            assert archive.cell_of(network) == cell
        assert len(archive) == len(expected)
        fell += sum(update.network_added == 3 for update in told.updates)
        repeats += len(asked)
    assert repeats >= 10
    assert fell > 0
    assert max(map(len, world.asked.values())) == further


def test_every_training_has_its_own_seed(make_search: Callable[..., Search]) -> None:
    """First seed plus number: of a table of n trainings n of them follow each other."""
    search, world = make_search(batch=6, challenge=3), World()
    first: dict[int, int] = {}
    for _ in range(GENERATIONS):
        proposals = search.ask()
        first |= {p.candidate: p.training_seed for p in proposals if p.operator != REPEAT}
        search.tell(world.evaluate(search, proposals))
    for network, proposals in world.asked.items():
        for number, proposal in enumerate(proposals, 1):
            assert (
                proposal.training_seed == first[network] + number == again(first[network], number)
            )
            assert (proposal.prompt, proposal.individual) == (NO_PROMPT, -1)
            assert math.isnan(proposal.temperature)
    assert again(2**63 - 1, 1) == 0


def test_no_more_trainings_than_there_are(make_search: Callable[..., Search]) -> None:
    """A table that has two of a network is asked for one more."""
    search, world = make_search(batch=6, challenge=3), World(possible=2)
    for _ in range(GENERATIONS):
        search.tell(world.evaluate(search, search.ask()))
    assert set(map(len, world.asked.values())) == {1}


def test_a_repeat_changes_the_map_alone(make_search: Callable[..., Search]) -> None:
    """No individual, curiosity, collective fitness or best: as if it had not been in its batch."""
    search, world = make_search(batch=6, challenge=2), World()
    seen = False
    for _ in range(GENERATIONS):
        proposals = search.ask()
        evaluations = world.evaluate(search, proposals)
        before = search.prompt_archive.curiosity.copy(), search.collective
        of_new = [e for p, e in zip(proposals, evaluations, strict=True) if p.operator != REPEAT]
        told = search.tell(evaluations)
        scored = [e.fitness for e in of_new if e.status == "scored"]
        assert told.generation.trainable == len(scored)
        assert told.generation.added == sum(
            update.network_added > 0
            for proposal, update in zip(proposals, told.updates, strict=True)
            if proposal.operator != REPEAT
        )
        if scored:
            assert search.best == max(scored)
        repeats = {p.candidate for p in proposals if p.operator == REPEAT}
        seen |= bool(repeats)
        assert not repeats & set(search.prompt_archive.elites.tolist())
        assert not repeats & set(search.network_archive.elites.tolist())
        for update in told.updates:
            if update.candidate in repeats:
                assert (update.prompt_added, update.curiosity_delta) == (-1, 0.0)
        if not of_new:
            assert np.array_equal(before[0], search.prompt_archive.curiosity, equal_nan=True)
            assert before[1] == search.collective
    assert seen


def test_a_lost_repeat_changes_nothing(make_search: Callable[..., Search]) -> None:
    """Archives stay; it was one of the network's trainings all the same, or it would never end."""
    search, world = make_search(batch=2, challenge=1), World()
    asked: list[int] = []
    for _ in range(40):
        proposals = search.ask()
        repeats = [p for p in proposals if p.operator == REPEAT]
        asked += [p.parents[0] for p in repeats]
        evaluations = world.evaluate(search, proposals)
        held = dict(enumerate(search.network_archive.fitness.tolist()))
        told = search.tell(
            [
                Evaluation(p.candidate, "infrastructure") if p.operator == REPEAT else e
                for p, e in zip(proposals, evaluations, strict=True)
            ]
        )
        changed = {u.network_cell for u in told.updates if u.network_added > 0}
        for cell, fitness in enumerate(search.network_archive.fitness.tolist()):
            assert cell in changed or fitness == held[cell] or math.isnan(fitness)
    assert asked
    assert len(asked) == len(set(asked))


def test_who_is_being_trained_again_is_not_asked_for_again(
    make_search: Callable[..., Search],
) -> None:
    """A late repeat is waited for, and enters where it is told."""
    search, world = make_search(batch=4, challenge=3), World()
    late: dict[int, tuple[Proposal, Evaluation]] = {}
    for generation in range(GENERATIONS):
        proposals = search.ask()
        for proposal in proposals:
            if proposal.operator == REPEAT:
                assert proposal.parents[0] not in {p.parents[0] for p, _ in late.values()}
        evaluations = world.evaluate(search, proposals)
        now = {e.candidate: (p, e) for p, e in zip(proposals, evaluations, strict=True)}
        if generation % 2:
            now |= late
            late = {}
        else:
            late = {c: one for c, one in now.items() if one[0].operator == REPEAT}
            now = {c: one for c, one in now.items() if c not in late}
        search.tell([now[candidate][1] for candidate in sorted(now)])
        if not late:
            for cell, elite in enumerate(search.network_archive.elites.tolist()):
                assert elite < 0 or elite == world.ranked(cell)[0]
    assert world.asked


def test_a_copy_does_not_enter_with_a_lucky_draw(make_search: Callable[..., Search]) -> None:
    """The elite fell below its first score; a duplicate that has this score stays outside."""
    search = make_search(batch=2, challenge=1, noise=1.0)
    where = (5.0, 4e8)
    search.ask()
    search.tell([Evaluation(0, "scored", 0.9, where), Evaluation(1, "scored", 0.8, where)])
    assert [(p.operator == REPEAT, p.parents) for p in search.ask()][1] == (True, (0,))
    told = search.tell([Evaluation(2, "untrainable"), Evaluation(3, "scored", 0.5, where)])
    assert told.updates[1].network_added == 3
    assert search.network_archive.candidates().tolist() == [1]
    assert [p.parents for p in search.ask() if p.operator == REPEAT] == [(1,)]
    told = search.tell(
        [Evaluation(4, "scored", 0.9, where, is_copy=True), Evaluation(5, "scored", 0.75, where)]
    )
    assert [update.network_added for update in told.updates] == [0, 0]
    cell = search.network_archive.cell_of(1)
    assert search.network_archive.fitness[cell] == math.fsum([0.8, 0.75]) / 2
    assert not [p for p in search.ask() if p.operator == REPEAT]


@pytest.mark.parametrize("variant", ["llmatic", "network-archive", "prompt-archive", "random"])
@pytest.mark.parametrize("several", [1, 3])
def test_told_the_same_it_is_the_same(
    variant: str, several: int, make_search: Callable[..., Search]
) -> None:
    """A fold over evaluations, in every variant, with several completions for a place."""
    changes = {"batch": 5, "challenge": 2, "variant": variant, "oversample": several}
    search, other, world = make_search(**changes), make_search(**changes), World()
    for _ in range(12):
        proposals = search.ask()
        assert [p.candidate for p in proposals] == list(
            range(proposals[0].candidate, proposals[0].candidate + 5 * several)
        )
        first = tuple(p for p in proposals if p.attempt == 0)
        told = {e.candidate: e for e in world.evaluate(search, first)}
        evaluations = [
            told.get(p.candidate, Evaluation(p.candidate, "passed_over")) for p in proposals
        ]
        assert repr(other.ask()) == repr(proposals)
        assert repr(other.tell(evaluations)) == repr(search.tell(evaluations))
    assert state(search) == state(other)
    assert world.asked


def test_a_batch_of_one_takes_turns(make_search: Callable[..., Search]) -> None:
    """A generation is then a repeat alone, and the search goes on all the same."""
    search, world = make_search(batch=1, challenge=1), World()
    kinds = []
    for _ in range(60):
        proposals = search.ask()
        kinds.append(proposals[0].operator == REPEAT)
        search.tell(world.evaluate(search, proposals))
    assert 0 < sum(kinds) < 40


def test_repeats_are_told_like_others(make_search: Callable[..., Search]) -> None:
    """A repeat that was not asked for is refused."""
    search = make_search(batch=2, challenge=1)
    search.ask()
    with pytest.raises(AskTellError, match="candidate 2"):
        search.tell([Evaluation(2, "scored", 0.5, (1.0, 1e9))])


def test_a_network_that_the_archive_refuses_is_no_contender(
    make_search: Callable[..., Search],
) -> None:
    """NaN in a descriptor or fitness."""
    search = make_search(batch=2, challenge=1)
    contests = Challenges(search.network_archive, 1, 0.0)
    place = search.network_archive.tessellation.locate([(5.0, 4e8)])[0]
    nowhere = place._replace(cell=-1)
    assert not contests.offer(0, 0.5, nowhere, seed=1, possible=0).status
    assert not contests.offer(1, math.nan, place, seed=1, possible=0).status
    assert contests.ask(5, set()) == []

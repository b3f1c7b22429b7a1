"""Rows of the prompt archive: who is rewritten, who gets a row, and what goes with a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmatic_hpc.config import ArchiveSettings, SearchSettings
from llmatic_hpc.errors import ConfigError
from llmatic_hpc.search import Search
from llmatic_hpc.search.prompt_rows import check
from llmatic_hpc.types import NO_PROMPT, Evaluation

from .conftest import PROMPTS, evaluate, state

MakeSearch = Callable[..., Search]
ROWS = 3


def evolving(make_search: MakeSearch, **changes: object) -> Search:
    """A search that rewrites prompts before every generation."""
    small = {"batch": 12, "start_elites": 4, "mutation_probability": 1.0}
    new = {"prompts": "evolve", "prompt_rows": ROWS, "prompt_every": 1, "prompt_rewrites": 2}
    return make_search(**{**small, **new, **changes})


def step(search: Search, taken: list[bool]) -> None:
    """One generation with what became of the rewritings before it."""
    search.prompt_rows.enter(search.generation, taken)
    search.tell(evaluate(search.ask()))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=st.lists(st.lists(st.booleans(), max_size=2), min_size=2, max_size=14))
def test_rows_through_any_history(make_search: MakeSearch, turns: list[list[bool]]) -> None:
    """Own prompts stay; a new one takes a free row, or that of the evolved one that was tried and
    is least curious and not a parent; its row begins anew; the same told is the same state."""
    search, again = evolving(make_search), evolving(make_search)
    for taken in turns:
        rows, archive, generation = search.prompt_rows, search.prompt_archive, search.generation
        before, known = list(rows.prompts), rows.known
        curiosity = {row: archive.curiosity_of(row) for row in rows.living()}
        due, places = rows.due(generation), rows.places(generation)
        parents = [before.index(one.parent) for one in due]
        assert len(due) == len(places) <= 2
        assert generation or not due
        assert all(
            one.curiosity == curiosity[row] > 0 for one, row in zip(due, parents, strict=True)
        )
        if len(due) == 2:
            rest = [c for row, c in curiosity.items() if row not in parents]
            assert max(rest, default=0.0) <= min(one.curiosity for one in due)
        chosen = [place.row for place in places]
        left = [row for row in range(PROMPTS, len(before)) if row not in (*parents, *chosen)]
        for place in places:
            assert place.row >= PROMPTS
            assert place.row not in parents
            assert place.replaced == before[place.row]
            if place.replaced != NO_PROMPT:
                assert NO_PROMPT not in [before[row] for row in left], "free rows first"
                tried = [curiosity[row] for row in left if rows._tried[row]]
                assert curiosity[place.row] <= min(tried, default=np.inf)
        step(search, taken)
        step(again, taken)
        assert state(search) == state(again)
        entered = sum(taken[: len(due)])
        after = rows.prompts
        assert rows.known == known + entered
        assert after[:PROMPTS] == list(range(PROMPTS))
        new = [place.row for place in places[:entered]]
        assert [after[row] for row in new] == list(range(known, known + entered))
        assert all(before[r] == after[r] for r in range(len(after)) if r not in new)
        for row in new:
            of_row = archive.of_prompt(row)
            assert (of_row >= generation * search.settings.batch).all(), "of the new prompt alone"


def test_proposals_name_prompts_by_their_index(make_search: MakeSearch) -> None:
    """In each generation the living ones alone; a new prompt is drawn soon after it came."""
    search = evolving(make_search, prompt_rows=1, batch=24)
    seen: set[int] = set()
    for _ in range(20):
        search.prompt_rows.enter(search.generation, [True, True])
        proposals = search.ask()
        named = {proposal.prompt for proposal in proposals}
        assert named <= set(search.prompt_rows.prompts)
        seen |= named
        search.tell(evaluate(proposals))
    assert search.prompt_rows.known > PROMPTS + 3
    assert len(seen) > PROMPTS + 2


def test_what_has_not_been_tried_is_not_replaced(make_search: MakeSearch) -> None:
    """And nothing is asked for then, unless a row is free."""
    search = evolving(make_search, prompt_rows=1)
    step(search, [])
    step(search, [True])
    rows = search.prompt_rows
    assert rows.prompts[PROMPTS] == PROMPTS
    rows._tried[PROMPTS] = False
    assert rows.due(search.generation) == []
    rows._tried[PROMPTS] = True
    assert len(rows.due(search.generation)) == 1


def test_a_late_candidate_of_a_prompt_that_is_gone_changes_no_prompt(
    make_search: MakeSearch,
) -> None:
    """It enters the archive of networks all the same."""
    search = evolving(make_search, prompt_rows=1, batch=24)
    late = None
    for _ in range(30):
        search.prompt_rows.enter(search.generation, [True, True])
        proposals = search.ask()
        if late is not None and late.prompt not in search.prompt_rows.prompts:
            break
        if late is None:
            late = next((p for p in proposals if p.prompt >= PROMPTS), None)
            proposals = tuple(p for p in proposals if p is not late)
        search.tell(evaluate(proposals))
    assert late is not None
    assert search.prompt_rows.told(late).prompt == NO_PROMPT
    curiosity, collective = search.prompt_archive.curiosity.copy(), search.collective
    elites = search.prompt_archive.elites.copy()
    update = search.tell([Evaluation(late.candidate, "scored", 2.0, (100.0, 1e9))]).updates[0]
    assert update.network_added > 0
    assert (update.prompt_cell, update.prompt_added, update.curiosity_delta) == (-1, -1, 0.0)
    assert np.array_equal(curiosity, search.prompt_archive.curiosity, equal_nan=True)
    assert np.array_equal(elites, search.prompt_archive.elites)
    assert collective == search.collective


def test_arms_begin_anew_with_a_new_prompt(make_search: MakeSearch) -> None:
    """Facts about the prompt before say nothing of the next one."""
    search = evolving(make_search, names=("one", "other"), writers="thompson", prompt_rows=1)
    search.tell(evaluate(search.ask()))
    search.writers.told[:, PROMPTS] = 5.0
    search.prompt_rows.enter(search.generation, [True])
    assert (search.writers.told[:, PROMPTS] == 0).all()
    assert search.writers.told[:, :PROMPTS].any()


@pytest.mark.parametrize(("every", "generations"), [(1, [1, 2, 3, 4, 5, 6]), (3, [3, 6])])
def test_only_so_often(make_search: MakeSearch, every: int, generations: list[int]) -> None:
    """Never before the first generation, and never unless prompts evolve."""
    search = evolving(make_search, prompt_every=every)
    plain = evolving(make_search, prompts="archive")
    found = []
    for generation in range(7):
        if search.prompt_rows.due(generation):
            found.append(generation)
        assert plain.prompt_rows.due(generation) == []
        step(search, [])
        step(plain, [])
    assert found == generations


def test_more_rows_than_there_is_room_are_refused() -> None:
    """With a number that would do."""
    wanted = replace(SearchSettings(), prompts="evolve", prompt_rows=4)
    room = ArchiveSettings().prompt.upper[0]
    with pytest.raises(ConfigError, match=r"search\.prompt_rows: 13 .*first number of 17"):
        check(wanted, PROMPTS, room)
    check(replace(wanted, prompt_rows=3), PROMPTS, room)
    check(replace(wanted, prompts="archive"), PROMPTS, room)

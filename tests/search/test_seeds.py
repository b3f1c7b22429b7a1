"""Random draws are named, independent of each other and of the order they are made in."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmatic_hpc.search import Purpose, Search, draw_seed, generator

from .conftest import evaluate


def test_invariant_4_streams_are_those_of_the_seed_sequence() -> None:
    """A stream is that of SeedSequence(seed, (generation, purpose, candidate))."""
    expected = np.random.default_rng(np.random.SeedSequence(entropy=7, spawn_key=(3, 6, 305)))
    drawn = generator(7, 3, Purpose.VARIATION, 305)
    assert drawn.random(5).tolist() == expected.random(5).tolist()


def test_invariant_4_every_name_has_its_own_stream() -> None:
    """Seed, generation, purpose and candidate each change the stream."""
    names = list(product((0, 1), (0, 1, 19), Purpose, (0, 1, 1999)))
    first = [generator(*name).integers(2**63) for name in names]
    assert len(set(first)) == len(names)


def test_invariant_4_no_generator_outlives_a_generation(
    make_search: Callable[..., Search],
) -> None:
    """Nothing that a search keeps between calls holds a generator."""
    search = make_search(batch=10, variant="network-archive")
    for _ in range(3):
        proposals = search.ask()
        assert b"numpy.random" not in pickle.dumps(search)
        search.tell(evaluate(proposals))
        assert b"numpy.random" not in pickle.dumps(search)


def test_invariant_4_numpys_global_state_is_left_alone(make_search: Callable[..., Search]) -> None:
    """Code elsewhere that draws from the global generator neither disturbs nor is disturbed."""
    before = repr(np.random.get_state())
    search = make_search(batch=10)
    search.tell(evaluate(search.ask()))
    assert repr(np.random.get_state()) == before


@given(
    seed=st.integers(0, 2**32 - 1),
    generation=st.integers(0, 10**6),
    candidate=st.integers(0, 10**10),
)
def test_seeds_fit_a_signed_64_bit_column(seed: int, generation: int, candidate: int) -> None:
    """Seeds given out are non-negative, below 2**63, and repeat."""
    drawn = draw_seed(seed, generation, Purpose.TRAINING, candidate)
    assert 0 <= drawn < 2**63
    assert drawn == draw_seed(seed, generation, Purpose.TRAINING, candidate)
    assert drawn != draw_seed(seed, generation, Purpose.SAMPLING, candidate)


@given(
    seed=st.integers(0, 2**32 - 1),
    generation=st.integers(0, 10**6),
    candidate=st.integers(0, 10**10),
    attempt=st.integers(0, 3),
    again=st.integers(0, 2),
)
def test_invariant_4_seeds_are_the_sequence_s_first_state(
    seed: int, generation: int, candidate: int, attempt: int, again: int
) -> None:
    """A seed given out is the first word of numpy's own state of the named sequence."""
    key = (generation, int(Purpose.SAMPLING), candidate)
    key += (attempt, again) if again else (attempt,) if attempt else ()
    expected = np.random.SeedSequence(entropy=seed, spawn_key=key).generate_state(1, np.uint64)
    drawn = draw_seed(seed, generation, Purpose.SAMPLING, candidate, attempt, again)
    assert drawn == int(expected[0]) >> 1


def test_purposes_keep_their_numbers() -> None:
    """Renumbering would change every run that is continued after it."""
    assert [(p.name, p.value) for p in Purpose] == [
        ("NETWORK_TESSELLATION", 0),
        ("PROMPT_TESSELLATION", 1),
        ("POPULATION", 2),
        ("OPERATOR", 3),
        ("CURIOSITY", 4),
        ("ELITES", 5),
        ("VARIATION", 6),
        ("SAMPLING", 7),
        ("TRAINING", 8),
        ("PARENTS", 9),
        ("WRITER", 15),
        ("INDIVIDUAL", 16),
        ("PLACE", 20),
        ("TARGET", 21),
        ("REWRITING", 22),
        ("REWRITING_SAMPLING", 23),
    ]


def test_search_is_pure() -> None:
    """Importing it loads neither torch nor anything that reads files or talks to a cluster."""
    code = "import llmatic_hpc.search, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "llmatic_hpc.search" in loaded
    assert not {"torch", "h5py", "submitit", "transformers"} & set(loaded)

"""Source of every random draw of a run.

A draw is named by what it is for: the generation, the purpose and the candidate. Its stream
is ``SeedSequence(entropy=seed, spawn_key=(generation, purpose, candidate))``, so it depends
neither on the order in which results arrive nor on what was drawn before, and a run can be
continued at any generation without a stored generator state.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache

import numpy as np


class Purpose(IntEnum):
    """Purpose of a draw. The numbers are part of every record: add, never renumber."""

    NETWORK_TESSELLATION = 0
    PROMPT_TESSELLATION = 1
    POPULATION = 2
    """The first prompt population of the variant ``network-archive``."""
    OPERATOR = 3
    """Mutation or crossover; once per generation."""
    CURIOSITY = 4
    """Ties among the most curious; once per generation."""
    ELITES = 5
    """Choice of the elites that cross over; once per generation."""
    VARIATION = 6
    """Parent, mate, prompt and temperature; once per candidate."""
    SAMPLING = 7
    """The seed that the language model samples with; once per candidate."""
    TRAINING = 8
    """The seed that training uses; once per candidate."""
    PARENTS = 9
    """Ties among the most curious elites; once per generation."""
    WRITER = 15
    """Writer, or writer and prompt, by the rule of ``search.writers``; once per place."""
    INDIVIDUAL = 16
    """Ties among the most curious individuals of a prompt; once per place."""
    PLACE = 20
    """Ties among the completions for one place; once per place."""
    TARGET = 21
    """The cell that is wanted of a place's candidates; once per place."""
    REWRITING = 22
    """Ties among the prompts that are to be rewritten; once per generation."""
    REWRITING_SAMPLING = 23
    """The seed that the language model samples a new prompt with; once per rewriting."""


def generator(
    seed: int, generation: int, purpose: Purpose, candidate: int = 0
) -> np.random.Generator:
    """A fresh generator for one purpose. Do not keep it beyond the generation.

    ``candidate`` stays 0 for draws that are made once per generation or once per run.
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, generation, purpose, candidate)))


def draw_seed(
    seed: int, generation: int, purpose: Purpose, candidate: int, attempt: int = 0, again: int = 0
) -> int:
    """A seed to hand out, in [0, 2**63), so that it fits a signed 64-bit column.

    ``attempt``: its number where there are several for one candidate, part of the spawn key from
    the second on; ``again``: how often that attempt was sampled before, likewise.
    """
    further = (attempt, again) if again else (attempt,) if attempt else ()
    state = _sequence(seed, generation, purpose, candidate, *further).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def again(seed: int, number: int) -> int:
    """Return the training seed of a network's ``number``-th further training, from 1.

    It is that of the first plus ``number``, so that a table that takes the seed modulo its
    trainings gives another one each time.
    """
    return (seed + number) % (1 << 63)


def _sequence(
    seed: int, generation: int, purpose: Purpose, *numbers: int
) -> np.random.SeedSequence:
    """Return the sequence of the spawn key, put together here: numpy takes thrice the time."""
    words = _words(seed)
    if max(generation, *numbers) >> 32:  # numbers that are two words each
        return np.random.SeedSequence(entropy=seed, spawn_key=(generation, purpose, *numbers))
    return np.random.SeedSequence(np.array((*words, generation, purpose, *numbers), np.uint32))


@cache
def _words(seed: int) -> tuple[int, ...]:
    """Return the 32-bit words of a seed, lowest first, filled up to numpy's pool of four."""
    words = [seed >> shift & 0xFFFFFFFF for shift in range(0, max(seed.bit_length(), 1), 32)]
    return (*words, *[0] * (4 - len(words)))

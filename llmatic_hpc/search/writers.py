"""Sharing of candidates among several writers: evenly, or by what each has brought so far.

An arm is a writer with a prompt (one more for each writer where there is none, as in crossover).
It earns by each candidate that entered the network archive, or the population in its place, and
it costs what is counted: full trainings, tokens at ``search.token_cost``, and its place in the
batch at ``search.place_cost``, so that what is never trained is not free. Arms are compared by
entries per cost, in the manner of budgeted bandits (Xia et al., 2015). Of an arm that has hardly
been tried what is known of its writer is believed, as if of ``search.writers_prior`` candidates.

``thompson``
    draws the chance to enter from its posterior, a beta distribution, and divides it by the mean
    cost; the highest wins.
``ucb``
    adds ``EXPLORATION`` * sqrt(log(candidates of all arms) / candidates of the arm) to the mean
    chance and divides it by the mean cost. The candidates of a generation that were given out
    already count as if they had done as expected.
``each``
    has every writer answer every place, ``search.oversample`` times in all, and learns nothing:
    which answer is trained is up to what the map lacks (:mod:`.oversampling`).

The map fills, and what was easy becomes hard, so that old facts mislead: a candidate that lies
``search.writers_memory`` candidates back counts by a third. All of it is a fold over what the
search is told; nothing is kept. With ``search.prompts = "bandit"`` the rule chooses the prompt of a
mutation, too, after the start phase; its individual is the most curious one of that prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config import SearchSettings
from ..types import NO_PROMPT, Evaluation, Proposal
from .seeds import Purpose, generator
from .tessellation import Floats

EXPLORATION = 0.3
"""Weight of what is not known of an arm under ``ucb``."""


class Writers:
    """The writers of a run by their names, and what each has brought with each prompt.

    Of one writer alone ``names`` may be ``("",)``; its candidates have the writer ``""``.
    """

    def __init__(
        self, names: Sequence[str], settings: SearchSettings, *, prompts: int, seed: int
    ) -> None:
        self.names = tuple(names) or ("",)
        self.settings = settings
        self.seed = seed
        shape = len(self.names), prompts + 1  # the last is NO_PROMPT, -1
        self.told: Floats = np.zeros(shape)
        """Candidates of each arm (writers, prompts + 1); older ones count less, here and below."""
        self.entered: Floats = np.zeros(shape)
        """Those of them that entered the archive."""
        self.cost: Floats = np.zeros(shape)
        """Cost of them, in full trainings."""
        memory = settings.writers_memory
        self._keeps = 1.0 - 1.0 / memory if memory > 1 else float(not memory)

    def turn(self, generation: int) -> Turn:
        """Begin to share the candidates of a generation."""
        return Turn(self, generation)

    def of_attempt(self, writer: str, attempt: int) -> str:
        """Return who writes an attempt for a place that ``writer`` was chosen for."""
        if self.settings.writers == "each" and writer in self.names:
            return self.names[attempt % len(self.names)]
        return writer

    def forget(self, prompt: int) -> None:
        """Forget what each writer has brought with one prompt."""
        for facts in (self.told, self.entered, self.cost):
            facts[:, prompt] = 0.0

    def tell(self, proposal: Proposal, evaluation: Evaluation, *, entered: bool) -> None:
        """Learn what became of a candidate. One that was passed over is a cost of its place's."""
        learns = self.settings.writers in ("ucb", "thompson")
        if not learns or proposal.writer not in self.names or proposal.operator == "seed":
            return
        if evaluation.status == "infrastructure":
            return
        arm = self.names.index(proposal.writer), proposal.prompt
        cost = evaluation.trainings + self.settings.token_cost * evaluation.tokens
        if evaluation.status == "passed_over":
            self.cost[arm] += cost
            return
        for facts in (self.told, self.entered, self.cost):
            facts *= self._keeps
        self.told[arm] += 1.0
        self.entered[arm] += entered
        self.cost[arm] += self.settings.place_cost + cost


class Turn:
    """A generation's candidates, given out one after the other."""

    def __init__(self, writers: Writers, generation: int) -> None:
        self._writers, self._generation = writers, generation
        one = len(writers.names) == 1 or writers.settings.writers == "each"
        self._is_alone = one and writers.settings.prompts != "bandit"
        if self._is_alone:
            return
        self._told = writers.told.copy()
        """With those given out."""
        told, entered, cost = writers.told, writers.entered, writers.cost
        self._prior = prior = writers.settings.writers_prior
        # Without any facts a writer enters every other time, and each candidate is trained.
        of_writer = told.sum(axis=1, keepdims=True)
        chance = (1.0 + entered.sum(axis=1, keepdims=True)) / (2.0 + of_writer)
        usual = 1.0 + writers.settings.place_cost
        mean = (prior * usual + cost.sum(axis=1, keepdims=True)) / (prior + of_writer)
        self._good = prior * chance + entered
        self._bad = prior * (1.0 - chance) + np.maximum(told - entered, 0.0)
        self._cost = (prior * mean + cost) / (prior + told)

    def writer(self, place: int, prompt: int) -> str:
        """Choose who writes for a place, with its prompt or ``NO_PROMPT``.

        ``place`` is numbered through all generations.
        """
        if self._is_alone:
            return self._writers.names[0]
        return self._chosen(place, [prompt])[0]

    def pair(self, place: int) -> tuple[str, int]:
        """Choose a writer and a prompt for a place."""
        return self._chosen(place, range(self._told.shape[1] - 1))

    def _chosen(self, place: int, prompts: Sequence[int]) -> tuple[str, int]:
        writers, columns = self._writers, list(prompts)
        rng = generator(writers.seed, self._generation, Purpose.WRITER, place)
        if writers.settings.writers == "uniform":
            values = rng.random((len(writers.names), len(columns)))
        else:
            values = self._values(columns, rng)
        row, column = divmod(int(np.argmax(values)), len(columns))
        self._told[row, columns[column]] += 1.0
        return writers.names[row], columns[column]

    def _values(self, columns: list[int], rng: np.random.Generator) -> Floats:
        """Return what each arm of these prompts is worth, entries per full training."""
        good, bad = self._good[:, columns], self._bad[:, columns]
        if self._writers.settings.writers == "thompson":
            chance = rng.beta(good, bad)
        else:
            tried = self._prior + self._told[:, columns]
            bonus = EXPLORATION * np.sqrt(np.log1p(self._told.sum()) / tried)
            chance = good / (good + bad) + bonus
        return np.asarray(chance / self._cost[:, columns])


assert NO_PROMPT == -1  # the last column

"""Rows of the prompt archive: the problem's own prompts, and new ones that a model wrote of them.

A prompt is known by its index: the problem's own come first, new ones follow in the order in which
they were taken, and none is ever used twice. Its place on the archive's first axis is a row. The
own prompts keep theirs, their index. With ``search.prompts = "evolve"`` (not in the paper)
``search.prompt_rows`` more are kept free for new ones:

When
    before each generation that is a multiple of ``search.prompt_every``, but the first, prompts are
    due to be rewritten: at most ``search.prompt_rewrites``.
Who is rewritten
    the prompts with the highest curiosity above 0, each once, equals in random order. The curiosity
    of a prompt is that of its most curious individual.
Who gets a row
    a new prompt takes the first free row; else that of the evolved prompt with the least curiosity,
    the oldest of equals. A prompt that has not been tried since it came stays, as does one
    that is just being rewritten, and the problem's own always do. Where no row can be had, nothing
    is rewritten.
What becomes of a prompt that goes
    its individuals leave the archive with it, its collective fitness is forgotten, and what is told
    of its candidates later changes no prompt.

A new prompt has no individuals and no curiosity: it is first tried where prompts are drawn at
random, which are those of all rows, and competes from then on as any other. What is written, and
whether it is fit to be a prompt, is not known here; :meth:`PromptRows.enter` is told. So all of it
is a fold over what the search is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..config import SearchSettings
from ..errors import ConfigError
from ..types import NO_PROMPT, Proposal
from .archive import PromptArchive, highest
from .seeds import Purpose, draw_seed, generator
from .writers import Writers


@dataclass(frozen=True)
class Rewriting:
    """A prompt that is due to be rewritten before a generation."""

    index: int
    """Its number among those of the generation."""
    parent: int
    """Index of the prompt."""
    curiosity: float
    """Curiosity of the prompt."""
    temperature: float
    sampling_seed: int


class Place(NamedTuple):
    """Row for a new prompt."""

    row: int
    replaced: int
    """Index of the prompt that has it until then; ``NO_PROMPT``: it is free."""


def spare(settings: SearchSettings) -> int:
    """Return how many rows there are for new prompts."""
    return settings.prompt_rows if settings.prompts == "evolve" else 0


def check(settings: SearchSettings, own: int, room: float) -> None:
    """Refuse more rows than the prompt archive has ``room`` for; ``own``: prompts of the problem.

    Raises :class:`ConfigError`.
    """
    if not 1 <= own <= room:
        raise ConfigError(
            f"problem.prompts: {own} prompts, but archive.prompt.upper leaves room for "
            f"1 to {room:g}"
        )
    if own + spare(settings) > room:
        raise ConfigError(
            f"search.prompt_rows: {own} prompts of the problem and {spare(settings)} rows for new "
            f"ones, but archive.prompt.upper leaves room for {room:g} in all: lower "
            "search.prompt_rows, or give archive.prompt.upper a first number of "
            f"{own + spare(settings)}"
        )


class PromptRows:
    """The prompts that live in ``archive``, by their rows.

    ``own`` is the number of the problem's prompts, ``temperature`` the generator's own, at which
    prompts are rewritten. ``writers`` forget what they knew of a row that another prompt takes.
    """

    def __init__(
        self,
        settings: SearchSettings,
        archive: PromptArchive,
        writers: Writers,
        *,
        own: int,
        temperature: float,
        seed: int,
    ) -> None:
        self._settings, self._archive, self._writers = settings, archive, writers
        self._own, self._temperature, self._seed = own, temperature, seed
        rows = own + spare(settings)
        self.prompts = [*range(own), *[NO_PROMPT] * spare(settings)]
        """Index of each row's prompt; ``NO_PROMPT``: it is free."""
        self.known = own
        """Prompts so far, those that are gone included."""
        self.collective = [0.0] * rows
        """Count, per row, of offspring of its prompt that beat the previous generation's best."""
        self._tried = [False] * rows

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a row that has a prompt, all alike."""
        rows = self.living()
        return rows[int(rng.integers(len(rows)))]

    def living(self) -> list[int]:
        """List the rows that have a prompt."""
        return [row for row, prompt in enumerate(self.prompts) if prompt != NO_PROMPT]

    def told(self, proposal: Proposal) -> Proposal:
        """Return a proposal with the row of its prompt; ``NO_PROMPT`` where that is gone."""
        prompt = proposal.prompt
        if prompt == NO_PROMPT or not spare(self._settings):
            return proposal
        row = self.prompts.index(prompt) if prompt in self.prompts else NO_PROMPT
        return replace(proposal, prompt=row)

    def tell(self, row: int, *, beats: bool) -> None:
        """Learn that a candidate of a row's prompt was tried, and whether it beat the best."""
        self._tried[row] = True
        self.collective[row] += beats

    def due(self, generation: int) -> list[Rewriting]:
        """Return the prompts that are due to be rewritten before a generation."""
        return self._due(generation)[0]

    def places(self, generation: int) -> list[Place]:
        """Return the rows for what is written, one for each that is due; in the same order."""
        return self._due(generation)[1]

    def enter(self, generation: int, taken: Sequence[bool]) -> None:
        """Take new prompts before a generation, as its rewritings turned out; others are nothing.

        ``taken``: of each that was due, whether it is a prompt; what is not said is none.
        """
        places = self.places(generation)
        for row, _ in places[: sum(taken[: len(places)])]:
            self._archive.forget(row)
            self._writers.forget(row)
            self.prompts[row] = self.known
            self.known += 1
            self.collective[row], self._tried[row] = 0.0, False

    def _due(self, generation: int) -> tuple[list[Rewriting], list[Place]]:
        settings, seed = self._settings, self._seed
        if not spare(settings) or generation == 0 or generation % settings.prompt_every:
            return [], []
        curiosity = {row: self._archive.curiosity_of(row) for row in self.living()}
        curious = [row for row in curiosity if curiosity[row] > 0]
        rng = generator(seed, generation, Purpose.REWRITING)
        order = highest([curiosity[row] for row in curious], settings.prompt_rewrites, rng)
        parents = [curious[position] for position in order.tolist()]
        evolved = [row for row in range(self._own, len(self.prompts)) if row not in parents]
        free = [row for row in evolved if self.prompts[row] == NO_PROMPT]
        left = [row for row in evolved if row not in free and self._tried[row]]
        left.sort(key=lambda row: (curiosity[row], self.prompts[row]))
        places = [Place(row, self.prompts[row]) for row in (*free, *left)]
        rewritings = [
            Rewriting(
                index=index,
                parent=self.prompts[row],
                curiosity=curiosity[row],
                temperature=self._temperature,
                sampling_seed=draw_seed(seed, generation, Purpose.REWRITING_SAMPLING, index),
            )
            for index, row in enumerate(parents[: len(places)])
        ]
        return rewritings, places[: len(rewritings)]

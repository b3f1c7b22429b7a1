"""Variation: of what a generation's candidates are made (parents, prompt, temperature)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..config import SearchSettings
from ..types import NO_PROMPT
from .archive import Archive, Individual, PromptArchive
from .baselines import LocalSearch, RegularizedEvolution
from .population import NetworkPopulation, PromptPopulation
from .prompt_rows import PromptRows
from .seeds import Purpose, generator
from .selection import in_turn, parents, turn
from .writers import Turn, Writers

NO_INDIVIDUAL = -1


class Draft(NamedTuple):
    """Content of a proposal beyond its number and seeds."""

    parents: tuple[int, ...]
    prompt: int
    """While it is drawn, the row of the prompt."""
    temperature: float
    individual: int = NO_INDIVIDUAL
    operator: str = ""
    """Empty: the generation's."""
    writer: str = ""
    noise: float = 0.0
    """Added to the individual's temperature."""


@dataclass(frozen=True)
class Variation:
    """Draws of a generation from the archives, or from the populations that replace them.

    ``temperature`` is the generator's own, and ``seeds`` how many first candidates of all are the
    problem's seeds. It keeps no state of its own: the same archives give the same drafts.
    """

    settings: SearchSettings
    network_archive: Archive
    prompt_archive: PromptArchive
    network_population: NetworkPopulation | None
    prompt_population: PromptPopulation | None
    baseline: RegularizedEvolution | LocalSearch | None
    writers: Writers
    prompts: PromptRows
    temperature: float
    seed: int
    seeds: int

    @property
    def networks(self) -> Archive | NetworkPopulation:
        """Archive or population that parents come from."""
        return self.network_archive if self.network_population is None else self.network_population

    @property
    def individuals(self) -> PromptArchive | PromptPopulation:
        """Archive or population that prompts come from."""
        return self.prompt_archive if self.prompt_population is None else self.prompt_population

    def drafts(self, generation: int, phase: str, operator: str, count: int) -> Iterable[Draft]:
        """Draw ``count`` drafts of a generation, in the order of their places."""
        draw = {
            "start": self._start,
            "mutation": self._mutation,
            "crossover": self._crossover,
            "random": self._random,
            "neighbour": self._neighbour,
        }[phase if phase == "start" else operator]
        shared, first = self.writers.turn(generation), generation * self.settings.batch
        for place, draft in enumerate(draw(generation, count), first):
            if draft.operator == "seed":
                yield draft
                continue
            if operator == "mutation" and phase != "start" and self.settings.prompts == "bandit":
                draft = self._by_arm(draft, shared, generation, place)
            else:
                draft = draft._replace(writer=shared.writer(place, draft.prompt))
            if draft.prompt != NO_PROMPT:
                draft = draft._replace(prompt=self.prompts.prompts[draft.prompt])
            yield draft

    def _start(self, generation: int, count: int) -> Iterable[Draft]:
        for index, rng in enumerate(self._candidate_rngs(generation, count)):
            if generation == 0 and index < self.seeds:
                yield Draft((), NO_PROMPT, self.temperature, operator="seed")
            else:
                yield Draft((), self.prompts.draw(rng), self.temperature)

    def _random(self, generation: int, count: int) -> Iterable[Draft]:
        return [Draft((), NO_PROMPT, self.temperature)] * count

    def _neighbour(self, generation: int, count: int) -> Iterable[Draft]:
        assert self.baseline is not None
        for parent, number in self.baseline.ask(self._candidate_rngs(generation, count)):
            if parent < 0:
                yield Draft((), NO_PROMPT, self.temperature, operator="random")
            else:
                yield Draft((parent,), NO_PROMPT, self.temperature, number)

    def _mutation(self, generation: int, count: int) -> Iterable[Draft]:
        settings = self.settings
        draw = parents(settings, self.networks, lambda: self._rng(generation, Purpose.PARENTS))
        curious = self.individuals.most_curious(
            settings.curious_individuals, self._rng(generation, Purpose.CURIOSITY)
        )
        for index, rng in enumerate(self._candidate_rngs(generation, count)):
            is_first, position = turn(count, generation, index, small=settings.small_batches)
            drawn = draw(rng, position if is_first else -1)
            if is_first and curious:
                individual = in_turn(curious, position)
            else:
                individual = self._random_individual(rng)
            noise = 0.0
            if position % 2:
                most = settings.temperature_noise
                noise = float(rng.uniform(-most, most))
            temperature = clipped(settings, individual.temperature + noise)
            yield Draft(drawn, individual.prompt, temperature, individual.number, noise=noise)

    def _crossover(self, generation: int, count: int) -> Iterable[Draft]:
        settings = self.settings
        members = self.networks.candidates()
        drawn = min(settings.crossover_elites, len(members))
        elites = (
            self._rng(generation, Purpose.ELITES).choice(members, drawn, replace=False).tolist()
        )
        for index, rng in enumerate(self._candidate_rngs(generation, count)):
            elite = elites[index % drawn]
            if self.network_population is not None:
                mate = self.network_population.most_similar(elite, rng)
            else:
                counts = settings.crossover_neighbours
                nearest = self.network_archive.nearest(elite, max(counts))
                nearest = nearest[: counts[rng.integers(len(counts))]]
                mate = nearest[rng.integers(len(nearest))]
            yield Draft((elite, mate), NO_PROMPT, settings.crossover_temperature)

    def _by_arm(self, draft: Draft, shared: Turn, generation: int, place: int) -> Draft:
        """Give a mutation the best arm's writer and prompt, as hot as that prompt's most curious.

        What the draft adds to the temperature of its own individual is added to this one's.
        """
        writer, prompt = shared.pair(place)
        rng = self._rng(generation, Purpose.INDIVIDUAL, place)
        individual = self.prompt_archive.most_curious_of(prompt, rng)
        if individual is None:
            individual = Individual(NO_INDIVIDUAL, prompt, self.temperature)
        noise = draft.noise
        temperature = clipped(self.settings, individual.temperature + noise)
        return Draft(
            draft.parents, prompt, temperature, individual.number, draft.operator, writer, noise
        )

    def _random_individual(self, rng: np.random.Generator) -> Individual:
        if self.prompt_population is not None:
            return self.prompt_population.individual(int(rng.integers(len(self.prompt_population))))
        prompt = self.prompts.draw(rng)
        individuals = self.prompt_archive.of_prompt(prompt)
        if len(individuals) == 0:
            return Individual(NO_INDIVIDUAL, prompt, self.temperature)
        return self.prompt_archive.individual(int(individuals[rng.integers(len(individuals))]))

    def _rng(self, generation: int, purpose: Purpose, candidate: int = 0) -> np.random.Generator:
        return generator(self.seed, generation, purpose, candidate)

    def _candidate_rngs(self, generation: int, count: int) -> Iterable[np.random.Generator]:
        first = generation * self.settings.batch
        for candidate in range(first, first + count):
            yield self._rng(generation, Purpose.VARIATION, candidate)


def clipped(settings: SearchSettings, temperature: float) -> float:
    """Return a temperature within ``search.temperature_lower`` and ``temperature_upper``."""
    return min(max(temperature, settings.temperature_lower), settings.temperature_upper)

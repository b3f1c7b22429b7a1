"""LLMatic's search (Algorithm 1) and the paper's ablations, as ask and tell.

The state of a :class:`Search` is a fold over the evaluations that it was told: a fresh one
that is told the same evaluations in the same order is in the same state, and what it asks
for next depends on that state and the seed alone. It holds no clock, no file and no
generator.

The paper leaves open points. They are settled as follows.

Start phase
    lasts while the network archive holds fewer than ``start_elites`` elites when a generation
    begins; and, not in the paper, for ``start_generations`` generations at most, or until all cells
    are full. Every candidate descends from the initial network
    (no parents), its prompt is uniformly random, its temperature the generator's, no prompt
    individual is selected. With ``start = "seeds"`` (not in the paper) the first candidates of
    all are the problem's seeds instead, without a prompt (operator ``seed``). Where there is no
    elite afterwards, the initial network goes on being the parent of every mutation.
Mutation
    draws a parent among the network elites for every candidate: uniformly, or as
    ``search.parents`` says. The first half of
    the batch (the larger one) takes prompt and temperature from the ``curious_individuals``
    most curious prompt individuals, ties in random order, in turn. The second half draws a
    prompt uniformly and takes one of that prompt's individuals, or none and the generator's
    temperature where the archive holds none; so does the first half while the prompt archive
    is empty. Within each half every other candidate takes the temperature as it is, the
    others add noise; all are clipped. With ``search.small_batches`` what a batch of one or two has
    no room for takes turns by generation.
Parents
    ``tournament``: the fittest of ``tournament`` elites, drawn with replacement (not in the
    paper). ``curious``, retired: as for prompts, the first half of the batch takes the most
    curious elites in turn, which earn as prompt individuals do and start at 0.
Crossover
    draws ``crossover_elites`` elites without replacement and takes them in turn; the mate is
    uniform among the k nearest elites, k drawn from ``crossover_neighbours``. It leaves the
    prompt archive alone. With fewer than two elites mutation stands in for it.
Update
    goes through the candidates in order, those of earlier generations whose evaluation was
    late first. ``scored`` ones are offered to the network archive.
    A mutation's prompt earns curiosity for the selected individual while that is still in
    the archive, and a new individual is made of the prompt and the temperature used, a step
    up if the fitness is at least the best of the previous generation, else a step down. Its
    fitness is the collective fitness of its prompt, which has grown by 1 if the offspring
    beat that best; its curiosity starts at what the offspring earned.
The best of the previous generation
    is the best fitness among the scored candidates that it was told, late ones included. Where
    there were none it is the last best known, at the very start minus infinity, so that
    everything trainable beats it.
Stopped
    at a rung (not in the paper): it could be trained and enters no archive of networks, so it earns
    ``curiosity_rejected``. It has no fitness to compare: the collective fitness stays, and the
    temperature goes a step down, as that of all that are not seen to be as good as the best.
Oversampling
    (``search.oversample``, not in the paper) asks for several candidates for each place, alike but
    for their seeds; which of them is evaluated says :mod:`.oversampling`. The others are told as
    ``passed_over`` and change nothing at all.
New prompts
    (``search.prompts = "evolve"``, not in the paper) are written of those that earned curiosity,
    see :mod:`.prompt_rows`. Proposals name prompts by their index; in here a prompt is its row.
Writers
    (``search.writers``, not in the paper) share the candidates by a rule, see :mod:`.writers`.
Challenges
    (``search.challenge``, not in the paper) train elites and runners-up again that the noise does
    not tell apart, see :mod:`.challenge`. They take the last places of the next generation
    (operator ``repeat``, the network as its parent), at most half of them, or the only one. They
    change the archive of networks alone: no prompt earns by them, and the best of a generation is
    that of its new networks.
Infrastructure
    failures say nothing about a candidate and change nothing at all.

Variants (``search.variant``):

``mutation-only``, ``crossover-only``
    one operator after the usual start phase.
``network-archive``
    a :class:`PromptPopulation` in place of the prompt archive, which stays empty. The
    score plays the part of curiosity in selection, random individuals come from the
    population. ``Proposal.individual`` is a slot of the population here. The start phase
    draws prompts as usual and leaves the population alone.
``prompt-archive``
    a :class:`NetworkPopulation` in place of the network archive: parents come from it, a mate
    is the most similar member, entering it earns curiosity, and the start phase lasts until
    it holds ``start_elites``. The network archive is filled for the record only, and the
    updates report what happened in it.
``random``
    asks for networks from scratch, every generation alike. They are archived for the record.
``regularized-evolution``, ``local-search``
    baselines, see :mod:`.baselines`; both archives are for the record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..config import ArchiveSettings, SearchSettings, network_axes
from ..types import NO_PROMPT, REPEAT, Descriptor, Evaluation, Proposal, Update
from . import prompt_rows
from .archive import Added, Archive, PromptArchive
from .baselines import baseline
from .challenge import Challenges, Repeat, proposals_of
from .oversampling import Places
from .population import NetworkPopulation, PromptPopulation
from .seeds import Purpose, draw_seed, generator
from .targets import Aiming
from .tessellation import Location, Tessellation, network_tessellation, prompt_tessellation
from .told import AskTellError, Told, check, history_row
from .variation import NO_INDIVIDUAL, Draft, Variation, clipped
from .writers import Writers


class Search:
    """A run's search, a generation at a time: ``ask()``, evaluate, ``tell()``.

    What is not evaluated in time may be told with a later generation; until then it is out.

    ``descriptors`` are the axes of the network archive, whose bounds and scales ``archive`` may
    replace. ``prompts`` is the number of mutation prompts, ``temperature`` the generator's own,
    ``neighbours`` how many networks are one edit away from any (baselines only), ``seeds`` how
    many there are for ``search.start = "seeds"``, ``writers`` the names of several.
    ``initial``, for targets: the initial network's descriptors, raw; empty: not known.
    Tessellations are made from ``seed`` unless those of a record are given. Raises
    ``ConfigError`` for archive settings that do not fit together or do not fit the prompts.
    """

    def __init__(
        self,
        search: SearchSettings,
        archive: ArchiveSettings,
        *,
        descriptors: Sequence[Descriptor],
        prompts: int,
        temperature: float,
        seed: int,
        neighbours: int = 0,
        seeds: int = 0,
        writers: Sequence[str] = (),
        network_cells: Tessellation | None = None,
        prompt_cells: Tessellation | None = None,
        initial: Sequence[float] = (),
    ) -> None:
        prompt_rows.check(search, prompts, archive.prompt.upper[0])
        self.settings = search
        self.descriptors = network_axes(archive.network, descriptors)
        self.temperature = temperature
        self.seed = seed
        if network_cells is None:
            rng = generator(seed, 0, Purpose.NETWORK_TESSELLATION)
            network_cells = network_tessellation(
                archive.network, self.descriptors, samples=archive.samples, rng=rng
            )
        if prompt_cells is None:
            rng = generator(seed, 0, Purpose.PROMPT_TESSELLATION)
            prompt_cells = prompt_tessellation(archive.prompt, samples=archive.samples, rng=rng)
        earns = search.parents == "curious"  # retired: elites of networks earn curiosity, too
        self.network_archive = (PromptArchive if earns else Archive)(network_cells)
        self.prompt_archive = PromptArchive(prompt_cells)
        self.network_population: NetworkPopulation | None = None
        self.prompt_population: PromptPopulation | None = None
        if search.variant == "prompt-archive":
            self.network_population = NetworkPopulation(search.population)
        if search.variant == "network-archive":
            self.prompt_population = PromptPopulation(
                search.population,
                prompts,
                lower=search.temperature_lower,
                upper=search.temperature_upper,
                rng=generator(seed, 0, Purpose.POPULATION),
            )
        self._baseline = baseline(search, neighbours)
        rows = prompts + prompt_rows.spare(search)
        self.writers = Writers(writers, search, prompts=rows, seed=seed)
        self.prompt_rows = prompt_rows.PromptRows(
            search, self.prompt_archive, self.writers,
            own=prompts, temperature=temperature, seed=seed,
        )  # fmt: skip
        self.challenges: Challenges | None = None
        if search.challenge:
            self.challenges = Challenges(self.network_archive, search.challenge, search.noise)
        self._variation = Variation(
            search,
            self.network_archive,
            self.prompt_archive,
            self.network_population,
            self.prompt_population,
            self._baseline,
            self.writers,
            self.prompt_rows,
            temperature,
            seed,
            seeds if search.start == "seeds" else 0,
        )
        self.aiming = Aiming()
        self._initial = initial
        self._best = -math.inf
        self._generation, self._repeats = 0, 0
        self._asked: tuple[str, str, str] | None = None
        self._out: dict[int, Proposal] = {}

    @property
    def generation(self) -> int:
        """The generation that is asked for next, or is being evaluated."""
        return self._generation

    @property
    def new_places(self) -> int:
        """Places of the generation that was asked for with new candidates; repeats follow them."""
        return self.settings.batch - self._repeats

    @property
    def best(self) -> float:
        """The previous generation's best fitness, what offspring are compared with."""
        return self._best

    @property
    def collective(self) -> tuple[float, ...]:
        """Count, per row of prompts, of offspring that beat the previous generation's best."""
        return tuple(self.prompt_rows.collective)

    # --- ask ----------------------------------------------------------------------------------

    def ask(self) -> tuple[Proposal, ...]:
        """A generation's proposals, in candidate order.

        Raises :class:`AskTellError` where the last generation has not been told.
        """
        if self._asked is not None:
            raise AskTellError(
                f"ask() was called twice: tell() the evaluations of generation "
                f"{self._generation} first"
            )
        asked = phase, operator, _ = self._operator()
        first, several = self._generation * self.settings.batch, self.settings.oversample
        repeats = self._due()
        self._repeats = len(repeats)
        drafts = list(
            enumerate(self._variation.drafts(self._generation, phase, operator, self.new_places))
        )
        targets = {index: self._target(first + index, made, operator) for index, made in drafts}
        proposals = tuple(
            Proposal(
                candidate=(first + index) * several + attempt,
                generation=self._generation,
                index=index,
                operator=made.operator or operator,
                parents=made.parents,
                prompt=made.prompt,
                temperature=made.temperature,
                individual=made.individual,
                sampling_seed=self._draw_seed(Purpose.SAMPLING, first + index, attempt),
                training_seed=self._draw_seed(Purpose.TRAINING, first + index, attempt),
                attempt=attempt,
                writer=self.writers.of_attempt(made.writer, attempt),
                target=targets[index],
            )
            for index, made in drafts
            for attempt in range(several)
        ) + proposals_of(
            repeats, self._generation, first=self.new_places, batch=self.settings.batch,
            several=several,
        )  # fmt: skip
        self._asked = asked
        self._out |= {proposal.candidate: proposal for proposal in proposals}
        return proposals

    def _due(self) -> list[Repeat]:
        """Ask for the trainings again that the next generation has places for."""
        if self.challenges is None or self._generation < self.settings.challenge_from:
            return []
        out = {p.parents[0] for p in self._out.values() if p.operator == REPEAT}
        return self.challenges.ask(max(1, self.settings.batch // 2), out)

    def _target(self, place: int, made: Draft, operator: str) -> int:
        """Draw the cell that a place's candidates are asked for; -1: none is."""
        archive = self.network_archive
        asks = (made.operator or operator) in ("mutation", "crossover")
        if not (self.settings.targets and self.aiming.is_on and asks):
            return -1
        raw = archive.descriptors_of(made.parents[0]) if made.parents else self._initial
        first, several = place * self.settings.oversample, self.settings.oversample
        rng = self._rng(Purpose.TARGET, place)
        return self.aiming.ask(archive, raw, rng, range(first, first + several))

    def places(self) -> Places:
        """The places of the generation that was asked for, to be given to its candidates."""
        return Places(self.network_archive, seed=self.seed, generation=self._generation)

    def _operator(self) -> tuple[str, str, str]:
        """Phase, operator applied and operator drawn."""
        settings = self.settings
        if settings.variant == "random":
            return "search", "random", "random"
        if self._baseline is not None:
            return "search", "neighbour", "neighbour"
        archive, population = self.network_archive, self.network_population
        room = archive.tessellation.cells if population is None else population.size
        needed = settings.start_elites
        if settings.start_generations:  # older records wait for more than there is room for
            needed = min(needed, room)
        is_short = len(self._variation.networks) < needed
        if is_short and self._generation < (settings.start_generations or math.inf):
            return "start", "mutation", "mutation"
        if settings.variant in ("mutation-only", "crossover-only"):
            drawn = settings.variant.removesuffix("-only")
        else:
            chance = self._rng(Purpose.OPERATOR).random()
            drawn = "mutation" if chance < settings.mutation_probability else "crossover"
        return "search", drawn if len(self._variation.networks) >= 2 else "mutation", drawn

    # --- tell ---------------------------------------------------------------------------------

    def tell(self, evaluations: Sequence[Evaluation]) -> Told:
        """Fold a generation's evaluations, in candidate order, into the state.

        They are those of the last :meth:`ask`, without the ones that are late, and late ones of
        earlier generations. Raises :class:`AskTellError`, with the state unchanged, where one
        is of a candidate that was never asked for or has been told before, or is scored and has
        not a descriptor for each axis of the network archive.
        """
        asked = self._asked
        if asked is None:
            raise AskTellError(f"tell() was called before ask() of generation {self._generation}")
        check(evaluations, self._out, self.network_archive.tessellation.axes)
        proposals = [self.prompt_rows.told(self._out.pop(e.candidate)) for e in evaluations]
        places = self._network_places(evaluations)
        individuals = self._new_individuals(proposals, evaluations)
        places_of = map(places.get, (proposal.candidate for proposal in proposals))
        updates = tuple(map(self._update, proposals, evaluations, places_of, individuals))
        if self._baseline is not None:
            self._baseline.tell(evaluations)
        if self.settings.targets:
            self.aiming.tell(self.network_archive, evaluations)
        archives = self.network_archive, self.prompt_archive
        new = [
            told
            for told in zip(evaluations, updates, proposals, strict=True)
            if told[2].operator != REPEAT
        ]
        row = history_row(
            self._generation, asked, self._best, [e for e, _, _ in new], [u for _, u, _ in new],
            archives, self.collective,
        )  # fmt: skip
        if not math.isnan(row.best_fitness):
            self._best = row.best_fitness
        self._generation += 1
        self._asked = None
        return Told(updates, row)

    def _network_places(self, evaluations: Sequence[Evaluation]) -> dict[int, Location]:
        scored = [e for e in evaluations if e.status == "scored"]
        found = self.network_archive.tessellation.locate([e.descriptors for e in scored])
        return {e.candidate: place for e, place in zip(scored, found, strict=True)}

    def _new_individuals(
        self, proposals: Sequence[Proposal], evaluations: Sequence[Evaluation]
    ) -> list[Location]:
        """Prompt and adapted temperature of every candidate, where they lie."""
        raw = []
        for proposal, evaluation in zip(proposals, evaluations, strict=True):
            is_good = evaluation.status == "scored" and evaluation.fitness >= self._best
            step = self.settings.temperature_step * (1 if is_good else -1)
            raw.append((proposal.prompt, clipped(self.settings, proposal.temperature + step)))
        return self.prompt_archive.tessellation.locate(raw)

    def _update(
        self,
        proposal: Proposal,
        evaluation: Evaluation,
        place: Location | None,
        new_individual: Location,
    ) -> Update:
        """Let one candidate change the archives, and say what it did."""
        candidate = proposal.candidate
        if evaluation.status in ("infrastructure", "passed_over"):
            self.writers.tell(proposal, evaluation, entered=False)
            return Update(candidate)
        if proposal.operator == REPEAT:
            assert self.challenges is not None
            return _update(
                candidate, self.challenges.again(proposal.parents[0], evaluation.fitness)
            )
        network_cell, network_added, clipped, entered = -1, -1, False, False
        if place is not None:
            added = self._placed(proposal, evaluation, place)
            network_cell, network_added, clipped = added.cell, int(added.status), added.clipped
            entered = bool(added.status)
            if self.network_population is not None:
                entered = self.network_population.offer(candidate, evaluation.fitness, place)
        self.writers.tell(proposal, evaluation, entered=entered)
        settings = self.settings
        if place is None and evaluation.status != "stopped":
            delta = settings.curiosity_untrainable
        else:
            delta = settings.curiosity_added if entered else settings.curiosity_rejected
        if isinstance(self.network_archive, PromptArchive):
            for parent in proposal.parents:
                self.network_archive.earn(parent, delta)
        if proposal.prompt == NO_PROMPT:
            return Update(candidate, network_cell, network_added, clipped)
        beats = place is not None and evaluation.fitness > self._best
        self.prompt_rows.tell(proposal.prompt, beats=beats)
        prompt_cell, prompt_added, temperature = -1, -1, math.nan
        if self.prompt_population is None:
            self.prompt_archive.earn(proposal.individual, delta)
            made = self.prompt_archive.place(
                candidate, self.collective[proposal.prompt], new_individual, curiosity=delta
            )
            prompt_cell, prompt_added = made.cell, int(made.status)
            temperature = new_individual.descriptor[1]
        elif proposal.individual != NO_INDIVIDUAL:
            temperature = self.prompt_population.reward(proposal.individual, delta, added=entered)
        return Update(
            candidate, network_cell, network_added, clipped,
            prompt_cell, prompt_added, delta, temperature,
        )  # fmt: skip

    def _placed(self, proposal: Proposal, evaluation: Evaluation, place: Location) -> Added:
        """Offer a new candidate to the network archive."""
        candidate, fitness = proposal.candidate, evaluation.fitness
        if self.challenges is None:
            return self.network_archive.place(candidate, fitness, place)
        if evaluation.is_copy:
            return self.challenges.copy(place)
        return self.challenges.offer(
            candidate, fitness, place, seed=proposal.training_seed, possible=evaluation.possible
        )

    # --- draws --------------------------------------------------------------------------------

    def _rng(self, purpose: Purpose, candidate: int = 0) -> np.random.Generator:
        return generator(self.seed, self._generation, purpose, candidate)

    def _draw_seed(self, purpose: Purpose, place: int, attempt: int) -> int:
        return draw_seed(self.seed, self._generation, purpose, place, attempt)


def _update(candidate: int, added: Added) -> Update:
    return Update(candidate, added.cell, int(added.status), added.clipped)

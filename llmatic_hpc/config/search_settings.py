"""Settings of the search and of its two archives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .fields import resumable, setting

ABLATIONS = ("network-archive", "prompt-archive", "mutation-only", "crossover-only", "random")
"""Variants of the algorithm (paper, section 4.2)."""
BASELINES = ("regularized-evolution", "local-search")
"""Variants that edit by number, without prompts."""

WITH_PROMPTS = ("llmatic", "mutation-only", "prompt-archive")
"""Variants that mutate by the prompt archive."""

AUTO = "auto"
"""In place of bounds: they are settled when a run starts."""

_RETIRED_PARENTS = {
    "curious": "parents by curiosity were hardly better than uniform ones; choose 'tournament' or "
    "'uniform'"
}


@dataclass(frozen=True)
class SearchSettings:
    """Algorithm 1 of the paper and its variants (section 4.2)."""

    variant: str = setting(
        "llmatic", "which algorithm", choices=("llmatic", *ABLATIONS, *BASELINES)
    )
    generations: int = resumable(20, "generations in all", low=1, high=1_000_000)
    batch: int = setting(100, "candidates per generation", low=1, high=10_000)
    oversample: int = setting(
        1, "completions that are sampled and screened for each candidate of a generation; the one "
        "whose niche is emptiest or weakest is evaluated", low=1, high=1000,
    )  # fmt: skip
    proxies: bool = setting(
        False, "images: measure NASWOT and synflow, too, for 'llmatic status --signals' alone"
    )
    targets: bool = setting(
        False, "requests name an empty or weak niche near the parent's, until the model is seen "
        "not to aim; wants generator.request = 'informed'"
    )  # fmt: skip
    queries: int = resumable(
        0, "end after the generation in which so many candidates have a score of their own; 0: "
        "after the last", low=0,
    )  # fmt: skip
    budget: float = resumable(
        0.0, "end after the generation in which so many full trainings are spent, short ones "
        "counted by their epochs; 0: after the last", low=0.0,
    )  # fmt: skip
    max_gpu_hours: float = resumable(
        0.0, "end after the generation in which candidates have taken so many hours of devices, "
        "those without a result included; without a GPU they are hours of workers; 0: no end",
        low=0.0,
    )  # fmt: skip
    max_hours: float = resumable(
        0.0, "end after the generation in which the run has been alive for so many hours, all its "
        "coordinators together; 0: no end", low=0.0,
    )  # fmt: skip
    challenge: int = setting(
        0, "train an elite and its niche's runner-up again, each up to so many times, while the "
        "noise of a training does not tell them apart; fitness is then the mean over a network's "
        "trainings; 0: one training decides", low=0, high=1000,
    )  # fmt: skip
    challenge_from: int = setting(
        0, "with search.challenge: first generation that trains any again, such as one of the last",
        low=0,
    )  # fmt: skip
    noise: float = setting(
        0.0, "with search.challenge: difference of two trainings that says nothing, an accuracy; "
        "0: estimated from trainings of the same networks", low=0.0, high=1.0,
    )  # fmt: skip
    start_elites: int = setting(
        10, "the start phase lasts while the network archive holds fewer elites", low=0
    )
    start_generations: int = setting(
        0, "and ends after so many generations, however few they are; 0: it has no such end", low=0
    )
    start: str = setting(
        "initial", "what the search begins with; seeds: also a few networks of published shapes, "
        "which are the first candidates", choices=("initial", "seeds"),
    )  # fmt: skip
    train_start: bool = setting(True, "train the candidates of the start phase, too")
    mutation_probability: float = setting(0.7, "else crossover", low=0.0, high=1.0)
    parents: str = setting(
        "uniform", "how mutation draws parents among the elites; tournament: the fittest of "
        "search.tournament", choices=("uniform", "tournament"), retired=_RETIRED_PARENTS,
    )  # fmt: skip
    tournament: int = setting(10, "elites or individuals that a tournament draws", low=1)
    small_batches: bool = setting(
        False, "in a batch of one or two, the halves and their individuals take turns by generation"
    )
    curious_individuals: int = setting(
        10, "how many of the most curious prompt individuals share half the batch", low=1
    )
    temperature_noise: float = setting(
        0.1, "every other candidate adds a uniform draw from plus or minus this", low=0.0, high=1.0
    )
    temperature_step: float = setting(
        0.05, "up when at least the previous generation's best, else down", low=0.0, high=1.0
    )
    temperature_lower: float = setting(0.05, "temperatures are clipped to it", low=0.0, high=10.0)
    temperature_upper: float = setting(1.0, "temperatures are clipped to it", low=0.0, high=10.0)
    crossover_elites: int = setting(10, "elites drawn for a crossover generation", low=1)
    crossover_neighbours: tuple[int, ...] = setting(
        (2, 3), "a mate is one of this many nearest elites; the number is drawn", low=1
    )
    crossover_temperature: float = setting(0.7, "temperature of crossover", low=0.0, high=10.0)
    curiosity_added: float = setting(1.0, "its offspring entered the network archive")
    curiosity_rejected: float = setting(-0.5, "its offspring was trained but did not enter")
    curiosity_untrainable: float = setting(-1.0, "its offspring could not be trained")
    population: int = setting(
        100, "size of the population that replaces an archive, or of regularized evolution", low=2
    )
    writers: str = setting(
        "uniform", "how candidates are shared among generator.writers, for each prompt: uniform; "
        "ucb, thompson: by what entered the map for its counted cost; each: all writers answer "
        "every place, search.oversample times together",
        choices=("uniform", "ucb", "thompson", "each"),
    )  # fmt: skip
    prompts: str = setting(
        "archive", "how mutation comes to its prompt: archive: as in the paper; bandit: by "
        "search.writers, together with the writer; evolve: as archive, and a model writes new "
        "prompts of those that earned curiosity", choices=("archive", "bandit", "evolve"),
    )  # fmt: skip
    prompt_rows: int = setting(
        3, "with search.prompts = 'evolve': rows of the prompt archive for new prompts, beside "
        "those of the problem's own", low=1, high=1000,
    )  # fmt: skip
    prompt_every: int = setting(
        5, "with search.prompts = 'evolve': prompts are rewritten before every generation that is "
        "a multiple of it, but the first", low=1,
    )  # fmt: skip
    prompt_rewrites: int = setting(
        1, "with search.prompts = 'evolve': prompts that are rewritten each time, at most", low=1,
        high=1000,
    )  # fmt: skip
    token_cost: float = setting(
        1e-4, "what a token that a writer writes counts in the rules of search.writers, in full "
        "trainings", low=0.0, high=1.0,
    )  # fmt: skip
    place_cost: float = setting(
        0.05, "what a place in a batch counts in the rules of search.writers beside training and "
        "tokens, in full trainings; about 1 where a run ends after so many candidates, not "
        "trainings", low=0.0, high=100.0,
    )  # fmt: skip
    writers_memory: int = setting(
        200, "the rules of search.writers forget: what lies so many candidates back counts by a "
        "third; 0: nothing is forgotten", low=0,
    )  # fmt: skip
    writers_prior: float = setting(
        2.0, "the rules of search.writers believe of a writer with a prompt what is known of the "
        "writer with all prompts, as if of so many candidates", low=0.1, high=1000.0,
    )  # fmt: skip
    first_improvement: bool = setting(
        False, "local search moves to the first better neighbour, not to the best of all"
    )


@dataclass(frozen=True)
class NetworkArchiveSettings:
    """CVT-MAP-Elites over the descriptors of the problem."""

    cells: int = setting(100, "number of cells", low=1, high=1_000_000)
    kind: str = setting("cvt", "tessellation", choices=("cvt", "grid"))
    axes: tuple[str, ...] = setting(
        (), "measured values that are the axes, two or more; empty: the problem's own; of image "
        "classification there are ratio, flops, params, depth, width, activation_bytes and "
        "milliseconds"
    )  # fmt: skip
    lower: tuple[float | Literal["auto"], ...] | Literal["auto"] = setting(
        (), "lower bounds, one per axis; empty: the problem's own; auto, for one axis or for all: "
        "a tenth of the initial network's value"
    )  # fmt: skip
    upper: tuple[float | Literal["auto"], ...] | Literal["auto"] = setting(
        (), "upper bounds, likewise; auto: 10,000 times the initial network's FLOPs, 1,000 times "
        "its parameters or memory, 40 times its ratio, 100 times its other values, and never more "
        "than containment allows"
    )  # fmt: skip
    scale: tuple[str, ...] = setting(
        (), "of each axis; log: by its logarithm; empty: the problem's own",
        choices=("linear", "log"),
    )  # fmt: skip

    @property
    def is_automatic(self) -> bool:
        """True where a bound of any axis is to be settled."""
        return AUTO in self.lower or AUTO in self.upper

    def automatic(self, key: str, axes: int) -> tuple[bool, ...]:
        """Return of each axis whether its bound ``lower`` or ``upper`` is to be settled."""
        value = getattr(self, key)
        return (True,) * axes if value == AUTO else tuple(v == AUTO for v in value or [0] * axes)

    RETIRED: ClassVar[Mapping[str, Callable[[Any], dict[str, Any]]]] = {
        "log_flops": lambda on: {"scale": ["linear", "log"]} if on else {}
    }


@dataclass(frozen=True)
class PromptArchiveSettings:
    """CVT-MAP-Elites over (prompt index, temperature)."""

    cells: int = setting(100, "number of cells", low=1, high=1_000_000)
    kind: str = setting("cvt", "tessellation; grid: a row per prompt", choices=("cvt", "grid"))
    lower: tuple[float, ...] = setting((0.0, 0.0), "lower bounds of prompt and temperature")
    upper: tuple[float, ...] = setting((16.0, 1.0), "upper bounds of prompt and temperature")


@dataclass(frozen=True)
class ArchiveSettings:
    """The two archives and how their cells are made."""

    samples: int = setting(25_000, "points that Lloyd's algorithm clusters, at least", low=1)
    network: NetworkArchiveSettings = field(default_factory=NetworkArchiveSettings)
    prompt: PromptArchiveSettings = field(default_factory=PromptArchiveSettings)

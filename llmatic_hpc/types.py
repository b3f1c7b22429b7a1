"""Values that flow through a generation: plain, frozen, typed values without behaviour.

A candidate's way, in the order in which it is made::

    Proposal -> Request -> Completion    what is asked for, and what was written
    Screened                             the verdict of gate and measurement on a source
    Examined                             a source with its verdicts before and after repair
    Outcome                              what training it found
    Result                               an outcome with where it comes from, as a file
    Evaluation -> Update                 what the search learns of it, and what follows

A failure on the way is a status and one line of text in ``Screened`` or ``Outcome``.

A candidate's number is its row in the record: ``(generation * search.batch + index) *
search.oversample + attempt``, with ``index`` its place in the batch. ``INITIAL`` in place of a
parent's number means the initial network, which is no candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

INITIAL = -1
NO_PROMPT = -1
REPEAT = "repeat"
"""Operator of a candidate that is another training of the network that is its parent."""

REWRITING = "rewriting"
"""Operator of a request for a new prompt, which is no candidate's."""

STATUSES = (
    "scored",
    "stopped",
    "invalid",
    "forbidden",
    "diverged",
    "too_large",
    "too_slow",
    "duplicate",
    "infrastructure",
    "passed_over",
)
"""Fates of a candidate; ``pending`` while it has not been evaluated."""

LARGEST = 1e300
"""No number in a result is larger."""

PENDING = "pending"


@dataclass(frozen=True)
class Descriptor:
    """An axis of the network archive: a measured number in which elites differ."""

    name: str
    """Key of the measured value: ``flops``, or a problem's own."""
    lower: float
    upper: float
    """Bounds of the axis; what lies outside is clipped to them."""
    label: str = ""
    """For people; empty: the name."""
    unit: str = "1"
    scale: str = "linear"
    """``linear``, or ``log`` for an axis that is scaled by its logarithm."""
    chosen: bool = True
    """False: an axis only where ``archive.network.axes`` names it."""
    reach: float = 100.0
    """Automatic bounds end at so many times the initial network's value."""
    late: bool = False
    """True: a column of the result, known only once a candidate has been evaluated."""


@dataclass(frozen=True)
class Problem:
    """A kind of network to find. Plain text and numbers, so that every room may hold it."""

    name: str
    input_shape: tuple[int, ...]
    """Shape of one example, without the batch: channels, height and width of an image, channels and
    length of a sequence, or features."""
    classes: int
    """A network maps (N, \\*input_shape) to (N, classes)."""
    initial_source: str
    """The network that the search starts from."""
    prompts: tuple[str, ...]
    """Mutation prompts; a prompt is known by its index."""
    crossover_prompt: str
    random_prompt: str
    """Prompt of the variant that generates without evolution (paper, section 4.2)."""
    advice: str = ""
    """Words that a chat is told beside the instruction; empty: the shapes."""
    helpers: str = ""
    """Definitions that a network may use without giving them."""
    seeds: tuple[str, ...] = ()
    """Networks that ``search.start = "seeds"`` begins with beside the initial one."""
    control: str = ""
    """Its procedural control, ``module:attribute`` of what makes one of settings and problem."""


@dataclass(frozen=True)
class Interface:
    """Numbers that a network is given and gives back, for who uses it elsewhere."""

    input_shape: tuple[int, ...]
    """Shape of one example."""
    classes: int
    values: str = ""
    """Meaning of the numbers of an example, in words; empty: not known."""
    normalised: str = "examples"
    """Expression of Python that makes them of ``examples``, a tensor of raw data; it may use
    ``torch``."""
    raw: str = "float32"
    """Type of the raw data."""
    names: tuple[str, ...] = ()
    """Classes by name, in their order; empty: not known."""


@dataclass(frozen=True)
class Proposal:
    """Request of the search: which parents, which prompt, how hot, with which seeds."""

    candidate: int
    generation: int
    index: int
    operator: str
    parents: tuple[int, ...]
    """Candidates, at most three; empty: the initial network."""
    prompt: int
    """Index of the mutation prompt; ``NO_PROMPT`` for crossover and random generation."""
    temperature: float
    individual: int
    """Candidate whose prompt individual was selected; -1: none was. Which neighbour of its parent,
    where the operator is ``neighbour``."""
    sampling_seed: int
    training_seed: int
    attempt: int = 0
    """Number among the ``search.oversample`` completions for its place in the generation."""
    writer: str = ""
    """Name of the one of ``generator.writers`` that is to write it; empty where there is one."""
    target: int = -1
    """Cell of the network archive that is wanted; -1: none is."""


@dataclass(frozen=True)
class Request:
    """Part of a proposal that a generator gets to see."""

    candidate: int
    operator: str
    prompt: int
    instruction: str
    """Text of the prompt."""
    parents: tuple[str, ...]
    """Sources, at least one."""
    temperature: float
    seed: int
    neighbour: int = -1
    """Number of the parent's neighbour, where the operator is ``neighbour``."""
    seen: Set[str] = frozenset()
    """Architectures that have a score, where a problem names them; one set for all requests."""
    writer: str = ""
    """Name of the one of several writers that is asked."""
    number: int = -1
    """Number among all completions that the run samples, the further ones of a candidate included;
    -1: the candidate's."""
    text: str = ""
    """The request as a template makes it; empty: the paper's, of parents and instruction."""
    answered: str = ""
    """Text that was written for it before and does not fit; empty: there is none."""
    error: str = ""
    """Why that does not fit."""


@dataclass(frozen=True)
class Completion:
    """Text that a generator wrote."""

    candidate: int
    text: str
    form: str = "completion"
    """``completion``: continues ``prefix``; ``chat``: an answer in prose and fences;
    ``source``: the network itself."""
    prefix: str = ""
    """The end of the prompt that ``text`` continues (``class Net(nn.Module):``)."""
    tokens: int = 0
    finished: bool = True
    """False where the limit on tokens cut it off."""
    seconds: float = 0.0
    failure: str = ""
    """Why nothing was written (the parent does not fit the context); empty otherwise."""


@dataclass(frozen=True)
class Descriptors:
    """Measured sizes of a network, which descriptors are taken from."""

    width: int
    depth: int
    ratio: float
    flops: float
    """Multiply-adds for one example."""
    params: int
    activation_bytes: int = -1
    """Most memory of tensors alive at once for one image, in evaluation; -1: not measured."""


@dataclass(frozen=True)
class Screened:
    """The verdict of the screen; ``pending`` means fit to be trained."""

    status: str
    failure: str = ""
    canonical_sha256: str = ""
    """Digest of the canonical syntax tree; empty where the source does not parse."""
    descriptors: Descriptors | None = None
    built: bool = False
    """True where the network could be constructed, fit or not."""
    architecture: str = ""
    """Its name, where the problem has names for its networks."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Descriptors of the problem's own, by name."""


@dataclass(frozen=True)
class Repair:
    """One change to a source that made it fit: the rule, and the lines before and after."""

    rule: str
    before: str
    after: str


@dataclass(frozen=True)
class Examined:
    """A source with its verdict, and what it was before it was repaired."""

    source: str
    screened: Screened
    written: Screened
    """The verdict on the source as it was written; the same where nothing was repaired."""
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Findings of an evaluation. NaN where there is nothing to say."""

    status: str
    failure: str = ""
    fitness: float = float("nan")
    valid_accuracy: float = float("nan")
    test_accuracy: float = float("nan")
    train_loss: float = float("nan")
    epochs: int = 0
    train_seconds: float = 0.0
    device: str = ""
    """Type and name of the device that it was trained on."""
    milliseconds: float = float("nan")
    """Least time of ``training.batch`` test examples there, in evaluation."""
    train_curve: tuple[float, ...] = ()
    """Mean loss over each epoch, to six digits; NaN where it is not known."""


@dataclass(frozen=True)
class Attempt:
    """One evaluation of a candidate that was started, in seconds since 1970. NaN: not known."""

    candidate: int
    attempt: int
    """Its number, from 1; with rungs from 1 at each."""
    rung: int
    submitted: float
    start: float
    end: float
    job: str
    node: str
    ending: str
    """``result``, or why there was none."""


@dataclass(frozen=True)
class Result:
    """An outcome with where it comes from; what a result file holds."""

    run_id: str
    candidate: int
    attempt: int
    source_sha256: str
    outcome: Outcome
    node: str = ""
    slurm_job: str = ""
    started: float = 0.0
    """Seconds since 1970."""
    finished: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """The facts about one candidate that the search may see, and nothing else."""

    candidate: int
    status: str
    """``scored``, ``stopped`` (at a rung: it can be trained, and enters no archive),
    ``untrainable``, ``infrastructure`` or ``passed_over``."""
    fitness: float = float("nan")
    descriptors: tuple[float, ...] = ()
    """Raw values, one per axis of the network archive; empty where there is no score."""
    trainings: float = 0.0
    """Full trainings that it cost, shorter ones by their epochs."""
    tokens: int = 0
    """Length of what was written for it."""
    is_copy: bool = False
    """True where the score is that of an earlier candidate with the same network."""
    possible: int = 0
    """Trainings that can be had of the network; 0: any number."""


@dataclass(frozen=True)
class Update:
    """Effect of one evaluation on the archives. -1 where it was not offered."""

    candidate: int
    network_cell: int = -1
    network_added: int = -1
    """0 not added, 1 replaced the elite of its cell, 2 filled an empty cell; 3: trained again, its
    network is no longer the elite of its cell."""
    network_clipped: bool = False
    """True where a descriptor lay outside the archive's bounds."""
    prompt_cell: int = -1
    prompt_added: int = -1
    curiosity_delta: float = 0.0
    new_temperature: float = float("nan")
    """Temperature of the new prompt individual."""


@dataclass(frozen=True)
class Generation:
    """A generation's own row of the history."""

    generation: int
    phase: str
    """``start`` or ``search``."""
    operator: str
    """Operator that was applied."""
    operator_drawn: str
    """Operator that was drawn; differs where too few elites made crossover impossible."""
    best_before: float = float("nan")
    """Best fitness of the previous generation, what offspring are compared with."""
    best_fitness: float = float("nan")
    mean_fitness: float = float("nan")
    trainable: int = 0
    added: int = 0
    network_elites: int = 0
    network_coverage: float = 0.0
    network_qd_score: float = 0.0
    prompt_elites: int = 0
    prompt_coverage: float = 0.0
    collective: tuple[float, ...] = field(default=())
    """Collective fitness of every prompt afterwards."""

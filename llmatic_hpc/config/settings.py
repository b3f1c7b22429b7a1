"""Every setting of a run: its type, range, default, and whether it may change later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .fields import resumable, setting

ABLATIONS = ("network-archive", "prompt-archive", "mutation-only", "crossover-only", "random")
"""Variants of the algorithm (paper, section 4.2)."""
BASELINES = ("regularized-evolution", "local-search")
"""Variants that change one edge of a cell by its number, without prompts."""

NICHE = "niche"
"""Rule of a rung: a candidate is compared with the elite of its niche."""

AUTO = "auto"
"""In place of bounds: they are settled when a run starts."""

_RETIRED_PARENTS = {
    "curious": "parents by curiosity were hardly better than uniform ones; choose 'tournament' or "
    "'uniform'"
}


@dataclass(frozen=True)
class RunSettings:
    """Place of a run, and the seed that makes it repeatable."""

    directory: str = resumable("", "run directory; empty: runs/<name of the config>")
    seed: int = setting(0, "every random draw derives from it", low=0, high=2**32 - 1)


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
    queries: int = resumable(
        0, "end after the generation in which so many candidates have a score of their own; 0: "
        "after the last", low=0,
    )  # fmt: skip
    budget: float = resumable(
        0.0, "end after the generation in which so many full trainings are spent, short ones "
        "counted by their epochs; 0: after the last", low=0.0,
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


@dataclass(frozen=True)
class GeneratorSettings:
    """The writer of the networks."""

    kind: str = setting(
        "huggingface",
        "a causal language model here; endpoint: one behind a server; procedural: the control "
        "without one; replay: completions from a file; or the name of an installed one",
    )
    model: str = setting(
        "Salesforce/codegen-350M-mono",
        "hub name, local folder, or a .gguf file; for kind = endpoint the server's name for it",
    )
    form: str = setting(
        "auto", "auto: chat where the model has a chat template, and for kind = endpoint",
        choices=("auto", "completion", "chat"),
    )  # fmt: skip
    temperature: float = setting(0.6, "of the start phase", low=0.0, high=10.0)
    top_p: float = setting(1.0, "nucleus sampling", low=0.01, high=1.0)
    max_new_tokens: int = setting(512, "longest completion", low=1, high=100_000)
    batch: int = resumable(100, "completions sampled at a time", low=1, high=10_000)
    dtype: str = resumable(
        "auto", "auto: bfloat16 or float16 on a GPU, float32 on a CPU",
        choices=("auto", "float32", "float16", "bfloat16"),
    )  # fmt: skip
    quantization: str = setting(
        "", "weights of the model in 8 or 4 bits (bitsandbytes); empty: as dtype says",
        choices=("", "8bit", "4bit"),
    )  # fmt: skip
    device: str = resumable("auto", "auto, cpu, cuda, cuda:1, ...")
    idle: str = resumable(
        "keep", "place of the weights while candidates train; keep: the device; cpu: main memory, "
        "which leaves all of a GPU to workers that share it",
        choices=("keep", "cpu"),
    )  # fmt: skip
    threads: int = resumable(0, "CPU threads of the model; 0: all cores", low=0)
    repair: bool = setting(True, "make almost-right networks fit by rules, on the record")
    unseen: bool = setting(
        True, "nasbench201: the procedural control rather writes cells that have no score yet"
    )
    edits: str = setting(
        "neighbours", "nasbench201: the procedural control changes one edge while the parent has "
        "unseen neighbours; free: as many edges as the temperature makes it",
        choices=("neighbours", "free"),
    )  # fmt: skip
    url: str = resumable(
        "", "of an OpenAI-compatible server, such as http://node7:8000/v1; for kind = endpoint"
    )
    key_variable: str = resumable(
        "", "name of the environment variable with the server's key; empty: it wants none"
    )
    concurrency: int = resumable(16, "requests to the server at once", low=1, high=1000)
    request_seconds: float = resumable(
        300.0, "longest wait for the server's answer to one request", low=0.1
    )
    retries: int = resumable(
        6, "further attempts at a request for which the server had no time or no answer", low=0,
        high=1000,
    )  # fmt: skip
    replay: str = setting("", "JSON Lines file of completions, for kind = replay")
    fallback: str = setting(
        "", "what takes over where the model cannot be had; empty: stop", choices=("", "procedural")
    )
    options: dict[str, Any] = setting({}, "settings of an installed generator's own")


@dataclass(frozen=True)
class ProblemSettings:
    """The problem that networks are searched for."""

    kind: str = setting(
        "image_classification",
        "nasbench201: cells whose trainings are a table; or the name of an installed one",
    )
    options: dict[str, Any] = setting({}, "settings of an installed problem's own")
    data: str = setting(
        "digits",
        "digits, torchvision:NAME:FOLDER, or a path: CIFAR-10 in torchvision's folder, a "
        "folder of images by class, or an .npz or .h5 file",
    )
    layout: str = setting(
        "auto", "of arrays in a file; auto: (N, features) are tables, all else images; sequences: "
        "(N, channels, length) or (N, length)", choices=("auto", "images", "sequences", "tables"),
    )  # fmt: skip
    train_images: int = setting(0, "use at most this many examples for training; 0: all", low=0)
    test_images: int = setting(0, "use at most this many examples for testing; 0: all", low=0)
    initial: str = setting("", "file of the initial network; empty: the paper's")
    prompts: tuple[str, ...] = setting((), "mutation prompts; empty: the paper's")
    table: str = resumable(
        "", "nasbench201: HDF5 table of the benchmark's trainings; its digest is on the record"
    )
    dataset: str = setting(
        "cifar10", "nasbench201: images that the cells were trained on",
        choices=("cifar10", "cifar100", "imagenet16_120"),
    )  # fmt: skip
    protocol: str = setting(
        "sound", "nasbench201: fitness is the validation accuracy, and only the test accuracy of "
        "the fittest counts; paper: fitness is the test accuracy, the best seen counts",
        choices=("sound", "paper"),
    )  # fmt: skip
    table_epochs: int | tuple[int, ...] = setting(
        200, "nasbench201: epochs of the trainings that give fitness, 12 or 200; [12, 200]: both, "
        "the first as a rung (see training.promotion)",
    )  # fmt: skip


@dataclass(frozen=True)
class TrainingSettings:
    """Training of a candidate, and its fitness."""

    epochs: int = setting(50, "passes over the training data", low=0, high=100_000)
    rungs: tuple[tuple[int | str, ...], ...] = setting(
        (), "[[3, 'niche'], [12, 'niche'], [50]]: train to 3 epochs first, and on only what is as "
        "good there as the elite of its niche; the last takes the place of training.epochs; "
        "empty: train all in full",
    )  # fmt: skip
    promotion: str = setting(
        "niche", "with rungs: what goes on; niche: all that are as good as their niche's elite; "
        "halving: of a generation's candidates in a niche the best, if it is; elites: none, and "
        "the elites are trained in full at the end of the run",
        choices=(NICHE, "halving", "elites"),
    )  # fmt: skip
    rung_margin: float = setting(
        0.0, "with rungs: by how much a candidate may be worse there than its niche's elite",
        low=-1.0, high=1.0,
    )  # fmt: skip
    rung_disk_bytes: int = resumable(
        1 << 30, "with rungs: keep training states of a generation for those that go on up to so "
        "much; what has none is trained from the start again, to the same bits", low=0,
    )  # fmt: skip
    batch: int = setting(32, "examples per optimiser step", low=1)
    optimizer: str = setting(
        "sgd", "stochastic gradient descent; adamw: Adam with decoupled weight decay",
        choices=("sgd", "adamw"),
    )  # fmt: skip
    learning_rate: float = setting(0.001, "of the optimizer, at the first step", low=0.0)
    momentum: float = setting(
        0.9, "of stochastic gradient descent; adamw has its own and takes none", low=0.0, high=1.0
    )
    weight_decay: float = setting(
        0.0, "sgd: this times the weights is added to their gradients; adamw: this times the rate "
        "is taken off the weights at every step", low=0.0,
    )  # fmt: skip
    schedule: str = setting(
        "constant", "of the learning rate; cosine: down to 0 along half a cosine, over all steps "
        "of all epochs", choices=("constant", "cosine"),
    )  # fmt: skip
    label_smoothing: float = setting(
        0.0, "this part of a label's probability is spread over all classes", low=0.0, high=1.0
    )
    class_weights: str = setting(
        "none", "of the loss; balanced: n / (K n_c), by the training labels of each of K classes",
        choices=("none", "balanced"),
    )  # fmt: skip
    augmentation: tuple[str, ...] = setting(
        (), "of the training images, anew every epoch; flip: mirrors every other one by chance; "
        "crop: shifts each by up to four pixels, with black beside", choices=("flip", "crop"),
    )  # fmt: skip
    fitness_split: str = setting(
        "validation", "test is the paper's protocol, validation the sound one",
        choices=("validation", "test"),
    )  # fmt: skip
    validation_fraction: float = setting(
        0.1, "of the training data, stratified by class", low=0.001, high=0.9
    )
    device: str = resumable("auto", "auto, cpu, cuda")
    threads: int = resumable(0, "CPU threads per worker; 0: cores / workers", low=0)
    checkpoint_seconds: float = resumable(
        60.0, "save the training state at the end of an epoch this often", low=0.0
    )
    evaluation_batch: int = setting(500, "examples per forward pass of an evaluation", low=1)
    precision: str = setting(
        "float32", "of layers; tf32: products of an accelerator in 10 bits; bfloat16: autocast",
        choices=("float32", "tf32", "bfloat16"),
    )  # fmt: skip
    channels_last: bool = setting(
        False, "lay images out as (N, height, width, channels) where a network can do with it"
    )
    graph: str = resumable(
        "off", "auto: on an accelerator that can, record a step once and replay it where that is "
        "the same to the last bit (experimental); not with adamw or a schedule, whose rates change",
        choices=("off", "auto"),
    )  # fmt: skip

    def recipe(self) -> str:
        """Return in words how it trains: ``sgd, batch 32, learning rate 0.001, momentum 0.9``."""
        rate = f"learning rate {self.learning_rate:g}"
        parts = {
            f"{self.optimizer}, batch {self.batch}, {rate}": True,
            f"momentum {self.momentum:g}": self.optimizer == "sgd",
            f"{self.schedule} schedule": self.schedule != "constant",
            f"weight decay {self.weight_decay:g}": self.weight_decay > 0,
            f"label smoothing {self.label_smoothing:g}": self.label_smoothing > 0,
            f"{self.class_weights} class weights": self.class_weights != "none",
            f"augmented by {' and '.join(self.augmentation)}": bool(self.augmentation),
        }
        return ", ".join(text for text, is_said in parts.items() if is_said)

    @property
    def in_full(self) -> int:
        """Epochs of a full training: those of the last rung, where there are rungs."""
        return int(self.rungs[-1][0]) if self.rungs else self.epochs


@dataclass(frozen=True)
class ContainmentSettings:
    """Limits on what a model wrote; a candidate that meets one is ended, and says which."""

    require: tuple[str, ...] = resumable(
        (), "layers of the kernel without which nothing is run: landlock, seccomp"
    )
    wall_seconds: float = setting(1800.0, "longest evaluation of a candidate", low=0.1)
    reference_seconds: float = setting(
        0.0, "what a worker's calibration takes on the device that wall_seconds is meant for; on "
        "others the limit scales with it; 0: it is the same everywhere", low=0.0,
    )  # fmt: skip
    screen_seconds: float = setting(20.0, "longest screening of a candidate", low=0.1)
    memory_bytes: int = setting(8 << 30, "address space beyond the warm parent's", low=64 << 20)
    file_bytes: int = setting(4 << 30, "largest file that a candidate may write", low=0)
    source_bytes: int = setting(100_000, "longest source text", low=100)
    max_params: int = setting(200_000_000, "most parameters", low=1)
    max_flops: float = setting(2e10, "most multiply-adds for one example", low=1.0)
    max_layers: int = setting(2_000, "most executed layers", low=1)


@dataclass(frozen=True)
class ClusterSettings:
    """Place and manner of evaluating candidates."""

    kind: str = resumable(
        "auto", "slurm: job arrays; local: worker processes on this machine; inline: in the "
        "coordinator, one by one; auto: slurm in a Slurm job, else local",
        choices=("auto", "slurm", "local", "inline"),
    )  # fmt: skip
    partition: str = resumable("", "of the arrays; empty: what the site file says")
    account: str = resumable("", "of the arrays; empty: what the site file says")
    qos: str = resumable("", "of the arrays; empty: what the site file says")
    gres: str = resumable("", "of an element, such as gpu:1; empty: see the site file")
    array_parallelism: int = resumable(
        0, "tasks that run at once; 0: one per core on a CPU, one per GPU; Slurm: no throttle",
        low=0,
    )  # fmt: skip
    candidates_per_task: int = resumable(
        0, "candidates that share a task; 0: spread evenly over the tasks, on Slurm one a task",
        low=0,
    )  # fmt: skip
    workers_per_task: int = resumable(
        1, "candidates of a task that train side by side, on one GPU or its cores", low=1
    )
    target_task_minutes: float = resumable(
        0.0, "pack as many candidates into a task as should last so long; 0: do not", low=0.0
    )
    time_minutes: int = resumable(
        0, "time limit of a task; 0: a day, on Slurm array.time of the site file or an hour", low=0
    )
    max_attempts: int = resumable(3, "attempts at a candidate when the machine is at fault", low=1)
    poll_seconds: float = resumable(0.5, "between looks at the results", low=0.01)
    absence_seconds: float = resumable(
        120.0, "how long a task must be missing from Slurm's queue to count as lost", low=0.0
    )
    exclude_minutes: float = resumable(
        60.0, "how long a node that spoiled two tasks is left out; 0: never", low=0.0
    )
    quorum: float = resumable(
        1.0, "share of a generation whose results end it while the rest are late", low=0.01,
        high=1.0,
    )  # fmt: skip
    chain: bool = resumable(
        False,
        "on Slurm: the coordinator leaves while candidates train, and comes back as a new job",
    )


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    run: RunSettings = field(default_factory=RunSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    archive: ArchiveSettings = field(default_factory=ArchiveSettings)
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    problem: ProblemSettings = field(default_factory=ProblemSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    containment: ContainmentSettings = field(default_factory=ContainmentSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

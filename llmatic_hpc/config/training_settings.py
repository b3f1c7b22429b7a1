"""Settings of a candidate's training and of its containment."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import resumable, setting

NICHE = "niche"
"""Rule of a rung: a candidate is compared with the elite of its niche."""


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

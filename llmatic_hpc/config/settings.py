"""Every setting of a run: its type, range, default, and whether it may change later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .fields import resumable, setting
from .generator_settings import GeneratorSettings
from .search_settings import ArchiveSettings, SearchSettings
from .training_settings import ContainmentSettings, TrainingSettings


@dataclass(frozen=True)
class RunSettings:
    """Place of a run, and the seed that makes it repeatable."""

    directory: str = resumable("", "run directory; empty: runs/<name of the config>")
    trackers: tuple[str, ...] = resumable(
        (), "mirror the history into these, in the run directory; the record stays the truth",
        choices=("tensorboard", "wandb", "mlflow"),
    )  # fmt: skip
    seed: int = setting(0, "every random draw derives from it", low=0, high=2**32 - 1)


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
    table_trainings: str = setting(
        "mean", "nasbench201: fitness is the mean over the table's trainings of a cell; single: it "
        "is that of one of them, by the training seed", choices=("mean", "single"),
    )  # fmt: skip


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

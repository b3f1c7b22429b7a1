"""Image classification from scratch: the paper's first half (sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import Config, GeneratorSettings, ProblemSettings
from ...errors import ConfigError
from ...rundir.paths import RunPaths
from ...types import Descriptor, Problem
from ..kind import ProblemKind
from .seeds import SEEDS, seeds

if TYPE_CHECKING:
    from ...generation import Generator
    from ..evaluator import Evaluator

DESCRIPTORS = (
    Descriptor("ratio", 0.0, 200.0, "width / depth"),
    Descriptor("flops", 2e8, 5e9, "FLOPs", "FLOP", reach=1e4),
)
"""Axes and bounds of the paper (section 4.1)."""

FURTHER = (
    Descriptor("params", 1e2, 1e8, "parameters", scale="log", chosen=False, reach=1e4),
    Descriptor("depth", 1.0, 1e3, scale="log", chosen=False),
    Descriptor("width", 1.0, 1e4, scale="log", chosen=False),
)
"""Axes that the settings may choose."""


PROMPTS = (
    "Add a layer to improve the above network",
    "Delete a layer to improve the above network",
    "Improve the above network",
    "Improve the above network by reducing the size drastically",
    "Improve the above network by increasing the size drastically",
    "Add fully connected layer to improve the above network",
    "Add convolutional layer to improve the above network",
    "Add pooling layer to improve the above network",
    "Add residual connection to improve the above network",
    "Add multiple residual connections to improve the above network",
    "Add dropout layer to improve the above network",
    "Add normalization layer to improve the above network",
    "Add recurrent layer to improve the above network",
)
"""The thirteen mutation prompts of appendix A, in its order. (Section 4.1 counts sixteen.)"""

CROSSOVER_PROMPT = (
    "Combine the above two neural networks and create a third neural network class that also "
    "inherits from nn.Module and performs better than the above two neural networks"
)
"""Appendix A."""

RANDOM_PROMPT = (
    "Create a neural network that inherits from nn.Module and performs better than the above "
    "neural network"
)
"""Section 4.2, Random-NN-Generation."""

INITIAL_NETWORK = """\
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d({channels}, 1, 1)
        self.fc1 = nn.Linear({pixels}, {classes})

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = torch.flatten(x, 1)
        return self.fc1(x)
"""
"""The network of appendix A without its last ReLU, which would clip the logits."""


def image_classification(
    *, input_shape: tuple[int, ...], classes: int, settings: ProblemSettings | None = None
) -> Problem:
    """Describe the problem of classifying images of ``input_shape`` (channels, height, width).

    Raises :class:`ConfigError` when the file of the initial network cannot be read.
    """
    settings = settings or ProblemSettings()
    channels, height, width = input_shape
    initial = INITIAL_NETWORK.format(channels=channels, pixels=height * width, classes=classes)
    return Problem(
        name="image_classification",
        input_shape=input_shape,
        classes=classes,
        initial_source=initial_of(settings) or initial,
        prompts=settings.prompts or PROMPTS,
        crossover_prompt=CROSSOVER_PROMPT,
        random_prompt=RANDOM_PROMPT,
        seeds=seeds(input_shape, classes),
        control="llmatic_hpc.problems.images.kind:control",
    )


def initial_of(settings: ProblemSettings) -> str:
    """Return the text of ``problem.initial``; empty where it is not set.

    Raises :class:`ConfigError` when the file cannot be read.
    """
    if not settings.initial:
        return ""
    try:
        return Path(settings.initial).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"problem.initial: {settings.initial} cannot be read: {error}") from error


def control(settings: GeneratorSettings, problem: Problem) -> Generator:
    """Make the procedural control of networks that are a list of layers."""
    from ...generation.procedural.control import Procedural

    return Procedural(problem)


class ImageClassification(ProblemKind):
    """Classify images by networks that are trained from scratch."""

    contained = True
    seeds = len(SEEDS)

    def descriptors(self, settings: ProblemSettings) -> tuple[Descriptor, ...]:
        """See :meth:`.ProblemKind.descriptors`."""
        return DESCRIPTORS + FURTHER

    def describe(self, config: Config) -> Problem:
        """See :meth:`.ProblemKind.describe`."""
        from ...evaluation import data

        shape, classes = data.describe(config.problem)
        return image_classification(input_shape=shape, classes=classes, settings=config.problem)

    def evaluator(self, config: Config, paths: RunPaths, **hooks: Any) -> Evaluator:
        """See :meth:`.ProblemKind.evaluator`."""
        from .evaluator import Trained

        return Trained(self.describe(config), config, paths, **hooks)

    def rungs(self, config: Config) -> tuple[int, ...]:
        """See :meth:`.ProblemKind.rungs`."""
        return tuple(int(rung[0]) for rung in config.training.rungs)

    def data(self, config: Config) -> str:
        """See :meth:`.ProblemKind.data`."""
        return f"{config.problem.data}: {_found(config)}"

    def fetch(self, config: Config, tell: Callable[[str], None], **options: Any) -> None:
        """See :meth:`.ProblemKind.fetch`."""
        if options.get("official") is not None:
            super().fetch(config, tell, **options)
        from ...evaluation import data

        where = data.fetch(config.problem)
        tell(f"data: {where}: {_found(config)}")


def _found(config: Config) -> str:
    """Read all data, as a training does, and say what they are."""
    from ...evaluation import data

    found = data.load(config.problem, config.training, seed=config.run.seed)
    return (
        f"{len(found.train) + len(found.validation):,} images for training, {len(found.test):,} "
        f"for testing, {' x '.join(map(str, found.input_shape))}, {found.classes} classes"
    )

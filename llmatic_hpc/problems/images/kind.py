"""Image classification from scratch: the paper's first half (sections 3 and 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import Config, GeneratorSettings, ProblemSettings
from ...errors import ConfigError
from ...rundir.paths import RunPaths
from ...types import Descriptor, Interface, Problem
from ..kind import ProblemKind
from .seeds import SEEDS, seeds

if TYPE_CHECKING:
    from ...generation import Generator
    from ..evaluator import Evaluator

DESCRIPTORS = (
    Descriptor("ratio", 0.0, 200.0, "width / depth", reach=40.0),
    Descriptor("flops", 2e8, 5e9, "FLOPs", "FLOP", reach=1e4),
)
"""Axes and bounds of the paper (section 4.1)."""

FURTHER = (
    Descriptor("params", 1e2, 1e8, "parameters", scale="log", chosen=False, reach=1e3),
    Descriptor("depth", 1.0, 1e3, scale="log", chosen=False),
    Descriptor("width", 1.0, 1e4, scale="log", chosen=False),
    Descriptor("activation_bytes", 1e3, 1e9, "peak memory", "B", "log", chosen=False, reach=1e3),
    Descriptor("milliseconds", 0.1, 1e3, "batch time", "ms", "log", chosen=False, late=True),
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

PROMPTS_OF_SEQUENCES = tuple(
    text.replace("convolutional", "one-dimensional convolutional").replace(
        "pooling", "one-dimensional pooling"
    )
    for text in PROMPTS
)
"""The same for sequences."""

_OF_TABLES = {
    6: "Make the layers wider to improve the above network",
    7: "Add a narrow layer to improve the above network",
    12: "Change the activation functions to improve the above network",
}
PROMPTS_OF_TABLES = tuple(_OF_TABLES.get(number, text) for number, text in enumerate(PROMPTS))
"""The same for tables, without convolution, pooling and recurrence: three others in their place."""

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


INITIAL_NETWORK_OF_SEQUENCES = INITIAL_NETWORK.replace("Conv2d", "Conv1d")

INITIAL_NETWORK_OF_TABLES = """\
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear({channels}, 8)
        self.fc2 = nn.Linear(8, {classes})

    def forward(self, x):
        x = F.relu(self.fc1(x))
        return self.fc2(x)
"""

_ADVICE = {
    2: "Shapes: the input is (N, {channels}, {size}), sequences of {size} steps with {channels} "
    "channels; the output is (N, {classes}). Convolutions are nn.Conv1d with kernel size 3 and "
    "padding 1, or kernel size 1. The first Linear layer takes channels * {size} features; flatten "
    "right before it.",
    1: "Shapes: the input is (N, {channels}), rows of a table; the output is (N, {classes}). The "
    "first Linear layer takes {channels} features; nothing is to be flattened.",
}
"""Shapes in words for a model, by the number of dimensions; of images the generator says them."""

_BY_DIMENSIONS = {
    3: (PROMPTS, INITIAL_NETWORK),
    2: (PROMPTS_OF_SEQUENCES, INITIAL_NETWORK_OF_SEQUENCES),
    1: (PROMPTS_OF_TABLES, INITIAL_NETWORK_OF_TABLES),
}


def image_classification(
    *, input_shape: tuple[int, ...], classes: int, settings: ProblemSettings | None = None
) -> Problem:
    """Describe the problem of classifying images of ``input_shape`` (channels, height, width),
    sequences (channels, length), or rows of a table (features,).

    Raises :class:`ConfigError` when the file of the initial network cannot be read.
    """
    settings = settings or ProblemSettings()
    prompts, initial = _BY_DIMENSIONS[len(input_shape)]
    pixels = math.prod(input_shape[1:])
    sizes = {"channels": input_shape[0], "pixels": pixels, "classes": classes}
    return Problem(
        name="image_classification",
        input_shape=input_shape,
        classes=classes,
        initial_source=initial_of(settings) or initial.format(**sizes),
        prompts=settings.prompts or prompts,
        crossover_prompt=CROSSOVER_PROMPT,
        random_prompt=RANDOM_PROMPT,
        seeds=seeds(input_shape, classes),
        control="llmatic_hpc.problems.images.kind:control",
        advice=_ADVICE.get(len(input_shape), "").format(size=pixels, **sizes),
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


NEIGHBOURS = 64
"""Edits of a network that the baselines tell apart by their numbers."""


class ImageClassification(ProblemKind):
    """Classify images, sequences or rows of a table by networks that are trained from scratch."""

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

    def neighbours(self, settings: ProblemSettings) -> int:
        """See :meth:`.ProblemKind.neighbours`: as many of the control's edits, by their number."""
        return NEIGHBOURS

    def rungs(self, config: Config) -> tuple[int, ...]:
        """See :meth:`.ProblemKind.rungs`."""
        return tuple(int(rung[0]) for rung in config.training.rungs)

    def sentence(self, config: Config, problem: Problem) -> str:
        """See :meth:`.ProblemKind.sentence`: data, training and limits."""
        limits, number = config.containment, config.training.in_full
        epochs = f"{number} epoch{'' if number == 1 else 's'}"
        split = "validation" if config.training.fitness_split == "validation" else "test"
        return (
            f"Task: {_found(config).partition(';')[0]}. A network is trained for {epochs} "
            f"and scores its {split} accuracy. At most {limits.max_flops:.3g} multiply-adds an "
            f"example and {limits.max_params:.3g} parameters."
        )

    def data(self, config: Config) -> str:
        """See :meth:`.ProblemKind.data`."""
        return f"{config.problem.data}: {_found(config)}"

    def interface(self, config: Config) -> Interface:
        """See :meth:`.ProblemKind.interface`: pixels from -1 to 1, or numbers standardised."""
        from ...evaluation import data

        problem = self.describe(config)
        shape, names = problem.input_shape, data.class_names(config.problem)
        found = data.scale(config.problem, config.training, seed=config.run.seed)
        if found is None:
            values = "from -1 to 1, of pixels from 0 to 255: pixel / 127.5 - 1"
            made = "examples.float() / 127.5 - 1"
            return Interface(shape, problem.classes, values, made, "uint8", names)
        each = "channel" if len(shape) == 2 else "feature"
        values = f"each {each} less its mean, over its deviation, both of the training data"
        view = ".view(-1, 1)" if len(shape) == 2 else ""
        mean, deviation = (
            f"torch.tensor({one.tolist()}, dtype=torch.float64){view}" for one in found
        )
        made = f"((examples.double() - {mean}) / {deviation}).float()".replace(
            "inf", "float('inf')"
        )
        return Interface(shape, problem.classes, values, made, "float64", names)

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
    shape = found.input_shape
    noun = {3: "images", 2: "sequences", 1: "rows"}[len(shape)]
    size = f"{shape[0]} features" if len(shape) == 1 else " x ".join(map(str, shape))
    remark = data.remark(config.problem)
    return (
        f"{len(found.train) + len(found.validation):,} {noun} for training, {len(found.test):,} "
        f"for testing, {size}, {found.classes} classes{remark and f'; {remark}'}"
    )

"""Image classification from scratch: the paper's first half (sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...config import ProblemSettings
from ...errors import ConfigError
from ...types import Problem

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
    *,
    input_shape: tuple[int, ...],
    classes: int,
    prompts: Sequence[str] = (),
    initial_source: str = "",
) -> Problem:
    """The problem of classifying images of ``input_shape`` (channels, height, width)."""
    channels, height, width = input_shape
    initial = INITIAL_NETWORK.format(channels=channels, pixels=height * width, classes=classes)
    return Problem(
        name="image_classification",
        input_shape=input_shape,
        classes=classes,
        initial_source=initial_source or initial,
        prompts=tuple(prompts) or PROMPTS,
        crossover_prompt=CROSSOVER_PROMPT,
        random_prompt=RANDOM_PROMPT,
        control="llmatic_hpc.problems.images.kind:control",
    )


def image_classification_of(
    settings: ProblemSettings, shape: tuple[int, ...], classes: int
) -> Problem:
    """The problem that the settings describe, for images of ``shape`` in ``classes`` classes.

    Raises :class:`ConfigError` when the file of the initial network cannot be read.
    """
    return image_classification(
        input_shape=shape,
        classes=classes,
        prompts=settings.prompts,
        initial_source=initial_of(settings),
    )


def initial_of(settings: ProblemSettings) -> str:
    """The text of ``problem.initial``; empty where it is not set.

    Raises :class:`ConfigError` when the file cannot be read.
    """
    if not settings.initial:
        return ""
    try:
        return Path(settings.initial).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"problem.initial: {settings.initial} cannot be read: {error}") from error

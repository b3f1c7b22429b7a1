"""Cells of NAS-Bench-201 as a problem: the paper's second half (section 5)."""

from __future__ import annotations

from ...config import ProblemSettings
from ...types import Problem
from ..images.problem import CROSSOVER_PROMPT, RANDOM_PROMPT, initial_of
from .cells import DATASETS, INITIAL
from .write import HELPERS, IMPORTS, source

_CONV = "ReLU, {0}x{0} convolutional layer and Batch normalization layer"
_INSTEAD = "Delete a layer to improve the above network and add"

PROMPTS = (
    f"Add {_CONV.format(3)} to improve the above network",
    f"Add {_CONV.format(1)} to improve the above network",
    "Delete a layer to improve the above network",
    "Add 3x3 average pooling layer to improve the above network",
    "Add skip connection to improve the above network",
    f"{_INSTEAD} {_CONV.format(3)}",
    f"{_INSTEAD} {_CONV.format(1)}",
    f"{_INSTEAD} 3x3 average pooling layer",
    f"{_INSTEAD} skip connection",
)
"""The nine mutation prompts of appendix A, in its order."""

ADVICE = (
    "The network has exactly six edges. Keep `forward`; replace the operation of one edge by "
    "another of `Zero()` (nothing), `nn.Identity()` (skip), `relu_conv1x1_bn(channels)`, "
    "`relu_conv3x3_bn(channels)`, `avg_pool3x3()`."
)
"""Words that a chat is told beside the instruction: models small enough for a laptop repeat the
parent as it is in most of their answers unless the vocabulary is spelled out."""


def nasbench201(settings: ProblemSettings) -> Problem:
    """The problem of finding the best cell for ``problem.dataset``.

    Raises :class:`ConfigError` when the file of the initial cell cannot be read.
    """
    dataset = DATASETS[settings.dataset]
    return Problem(
        name="nasbench201",
        input_shape=(3, dataset.size, dataset.size),
        classes=dataset.classes,
        initial_source=initial_of(settings) or source(INITIAL),
        prompts=settings.prompts or PROMPTS,
        crossover_prompt=CROSSOVER_PROMPT,
        random_prompt=RANDOM_PROMPT,
        advice=ADVICE,
        helpers=f"{IMPORTS}\n\n{HELPERS}",
        control="llmatic_hpc.problems.nasbench201.kind:control",
    )

"""What is searched for: shapes, prompts, and where the search begins."""

from ..config import ProblemSettings
from .base import Problem
from .image_classification import image_classification, image_classification_of
from .nasbench201 import cells
from .nasbench201.problem import nasbench201

__all__ = [
    "Problem",
    "bounds_of",
    "image_classification",
    "image_classification_of",
    "nasbench201",
    "neighbours_of",
]


def bounds_of(settings: ProblemSettings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The smallest and largest (ratio, FLOPs) of any network; empty where nobody knows them."""
    if settings.kind == "nasbench201":
        return cells.bounds(cells.DATASETS[settings.dataset])
    return (), ()


def neighbours_of(settings: ProblemSettings) -> int:
    """How many networks are one edit away from any; 0 where they cannot be counted."""
    return len(cells.neighbours(cells.INITIAL)) if settings.kind == "nasbench201" else 0

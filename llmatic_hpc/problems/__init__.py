"""What is searched for: shapes, prompts, and where the search begins."""

from .base import Problem
from .image_classification import image_classification, image_classification_of

__all__ = ["Problem", "image_classification", "image_classification_of"]

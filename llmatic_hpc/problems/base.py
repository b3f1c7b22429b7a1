"""What the search, the generators and the evaluation need to know of a problem."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A kind of network to find. Plain text and numbers, so that every room may hold it."""

    name: str
    input_shape: tuple[int, ...]
    """Of one example, without the batch: channels, height, width."""
    classes: int
    """A network maps (N, \\*input_shape) to (N, classes)."""
    initial_source: str
    """The network that the search starts from."""
    prompts: tuple[str, ...]
    """Mutation prompts; a prompt is known by its index."""
    crossover_prompt: str
    random_prompt: str
    """Of the variant that generates without evolution (paper, section 4.2)."""
    advice: str = ""
    """What a chat is told beside the instruction; empty: the shapes."""
    helpers: str = ""
    """Definitions that a network may use without giving them."""

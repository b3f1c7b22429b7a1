"""Reading many prompts at once, what they have in common only once.

The prompts of a generation are few parents under many instructions. Sorted, each begins as the
one before it for a while, and only the rest is new: a tree, which is written down as one
sequence whose tokens see just their own ancestors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

PACK = 1024
"""Tokens read at a time: enough for full speed, and attention within them stays cheap."""


@dataclass
class Pack:
    """Prompts that are read together, as one sequence."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Position of each token in its prompt."""
    columns: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    """Indices in the sequence of each prompt's tokens."""

    def add(self, prompt: tuple[int, ...], path: Sequence[int]) -> None:
        """Append a prompt whose first tokens stand at ``path`` already."""
        new = len(prompt) - len(path)
        self.columns[prompt] = [*path, *range(len(self.tokens), len(self.tokens) + new)]
        self.tokens += prompt[len(path) :]
        self.positions += range(len(path), len(prompt))

    def mask(self, dtype: torch.dtype) -> torch.Tensor | None:
        """Return what is added to attention, (1, 1, tokens, tokens).

        0 for a token's own ancestors, the lowest number for all else. None where plain causal
        attention does the same.
        """
        if len(self.columns) == 1:
            return None
        hidden = torch.full((len(self.tokens),) * 2, torch.finfo(dtype).min, dtype=dtype)
        for path in self.columns.values():
            at = torch.tensor(path)
            hidden[at[:, None], at[None, :]] = torch.triu(
                torch.full((len(path),) * 2, torch.finfo(dtype).min, dtype=dtype), diagonal=1
            )
        return hidden[None, None]


def packs(prompts: Iterable[Sequence[int]], *, share: bool = True) -> Iterator[Pack]:
    """Yield all distinct prompts, in packs of about ``PACK`` tokens.

    Args:
        prompts: token ids; an empty one needs no reading.
        share: False gives each prompt a pack of its own.
    """
    pack = Pack()
    last: tuple[int, ...] = ()
    for prompt in sorted({tuple(p) for p in prompts if p}):
        same = common(last, prompt) if share else 0
        if pack.tokens and (not share or len(pack.tokens) + len(prompt) - same > PACK):
            yield pack
            pack, same = Pack(), 0
        pack.add(prompt, pack.columns[last][:same] if same else ())
        last = prompt
    if pack.tokens:
        yield pack


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that both begin with."""
    length = min(len(one), len(other))
    return next((n for n in range(length) if one[n] != other[n]), length)

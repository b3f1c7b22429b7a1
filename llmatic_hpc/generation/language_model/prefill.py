"""Reading many prompts at once, what they have in common only once.

The prompts of a generation are few parents under many instructions. Sorted, each begins as the
one before it for a while, and only the rest is new: a tree, which is written down as one
sequence whose tokens see just their own ancestors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

PACK = 1024
"""Tokens read at a time: enough for full speed, and attention within them stays cheap."""

LEAST = 32
"""Fewer tokens that prompts begin with alike are not worth a part of their own."""

NONE: Mapping[tuple[int, ...], int] = MappingProxyType({})


@dataclass
class Pack:
    """Prompts that are read together, as one sequence."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Position of each token in its prompt."""
    columns: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    """Indices in the sequence of each prompt's tokens."""
    known: int = 0
    """So many first tokens of the sequence have been read before."""

    def add(self, prompt: tuple[int, ...], path: Sequence[int]) -> None:
        """Append a prompt whose first tokens stand at ``path`` already."""
        new = len(prompt) - len(path)
        self.columns[prompt] = [*path, *range(len(self.tokens), len(self.tokens) + new)]
        self.tokens += prompt[len(path) :]
        self.positions += range(len(path), len(prompt))

    def mask(self, dtype: torch.dtype) -> torch.Tensor | None:
        """Return what is added to attention, (1, 1, tokens that are new, tokens).

        0 for a token's own ancestors, the lowest number for all else. None where plain causal
        attention does the same.
        """
        if len(self.columns) == 1 and not self.known:
            return None
        hidden = torch.full((len(self.tokens),) * 2, torch.finfo(dtype).min, dtype=dtype)
        for path in self.columns.values():
            at = torch.tensor(path)
            hidden[at[:, None], at[None, :]] = torch.triu(
                torch.full((len(path),) * 2, torch.finfo(dtype).min, dtype=dtype), diagonal=1
            )
        return hidden[None, None, self.known :]


Prompt = tuple[int, ...]


def packs(
    prompts: Iterable[Sequence[int]], *, share: bool = True, known: Mapping[Prompt, int] = NONE
) -> Iterator[Pack]:
    """Yield all distinct prompts, in packs of about ``PACK`` new tokens.

    Args:
        prompts: token ids; an empty one needs no reading.
        share: False gives each prompt a pack of its own.
        known: prompts of which so many first tokens have been read; they begin every pack, one
            after the other.
    """
    pack, begins = _begun(known)
    last: Prompt = ()
    for prompt in sorted({tuple(p) for p in prompts if p}):
        same = common(last, prompt) if share else 0
        new = len(pack.tokens) - pack.known
        if new and (not share or new + len(prompt) - same > PACK):
            yield pack
            (pack, begins), same = _begun(known), 0
        path = pack.columns[last][:same] if same else []
        for one, begin in begins.items():
            # The last token is read in any case.
            read = min(common(one, prompt), known[one], len(prompt) - 1)
            if read > len(path):
                path = list(range(begin, begin + read))
        pack.add(prompt, path)
        last = prompt
    if pack.columns:
        yield pack


def _begun(known: Mapping[Prompt, int]) -> tuple[Pack, dict[Prompt, int]]:
    """Make a pack that begins with what is known, and say where each of it begins."""
    pack, begins = Pack(), {}
    for prompt, length in known.items():
        begins[prompt] = len(pack.tokens)
        pack.tokens += prompt[:length]
        pack.positions += range(length)
    pack.known = len(pack.tokens)
    return pack, begins


def helpful(prompts: Iterable[Sequence[int]], read: Iterable[Prompt]) -> dict[Prompt, int]:
    """Return which of the prompts that have been ``read`` others begin as, and how far.

    Few of them, with about ``PACK`` tokens in all: to use one takes a copy of its keys and values.
    """
    there, found = list(dict.fromkeys(read)), dict[Prompt, int]()
    for prompt in sorted({tuple(p) for p in prompts}) if there else ():
        same, place = max((common(one, prompt), -n) for n, one in enumerate(there))
        near, close = max(
            ((common(one, prompt), one) for one in found), default=(0, prompt)
        )  # chosen already, and as good but for a few tokens
        if near and near + LEAST > same:
            found[close] = max(near, found[close])
        elif same >= LEAST and sum(found.values()) + same <= PACK:
            found[there[-place]] = same
    return found


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that both begin with."""
    length = min(len(one), len(other))
    return next((n for n in range(length) if one[n] != other[n]), length)

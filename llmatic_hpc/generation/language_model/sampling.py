"""Drawing tokens for many completions at once, each as if it were alone.

Every row of a batch brings its own temperature and its own random generator, and a row is over
when its own class is over. So what is written for a candidate does not depend on which others
share its batch, up to the rounding of floating point; where rounding could decide, the draw
says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .stopping import end_of_class

GREEDY = 1e-6
"""Lowest temperature that is told from 0."""

BLOCK = 256
"""Tokens that a draw takes together before it looks at single ones."""

LIKELIEST = 1024
"""Tokens among which a nucleus is looked for before the vocabulary is sorted."""

MARGIN = 8
"""Tokens before those of a stop that are decoded with it: its beginning may share one."""


@dataclass
class Row:
    """One completion in the making."""

    candidate: int
    prompt: list[int]
    """Token ids."""
    limit: int
    """Most tokens that may be written."""
    temperature: float
    seed: int
    top_p: float = 1.0
    form: str = ""
    """Form of the class that it ends with, ``chat`` or ``completion``; empty: it ends with none."""
    stops: tuple[str, ...] = ()
    """Texts that end it, and are no part of it."""
    tokens: list[int] = field(default_factory=list)
    done: bool = False
    finished: bool = False
    """True where the text came to its end; False where ``limit`` cut it off."""
    text: str = ""
    watched: bool = False
    """True where the last token ended a line, so that the next may end the class."""
    seconds: float = 0.0
    """Share of the time of every step that it took part in."""

    def __post_init__(self) -> None:
        # On the CPU whatever the device, so that a seed means the same everywhere.
        self.generator = torch.Generator().manual_seed(self.seed % 2**63)

    def afresh(self) -> Row:
        """Return the same row before its first token."""
        return replace(
            self, tokens=[], done=False, finished=False, text="", watched=False, seconds=0.0
        )

    @property
    def last(self) -> int:
        """The last token so far."""
        return (self.tokens or self.prompt)[-1]

    @property
    def ids(self) -> list[int]:
        """The prompt and what has been written so far."""
        return self.prompt + self.tokens


def uniforms(rows: Sequence[Row], vocabulary: int) -> torch.Tensor:
    """Draw what :func:`draw` needs of each row's generator for one token: float64 in [0, 1)."""
    count = -(-vocabulary // BLOCK) + BLOCK
    return torch.stack(
        [torch.rand(count, generator=row.generator, dtype=torch.float64) for row in rows]
    )


def sent(values: Any, device: torch.device, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """Return ``values`` as a tensor on its way to ``device``: the host does not wait for it."""
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=True)


def draw(
    logits: torch.Tensor,
    temperatures: Sequence[float],
    chances: torch.Tensor,
    *,
    top_p: float | Sequence[float] = 1.0,
    error: float = 0.0,
) -> tuple[list[int], list[bool]]:
    """A token for every row, exactly from softmax(logits / T) restricted to the fewest tokens of
    probability ``top_p``.

    Which block of the vocabulary, then which token of it: each by adding standard Gumbel noise to
    the logarithms of the masses, whose arg max is distributed as the masses are. Noise for all of
    a vocabulary of 150,000 would cost a good part of what the model does.

    Args:
        logits: shape (rows, vocabulary), float32.
        temperatures: one per row; 0 takes the likeliest.
        chances: of :func:`uniforms`, on the CPU.
        top_p: in (0, 1]; of all rows, or one per row.
        error: by how much a logit may be off.

    Returns:
        The tokens, and for each whether logits off by ``error`` could have made it another.

    Raises:
        FloatingPointError: a row's likeliest token is not a finite number.
    """
    rows, device = len(logits), logits.device
    heat = sent(temperatures, device, torch.float64).clamp(min=GREEDY)
    noise = -(-sent(chances, device, torch.float64).log()).log()
    slack, best = 2 * error / heat, logits.amax(-1, keepdim=True)
    weights = ((logits - best) / heat.to(logits.dtype)[:, None]).exp_()
    unsure = torch.zeros_like(heat).bool()
    each = [top_p] * rows if isinstance(top_p, float) else top_p
    for share in sorted({one for one in each if one < 1}):
        if all(one == share for one in each):
            unsure = _restrict(weights, share, slack)
            break
        chosen = sent([n for n, one in enumerate(each) if one == share], device)
        some = weights[chosen]
        unsure[chosen] = _restrict(some, share, slack[chosen])
        weights[chosen] = some
    blocks = torch.nn.functional.pad(weights, (0, -weights.shape[-1] % BLOCK))
    blocks = blocks.view(rows, -1, BLOCK)
    block, lead = _winner(blocks.sum(-1).double().log() + noise[:, :-BLOCK])
    inside = blocks[torch.arange(rows, device=device), block]
    place, margin = _winner(inside.double().log() + noise[:, -BLOCK:])
    unsure = unsure | (lead < slack) | (margin < slack)
    # All that the host wants to know at once: it waits for the device here, and nowhere else.
    found = torch.stack([block * BLOCK + place, unsure.long(), best[:, 0].isfinite().long()])
    tokens, doubts, finite = found.tolist()
    if not all(finite):
        raise FloatingPointError("the likelihood of a token is NaN or infinite")
    return tokens, [bool(doubt) for doubt in doubts]


def _winner(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the place of the highest of each row, and by how much it is ahead."""
    values, places = scores.topk(min(2, scores.shape[-1]), dim=-1)
    ahead = values[:, 0] - values[:, -1]
    return places[:, 0], ahead if values.shape[-1] == 2 else torch.full_like(ahead, torch.inf)


def _restrict(weights: torch.Tensor, top_p: float, slack: torch.Tensor) -> torch.Tensor:
    """Set to 0, in place, what is not in the nucleus; return which rows' edges are unsure."""
    total, every = weights.sum(-1, keepdim=True), weights.shape[-1]
    few = [min(LIKELIEST, every)] if weights.device.type == "cpu" else []  # a look makes it wait
    for count in (*few, every):
        likely, order = weights.topk(count, dim=-1)
        share = likely.cumsum(-1) / total
        if count == every or bool((share[:, -1] >= top_p).all()):
            break
    before = share - likely / total
    inside = before < top_p
    kept = inside.sum(-1, keepdim=True)
    ends = torch.cat([kept - 1, kept], dim=-1).clamp(0, likely.shape[-1] - 1)
    edge = likely.gather(-1, ends)
    weights.zero_().scatter_(-1, order, likely.masked_fill(~inside, 0.0))
    # It could be one token more or less, or the next best in the place of the last.
    nearest = (before - top_p).abs().amin(-1)
    drop = (edge[:, 0] / edge[:, 1]).log()
    whole = kept[:, 0] == likely.shape[-1]
    return (nearest < slack * top_p * (1 - top_p)) | ((drop < slack) & ~whole)


class Writer:
    """Converter of tokens to text that notices the end."""

    def __init__(self, tokenizer: Any, *, ends: frozenset[int]) -> None:
        self.tokenizer = tokenizer
        self.ends = ends
        """Tokens that end a text."""
        self._marks: dict[int, tuple[bool, bool]] = {}

    def write(self, row: Row, token: int) -> None:
        """Add ``token`` to ``row``; decodes the text only where it might just be over."""
        row.tokens.append(token)
        if token in self.ends:
            return self._finish(row, finished=True)
        if len(row.tokens) >= row.limit:
            return self._finish(row, finished=False)
        if row.stops:
            # A token may be less than a character, so the end of the text has at least as many.
            recent = self._decode(row.tokens[-max(map(len, row.stops)) - MARGIN :])
            if any(stop in recent for stop in row.stops):
                return self._finish(row, finished=True)
        newline, fence = self._mark(token) if row.form else (False, False)
        if newline or fence or row.watched:
            row.watched = newline
            if end_of_class(self._decode(row.tokens), form=row.form) is not None:
                self._finish(row, finished=True)
        return None

    def _finish(self, row: Row, *, finished: bool) -> None:
        text = self._decode(row.tokens)
        found = [text.find(stop) for stop in row.stops]
        if row.form and (end := end_of_class(text, form=row.form)) is not None:
            found.append(end)
        cuts = [place for place in found if place >= 0]
        row.text = text[: min(cuts)] if cuts else text
        row.finished = finished or bool(cuts)
        row.done = True

    def _mark(self, token: int) -> tuple[bool, bool]:
        if token not in self._marks:
            piece = self._decode([token])
            self._marks[token] = "\n" in piece, "`" in piece
        return self._marks[token]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

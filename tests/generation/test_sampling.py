"""Draws by inversion: the distribution, its edges, and when rounding could decide."""

from __future__ import annotations

import pytest
import torch

from llmatic_hpc.generation import sampling
from llmatic_hpc.generation.sampling import draw


def chances(count: int, seed: int = 0) -> torch.Tensor:
    """Uniform numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("vocabulary", [1, 5, 256, 257, 3000])
def test_every_token_has_its_share(vocabulary: int) -> None:
    """Evenly spaced chances meet each token as often as its probability says, to one."""
    torch.manual_seed(vocabulary)
    logits, n = torch.randn(vocabulary) * 2, 4000
    even = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    tokens, unsure = draw(logits.expand(n, -1), [0.7] * n, even)
    counts = torch.bincount(torch.tensor(tokens), minlength=vocabulary)
    expected = n * torch.softmax(logits.double() / 0.7, dim=-1)
    assert counts.shape == (vocabulary,)
    assert (counts - expected).abs().max() <= 1.01
    assert not any(unsure)


def test_a_token_without_probability_is_never_drawn() -> None:
    """Not even by the extreme chances."""
    logits = torch.full((4, 1000), -torch.inf)
    logits[:, [300, 999]] = 0.0
    tokens, _ = draw(logits, [1.0] * 4, torch.tensor([0.0, 0.4999, 0.5001, 1 - 2**-53]).double())
    assert tokens == [300, 300, 999, 999]


def test_cold_takes_the_likeliest() -> None:
    """At 0, whatever the chance and beside a hot row."""
    logits = torch.randn(6, 500)
    tokens, _ = draw(logits, [0.0] * 5 + [9.0], chances(6))
    assert tokens[:5] == logits.argmax(-1)[:5].tolist()


@pytest.mark.parametrize("likeliest", [4, 1024])
def test_a_nucleus_is_the_fewest_that_reach_top_p(
    monkeypatch: pytest.MonkeyPatch, likeliest: int
) -> None:
    """Whether or not it is found among the likeliest."""
    monkeypatch.setattr(sampling, "LIKELIEST", likeliest)
    p = torch.tensor([0.05, 0.3, 0.02, 0.2, 0.25, 0.1, 0.08])
    n = 2000
    even = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    tokens, _ = draw(p.log().expand(n, -1), [1.0] * n, even, top_p=0.8)
    counts = torch.bincount(torch.tensor(tokens), minlength=7)
    kept = torch.tensor([0, 0.3, 0, 0.2, 0.25, 0.1, 0])
    assert (counts - n * kept / kept.sum()).abs().max() <= 1.01


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
def test_an_error_changes_only_what_is_unsure(temperature: float, top_p: float) -> None:
    """Logits off by as much as was said give another token only where that was said, too; and
    most draws are sure."""
    torch.manual_seed(1)
    n, error = 3000, 1e-3
    logits = torch.randn(n, 60) * 3
    off = logits + (torch.randint(0, 2, logits.shape) * 2 - 1) * error
    heat = [temperature] * n
    tokens, unsure = draw(logits, heat, chances(n), top_p=top_p, error=error)
    others, _ = draw(off, heat, chances(n), top_p=top_p)
    changed = [a != b for a, b in zip(tokens, others, strict=True)]
    assert not any(c and not u for c, u in zip(changed, unsure, strict=True))
    assert sum(unsure) < n / 5

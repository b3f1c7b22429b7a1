"""Draws: the distribution, its edges, and when rounding could decide."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from llmatic_hpc.generation.language_model import sampling
from llmatic_hpc.generation.language_model.sampling import Row, draw, uniforms


def chances(count: int, vocabulary: int) -> torch.Tensor:
    """Draw chances for so many rows."""
    return uniforms([Row(n, [1], 9, 1.0, seed=n) for n in range(count)], vocabulary)


@pytest.mark.parametrize("vocabulary", [2, 5, 256, 257, 1500])
def test_every_token_has_its_share(vocabulary: int) -> None:
    """Chi-square of 20,000 draws against the softmax."""
    torch.manual_seed(vocabulary)
    logits, n = torch.randn(vocabulary), 20_000
    tokens, unsure = draw(logits.expand(n, -1), [0.7] * n, chances(n, vocabulary))
    counts = torch.bincount(torch.tensor(tokens), minlength=vocabulary)
    expected = n * torch.softmax(logits.double() / 0.7, dim=-1)
    large = expected >= 5
    seen = [*counts[large].tolist(), n - int(counts[large].sum()) + 1e-9]
    due = [*expected[large].tolist(), n - float(expected[large].sum()) + 1e-9]
    scale = sum(seen) / sum(due)
    assert counts.shape == (vocabulary,)
    assert stats.chisquare(seen, [d * scale for d in due]).pvalue > 0.001
    assert not any(unsure)


def test_a_token_without_probability_is_never_drawn() -> None:
    """Tokens and whole blocks without probability are never drawn."""
    logits = torch.full((500, 1000), -torch.inf)
    logits[:, [300, 999]] = 0.0
    tokens, _ = draw(logits, [1.0] * 500, chances(500, 1000))
    assert set(tokens) == {300, 999}


def test_cold_takes_the_likeliest() -> None:
    """At 0, whatever the chance and beside a hot row."""
    logits = torch.randn(6, 500)
    tokens, _ = draw(logits, [0.0] * 5 + [9.0], chances(6, 500))
    assert tokens[:5] == logits.argmax(-1)[:5].tolist()


@pytest.mark.parametrize("likeliest", [4, 1024])
def test_a_nucleus_is_the_fewest_that_reach_top_p(
    monkeypatch: pytest.MonkeyPatch, likeliest: int
) -> None:
    """A nucleus is right whether or not it lies among the likeliest tokens."""
    monkeypatch.setattr(sampling, "LIKELIEST", likeliest)
    p, n = torch.tensor([0.05, 0.3, 0.02, 0.2, 0.25, 0.1, 0.08]), 5000
    tokens, _ = draw(p.log().expand(n, -1), [1.0] * n, chances(n, 7), top_p=0.8)
    counts = torch.bincount(torch.tensor(tokens), minlength=7)
    kept = torch.tensor([1, 3, 4, 5])
    assert int(counts[kept].sum()) == n
    due = n * p[kept].double() / p[kept].double().sum()
    assert stats.chisquare(counts[kept], due).pvalue > 0.001


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
def test_an_error_changes_only_what_is_unsure(temperature: float, top_p: float) -> None:
    """Logits off by as much as was said give another token only where that was said, too; and
    most draws are sure."""
    torch.manual_seed(1)
    n, error = 3000, 1e-3
    logits = torch.randn(n, 60) * 3
    off = logits + (torch.randint(0, 2, logits.shape) * 2 - 1) * error
    heat, noise = [temperature] * n, chances(n, 60)
    tokens, unsure = draw(logits, heat, noise, top_p=top_p, error=error)
    others, _ = draw(off, heat, noise, top_p=top_p)
    changed = [a != b for a, b in zip(tokens, others, strict=True)]
    assert not any(c and not u for c, u in zip(changed, unsure, strict=True))
    assert sum(unsure) < n / 5


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_no_number_is_an_error(top_p: float, wrong: float) -> None:
    """One such logit is enough; a token without any likelihood is none."""
    logits = torch.randn(3, 500)
    logits[0, 7] = -torch.inf
    draw(logits, [1.0] * 3, chances(3, 500), top_p=top_p)
    logits[1, 5] = wrong
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        draw(logits, [1.0] * 3, chances(3, 500), top_p=top_p)

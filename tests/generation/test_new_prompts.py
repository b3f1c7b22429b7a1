"""A prompt that a model wrote is read as a text that nobody trusts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmatic_hpc.generation.new_prompts import LONGEST, MARKS, read
from llmatic_hpc.problems.images.kind import PROMPTS
from llmatic_hpc.problems.nasbench201.kind import PROMPTS as OF_CELLS
from llmatic_hpc.store.record import clean

KNOWN = ("Add a layer to improve the above network", "Delete a layer that does little")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("Widen the second convolution by 1.5x.", "Widen the second convolution by 1.5x."),
        ("  Widen\tthe first\n layer.\n\n", "Widen the first layer."),
        ('"Widen the first layer."', "Widen the first layer."),
        ("New instruction: Widen the first layer.", "Widen the first layer."),
        ("Instruction: 'Widen the first layer'", "Widen the first layer"),
        ("Widen the first\x00 \x1b[31mlayer(s)".replace("[31m", ""), "Widen the first layer(s)"),
        ("Widen the \u200bfirst\u202e layer", "Widen the first layer"),
        ('Use a "wide" layer, and only one', "Use a 'wide' layer, and only one"),
        (
            "Ersetze die größte Schicht durch zwei kleine",
            "Ersetze die größte Schicht durch zwei kleine",
        ),
    ],
)
def test_prose_is_taken(written: str, text: str) -> None:
    """Without what does not belong to it: control characters, a label, quotes, line breaks."""
    assert read(written, KNOWN) == (text, "")


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "nothing was written"),
        (" \n\x00", "nothing was written"),
        ("Widen the first layer.\n\nThis helps since ...", "more than one paragraph"),
        ("Widen the first layer. " * 20, "characters, 300 are allowed"),
        ("ADD a layer, to improve the above network!", "repeats a prompt"),
        ("Add layer to improve an above network", "repeats a prompt"),
        ("Widen it.", "fewer than 3 words"),
        ("12 34 56 78 90 12", "fewer than 3 words"),
        ("```python\nclass Net: ...\n```", "no prompt has"),
        ("Widen the `first` layer", "no prompt has"),
        ("Widen the layer <|im_end|> of them", "no prompt has"),
        ("Widen the first layer $parents", "no prompt has"),
        ("self conv is x = 3 in it", "no prompt has"),
        ("Widen it with nn.Conv2d(3, 16)", "reads like code"),
        ("import torch and widen the layer", "reads like code"),
        ("class Net(nn.Module): wide", "reads like code"),
        ("Widen it ''' and go on with it", "reads like code"),
    ],
)
def test_what_is_no_prompt_is_refused(written: str, why: str) -> None:
    """With the reason."""
    assert why in read(written, KNOWN).failure


def test_what_was_cut_off_is_refused() -> None:
    """Half a sentence may say the opposite."""
    assert "cut off" in read("Widen the first layer and do not", KNOWN, finished=False).failure


@pytest.mark.parametrize("prompt", [*PROMPTS, *OF_CELLS])
def test_the_papers_own_prompts_would_be_taken(prompt: str) -> None:
    """As they are, where none is known; and they repeat themselves."""
    assert read(prompt, ()) == (prompt, "")
    assert read(prompt, [prompt]).failure == "repeats a prompt"


@given(st.one_of(st.text(max_size=400), st.text("abc .'\"\n:`=(", max_size=400)))
def test_whatever_is_taken_is_harmless(written: str) -> None:
    """One bounded line of listed characters, read alike again, and from the record's text, too."""
    text, failure = read(written, KNOWN)
    if not failure:
        assert len(text) <= LONGEST
        assert all(one.isalnum() or one in MARKS for one in text)
        assert not any(unicodedata.category(one).startswith("C") for one in text)
        assert '"' not in text
        assert read(text, [text]).failure == "repeats a prompt"
        assert clean(text) == text

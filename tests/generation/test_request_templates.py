"""Templates of requests: what is refused, what goes first where room is short, what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmatic_hpc.errors import ConfigError
from llmatic_hpc.generation.request_templates import (
    LEAST_USEFUL,
    NAMES,
    Part,
    least,
    load,
    render,
    rewriting,
    tokens,
)
from llmatic_hpc.types import REWRITING

NEEDED = {"parents": "class Net: ...", "instruction": "Add a layer", "advice": "Shapes: any."}
PARTS = {
    "task": Part("Task: ten classes."),
    "score": Part("It scores 0.4."),
    "layers": Part("Layers:", ("conv", "linear"), is_list=True),
    "tried": Part("Tried:", ("wider: 0.3", "deeper: 0.2"), is_list=True),
    "failures": Part("Failed:", ("no forward",), is_list=True),
    "examples": Part("Others:", ("one: 0.5", "two: 0.4", "three: 0.3"), is_list=True),
    "target": Part("Wanted: 1 M FLOPs."),
}


def test_all_parts_are_said_where_there_is_room() -> None:
    """Each once, and none of the fields is left as it was."""
    for name in NAMES:
        text = render(load("")[name], NEEDED, PARTS, 10_000)
        assert "$" not in text
        assert text.count("Add a layer") == text.count("class Net: ...") == 1
    mutation = render(load("")["mutation"], NEEDED, PARTS, 10_000)
    for part in PARTS.values():
        assert part.text in mutation


def test_the_least_useful_goes_first() -> None:
    """With less and less room: lines of examples from their end, then layers; never what must be
    said; and never more than the budget unless that alone is more."""
    template = load("")["mutation"]
    needed = least(template, NEEDED)
    whole = tokens(render(template, NEEDED, PARTS, 10_000))
    order = {name: LEAST_USEFUL.index(name) for name in PARTS}
    before = set(PARTS)
    for most in range(whole, needed - 10, -1):
        text = render(template, NEEDED, PARTS, most)
        assert tokens(text) <= max(most, needed)
        left = {name for name, part in PARTS.items() if part.head in text}
        assert left <= before
        gone = set(PARTS) - left
        assert all(order[g] < order[kept] for g in gone for kept in left)
        assert "three" not in text or most == whole
        before = left
    assert before == set()
    assert "Add a layer" in text


def test_a_paragraph_with_nothing_to_say_is_left_out() -> None:
    """And an empty list has no head."""
    said = render("$parents\n\nSeen: $tried\n\n$instruction costs $$5.", NEEDED, {}, 1000)
    assert said == "class Net: ...\n\nAdd a layer costs $5."
    assert Part("Head:", (), is_list=True).text == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$parents $scores", r"mutation.txt: unknown field \$scores; there are \$parents"),
        ("$parents\n\n100 $", r"mutation.txt: line 3: a \$ alone"),
        ("$instruction", r"the field \$parents is missing"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """With its file, and what there is."""
    (tmp_path / "mutation.txt").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(str(tmp_path))


def test_own_templates_replace_shipped_ones(tmp_path: Path) -> None:
    """One by one; a folder that is not there is told."""
    (tmp_path / "mutation.txt").write_text("Mine: $parents\n")
    found = load(str(tmp_path))
    assert found["mutation"] == "Mine: $parents"
    assert found["crossover"] == load("")["crossover"]
    with pytest.raises(ConfigError, match="is no folder"):
        load(str(tmp_path / "none"))


@pytest.mark.skipif(not os.environ.get("LLMATIC_TEST_MODEL"), reason="LLMATIC_TEST_MODEL not set")
@pytest.mark.slow
def test_the_estimate_is_no_less_than_a_model_counts() -> None:
    """On code and prose, and not much more either."""
    from transformers import AutoTokenizer

    file = Path(os.environ["LLMATIC_TEST_MODEL"])
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    text = Path(__file__).read_text()
    counted = len(tokenizer(text)["input_ids"])
    assert counted <= tokens(text) <= 2 * counted


def test_a_request_for_a_new_prompt(tmp_path: Path) -> None:
    """It says the prompt, the others, and the task where that is known; one's own template, too."""
    shipped = load("", [REWRITING])[REWRITING]
    text = rewriting(shipped, "Add a layer", ["Widen it", "Deepen it"], "")
    assert "\n\nAdd a layer\n\n" in text
    assert "- Widen it\n- Deepen it" in text
    assert "$" not in text
    own = tmp_path / "rewriting.txt"
    own.write_text("Task: $task\n\nBetter than: $instruction")
    template = load(str(tmp_path), [REWRITING])[REWRITING]
    assert rewriting(template, "Add a layer", [], "digits") == (
        "Task: digits\n\nBetter than: Add a layer"
    )
    for wrong, said in (("$task", "field $instruction is missing"), ("$parents", "unknown field")):
        own.write_text(wrong)
        with pytest.raises(ConfigError, match=said.replace("$", r"\$")):
            load(str(tmp_path), [REWRITING])

"""The prompts: the paper's to the letter, and the chat."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from llmatic_hpc.config import ProblemSettings
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.generation.prompts import chat_messages, completion_prompt, rename, shapes, shown
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.problems.nasbench201.kind import nasbench201
from llmatic_hpc.types import REWRITING, Problem, Request

Ask = Callable[..., Request]

IMPORTS = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
FIRST = """
class {name}(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 1, 1)
        self.fc1 = nn.Linear(1024, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        return x
"""
SECOND = """
class {name}(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 1, 1)
        self.conv2 = nn.Conv2d(1, 2, 1)
        self.fc1 = nn.Linear(2048, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        return x
"""
MUTATION = IMPORTS + FIRST.format(name="Net") + '\n"""Add a layer to improve the above network"""\n'
# Appendix A breaks the instruction over three lines for the width of the page.
CROSSOVER = (
    IMPORTS
    + FIRST.format(name="Net1")
    + SECOND.format(name="Net2")
    + '\n"""Combine the above two neural networks and create a third neural '
    "network class that also inherits from nn.Module and performs "
    'better than the above two neural networks"""\n'
)


def test_mutation_is_appendix_a(problem: Problem, ask: Ask) -> None:
    """The printed example, character by character, then the start of the class."""
    parent = IMPORTS + FIRST.format(name="Net")
    request = ask(parents=(parent,), instruction=problem.prompts[0])
    assert completion_prompt(request) == MUTATION + "\nclass Net(nn.Module):"


@pytest.mark.parametrize("spacing", ["", "\n"])
def test_crossover_is_appendix_a(problem: Problem, ask: Ask, spacing: str) -> None:
    """The printed example from two parents that are both called Net, with the imports once,
    however many blank lines stand in the parents."""
    parents = tuple(IMPORTS + spacing + text.format(name="Net") for text in (FIRST, SECOND))
    request = ask(operator="crossover", parents=parents, instruction=problem.crossover_prompt)
    assert completion_prompt(request) == CROSSOVER + "\nclass Net(nn.Module):"


def test_three_parents(ask: Ask) -> None:
    """Each has its number."""
    parents = tuple(IMPORTS + FIRST.format(name="Net") for _ in range(3))
    text = shown(ask(operator="crossover", parents=parents))
    assert [n.name for n in ast.parse(text).body if isinstance(n, ast.ClassDef)] == [
        "Net1",
        "Net2",
        "Net3",
    ]


def test_helpers_of_both_parents_stay_apart(ask: Ask) -> None:
    """Two parents with a Block each: the second one's is renamed along with its uses, and a
    child that derives from a parent gets what that parent needs."""
    parents = tuple(
        f"import math\n{IMPORTS}\n\nclass Block(nn.Module):\n    def forward(self, x):\n"
        f"        return x * {n}\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        f"        super(Net, self).__init__()\n        self.block = Block()\n"
        f"        self.Net = {n}\n"
        '        self.title = "Net"\n\n    def forward(self, x):\n        return self.block(x)\n'
        for n in (1, 2)
    )
    text = shown(ask(operator="crossover", parents=parents))
    assert text.count("import torch\n") == text.count("import math\n") == 1
    assert [n.name for n in ast.parse(text).body if isinstance(n, ast.ClassDef)] == [
        "Block", "Net1", "Block2", "Net2",
    ]  # fmt: skip
    assert "super(Net2, self)" in text
    assert "self.block = Block2()" in text
    assert text.count("self.Net = ") == text.count('"Net"') == 2
    child = extract(
        "class Net(Net2):\n    def forward(self, x):\n        return -self.block(x)\n",
        form="chat",
        context=(text,),
    )
    assert child.failure == ""
    assert [n.name for n in ast.parse(child.source).body if isinstance(n, ast.ClassDef)] == [
        "Block2", "Net2", "Net",
    ]  # fmt: skip


def test_renaming_by_position() -> None:
    """Columns count bytes; strings, comments, attributes and keywords stay."""
    source = (
        "class Net:\n    def f(self, x):\n"
        "        return {'ä': Net, 'Net': self.Net(Net=1)}, f'{Net} Net'  # Net\n"
    )
    renamed = rename(source, {"Net": "Network9"})
    assert renamed == source.replace("class Net", "class Network9").replace(
        "'ä': Net", "'ä': Network9"
    ).replace("{Net} Net", "{Network9} Net")


def test_what_does_not_parse_is_not_renamed() -> None:
    """A parent is shown as it is rather than not at all."""
    assert rename("class Net(:", {"Net": "Net1"}) == "class Net(:"


def test_chat_says_the_shapes(problem: Problem, ask: Ask) -> None:
    """Parent, instruction, class name, both shapes and how to count in between."""
    system, user = chat_messages(ask(0), problem)
    assert (system["role"], user["role"]) == ("system", "user")
    assert problem.initial_source.strip() in user["content"]
    assert problem.prompts[0] in user["content"]
    for said in ("`Net`", "(N, 3, 32, 32)", "(N, 10)", "padding 1", "channels * 32 * 32"):
        assert said in user["content"]


def test_chat_for_crossover(problem: Problem, ask: Ask) -> None:
    """Both parents in one block."""
    request = ask(
        operator="crossover",
        parents=(problem.initial_source,) * 2,
        instruction=problem.crossover_prompt,
    )
    content = chat_messages(request, problem)[1]["content"]
    assert "class Net2(nn.Module)" in content
    assert "class Net1(nn.Module)" in content
    assert content.count("```") == 2


def test_shapes_of_another_problem() -> None:
    """Numbers come from the problem."""
    text = shapes(image_classification(input_shape=(1, 8, 8), classes=7))
    assert "(N, 1, 8, 8)" in text
    assert "(N, 7)" in text
    assert "channels * 8 * 8" in text


def test_the_papers_requests_are_what_they_were() -> None:
    """To the byte, in both forms, for images, sequences, tables and cells."""
    found = hashlib.sha256()
    for problem in (
        image_classification(input_shape=(3, 32, 32), classes=10),
        image_classification(input_shape=(2, 50), classes=3),
        image_classification(input_shape=(7,), classes=2),
        nasbench201(ProblemSettings()),
    ):
        first = (problem.initial_source,)
        asked = [Request(n, "mutation", n, text, first, 0.6, n)
                 for n, text in enumerate(problem.prompts)]  # fmt: skip
        asked += [Request(0, "crossover", -1, problem.crossover_prompt, first * 2, 0.6, 1),
                  Request(0, "random", -1, problem.random_prompt, first, 0.6, 1)]  # fmt: skip
        for request in asked:
            both = [completion_prompt(request), chat_messages(request, problem)]
            found.update(json.dumps(both).encode())
    assert found.hexdigest() == "2100f02965723f692d3da6d1d042a664e32df74a36dfc3c6837e63235d21689b"


def test_an_informed_request_is_all_that_is_said(ask: Ask, problem: Problem) -> None:
    """In a chat as it is; above a class as a text of Python, which quotes do not end."""
    told = 'Say """this""".'
    request = ask(text=told)
    assert chat_messages(request, problem)[-1] == {"role": "user", "content": told}
    written = completion_prompt(request) + "\n    pass\n"
    tree = ast.parse(written)
    assert ast.get_docstring(tree) == "Say '''this'''."
    assert written.count("class Net") == 1


def test_a_failure_is_shown_with_its_error(ask: Ask, problem: Problem) -> None:
    """As the model's own turn of the chat, or as code, and asked about."""
    request = ask(answered="wrong", error="RuntimeError:\nno such size " + "x" * 1000)
    said = chat_messages(request, problem)
    assert [turn["role"] for turn in said] == ["system", "user", "assistant", "user"]
    assert said[2]["content"] == "wrong"
    assert "RuntimeError: no such size" in said[3]["content"]
    assert len(said[3]["content"]) < 600
    asked = completion_prompt(request)
    assert asked.startswith(completion_prompt(ask()))
    assert "no such size" in asked.partition("wrong")[2]
    assert asked.endswith("class Net(nn.Module):")


def test_a_request_for_a_prompt_is_a_chat_of_its_own(ask: Ask) -> None:
    """Its text alone, and no word of code blocks."""
    asked = replace(ask(0), operator=REWRITING, text="Write another one.", parents=())
    system, user = chat_messages(asked, image_classification(input_shape=(3, 32, 32), classes=10))
    assert user["content"] == "Write another one."
    assert "code" not in system["content"]

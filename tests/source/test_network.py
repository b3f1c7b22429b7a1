"""The class that a candidate is about: one answer for gate, extraction, repair and control."""

from __future__ import annotations

import ast

import pytest

from llmatic_hpc.generation.extract import extract
from llmatic_hpc.source import gate
from llmatic_hpc.source.network import network_class

FORWARD = "    def forward(self, x):\n        return self.fc(x.flatten(1))\n"
MADE = (
    "    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(3072, 10)\n"
)
TOLD = MADE.replace("(self)", "(self, n)", 1)
PLAIN = f"class Net(nn.Module):\n{MADE}{FORWARD}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (PLAIN, "Net"),
        (PLAIN + f"class Last(nn.Module):\n{MADE}{FORWARD}", "Last"),
        (PLAIN + f"class Other:\n{FORWARD}", "Net"),
        (PLAIN + f"class Data(nn.Parameter):\n{FORWARD}", "Net"),
        (PLAIN + "class Child(Net):\n    pass\n", "Child"),
        (f"class Mixin:\n{FORWARD}class Net(Mixin, nn.Module):\n{MADE}", "Net"),
        (
            f"class Mixin:\n    pass\nclass Base(nn.Module):\n{MADE}{FORWARD}"
            "class Net(Mixin, Base):\n    pass\n",
            "Net",
        ),
    ],
    ids=["one", "last", "no module", "a parameter", "inherited", "forward of a mixin", "mixin"],
)
def test_gate_and_extraction_mean_the_same_class(text: str, name: str) -> None:
    """Derived by whatever way from a class of torch.nn, with a forward of its own or not."""
    source = "import torch.nn as nn\n" + text
    found = network_class(ast.parse(source))
    assert found is not None
    assert found.name == name
    extracted = extract(source, form="chat").source
    again = network_class(ast.parse(extracted))
    assert again is not None
    assert again.name == name
    refused = "Data" in text  # for what it derives from
    assert (gate.check(extracted if refused else source, max_bytes=9999).status) == "pending"


def test_a_class_that_must_be_told_sizes_is_a_network_for_those_who_can_tell_them() -> None:
    """Nothing can construct it as it is, but a repair can make it so."""
    tree = ast.parse("import torch.nn as nn\n" + PLAIN.replace(MADE, TOLD))
    assert network_class(tree) is None
    found = network_class(tree, constructible=False)
    assert found is not None
    assert found.name == "Net"


def test_imports_may_count_as_made() -> None:
    """For a reader of fragments."""
    tree = ast.parse(PLAIN)
    assert network_class(tree) is None
    assert network_class(tree, assumed={"nn": "torch.nn"}) is not None

"""Repair: each rule on the slip it is for, nothing else touched, and no say for a child."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from llmatic_hpc.config import ContainmentSettings
from llmatic_hpc.evaluation import repair
from llmatic_hpc.evaluation.repair import Finding, rules, static
from llmatic_hpc.evaluation.repair.spans import NotApplicableError
from llmatic_hpc.evaluation.repair.trace import Watch
from llmatic_hpc.evaluation.screen import Screener
from llmatic_hpc.generation.extract import STANDARD_IMPORTS
from llmatic_hpc.types import PENDING, Examined

from ..benchmarks.repair import examined


@pytest.fixture(scope="module")
def screener() -> Iterator[Screener]:
    with Screener(
        input_shape=(3, 32, 32), classes=10, containment=ContainmentSettings()
    ) as screener:
        yield screener


def net(layers: str, steps: str, *, head: str = "super().__init__()") -> str:
    """A network with a constructor and a forward of these lines."""

    def block(text: str) -> str:
        return "\n".join(f"        {line}" for line in text.strip().split("\n"))

    return (
        f"{STANDARD_IMPORTS}\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        f"{block(head + chr(10) + layers if head else layers)}\n\n"
        f"    def forward(self, x):\n{block(steps)}\n"
    )


CONV = "self.conv1 = nn.Conv2d(3, 8, 3)\n"
FC = "self.fc1 = nn.Linear(7200, 10)"
FLAT = "x = torch.flatten(x, 1)\n"

SLIPS = {
    "in_features": (
        net(CONV + "self.fc1 = nn.Linear(8 * 5 * 5, 10)",
            "x = F.relu(self.conv1(x))\n" + FLAT + "return self.fc1(x)"),
        [("size", "self.fc1 = nn.Linear(8 * 5 * 5, 10)", "self.fc1 = nn.Linear(7200, 10)")],
    ),
    "in_channels by name": (
        net("self.conv1 = nn.Conv2d(in_channels=1, out_channels=8, kernel_size=3)\n" + FC,
            "x = self.conv1(x)\n" + FLAT + "return self.fc1(x)"),
        [("size", "self.conv1 = nn.Conv2d(in_channels=1, out_channels=8, kernel_size=3)",
          "self.conv1 = nn.Conv2d(in_channels=3, out_channels=8, kernel_size=3)")],
    ),
    "num_features": (
        net(CONV + "self.bn = nn.BatchNorm2d(3)\n" + FC,
            "x = self.bn(self.conv1(x))\n" + FLAT + "return self.fc1(x)"),
        [("size", "self.bn = nn.BatchNorm2d(3)", "self.bn = nn.BatchNorm2d(8)")],
    ),
    "in_features in a Sequential": (
        net("self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(),\n"
            "                            nn.Linear(64, 10))", "return self.layers(x)"),
        [("size", "nn.Linear(64, 10))", "nn.Linear(7200, 10))")],
    ),
    "a flatten that is missing": (
        net(CONV + FC, "x = F.relu(self.conv1(x))\nreturn self.fc1(x)"),
        [("flatten", "return self.fc1(x)", "return self.fc1(torch.flatten(x, 1))")],
    ),
    "a pooling that is missing": (
        net("self.conv1 = nn.Conv2d(3, 32, 3)\nself.fc1 = nn.Linear(32, 10)",
            "return self.fc1(self.conv1(x))"),
        [("flatten", "return self.fc1(self.conv1(x))",
          "return self.fc1(torch.flatten(F.adaptive_avg_pool2d(self.conv1(x), 1), 1))")],
    ),
    "a flatten that is missing in a Sequential": (
        net("self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(7200, 10))",
            "return self.layers(x)"),
        [("flatten layer",
          "self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(7200, 10))",
          "self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), "
          "nn.Linear(7200, 10))")],
    ),
    "a flatten before a convolution": (
        net(CONV + "self.conv2 = nn.Conv2d(8, 8, 1)\n" + FC,
            "x = F.relu(self.conv1(x))\n" + FLAT + "x = F.relu(self.conv2(x))\n"
            "return self.fc1(x)"),
        [("order", "x = torch.flatten(x, 1)\nx = F.relu(self.conv2(x))",
          "x = F.relu(self.conv2(x))\nx = torch.flatten(x, 1)")],
    ),
    "a flatten and a layer before a convolution": (
        net(CONV + FC + "\nself.conv2 = nn.Conv2d(8, 8, 1)",
            "x = F.relu(self.conv1(x))\n" + FLAT + "x = self.fc1(x)\n"
            "x = F.relu(self.conv2(x))\nreturn x"),
        [("order", None, None)],
    ),
    "a view that mixes images": (
        net(CONV + FC, "x = self.conv1(x)\nx = x.view(-1, 8 * 25)\nreturn self.fc1(x)"),
        [("view", "x = x.view(-1, 8 * 25)", "x = torch.flatten(x, 1)")],
    ),
    "super missing": (
        net(CONV + FC, "x = self.conv1(x)\n" + FLAT + "return self.fc1(x)", head=""),
        [("super", "", "super().__init__()")],
    ),
    "super too late": (
        net(CONV + "super().__init__()\n" + FC, "x = self.conv1(x)\n" + FLAT +
            "return self.fc1(x)", head=""),
        [("super", "self.conv1 = nn.Conv2d(3, 8, 3)\nsuper().__init__()",
          "super().__init__()\nself.conv1 = nn.Conv2d(3, 8, 3)")],
    ),
    "another number": (
        net(CONV + FC, "x = self.conv2(x)\n" + FLAT + "return self.fc1(x)"),
        [("attribute", "x = self.conv2(x)", "x = self.conv1(x)")],
    ),
    "the module of a layer": (
        net("self.conv1 = Conv2d(3, 8, 3)\n" + FC, "x = self.conv1(x)\n" + FLAT +
            "return self.fc1(x)"),
        [("module", "self.conv1 = Conv2d(3, 8, 3)", "self.conv1 = nn.Conv2d(3, 8, 3)")],
    ),
    "the module of a function": (
        net(CONV + FC, "x = nn.relu(self.conv1(x))\n" + FLAT + "return self.fc1(x)"),
        [("module", "x = nn.relu(self.conv1(x))", "x = F.relu(self.conv1(x))")],
    ),
    "no projection": (
        net("self.fc1 = nn.Linear(3072, 64)", FLAT + "return self.fc1(x)"),
        [("projection", "return self.fc1(x)", "self.projection = nn.Linear(64, 10)\n"
          "return self.projection(self.fc1(x))")],
    ),
    "a projection that was forgotten": (
        net(CONV + FC, "x = self.conv1(x)\nreturn torch.flatten(x, 1)"),
        [("declared", "return torch.flatten(x, 1)", "return self.fc1(torch.flatten(x, 1))")],
    ),
    "a projection that was not declared": (
        net(CONV, "x = self.conv1(x)\n" + FLAT + "return self.fc(x)"),
        [("undeclared", "", "self.fc = nn.Linear(1, 10)"),
         ("size", "self.fc = nn.Linear(1, 10)", "self.fc = nn.Linear(7200, 10)")],
    ),
    "a tuple": (
        net("self.rnn = nn.GRU(32, 16, batch_first=True)\nself.fc1 = nn.Linear(1536, 10)",
            "x = torch.flatten(x, 1, 2)\nx = self.rnn(x)\n" + FLAT + "return self.fc1(x)"),
        [("first", "x = self.rnn(x)", "x = self.rnn(x)[0]")],
    ),
    "an argument given twice": (
        net("self.conv1 = nn.Conv2d(3, 8, 1, kernel_size=3)\n" + FC,
            "x = self.conv1(x)\n" + FLAT + "return self.fc1(x)"),
        [("twice", "self.conv1 = nn.Conv2d(3, 8, 1, kernel_size=3)",
          "self.conv1 = nn.Conv2d(3, 8, kernel_size=3)")],
    ),
    "an argument that nobody knows": (
        net("self.conv1 = nn.Conv2d(3, 8, 3, activation='relu')\n"
            "self.fc1 = nn.Linear(in_features=7200, output_size=10)",
            "x = self.conv1(x)\n" + FLAT + "return self.fc1(x)"),
        [("keyword", "self.conv1 = nn.Conv2d(3, 8, 3, activation='relu')",
          "self.conv1 = nn.Conv2d(3, 8, 3)"),
         ("keyword", "self.fc1 = nn.Linear(in_features=7200, output_size=10)",
          "self.fc1 = nn.Linear(in_features=7200, out_features=10)")],
    ),
    "sizes that nobody gives": (
        net(CONV, "x = self.conv1(x)\n" + FLAT + "return self.fc1(x)").replace(
            "(self):", "(self, width, num_classes):").replace(
            "3, 8, 3)", "3, width, 3)\n        self.fc1 = nn.Linear(7200, num_classes)"),
        [("default", "def __init__(self, width, num_classes):",
          "def __init__(self, width=16, num_classes=10):"),
         ("size", "self.fc1 = nn.Linear(7200, num_classes)",
          "self.fc1 = nn.Linear(14400, num_classes)")],
    ),
    "a class instead of a layer": (
        net(CONV + "self.act = nn.ReLU\n" + FC,
            "x = self.act(self.conv1(x))\n" + FLAT + "return self.fc1(x)"),
        [("instance", "self.act = nn.ReLU", "self.act = nn.ReLU()")],
    ),
    "a function that does not exist": (
        net(CONV + FC, "x = F.max_pool(self.conv1(x), 2)\n" + FLAT + "return self.fc1(x)"),
        [("drop", "x = F.max_pool(self.conv1(x), 2)", "x = self.conv1(x)")],
    ),
    "a pooling of what has been flattened": (
        net(CONV + FC, "x = self.conv1(x)\n" + FLAT + "x = F.glu(x, 2)\nreturn self.fc1(x)"),
        [("drop", "x = F.glu(x, 2)", "")],
    ),
    "an attribute of another layer": (
        net("self.conv1 = nn.Conv2d(3, 8, 3)\nself.fc1 = nn.Linear(self.conv1.out_features, 10)",
            "x = self.conv1(x)\n" + FLAT + "return self.fc1(x)"),
        [("attribute", "self.fc1 = nn.Linear(self.conv1.out_features, 10)",
          "self.fc1 = nn.Linear(self.conv1.out_channels, 10)"),
         ("size", "self.fc1 = nn.Linear(self.conv1.out_channels, 10)",
          "self.fc1 = nn.Linear(7200, 10)")],
    ),
}  # fmt: skip


def repaired(screener: Screener, source: str) -> Examined:
    [found] = screener.examine([source], repair=True)
    return found


@pytest.mark.parametrize("name", SLIPS)
def test_each_rule_repairs_its_slip_and_nothing_else(screener: Screener, name: str) -> None:
    """Written it does not fit, repaired it does; the record has every line that changed."""
    source, expected = SLIPS[name]
    found = repaired(screener, source)
    assert found.written.status == "invalid"
    assert found.screened.status == PENDING, found.screened.failure
    assert [r.rule for r in found.repairs] == [rule for rule, _, _ in expected]
    for made, (_, before, after) in zip(found.repairs, expected, strict=True):
        if before is not None:
            assert (made.before, made.after) == (before, after)
    lines = {line.strip() for made in found.repairs for line in made.after.split("\n")}
    assert {line.strip() for line in found.source.split("\n")} <= lines | {
        line.strip() for line in source.split("\n")
    }


def test_a_size_that_a_block_is_told(screener: Screener) -> None:
    """A block that hands its arguments on has the number changed where the block is made."""
    source = (
        f"{STANDARD_IMPORTS}\n\nclass Block(nn.Module):\n"
        "    def __init__(self, inputs, outputs):\n        super().__init__()\n"
        "        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)\n\n"
        "    def forward(self, x):\n        return F.relu(self.conv(x))\n\n\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.one = Block(3, 8)\n        self.two = Block(16, 8)\n"
        "        self.fc = nn.Linear(8192, 10)\n\n    def forward(self, x):\n"
        "        return self.fc(torch.flatten(self.two(self.one(x)), 1))\n"
    )
    found = repaired(screener, source)
    assert [(r.before, r.after) for r in found.repairs] == [
        ("self.two = Block(16, 8)", "self.two = Block(8, 8)")
    ]


def test_order_keeps_each_kind_in_its_order(screener: Screener) -> None:
    """Convolutions come first, the flatten and what followed it behind the last of them."""
    source = SLIPS["a flatten and a layer before a convolution"][0]
    forward = repaired(screener, source).source.split("def forward")[1].split("\n")[1:6]
    assert [line.strip() for line in forward] == [
        "x = F.relu(self.conv1(x))",
        "x = F.relu(self.conv2(x))",
        "x = torch.flatten(x, 1)",
        "x = self.fc1(x)",
        "return x",
    ]


@pytest.mark.parametrize(
    "source",
    [
        net(CONV + FC, "x = self.conv1(x)\n" + FLAT + "return self.fc1(x)"),  # nothing is wrong
        net(CONV, "while True: pass"),  # no rule for that
        net("self.x = torch.save", "return x"),  # forbidden
        net(FC, "return x @ self.fc1"),
        "class Net(nn.Module:",
        "",
    ],
)
def test_what_needs_no_repair_or_is_beyond_it_stays(screener: Screener, source: str) -> None:
    """The very source, with the verdict on it as it was written."""
    found = repaired(screener, source)
    assert found == Examined(source, found.written, found.written)


def test_without_repair(screener: Screener) -> None:
    """``repair=False`` screens and does nothing else."""
    source = SLIPS["in_features"][0]
    [found] = screener.examine([source], repair=False)
    assert found == Examined(source, found.written, found.written)
    assert found.written.status == "invalid"
    assert found.written.built


def test_invariant_5_a_child_reports_findings_and_no_text() -> None:
    """Only changes that a rule makes, with numbers and names, happen, whatever a child says."""
    source = net(CONV + FC, "x = self.conv1(x)\n" + FLAT + "return self.fc1(x)")
    at = (8, 20, 8, 38)  # nn.Linear(7200, 10)
    evil = [
        Finding("exec", at, "import os"),
        Finding("size", at, "in_features", (-1,)),
        Finding("size", at, "in_features", (1 << 60,)),
        Finding("size", (1, 0, 1, 5), "in_features", (3,)),
        Finding("attribute", at, "__class__"),
        Finding("projection", (6, 0, 13, 27), "x); import os; (", ()),
        Finding("undeclared", (6, 0, 13, 27), "x = 1; import os", (10,)),
        Finding("module", at, "os"),
        Finding("order", (11, 8, 11, 30), "", (1, 2, 3)),
    ]
    for finding in evil:
        with pytest.raises(NotApplicableError):
            rules.apply(source, finding)


@pytest.mark.parametrize("end", ["\r\n", "\r"])
@pytest.mark.parametrize("name", ["in_features", "in_features in a Sequential", "super missing"])
def test_any_end_of_line_is_one(screener: Screener, name: str, end: str) -> None:
    """Places are those that Python's tokenizer counts; repaired, every line ends in a newline."""
    source, _ = SLIPS[name]
    assert repaired(screener, source.replace("\n", end)).source == repaired(screener, source).source


@given(st.binary(max_size=300) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=5)
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_invariant_5_any_reply_is_findings_or_refused(payload: bytes) -> None:
    """Bytes that ours would not send are refused as such."""
    try:
        findings = repair.decode(payload)
    except ValueError:  # of which UnicodeDecodeError and JSONDecodeError are kinds
        return
    assert all(isinstance(finding, Finding) for finding in findings)


def test_findings_survive_the_way_to_the_judge() -> None:
    """As they are, padded to one length."""
    findings = [Finding("size", (1, 2, 3, 4), "in_features", (5,)), Finding("first", (0, 0, 0, 0))]
    payload = repair.encode(findings)
    assert len(payload) == repair.REPLY_BYTES
    assert repair.decode(payload) == findings


@given(st.text(alphabet="selfclassNet(nn.):=\n  x123_,F", max_size=200))
def test_names_of_any_text(text: str) -> None:
    """No text makes the part that runs in the judge fail."""
    list(static.find(STANDARD_IMPORTS + text, channels=3, classes=10))


def test_real_completions(screener: Screener, test_data: Path) -> None:
    """At least 8 of 10 that contain a class fit, of every model, and never fewer distinct."""
    files = sorted((test_data / "completions").glob("*.jsonl"))
    by_model: dict[str, list[Examined]] = {}
    for file in files:
        entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        by_model.setdefault(entries[0]["model"], []).extend(examined(entries, screener))
    assert set(by_model) == {"gemma", "qwen", "smollm"}
    for model, found in by_model.items():
        fit = [m for m in found if m.screened.status == PENDING]
        assert len(fit) >= 0.8 * len(found), model
        written = {m.written.canonical_sha256 for m in found if m.written.status == PENDING}
        assert written <= {m.screened.canonical_sha256 for m in fit}


def test_a_module_that_is_dropped_lends_its_place_to_no_other() -> None:
    """Sites are known by the id of a module, which Python gives away again."""
    with Watch() as watch:
        for _ in range(100):
            nn.Identity()
    assert len(watch.sites) == 100

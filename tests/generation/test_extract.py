"""One network out of whatever was written: real completions, hostile texts, noise."""

from __future__ import annotations

import ast
import json
import re
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmatic_hpc.generation.extract import CUT_OFF, NO_CLASS, Extracted, extract

IMPORTS = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
PREFIX = "class Net(nn.Module):"
BODY = """
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3072, 10)

    def forward(self, x):
        return self.fc(torch.flatten(x, 1))
"""
NET = PREFIX + BODY
EXPECTED = IMPORTS + "\n\n" + NET


def chat(text: str, *context: str) -> Extracted:
    return extract(text, form="chat", context=context)


def classes(found: Extracted) -> list[str]:
    assert found.failure == ""
    assert found.source.startswith(("import", "from"))
    assert found.source.endswith("\n")
    return [n.name for n in ast.parse(found.source).body if isinstance(n, ast.ClassDef)]


@pytest.mark.parametrize(
    "text",
    [
        NET,
        f"```python\n{IMPORTS}\n{NET}```",
        f"Sure! Here it is:\n\n```python\n{NET}```\n\nThis network doesn't (really) help.",
        f"~~~\n{NET}~~~",
        "1. First:\n\n" + "\n".join(f"   {s}" for s in f"```python\n{NET}```".split("\n")),
        f"```python\n{NET}",
        NET.replace("\n", "\r\n"),
        NET.replace("\n", "\r"),
        NET.replace("    ", "\t"),
        NET.replace("        ", "\t\t"),
        NET.replace("        ", "    \t"),
        NET.replace("\n", "   \n"),
        "\ufeff" + NET,
        NET.replace("super", "su\x00per"),
        NET.replace("    ", "\xa0\xa0\xa0\xa0"),
        f"\ud800{NET}\udfff",
        f"{NET}\n\nnet = Net()\nprint(net(torch.randn(1, 3, 32, 32)).shape)\n",
        f"{NET}\n\nif __name__ == '__main__':\n    net = Net()\n    print(net)\n",
        f"{NET}\noptimizer = torch.optim.SGD(Net().parameters(), lr=0.1)\ncriterion = F.relu\n",
        f"import os, sys\nfrom torch import optim\n{NET}\nos.system('true')\n",
        f'{NET}\n"""Add a layer to improve the above network"""\n\nclass Net(nn.Module):\n    de',
        f"def train(model):\n    return model\n\n{NET}\ndef test(model):\n    print(Net)\n",
        f"try:\n    import torch\nexcept ImportError:\n    pass\n{NET}",
        f"class Data:\n    def forward(self, x):\n        return x\n\n{NET}",
        f"<think>\nclass Net(nn.Module): hm{NET}</think>\n{NET}",
        f"This is broken: nn.Linear(3072, (\n{NET}",
        f"import torch.nn.functional as functional\nfrom torch import nn\n{NET}",
    ],
)
def test_the_same_network_however_it_is_wrapped(text: str) -> None:
    """Fences, prose, line ends, tabs, examples of use and unused imports leave no trace."""
    assert chat(text) == Extracted(EXPECTED)


@pytest.mark.parametrize(
    "follows",
    [
        "",
        '\n"""Add a layer to improve the above network"""\n\nclass Net(nn.Module):' + BODY[:60],
        "\nclass Other(nn.Module):" + BODY,
        "\n# Example\nnet = Net()\n",
        "```\n\nIn this version of `Net`, we've ...",
        '"""\n    """\n    """\n    x = (',
    ],
)
def test_a_completion_is_its_first_class(follows: str) -> None:
    """The class that the prompt began is the network; a second one answers another instruction."""
    assert extract(BODY + follows, form="completion", prefix=PREFIX) == Extracted(EXPECTED)


def test_a_completion_that_begins_again() -> None:
    """A broken first class gives way to a complete one."""
    text = "\n    def __init__(self:\n        pass\n\n" + NET
    assert extract(text, form="completion", prefix=PREFIX) == Extracted(EXPECTED)


def test_the_last_class_of_a_chat() -> None:
    """A model that quotes the old network first means the second."""
    second = NET.replace("3072, 10", "3072, 10, bias=False")
    assert chat(f"Before:\n```\n{NET}```\nAfter:\n```\n{second}```").source == EXPECTED.replace(
        NET, second
    )


def test_helpers_come_along() -> None:
    """Classes, functions and constants that the network uses, directly or not, stand before
    it, even if they stood after it; a class that others use is no candidate."""
    text = (
        "WIDTH = 64\nUNUSED = 1\nnet = 3\n\n"
        "def conv(a, b):\n    return nn.Conv2d(a, b, math.ceil(2.5), padding=1)\n\n"
        "class Net(nn.Module):\n    def __init__(self, width=WIDTH):\n        super().__init__()\n"
        "        self.block = Block(width)\n\n    def forward(self, x):\n"
        "        net = self.block(x)\n        return np.mean(net)\n\n"
        "# A block.\nclass Block(nn.Module):\n    def __init__(self, width):\n"
        "        super(Block, self).__init__()\n        self.conv = conv(3, width)\n\n"
        "    def forward(self, x):\n        return Missing(self.conv(x))\n\n"
        "class Unused(nn.Module):\n    def forward(self):\n        return Net()\n"
    ).replace("class Unused(nn.Module)", "class Unused(object)")
    found = chat(text)
    assert classes(found) == ["Block", "Net"]
    assert found.source.startswith("import math\nimport numpy as np\n" + IMPORTS)
    assert "WIDTH = 64\n" in found.source
    assert "UNUSED" not in found.source
    assert "net = 3" not in found.source
    assert "def conv(a, b):" in found.source


def test_decorators_imports_and_bases() -> None:
    """Decorators, imports and bases that a class needs come with it."""
    text = (
        "from functools import wraps\nfrom torch.nn import Module as M, Linear\nimport functools\n"
        "def twice(c):\n    return c\n\n@twice\nclass Base(M):\n    def forward(self, x):\n"
        "        return Linear(3, 4)(x)\n\nclass Net(Base):\n    pass\n"
    )
    found = chat(text)
    assert classes(found) == ["Base", "Net"]
    assert "@twice\nclass Base(M):" in found.source
    assert "from torch.nn import Linear\nfrom torch.nn import Module as M\n" in found.source
    assert "functools" not in found.source


@pytest.mark.parametrize(
    ("header", "before"),
    [
        ("class Net(torch.nn.Module):", ""),
        ("class Net(Module):", "from torch.nn import Module\n"),
        ("class Net(Module):", "from torch.nn import *\n"),
        ("class Net(tnn.Module):", "import torch.nn as tnn\n"),
        ("class Net(nn.Sequential):", ""),
        ("class Net(Mixin, nn.Module):", "class Mixin:\n    x = 1\n"),
        ("class Net(nn.Module, metaclass=type):", ""),
    ],
)
def test_ways_to_derive_from_module(header: str, before: str) -> None:
    """However it is spelt."""
    assert classes(chat(before + NET.replace(PREFIX, header)))[-1] == "Net"


def test_a_network_without_forward_of_its_own() -> None:
    """nn.Sequential has one; nn.Module has not."""
    layers = "\n    def __init__(self):\n        super().__init__(nn.Linear(3, 10))\n"
    assert classes(chat(f"class Net(nn.Sequential):{layers}x = 1\n")) == ["Net"]
    assert chat(f"{PREFIX}{layers}x = 1\n").failure == "class Net has no forward method"
    assert chat(f"```\n{PREFIX}{layers}```").failure == "class Net has no forward method"
    assert chat(f"{PREFIX}{layers}").failure == CUT_OFF


def test_what_the_model_was_shown() -> None:
    """A helper or an import of the parent that the child uses without repeating it; the
    child's own definition comes first, and a parent is never the answer."""
    parent = (
        f"import math\nfrom torch.nn.utils import skip_init\n{IMPORTS}\n"
        f"class Block(nn.Module):{BODY}\n\n{NET}"
    )
    child = NET.replace("nn.Linear(3072, 10)", "skip_init(Block, math.pi)")
    found = chat(child, parent)
    assert classes(found) == ["Block", "Net"]
    assert "from torch.nn.utils import skip_init\n" in found.source
    own = chat(f"{child}\n\nclass Block(nn.Module):{BODY.replace('3072', '7')}", parent)
    assert classes(own) == ["Block", "Net"]
    assert "3072" not in own.source
    assert classes(chat(f"class Net(Net):{BODY}", parent)) == ["Net", "Net"]
    assert chat("Unchanged.", parent).failure == NO_CLASS


@pytest.mark.parametrize(
    "tail",
    [
        "\n    def extra(self, x):\n        return self.fc(",
        "\n    def extra(self,",
        "\n    def extra(self):\n        if x:\n            y = 1\n            z = '",
        '\n    """A text that',
        "\n    @property",
        "\n    @property\n    def",
        "\n    def forward(self, x):\n        x = self.fc(x)\n        x = F.relu(",
        "\n        y = nn.Sequential(\n            nn.Linear(1, 2),\n            nn.Re",
    ],
)
def test_a_torso_that_is_whole_without_its_last_statement(tail: str) -> None:
    """Constructor and forward are complete: what was being written after them is dropped."""
    found = chat(NET + tail)
    assert classes(found) == ["Net"]
    assert "return self.fc(torch.flatten(x, 1))" in found.source


@pytest.mark.parametrize("length", range(len(PREFIX) + 9, len(NET) - 40, 7))
def test_a_torso_without_its_return(length: int) -> None:
    """Cut before forward returns: no network, unless one came before."""
    assert chat(NET[:length]) == Extracted("", CUT_OFF)
    assert (
        extract(BODY[: length - len(PREFIX)], form="completion", prefix=PREFIX).failure == CUT_OFF
    )
    assert chat(f"{NET}\n\n{NET[:length]}") == Extracted(EXPECTED)


def test_a_helper_is_no_network() -> None:
    """A complete helper is no candidate where the network that uses it is cut off."""
    text = (
        f"class Block(nn.Module):{BODY}\n\n{PREFIX}\n    def __init__(self):\n        b = Block(\n"
    )
    assert chat(text) == Extracted("", CUT_OFF)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "the completion is empty"),
        (" \n\t\r\n", "the completion is empty"),
        ("I am sorry, I can't do that.", NO_CLASS),
        ("```python\nnet = nn.Sequential(nn.Linear(3, 4))\n```", NO_CLASS),
        ("class Net:" + BODY, NO_CLASS),
        ("class Net(object):" + BODY, NO_CLASS),
        ("class Net(Unknown):" + BODY, NO_CLASS),
        ("class Net(keras.Model):" + BODY, NO_CLASS),
        ("class Net(nn.Parameter):" + BODY, NO_CLASS),
        (NET.replace("3072, 10", "3072 10") + "x = 1\n", "class Net does not parse: line 4: "),
        (NET + "\n    from a import *\nx = 1\n", "class Net does not parse: line 9: import *"),
        (NET.replace("return ", "y = ") + "x = 1\n", "forward of class Net returns nothing"),
        (NET.replace("forward", "forwards") + "x = 1\n", "class Net has no forward method"),
        (
            NET.replace("3072, 10", "(" * 150 + ")" * 150) + "x = 1\n",
            "more than 100 nested brackets",
        ),
    ],
)
def test_failures_say_what_is_missing(text: str, failure: str) -> None:
    """Short, and with no source."""
    found = chat(text)
    assert found.source == ""
    assert failure in found.failure
    assert len(found.failure) < 200


HOSTILE = {
    "one long line": "a" * 5_000_000,
    "a long line in a class": NET.replace("3072", "1" * 5_000_000),
    "brackets": "(" * 5000 + ")" * 5000,
    "brackets in a class": NET.replace("3072", "[" * 5000 + "]" * 5000),
    "many lines": "x = 1\n" * 1_000_000,
    "many classes": NET * 20_000,
    "many names": "".join(f"class A{i}(A{i + 1}):\n    x = A{i - 1}\n" for i in range(10_000)),
    "a chain of helpers": "".join(f"def f{i}():\n    return f{i + 1}()\n" for i in range(9_000))
    + NET.replace("3072", "f0()"),
    "one name defined often": "x = 1\n" * 20_000 + NET.replace("3072", "x"),
    "minus": NET.replace("3072", "-" * 4000 + "1"),
    "not": NET.replace("3072", "not " * 1000 + "1"),
    "sum": NET.replace("3072", "1" + "+1" * 2000),
    "many sums": (NET.replace("3072", "1" + "+1" * 2000)) * 40,
    "attributes": NET.replace("3072", "a" + ".a" * 2000),
    "calls": NET.replace("3072", "a" + "()" * 2000),
    "elif": f"{PREFIX}\n    def forward(self, x):\n        if x:\n            return 1\n"
    + "        elif x:\n            return 1\n" * 3000,
    "indents": "".join(" " * i + "if 1:\n" for i in range(300)) + " " * 300 + "x",
    "quotes": "'\"" * 100_000,
    "escaped quotes": '\\"' * 100_000,
    "triple quotes": '"""\n' * 50_001,
    "triple quotes of both kinds": "\"\"\"'''" * 30_000,
    "fences": "```\n" * 50_000,
    "decorators": "@a\n" * 50_000 + NET,
    "backslashes": "x = \\\n" * 30_000 + NET,
    "NUL": "\x00" * 1_000_000,
    "surrogates": "\ud800" * 1_000_000,
    "openers": "class Net(nn.Module):\n" * 9_000,
    "cut openers": PREFIX + "\n    def forward(self):\n" * 5_000,
    "headers": "class Net(nn.Module\n" * 9_000,
    "digits": NET.replace("3072", "9" * 4900),
    "unicode": "class Nеt(nn.Mоdule):\n    ｄｅｆ = '\u2028'\n" * 1000,
    "imports": "from . import a\nfrom __future__ import braces\nimport a.b as c\n" + NET,
    "escapes": NET.replace("3072", "'\\d'"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("form", ["completion", "chat"])
def test_hostile_texts_are_answered_in_time(text: str, form: str) -> None:
    """Any text: no exception, no warning, a second or a few on a busy machine (where it grows
    out of hand it is minutes), and a source that parses or a reason."""
    started = time.process_time()
    found = extract(text, form=form, prefix=PREFIX)
    assert time.process_time() - started < 20
    assert bool(found.source) != bool(found.failure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ast.parse(found.source)


FRAGMENTS = [
    "class Net(nn.Module):\n", "class B(Net):\n", "    def __init__(self):\n", BODY, NET,
    "    def forward(self, x):\n", "        return x\n", "        super().__init__()\n",
    "        self.a = B(", ")", "(", "[", '"""', "'''", "```python\n", "```\n", "import torch\n",
    "from a import *\n", "x = 1\n", "net = Net()\n", "\t", "    ", "\n", "\r", "@a\n", "#", "'",
    '"', "\\", "\\\n", ":", "é", "\ud800", "\x00", "\u2028", "if x:\n", "else:\n",
    "Here's the class", "\x0c", "f'{x}'", ";", "lambda: ", "</think>",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=25).map("".join),
    st.sampled_from(["completion", "chat"]),
    st.lists(st.sampled_from([NET, f"class B(nn.Module):{BODY}", "x ="]), max_size=2),
)
def test_any_text_is_answered(text: str, form: str, context: list[str]) -> None:
    """A source that parses and ends in a class, or a reason; and reading a source again
    changes nothing."""
    found = extract(text, form=form, prefix=PREFIX, context=context)
    if found.failure:
        assert found.source == ""
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert isinstance(ast.parse(found.source).body[-1], ast.ClassDef)
    assert extract(found.source, form="chat") == found


def real(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return [
        (path.name, json.loads(line))
        for path in sorted((folder / "completions").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def holds_a_class(text: str) -> bool:
    """Return, by brute force and in another way, whether any run of lines from a class header on
    parses as a network with a constructor and a forward that ends in a return."""
    lines = text.replace("\t", "    ").split("\n")
    for start, line in enumerate(lines):
        if not re.match(r"class \w+\(nn\.Module\)", line):
            continue
        for end in range(start + 2, len(lines) + 1):
            try:
                body = ast.parse("\n".join(lines[start:end])).body[0].body  # type: ignore[attr-defined]
            except SyntaxError:
                continue
            methods = {n.name: n for n in body if isinstance(n, ast.FunctionDef)}
            forward = methods.get("forward")
            if "__init__" in methods and forward and isinstance(forward.body[-1], ast.Return):
                return True
    return False


def test_real_completions(test_data: Path) -> None:
    """Every real completion that holds a complete class yields a source that parses, and the
    two models that write networks at all nearly always do."""
    counts: dict[str, list[int]] = {}
    for name, record in real(test_data):
        prefix = record["prompt_tail"].lstrip("\n")
        found = extract(record["completion"], form=record["form"], prefix=prefix)
        if found.source:
            tree = ast.parse(found.source)
            assert isinstance(tree.body[-1], ast.ClassDef)
            assert all(
                isinstance(
                    n, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef | ast.Assign
                )
                for n in tree.body
            )
        assert bool(found.source) >= holds_a_class(prefix + record["completion"]), found.failure
        counts.setdefault(name, [0, 0])
        counts[name][0] += bool(found.source)
        counts[name][1] += 1
    for name, (sources, total) in counts.items():
        if name.startswith(("qwen", "gemma")):
            assert sources >= total - 1, name
    assert sum(sources for sources, _ in counts.values()) >= 187

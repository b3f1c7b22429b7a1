"""Completions of our own for a replay: good networks, almost-right ones, and such as are none."""

from __future__ import annotations

import json

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\n"


def net(init: str, forward: str, *, constructor: str = "super().__init__()") -> str:
    """The class alone, from lines that a semicolon parts."""
    body = [constructor, *init.split("; ")] if constructor else init.split("; ")
    return (
        "class Net(nn.Module):\n    def __init__(self):\n"
        + "".join(f"        {line}\n" for line in body)
        + "\n    def forward(self, x):\n"
        + "".join(f"        {line}\n" for line in forward.split("; "))
    )


CONV = "self.conv1 = nn.Conv2d(3, 8, 3, padding=1)"
GOOD = net(f"{CONV}; self.fc1 = nn.Linear(8, 10)",
           "x = F.relu(self.conv1(x)); x = x.mean(dim=(2, 3)); return self.fc1(x)")  # fmt: skip
DEEP = net(f"{CONV}; self.conv2 = nn.Conv2d(8, 16, 3, padding=1); self.fc1 = nn.Linear(16, 10)",
           "x = F.relu(self.conv1(x)); x = F.relu(self.conv2(x)); "
           "return self.fc1(F.adaptive_avg_pool2d(x, 1).flatten(1))")  # fmt: skip

CHAT = (
    GOOD,
    GOOD.replace("x = F.relu", "x = F.relu  # the one layer\n        x = F.relu", 1)
        .replace("x = F.relu  # the one layer\n", "# the one layer\n"),
    DEEP,
    # sizes that do not follow from what comes in
    net(f"{CONV}; self.fc1 = nn.Linear(1024, 10)",
        "x = F.relu(self.conv1(x)); x = torch.flatten(x, 1); return self.fc1(x)"),
    net(f"{CONV}; self.conv2 = nn.Conv2d(32, 16, 3); self.fc1 = nn.Linear(16, 10)",
        "x = self.conv2(F.relu(self.conv1(x))); return self.fc1(torch.flatten(x, 1))"),
    # no flatten, no projection to the classes, no call of the constructor
    net(f"{CONV}; self.fc1 = nn.Linear(512, 10)", "return self.fc1(F.relu(self.conv1(x)))"),
    net(f"{CONV}; self.fc1 = nn.Linear(512, 32)",
        "x = F.relu(self.conv1(x)); return F.relu(self.fc1(torch.flatten(x, 1)))"),
    net("self.fc1 = nn.Linear(192, 10)", "return self.fc1(x.flatten(1))", constructor=""),
    # names and arguments
    net("self.conv2 = nn.Conv2d(3, 8, 3); self.fc1 = nn.Linear(8, 10)",
        "x = F.relu(self.conv1(x)); return self.fc1(x.mean(dim=(2, 3)))"),
    net("self.conv1 = Conv2d(3, 8, 3, activation='relu'); self.fc1 = Linear(8, 10)",
        "x = relu(self.conv1(x)); return self.fc1(x.mean(dim=(2, 3)))"),
    # invalid
    "def forward(self, x:\n    return x\n",
    "",
    net("self.fc1 = nn.Linear(192, 10)", "raise ValueError('not today')"),
    net("self.fc1 = nn.Linear(192, 10)", "return [self.fc1(x.flatten(1))][3]"),
    # forbidden
    "import os\n\n\n" + net("self.fc1 = nn.Linear(192, 10)", "return self.fc1(x.flatten(1))"),
    net("self.fc1 = nn.Linear(192, 10)", "return ().__class__.__base__.__subclasses__()"),
    # too large
    net("self.fc1 = nn.Linear(192, 300000); self.fc2 = nn.Linear(300000, 10)",
        "return self.fc2(self.fc1(x.flatten(1)))"),
    GOOD,
)  # fmt: skip
"""Answers of a chat."""

CONTINUED = (
    GOOD.replace("8", "12"),
    GOOD.replace("8", "6") + "\n" + DEEP[: len(DEEP) // 2],
    DEEP.replace("self.conv2(x)", "self.conv2(x) + x")
        .replace("nn.Conv2d(8, 16", "nn.Conv2d(8, 8").replace("nn.Linear(16", "nn.Linear(8"),
    "\n    pass\n",
)  # fmt: skip
"""Texts that continue the paper's prompt, the last of them without a network."""


def completions() -> list[str]:
    """Lines for a replay."""
    chat = [
        {"completion": f"Here it is:\n```python\n{HEAD if text else ''}{text}```\n", "form": "chat"}
        for text in CHAT
    ]
    first = "class Net(nn.Module):"
    continued = [
        {"completion": text.removeprefix(first), "form": "completion", "prompt_tail": first,
         "tokens": len(text) // 4, "finished": not text.endswith("x")}
        for text in CONTINUED
    ]  # fmt: skip
    return [json.dumps(line) for line in [*chat, *continued]]

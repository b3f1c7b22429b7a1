"""Sources and jobs that several tests of this room use."""

from __future__ import annotations

from typing import Any

from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.sandbox.container import Job

INITIAL = image_classification(input_shape=(3, 32, 32), classes=10).initial_source

PARAMETERS: dict[str, Any] = {
    "input_shape": [3, 32, 32],
    "classes": 10,
    "max_params": 10**8,
    "max_flops": 1e10,
    "max_layers": 1000,
    "seed": 0,
}


def network(body: str = "", *, init: str = "", before: str = "") -> str:
    """A network that does ``init`` when it is made and ``body`` at every forward pass.

    ``os``, ``bytes`` and ``python`` (all builtins) are the real ones: below the gate, the
    container has to hold alone.
    """

    def indented(text: str) -> str:
        return "".join(f"        {line}\n" for line in text.splitlines())

    return (
        f"import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
        f"python = torch.os.sys.modules['builtins']\n"
        f"bytes, BaseException = python.bytes, python.BaseException\n{before}\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        os = torch.os\n{indented(init)}"
        "        self.fc = nn.Linear(3 * 32 * 32, 10)\n"
        "    def forward(self, x):\n"
        f"        os = torch.os\n{indented(body)}"
        "        return self.fc(torch.flatten(x, 1))\n"
    )


def measuring(source: str, seconds: float = 20.0) -> Job:
    """The job of measuring ``source``."""
    return Job(
        kind="measure",
        source=source,
        seconds=seconds,
        limit=f"containment.screen_seconds = {seconds:g}",
        parameters=PARAMETERS,
        success="pending",
    )

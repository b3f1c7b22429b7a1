"""The end of the network within a text is found."""

from __future__ import annotations

import pytest

from llmatic_hpc.generation.language_model.stopping import end_of_class

BODY = """
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(
            3, 10
)
    def forward(self, x):
        \"\"\"Documented
at the margin.\"\"\"
        x = self.fc(
            x
)
# a comment before the return
        return x
"""


@pytest.mark.parametrize(
    "follows",
    [
        '\n"""Add a layer to improve the above network"""\n',
        "class Net(nn.Module):\n",
        "\n\nnet = Net()",
        "# Example usage",
        "```\nprose",
        "if __name__ == '__main__':",
        "p",
    ],
)
def test_a_completion_ends_with_its_class(follows: str) -> None:
    """At the first line without indentation after forward, not before."""
    end = end_of_class(BODY + follows, form="completion")
    assert end is not None
    assert (BODY + follows)[:end].strip() == BODY.strip()


@pytest.mark.parametrize("text", ["", BODY, BODY + "\n\n", BODY + "    def helper(self):\n"])
def test_a_completion_goes_on_within_its_class(text: str) -> None:
    """Blank lines and further methods end nothing; nor does any beginning of the class."""
    assert all(end_of_class(text[:n], form="completion") is None for n in range(len(text) + 1))


def test_nothing_ends_before_forward() -> None:
    """A class without forward is not over: the model may still write one."""
    assert (
        end_of_class("\n    def __init__(self):\n        pass\n\nx = 1\n", form="completion")
        is None
    )


def test_a_chat_ends_with_the_fence_after_the_class() -> None:
    """Blocks without a network (a quotation, an install command) do not end the answer."""
    answer = (
        "Run\n```bash\npip install torch\n```\nthen\n```python\nclass Net(nn.Module):\n"
        "    def forward(self, x):\n        return x\n```"
    )
    assert end_of_class(answer + "\nThis network ...", form="chat") == len(answer)
    assert all(end_of_class(answer[:n], form="chat") is None for n in range(len(answer)))

"""The public interface: ``import llmatic_hpc as lm``."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import llmatic_hpc as lm

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.M | re.S
)


def test_all_is_what_type_checkers_see() -> None:
    """Each public name is importable, listed once for people and once for type checkers."""
    tree = ast.parse(inspect.getsource(lm))
    typed = {
        alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert set(lm.__all__) == typed | {"__version__"}
    for name in lm.__all__:
        assert getattr(lm, name) is not None
    assert set(lm.__all__) <= set(dir(lm))
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        lm.serach  # noqa: B018


def test_every_public_name_is_documented() -> None:
    """Classes and functions have a docstring that begins with a capital and ends a sentence."""
    for name in lm.__all__:
        if inspect.isclass(value := getattr(lm, name)) or inspect.isfunction(value):
            text = inspect.getdoc(value) or ""
            assert text[:1].isupper(), name
            assert text.split("\n\n")[0].rstrip().endswith((".", ":", "``")), name


def test_importing_is_light() -> None:
    """Neither torch nor numpy nor h5py comes with the bare import."""
    code = "import llmatic_hpc, sys; print({'torch', 'numpy', 'h5py', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_documentation_has_its_blocks() -> None:
    """A search on a function, a run and its record, a network of one's own."""
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_documentation_runs(number: int, tmp_path: Path) -> None:
    """Each block of docs/python.md runs as it stands there."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "None" not in done.stdout
    assert "nan" not in done.stdout

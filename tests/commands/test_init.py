"""llmatic init, and the configurations in a wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from llmatic_hpc import config
from llmatic_hpc.cluster.site import load_site

from .test_look import llmatic

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["quickstart", "cifar10", "nasbench201"])
def test_a_configuration_to_begin_with(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the shipped one, comments included, and loads; it is not overwritten."""
    monkeypatch.chdir(tmp_path)
    assert llmatic("init", kind).exception is None
    file = tmp_path / f"{kind}.toml"
    assert file.read_text() == (ROOT / "configs" / file.name).read_text()
    assert config.load(file) == config.load(ROOT / "configs" / file.name)
    assert "exists; --force overwrites it" in str(llmatic("init", kind).exception)


def test_a_site_to_begin_with(tmp_path: Path) -> None:
    """The example has every key."""
    target = tmp_path / "mine.toml"
    assert llmatic("init", "site", "--output", target).exception is None
    assert load_site(target) == load_site(ROOT / "configs" / "sites" / "example.toml")


def test_a_wheel_has_them(tmp_path: Path) -> None:
    """As files, where the command looks for them."""
    pytest.importorskip("setuptools")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("llmatic_hpc", "configs", "slurm"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    words = ("-c", "import setuptools; setuptools.setup()", "-q", "bdist_wheel", "-d", tmp_path)
    subprocess.run([sys.executable, *words], cwd=tree, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {str(p.relative_to(ROOT)) for p in (ROOT / "configs").rglob("*.toml")}
    assert {f"llmatic_hpc/{name}" for name in shipped} <= names

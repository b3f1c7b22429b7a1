"""Runs, verdicts and old records come out as they were recorded."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from . import expected, old, runs
from .drive import Tree

EXPECTED = json.loads(expected.PATH.read_text(encoding="utf-8"))
ADVICE = """
What was the same on every machine is no longer the same:
{lines}
See both sides:       python -m tests.golden.compare --base REV --only {name}
If that was meant:    python -m tests.golden.record"""


SLOW = ("smoke-first", "local-search")
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in expected.NAMES]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of the runs."""
    folder = tmp_path_factory.mktemp("work")
    runs.prepare(folder)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """This checkout."""
    return Tree(runs.ROOT, tmp_path_factory.mktemp("tree"))


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_out_as_recorded(name: str, tree: Tree, work: Path) -> None:
    """Columns that no machine changes: proposals, sources, verdicts, scores of the table."""
    if variable := expected.golden(name).missing():
        pytest.skip(f"real test data not here: set {variable}")
    if name == "screen-hostile" and metadata.version("torch") != EXPECTED["torch"]:
        pytest.skip(f"the routes out of torch were recorded with {EXPECTED['torch']}")
    found = json.loads(json.dumps(expected.kept(name, tree, work)))
    lines = expected.differences(EXPECTED[name], found)
    assert not lines, ADVICE.format(lines="\n".join(lines[:20]), name=name)
    assert tree.strangers() == set()


@pytest.mark.parametrize("record", old.RECORDS, ids=lambda record: record.begun.name)
def test_an_old_record_is_still_good(record: old.Old, tree: Tree) -> None:
    """It verifies, and is shown."""
    folder = old.FOLDER / record.begun.name
    tree.llmatic("verify", folder)
    shown = json.loads(tree.llmatic("status", folder, "--json").stdout)
    assert shown["generations"] > 0, shown


@pytest.mark.parametrize(
    "record", [pytest.param(old.RECORDS[0], marks=pytest.mark.slow), *old.RECORDS[1:]],
    ids=[record.begun.name for record in old.RECORDS],
)  # fmt: skip
def test_an_old_record_is_continued(record: old.Old, tree: Tree, work: Path) -> None:
    """To more generations, and the whole verifies."""
    if variable := record.begun.missing():
        pytest.skip(f"set {variable}")
    folder = tree.folder / f"{record.begun.name}-continued"
    shutil.copytree(old.FOLDER / record.begun.name, folder)
    options = (word for text in record.more for word in ("--set", text))
    tree.carry_on(record.begun, work, folder, *options)
    tree.llmatic("verify", folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [golden.name for golden in runs.ALL if golden.name not in expected.NAMES]
)
def test_it_can_be_done(name: str, tree: Tree, work: Path) -> None:
    """Every other golden run ends well, and its record is sound."""
    golden = expected.golden(name)
    if variable := golden.missing():
        pytest.skip(f"set {variable}")
    tree.columns(golden, work)
    if isinstance(golden, runs.Run):
        tree.llmatic("verify", tree.folder / name)

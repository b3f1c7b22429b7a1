"""The shape of the package: which room may import which, and what no file may say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llmatic_hpc"
FILES = sorted(PACKAGE.rglob("*.py"))

# Imports run downward: a module may import what stands on a lower level.
LEVELS = {
    "__main__": 9,
    "commands": 8,
    "run": 7, "report": 7,
    "problems": 6,
    "store": 4, "evaluation": 4, "cluster": 5,
    "search": 3, "generation": 3, "sandbox": 3,
    "source": 2, "config": 2, "rundir": 2,
    "types": 1,
    "errors": 0, "__init__": 0,
}  # fmt: skip


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_rooms(path: Path) -> set[str]:
    """Rooms of this package that a file imports, at its top or inside a function."""
    relative = path.relative_to(PACKAGE)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level == 0:
            if (node.module or "").split(".")[0] == "llmatic_hpc":
                rest = (node.module or "").split(".")[1:]
                found |= {rest[0]} if rest else {alias.name for alias in node.names}
            continue
        base = list(relative.parent.parts)[: len(relative.parent.parts) - (node.level - 1)]
        full = [*base, *(node.module.split(".") if node.module else [])]
        found |= {full[0]} if full else {alias.name for alias in node.names}
    return found - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    """cli, coordinator, the rooms, search and problems, records and config: never upward."""
    here = room(path)
    to_be_cut = {("store", "problems"), ("generation", "problems")}
    for other in imported_rooms(path) - {here}:
        if (here, other) in to_be_cut:
            continue
        assert LEVELS[other] < LEVELS[here], f"{here} imports {other}"


TO_BE_SPLIT = {
    "search/search.py",
    "cluster/dispatch.py",
    "cluster/slurm.py",
    "problems/nasbench201/reader/expressions.py",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_small(path: Path) -> None:
    """A module that grows beyond 450 lines is two."""
    if str(path.relative_to(PACKAGE)) not in TO_BE_SPLIT:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import llmatic_hpc.search", {"torch", "h5py", "submitit", "transformers"}),
        ("import llmatic_hpc.commands.main", {"torch", "transformers", "submitit", "h5py"}),
        ("import llmatic_hpc.run.coordinator", {"torch", "transformers"}),
        ("import llmatic_hpc.evaluation.worker", {"torch", "h5py.h5", "submitit"}),
    ],
)
def test_heavy_packages_are_not_imported(statement: str, absent: set[str]) -> None:
    """The search is pure; the coordinator and the judge never load torch, so that text which
    a model wrote has nothing there to run in, and a command answers at once."""
    assert modules_after(statement) & absent == set()


def test_only_the_store_writes_hdf5() -> None:
    """One place writes HDF5; another only reads images from it."""
    users = {room(p) for p in FILES if "import h5py" in p.read_text(encoding="utf-8")}
    assert users <= {"store", "evaluation", "problems"}


def test_only_the_cluster_knows_submitit() -> None:
    """One place talks to the scheduler."""
    users = {room(p) for p in FILES if "import submitit" in p.read_text(encoding="utf-8")}
    assert users == {"cluster"}


def test_one_parser_reads_what_a_model_wrote() -> None:
    """Text becomes a syntax tree in one place, with one set of limits."""
    calls = r"\bast\.parse\(|\bsymtable\.symtable\(|[^.\w]compile\([^)]*,\s*(?:ast\.)?PyCF_ONLY_AST"
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if re.search(calls, path.read_text(encoding="utf-8"))
    }
    assert users - {"problems/nasbench201/reader/parse.py"} == {"source/parse.py"}


def test_one_place_makes_files_durable() -> None:
    """One writer with one policy of syncing; the doctor tries what it needs of a file system."""
    calls = re.compile(r"\bos\.(?:replace|rename|fsync|fdatasync)\(")
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if calls.search(path.read_text(encoding="utf-8"))
    }
    assert users - {"commands/doctor.py"} == {"rundir/files.py"}

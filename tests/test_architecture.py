"""The shape of the package: which room may import which, and what no file may say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llmatic_hpc"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = Path(__file__).parent
ANALYSIS = TESTS.parent / "analysis"

# Imports run downward: a module may import what stands on a lower level.
FLOORS = (
    ("errors",),
    ("types",),
    ("config", "rundir", "source"),
    ("sandbox", "generation", "search", "cluster"),
    ("evaluation", "store"),
    ("report",),
    ("problems",),
    ("coordinator",),
    ("commands", "__init__"),
    ("__main__",),
)
LEVELS = {name: level for level, floor in enumerate(FLOORS) for name in floor}


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
    """A room imports rooms of lower floors only, at the top of a file or inside a function."""
    here = room(path)
    for other in imported_rooms(path) - {here}:
        assert LEVELS[other] < LEVELS[here], f"{here} imports {other}"


def test_the_house_has_few_rooms_and_floors() -> None:
    """No loose file at the root but types, errors and the entry."""
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    loose = {path.stem for path in PACKAGE.glob("*.py")}
    assert loose == {"__init__", "__main__", "errors", "types"}
    assert rooms | loose == set(LEVELS)
    assert len(rooms | loose - {"__init__"}) <= 16
    assert len(FLOORS) - 1 <= 9  # the entry is one line


def test_no_file_imports_itself_in_a_circle() -> None:
    """Imports at the top of files, taken together, have no cycle."""
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in FILES}
    graph = {name: _imports(name, path, set(names)) for name, path in names.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def _imports(name: str, path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a file imports when it is loaded."""
    package = name.split(".")[:-1]
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*package[: len(package) - (node.level - 1)], *(node.module or "").split(".")]
        base = [part for part in base if part]
        for alias in node.names:
            for module in ([*base, alias.name], base, [*base, "__init__"]):
                if ".".join(module) in known:
                    found.add(".".join(module))
                    break
    return found - {name}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_small(path: Path) -> None:
    """A module that grows beyond 450 lines is two."""
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
        ("import llmatic_hpc.coordinator.loop", {"torch", "transformers", "submitit"}),
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
    assert users == {"source/parse.py"}


def test_one_place_makes_files_durable() -> None:
    """One writer with one policy of syncing; the doctor tries what it needs of a file system."""
    calls = re.compile(r"\bos\.(?:replace|rename|fsync|fdatasync)\(")
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if calls.search(path.read_text(encoding="utf-8"))
    }
    assert users - {"commands/doctor.py"} == {"rundir/files.py"}


@pytest.mark.parametrize("folder", [PACKAGE, TESTS, ANALYSIS], ids=lambda folder: folder.name)
def test_docstrings_begin_with_a_verb_or_a_noun(folder: Path) -> None:
    """A stranger understands them at first reading; attributes have docstrings, too."""
    riddle = re.compile(r"(What|Of|Whether|How|Where|Does|Which|Who|Whoever|Whatever|If|When)\b")
    found = [
        f"{path.relative_to(folder)}:{node.lineno}: {text.splitlines()[0]}"
        for path in sorted(folder.rglob("*.py"))
        if TESTS / "honest" / "models" not in path.parents  # other people's networks
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if riddle.match(text := str(node.value.value))
    ]
    assert not found, "\n".join(found)

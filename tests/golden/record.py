"""Writes what the golden tests expect, after a change that is meant to change records.

::

    python -m tests.golden.record              # expected.json
    python -m tests.golden.record --records    # and the old records, which are to stay old

Needs the real test data.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from . import expected, old, runs
from .drive import Tree


def main(arguments: Sequence[str]) -> int:
    """Run, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", action="store_true", help="replace the old records, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="llmatic-golden-") as name:
        work, tree = Path(name, "work"), Tree(runs.ROOT, Path(name, "new"))
        work.mkdir()
        runs.prepare(work)
        kept: dict[str, Any] = {"torch": metadata.version("torch")}
        for golden in map(expected.golden, expected.NAMES):
            if variable := golden.missing():
                raise SystemExit(f"{golden.name} needs {variable}; set it")
            kept[golden.name] = expected.kept(golden.name, tree, work)
        expected.PATH.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"{expected.PATH} written")
        if options.records:
            _keep_old(tree, work)
    return 0


def _keep_old(tree: Tree, work: Path) -> None:
    """Make the old records anew, with the data under a name that tells nothing of this machine."""
    variable = runs.PLACES["data"]
    (work / "data").symlink_to(Path(os.environ[variable]).resolve())
    os.environ[variable] = str(work / "data")
    for record in old.RECORDS:
        made, folder = tree.run(record.begun, work), old.FOLDER / record.begun.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / "run.h5", folder)
        print(f"{folder} written")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

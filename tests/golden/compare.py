"""Proves that a refactor changed nothing: golden runs by two trees, side by side.

::

    python -m tests.golden.compare --base main            # everything: some minutes
    python -m tests.golden.compare --base main --quick    # without the slow ones
    python -m tests.golden.compare --base main --only smoke cells

The base is checked out beside. Every run is made by both trees and must come out the same, but
for times; what the base recorded, this tree must verify, and continue to the same end what the
base began. Ends with 1 at any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import runs, tables
from .drive import CommandError, Tree


@dataclass(frozen=True)
class Trees:
    """Both checkouts, and the folder with what both read."""

    base: Tree
    new: Tree
    work: Path


def main(arguments: Sequence[str]) -> int:
    """Compare; 0 if nothing differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", required=True, metavar="REV", help="what to compare with")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these runs")
    parser.add_argument("--quick", action="store_true", help="leave the slow ones out")
    parser.add_argument("--expect-new", action="append", default=[], metavar="COLUMN",
                        help="a column or setting that the base does not have yet")  # fmt: skip
    parser.add_argument("--expect-gone", action="append", default=[], metavar="COLUMN",
                        help="a column or setting that the base still has")  # fmt: skip
    options = parser.parse_args(arguments)
    known = {golden.name: golden for golden in runs.ALL}
    if unknown := [name for name in options.only if name not in known]:
        parser.error(f"no golden run {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.only or known
              if options.only or not (options.quick and known[name].slow)]  # fmt: skip
    failed = 0
    with trees(options.base) as both:
        for golden in chosen:
            if variable := golden.missing():
                print(f"skipped  {golden.name:<28} set {variable}", flush=True)
                continue
            started = time.monotonic()
            digest, rows, found = compared(
                golden, both, expect_new=options.expect_new, expect_gone=options.expect_gone
            )
            failed += bool(found)
            print(f"{'DIFFERS' if found else 'equal':<8} {golden.name:<28} {digest:<12} "
                  f"{rows:>4} rows {time.monotonic() - started:6.1f} s", flush=True)  # fmt: skip
            for line in found:
                print(f"         {line}", flush=True)
        for side, tree in (("base", both.base), ("new", both.new)):
            if strangers := tree.strangers():
                failed += 1
                print(f"INVALID  the {side} tree's processes imported {sorted(strangers)}")
    print(f"{failed} differ." if failed else "Nothing differs.")
    return 1 if failed else 0


@contextlib.contextmanager
def trees(revision: str) -> Iterator[Trees]:
    """The base in a temporary worktree, this tree as it lies here."""
    with tempfile.TemporaryDirectory(prefix="llmatic-golden-") as name:
        folder = Path(name)
        _git("worktree", "add", "--detach", str(folder / "tree"), revision)
        try:
            work = folder / "work"
            work.mkdir()
            runs.prepare(work)
            yield Trees(Tree(folder / "tree", folder / "base"), Tree(runs.ROOT, folder / "new"),
                        work)  # fmt: skip
        finally:
            _git("worktree", "remove", "--force", str(folder / "tree"))


def compared(
    golden: runs.Golden, both: Trees, *, expect_new: Sequence[str], expect_gone: Sequence[str]
) -> tuple[str, int, list[str]]:
    """The new tree's digest and rows, and everything that differs."""
    found: list[str] = []
    digest, rows = "", 0

    def unlike(base: tables.Columns, new: tables.Columns, how: str = "") -> None:
        found.extend(f"{how}{d}" for d in tables.differences(base, new, expect_new, expect_gone))

    try:
        with ThreadPoolExecutor(2) as pool:
            base, new = pool.map(
                lambda tree: tree.columns(golden, both.work), (both.base, both.new)
            )
        digest, rows = tables.digest(new), tables.rows(new)
        unlike(base, new)
        if isinstance(golden, runs.Run):
            recorded = both.base.folder / golden.name
            table = ("--table", runs.table()) if golden.is_tabulated else ()
            both.new.llmatic("verify", recorded, *table)
            if golden.half:
                half = both.base.run(golden, both.work, generations=golden.half)
                both.new.carry_on(golden, both.work, half)
                unlike(base, tables.of_record(half / "run.h5"), "begun by the base, continued: ")
    except CommandError as failure:
        found.append(str(failure))
    return digest, rows, found


def _git(*words: str) -> None:
    done = subprocess.run(["git", "-C", str(runs.ROOT), *words], capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"git {words[0]}: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

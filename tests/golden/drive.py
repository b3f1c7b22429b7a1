"""Drives a tree's ``llmatic`` from outside: in processes of their own that see that tree only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import runs, tables

PATIENCE = 1800.0
QUIET = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
"""One thread a process: sums come in the same order, and pools do not fight."""


class CommandError(Exception):
    """A command did not end as it should."""


class Tree:
    """A checkout, and a folder for what it makes."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root.resolve(), folder
        self._witness = folder / "witness"
        (self._witness / "seen").mkdir(parents=True)
        shutil.copy(Path(__file__).parent / "witness" / "sitecustomize.py", self._witness)

    def llmatic(
        self, *words: str | Path, codes: tuple[int, ...] = (0,)
    ) -> subprocess.CompletedProcess[str]:
        """A command of this tree. Raises ``CommandError`` for another exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "llmatic_hpc", *map(str, words)],
            cwd=self.root, env=self._environment(), capture_output=True, text=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip
        if done.returncode not in codes:
            last = done.stderr.strip().splitlines()[-3:]
            raise CommandError(
                f"llmatic {words[0]} ended with {done.returncode}: {' / '.join(last)}"
            )
        return done

    def run(self, golden: runs.Run, work: Path, *, generations: int = 0) -> Path:
        """Start the run, or continue it; only the first ``generations``, if any are given."""
        folder = self.folder / (f"{golden.name}-half" if generations else golden.name)
        self.carry_on(golden, work, folder, *(("--generations", str(generations))
                                              if generations else ()))  # fmt: skip
        return folder

    def carry_on(self, golden: runs.Run, work: Path, folder: Path, *options: str) -> None:
        """Start or continue the run in a folder that may be of another tree."""
        self.llmatic("run", golden.config, "--run-dir", folder, *golden.options(work), *options)

    def screen(self, golden: runs.Screening, work: Path) -> tables.Columns:
        """The verdicts over a folder of sources."""
        files = sorted((work / golden.folder).glob("*.py"))
        done = self.llmatic("screen", *files, "--json", "--config", golden.config,
                            *golden.options(work), codes=(0, 1))  # fmt: skip
        columns = tables.of_verdicts(done.stdout.splitlines(), lenient=golden.lenient)
        if (found := tables.rows(columns)) != len(files):
            raise CommandError(
                f"llmatic screen gave {found} verdicts on {len(files)} files: {done.stderr[-300:]}"
            )
        return columns

    def columns(self, golden: runs.Golden, work: Path) -> tables.Columns:
        """Result of the run."""
        if isinstance(golden, runs.Screening):
            return self.screen(golden, work)
        if isinstance(golden, runs.Writing):
            done = self.llmatic("generate", golden.config, "--json", "--count", str(golden.count),
                                *golden.options(work))  # fmt: skip
            return tables.of_completions(done.stdout.splitlines())
        assert isinstance(golden, runs.Run)
        return tables.of_record(self.run(golden, work) / "run.h5")

    def strangers(self) -> set[str]:
        """Places where this tree's processes found llmatic_hpc, if elsewhere; empty if all is well.

        Raises ``CommandError`` where there was no process at all.
        """
        seen = [line for path in (self._witness / "seen").iterdir()
                for line in path.read_text().splitlines()]  # fmt: skip
        if not seen:
            raise CommandError(f"no process imported llmatic_hpc of {self.root}")
        return set(seen) - {str(self.root / "llmatic_hpc" / "__init__.py")}

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join((str(self._witness), str(self.root)))
        return {**os.environ, **QUIET, "PYTHONPATH": path}

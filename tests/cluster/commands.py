"""Slurm's commands as shell scripts that say what a test put into a file, and note their calls."""

from __future__ import annotations

import os
from pathlib import Path

SCRIPT = """\
#!/bin/sh
echo "${{0##*/}} $*" >>{folder}/calls
if [ -e {folder}/{name}.error ]; then cat {folder}/{name}.error >&2; exit 1; fi
if [ -e {folder}/{name}.out ]; then cat {folder}/{name}.out; fi
"""
COMMANDS = ("squeue", "sacct", "scancel", "sbatch", "srun", "scontrol", "sacctmgr")


class Commands:
    """Fake commands of Slurm with the answers that a test sets; by default an empty success."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "bin"
        self.path.mkdir(parents=True)
        for name in COMMANDS:
            script = self.path / name
            script.write_text(SCRIPT.format(folder=folder, name=name))
            script.chmod(0o755)
        (folder / "calls").touch()

    @property
    def search_path(self) -> str:
        return f"{self.path}{os.pathsep}{os.environ['PATH']}"

    def says(self, name: str, text: str) -> None:
        """``name`` prints ``text`` and succeeds."""
        (self.folder / f"{name}.error").unlink(missing_ok=True)
        (self.folder / f"{name}.out").write_text(text)

    def fails(self, name: str, text: str = "no answer") -> None:
        """``name`` fails with ``text``."""
        (self.folder / f"{name}.error").write_text(text)

    def queue(self, *lines: str) -> None:
        """squeue lists ``JOB|STATE|NODE|NAME|REASON`` lines."""
        self.says("squeue", "".join(f"{line}\n" for line in lines))

    def accounts(self, *lines: str) -> None:
        """sacct lists ``JOB|NAME|STATE|NODE|SECONDS`` lines."""
        self.says("sacct", "".join(f"{line}\n" for line in lines))

    def calls(self, name: str) -> list[str]:
        """Arguments of the calls of a command since the last look."""
        lines = (self.folder / "calls").read_text().splitlines()
        (self.folder / "calls").write_text(
            "".join(f"{line}\n" for line in lines if not line.startswith(f"{name} "))
        )
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]

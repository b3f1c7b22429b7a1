"""The generation in flight: what is on disk of it before it is in the record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..rundir.files import append_line, write_atomically
from ..rundir.paths import RunPaths
from ..types import Completion

PROMPTS = "prompts"
"""Name of the round in which prompts are rewritten, before a generation's own."""


class InFlight:
    """RUN/generation: which generation it is, its completions, how long they took.

    Submissions and results lie beside them and are the cluster's and the workers' own.
    """

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths

    def is_of(self, run_id: str, generation: int) -> bool:
        """Return whether the folder belongs to this generation; an empty one belongs to none."""
        return bool(_read(self._paths.plan) == {"run_id": run_id, "generation": generation})

    def begin(self, run_id: str, generation: int) -> None:
        """Make the folder, or go on with it."""
        self._paths.generation.mkdir(parents=True, exist_ok=True)
        plan = json.dumps({"run_id": run_id, "generation": generation})
        write_atomically(self._paths.plan, plan)

    def end(self, out: Collection[int]) -> None:
        """The generation is in the record: remove it, but for the candidates still ``out``.

        Their submissions, results and checkpoints stay where they are for the next generation,
        and so does the plan, as the sign of whose they are.
        """
        paths = self._paths
        if not out:
            for folder in (paths.checkpoints, paths.generation):
                shutil.rmtree(folder, ignore_errors=True)
            return
        kept = {f"{candidate:05d}" for candidate in out}
        from ..cluster.journal import read_state  # submitit, which look-ups do without

        kept_submissions = read_state(paths.journal).tokens_of(out)
        for path in (
            *paths.generation.glob(f"{paths.completions.stem}*{paths.completions.suffix}"),
            paths.times,
            paths.forgotten,
            *_others(paths.results, kept),
            *_others(paths.checkpoints, kept),
            *_others(paths.submissions, kept_submissions),
        ):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def forget(self, *, again: bool, rung: int = 0) -> bool:
        """Forget what became of submissions at a rung, so that all of them are due again.

        Unless ``again``, only once in a generation: False, and nothing is forgotten, where it was
        done before.
        """
        paths = replace(self._paths, rung=rung)
        times = len(list(paths.forgotten.glob("*")))
        if times and not again:
            return False
        # Whole at every instant: no kill leaves results of submissions that nobody knows of.
        aside = paths.forgotten / str(times)
        aside.mkdir(parents=True)
        for path in (paths.results, paths.journal, paths.tasks, paths.submissions):
            if path.exists():
                path.rename(aside / path.name)
        return True

    def completions(self, number: int | str = 0) -> dict[int, Completion]:
        """Read what was written so far, by candidate; a line that a kill tore is not there.

        ``number``: the round of sampling; 0 is the first, and :data:`PROMPTS` one by itself.
        """
        path = self._of_round(number)
        found: dict[int, Completion] = {}
        for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
            try:
                completion = Completion(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[completion.candidate] = completion
        return found

    def keep_completion(self, completion: Completion, number: int | str = 0) -> None:
        """Make a completion durable: sampling is the dearest thing that a coordinator does."""
        append_line(self._of_round(number), json.dumps(asdict(completion)))

    def _of_round(self, number: int | str) -> Path:
        path = self._paths.completions
        return path.with_stem(f"{path.stem}-{number}") if number else path

    def keep_times(self, **seconds: float) -> None:
        """Keep the seconds that the first half of the generation took."""
        write_atomically(self._paths.times, json.dumps(seconds))

    def times(self) -> dict[str, float]:
        """Read what :meth:`keep_times` kept, by the columns of the history."""
        found: dict[str, float] = _read(self._paths.times) or {}
        return found


def _read(path: Path) -> Any:
    """Return what a file of JSON says; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _others(folder: Path, kept: Collection[str]) -> list[Path]:
    """List what a folder holds of others than ``kept``, by the names before the first dot."""
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if path.name.split(".")[0] not in kept]

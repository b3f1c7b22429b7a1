"""Results of a study: comparison, table by variant, page and figures, from the records alone."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from ... import store
from ...errors import LLMaticError
from ...report.compare import Row, compare, render, spread
from ...report.formats import as_csv
from ...report.methods import Run, look
from ...report.page import page
from ...rundir.files import write_atomically
from ...rundir.paths import StudyPaths
from .standing import FINISHED, Standing

WIDTH = 160
"""Characters of a line of the comparison."""
FIGURES = ("figure1", "figure2", "figure3")
SCRIPTS = Path(__file__).parents[3] / "analysis"
"""Folder of a checkout with the scripts of the figures."""
FIGURE_SECONDS = 600.0


def write(found: Sequence[Standing], paths: StudyPaths, tell: Callable[[str], None]) -> str:
    """Write all results and return the comparison as text; empty where no run has any.

    Runs count that have a finished generation. Raises ``LLMaticError`` for what cannot be written.
    """
    with_results = [one for one in found if one.values.get("generation")]
    if not with_results:
        return ""
    runs = [look(o.paths.root, store.load(o.paths.record), 0) for o in with_results]
    text = comparison(runs)
    page_file = paths.report / "index.html"
    for file, content in (
        (paths.comparison, text),
        (paths.summary, as_csv(summary(with_results))),
        (page_file, page(runs)),
    ):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, content)
        except OSError as error:
            raise LLMaticError(f"{file}: cannot be written: {error.strerror}") from error
    tell(f"written: {paths.comparison}, {paths.summary}, {page_file}")
    draw([one.paths.root for one in with_results], paths, tell)
    return text


def comparison(runs: Sequence[Run]) -> str:
    """Return the tables of :mod:`.report.compare` as text."""
    console = Console(file=io.StringIO(), width=WIDTH)
    with console.capture() as capture:
        console.print(render(compare(runs)))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def summary(found: Sequence[Standing]) -> list[Row]:
    """Return a row for each variant, problem and writer: mean and deviation over seeds."""
    rows = []
    for name in dict.fromkeys(one.run.name for one in found):
        own = [one for one in found if one.run.name == name]
        told: list[Row] = [one.row for one in own]
        rows.append(
            {
                "variant": own[0].run.variant,
                "problem": own[0].run.problem,
                "writer": own[0].run.writer,
                "seeds": len(own),
                "finished": sum(one.state == FINISHED for one in own),
                **{
                    key: spread(math.nan if row[key] is None else row[key] for row in told)
                    for key in ("fitness", "test_accuracy", "elites", "qd_score")
                },
            }
        )
    return rows


def draw(runs: Sequence[Path], paths: StudyPaths, tell: Callable[[str], None]) -> None:
    """Draw the paper's figures of the runs where there are scripts for it; what fails is told."""
    scripts = [SCRIPTS / f"{name}.py" for name in FIGURES]
    if not all(script.exists() for script in scripts):
        tell("no figures: the scripts that draw them are in the folder analysis/ of the sources")
        return
    paths.figures.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    for script in scripts:
        line = [sys.executable, str(script), *map(str, runs)]
        try:
            done = subprocess.run(
                [*line, "--output", str(paths.figures / script.stem)],
                capture_output=True, text=True, check=False, env=environment,
                timeout=FIGURE_SECONDS,
            )  # fmt: skip
            said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except (OSError, subprocess.TimeoutExpired) as error:
            said = [str(error)]
        if said:
            tell(f"{script.stem}: not drawn: {said[0]}")
    if drawn := sorted(paths.figures.glob("*.png")):
        tell(f"drawn: {', '.join(map(str, drawn))}")

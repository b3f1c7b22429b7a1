"""Draw the pictures of the README from the page of a run, with headless Chromium.

    python -m tests.report.pictures RUN [--output docs/pictures]

``map.png``: both maps after the last generation. ``lineage.png``: the ancestors of the network with
the longest lineage among the fittest ten, and the difference to its parent.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from llmatic_hpc import store
from llmatic_hpc.report.methods import look
from llmatic_hpc.report.page import page
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record

from .browser import browser

WIDTH, MARGIN = 900, 10
FITTEST = 10
SHORTEN = """
(() => {
  const steps = [...document.querySelectorAll(".steps details")];
  steps.slice(5, -1).forEach((one) => one.remove());
  const [button, ...texts] = steps[0].querySelector("div").children;
  for (const one of [button, ...texts.slice(2)]) one.remove();
})()
"""
"""Script that leaves the last five steps and the initial network; of the first the difference."""


def ancestors(record: Record, row: int) -> set[int]:
    """Candidates that a network comes from, itself included."""
    parents = [one for one in record.candidates["parents"][row].tolist() if one >= 0]
    return {row}.union(*(ancestors(record, parent) for parent in parents))


def longest(record: Record) -> int:
    """Elite of the fittest few with the most ancestors."""
    archive = record.archives["network"]
    elites = sorted(
        zip(archive.fitness.tolist(), archive.elite.tolist(), strict=True),
        key=lambda one: -one[0] if one[1] >= 0 else 1,
    )[:FITTEST]
    return max((row for _, row in elites if row >= 0), key=lambda row: len(ancestors(record, row)))


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--output", type=click.Path(path_type=Path), default=Path("docs/pictures"))
def main(run: Path, output: Path) -> None:
    """Write both pictures."""
    record = store.load(RunPaths(run).record)
    chosen = longest(record)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser() as opened:
        file = Path(scratch) / "index.html"
        file.write_text(page([look(run, record, 0)]), encoding="utf-8")
        opened.look(WIDTH, 4000)
        opened.open(f"{file.as_uri()}#candidate-{chosen}")
        opened.settle()
        opened.run("document.querySelector('nav').remove()")  # it would lie on the pictures
        opened.picture(output / "map.png", "#map > .pair", margin=MARGIN)
        opened.run("document.querySelector('.steps details').open = true")
        opened.run(SHORTEN)
        opened.settle()
        opened.picture(output / "lineage.png", "#lineage", margin=MARGIN)
    for name in ("map.png", "lineage.png"):
        click.echo(f"{output / name}: {(output / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

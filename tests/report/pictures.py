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

WIDTH = 900
FITTEST = 10


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
        opened.picture(output / "map.png", "#map > .pair")
        opened.run("document.querySelector('.steps details').open = true")
        opened.run("document.querySelectorAll('.steps details:not([open])').forEach("
                   "(one, at) => { if (at > 3 && one.dataset.step !== '-1') one.remove(); })")  # fmt: skip
        # Of the step that is open the difference alone.
        opened.run("(() => { const all = [...document.querySelector('.steps details div').children];"
                   " all.slice(3).forEach((one) => one.remove()); all[0].remove(); })()")  # fmt: skip
        opened.settle()
        opened.picture(output / "lineage.png", "#lineage")
    for name in ("map.png", "lineage.png"):
        click.echo(f"{output / name}: {(output / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

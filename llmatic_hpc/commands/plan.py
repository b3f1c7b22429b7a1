"""The command that says beforehand what a run costs. Thin, see :mod:`.main`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..rundir.files import write_atomically
from ..rundir.paths import RunPaths
from .options import PATH, json_option, load_config, print_json, set_option, show


@click.command()
@click.argument("config", type=PATH)
@click.option("--run-dir", type=PATH, help="Keep the plan there; status and report compare.")
@click.option("--completions", type=click.IntRange(0), default=4, show_default=True,
              help="Of the language model, to time it; 0: do not try it.")  # fmt: skip
@set_option
@json_option
def plan(
    config: Path,
    run_dir: Path | None,
    completions: int,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Estimate what a run costs, before anything runs.

    Hours of devices, wall time, disk, files, tokens; what takes most, and what would halve it.
    """
    from rich.table import Table
    from rich.text import Text

    from ..coordinator.planning import estimate

    found = estimate(
        load_config(config, overrides),
        completions=completions,
        notify=lambda text: click.echo(text, err=True),
    )
    if run_dir is not None:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(RunPaths(run_dir).estimate, found.to_json())
    if as_json:
        print_json(found.values())
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, text in found.lines():
        table.add_row(name, Text(text))
    show(table, width=None if sys.stdout.isatty() else 160)


COMMANDS = (plan,)

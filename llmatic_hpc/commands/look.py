"""The commands that look at runs: status, elites, runs, verify, compare, report.

Thin, see :mod:`.main`.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..errors import LLMaticError
from ..rundir.paths import RunPaths
from .options import (
    PATH,
    json_option,
    print_json,
    run_argument,
    run_directory,
    show,
)


@click.command()
@run_argument
@json_option
@click.option("--watch", is_flag=True, help="Repeat every two seconds until the run ends.")
@click.option("--rates", is_flag=True, help="Also show what became of completions, by prompt.")
@click.option("--map", "with_map", is_flag=True, help="Also draw the map of the networks.")
@click.option("--signals", is_flag=True, help="Also show what the fitness follows, untrained.")
@click.option("--targets", is_flag=True, help="Also show how often wanted niches were hit.")
def status(
    run_dir: Path,
    as_json: bool,
    watch: bool,
    rates: bool,
    with_map: bool,
    signals: bool,
    targets: bool,
) -> None:
    """Show where a run stands.

    Candidates, best, archives, queue, hours, time left.
    """
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    from .. import store
    from ..report import rates as of_completions
    from ..report import signals as of_signals
    from ..report import targets as of_targets
    from ..report.map import network_map
    from ..report.status import render
    from ..report.status import status as status_of

    paths = RunPaths(run_dir)
    if not paths.record.exists() and next(run_dir.glob("*/run.h5"), None):
        list_runs(run_dir, as_json)
        return

    if watch and not paths.record.exists():
        click.echo(f"waiting for {paths.record}; Ctrl-C ends it", err=True)
        while not paths.record.exists():
            time.sleep(0.5)

    def standings() -> Iterator[tuple[store.Record, dict[str, Any]]]:
        while True:
            record = store.load(paths.record)
            values = status_of(record, paths)
            if signals:
                values["signals"] = of_signals.signals(record)
            if targets:
                values["targets"] = of_targets.targets(record)
            yield record, values
            if not watch or values["state"] != "running":
                return
            time.sleep(2)

    def shown(record: store.Record, values: dict[str, Any]) -> RenderableType:
        more: list[RenderableType] = []
        if rates:
            more.append(of_completions.render(values["rates"]))
        if signals:
            more.append(of_signals.render(values["signals"]))
        if targets:
            more.append(of_targets.render(values["targets"]))
        if with_map:
            more.append(Text(f"\n{network_map(record)}", no_wrap=True))
        return Group(render(values), *more)

    if as_json:
        for _, values in standings():
            print_json(values)
        return
    if not watch:
        show(shown(*next(standings())))
        return
    with Live(auto_refresh=False) as live:
        for found in standings():
            live.update(shown(*found), refresh=True)


@click.command()
@run_argument
@json_option
def elites(run_dir: Path, as_json: bool) -> None:
    """List the elites of the network archive, the fittest first."""
    from .. import store
    from ..report import listing

    rows = listing.elites(store.load(RunPaths(run_dir).record))
    if as_json:
        for row in rows:
            print_json(row)
    else:
        show(listing.render_elites(rows) if rows else "no elites yet")


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@json_option
def runs(folder: Path, as_json: bool) -> None:
    """List every run below a folder with its state and its best."""
    list_runs(folder, as_json)


def list_runs(folder: Path, as_json: bool) -> None:
    """Print the runs below a folder. Raises ``LLMaticError`` where there are none."""
    from ..report import listing

    rows = list(listing.runs(folder))
    if not rows:
        raise LLMaticError(f"{folder}: no run below it (a folder with a run.h5)")
    if as_json:
        for row in rows:
            print_json(row)
    else:
        show(listing.render_runs(rows))


@click.command()
@run_argument
@json_option
@click.option("--table", type=PATH,
              help="Also check each score against this table (NAS-Bench-201).")  # fmt: skip
def verify(run_dir: Path, as_json: bool, table: Path | None) -> None:
    """Check a record and replay its history. Exit 1 with the first difference."""
    from itertools import chain

    from .. import config, problems, store

    path = RunPaths(run_dir).record if run_dir.is_dir() else run_dir
    record = store.load(path)
    differences = store.verify(record)
    if table:
        kind = problems.kind_of(config.from_tables(record.config, str(path)))
        differences = chain(differences, kind.differences(record, table))
    first = next(differences, None)
    if as_json:
        print_json(
            {
                "record": str(path),
                "ok": first is None,
                "generations": record.committed_generations,
                "candidates": record.rows,
                "difference": None if first is None else asdict(first),
            }
        )
    if first is not None:
        raise LLMaticError(
            f"{path}: {first}. The record does not equal a replay of its own history"
            f"{' or the table' if table else ''}: it was damaged or edited, or this version of "
            "llmatic searches differently"
        )
    if not as_json:
        click.echo(
            f"{path}: sound. {record.committed_generations} generations, {record.rows} "
            "candidates; proposals and archives equal a replay"
            f"{', scores the table' if table else ''}."
        )


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=PATH)
@click.option("--queries", type=click.IntRange(1),
              help="Compare as if each run had ended after so many.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["text", "csv", "latex"]), default="text",
              help="Tables for a terminal or a paper, or a line for each method.")  # fmt: skip
@json_option
def compare(runs: tuple[Path, ...], queries: int | None, form: str, as_json: bool) -> None:
    """Compare methods over their seeds.

    Mean and standard deviation over the seeds of each, and the differences to the method of the
    first run; patterns such as 'runs/a-*' are expanded.
    """
    from .. import store
    from ..report.compare import compare as compared
    from ..report.compare import laid_out, render
    from ..report.formats import as_csv, as_latex
    from ..report.methods import look

    paths = [found for path in runs for found in _expanded(path)]
    rows = compared([look(path, store.load(RunPaths(path).record), queries or 0) for path in paths])
    if as_json:
        for row in rows:
            print_json(row)
    elif form == "text":
        show(render(rows))
    else:
        click.echo(as_csv(rows) if form == "csv" else as_latex(*laid_out(rows)), nl=False)


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=PATH)
@click.option("--output", type=PATH, metavar="DIR", help="Default: report/ of the first run.")
def report(runs: tuple[Path, ...], output: Path | None) -> None:
    """Write one page of a run: map, lineages, progress, failures.

    It opens in a browser without network or server. Further runs stand beside the first one in its
    curves; patterns such as 'runs/a-*' are expanded.
    """
    from .. import store
    from ..report.methods import look
    from ..report.page import page
    from ..rundir.files import write_atomically

    paths = [run_directory(found) for path in runs for found in _expanded(path)]
    text = page([look(path, store.load(RunPaths(path).record), 0) for path in paths])
    file = (output or RunPaths(paths[0]).report) / "index.html"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
    except OSError as error:
        raise LLMaticError(
            f"{file}: cannot be written: {error.strerror}; --output names another folder"
        ) from error
    click.echo(f"{file} written, {len(text) / 1e6:.1f} MB. Open it in a browser.", err=True)


def _expanded(path: Path) -> list[Path]:
    """Return the runs that a pattern stands for, as a shell would; else the path itself."""
    if path.exists():
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path)))]
    return [one for one in found if RunPaths(one).record.exists()] or [path]


COMMANDS = (status, elites, runs, verify, compare, report)

"""The command that says beforehand what a run or a study costs. Thin, see :mod:`.main`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import LLMaticError
from ..rundir.files import write_atomically
from ..rundir.paths import RunPaths, StudyPaths
from .options import PATH, json_option, load_config, print_json, set_option, show, usage_of_set

if TYPE_CHECKING:
    from ..config import Config
    from ..coordinator.study.plan import Planned
    from ..report.plan import Estimate


@click.command()
@click.argument("config", metavar="CONFIG|STUDY", type=PATH)
@click.option(
    "--run-dir", type=PATH, help="Keep the plan there, for status and report; of a study: OUTPUT."
)
@click.option("--completions", type=click.IntRange(0), default=8, show_default=True,
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
    """Estimate what a run or a study costs, before anything runs.

    Hours of devices, wall time, disk, files, tokens; what takes most, and what would halve it.
    """
    from ..coordinator import planning
    from ..coordinator.study import plan as studies

    def estimate(settings: Config) -> Estimate:
        try:
            return planning.estimate(
                settings, completions=completions, notify=lambda text: click.echo(text, err=True)
            )
        except OSError as error:
            raise LLMaticError(
                f"the plan cannot be tried out: {error}; it needs a temporary folder with room "
                "(TMPDIR)"
            ) from error

    if studies.is_study(config):
        _plan_study(config, run_dir, overrides, estimate, as_json=as_json)
        return
    found = estimate(load_config(config, overrides))
    _print({}, found, as_json=as_json)
    if run_dir is not None:
        _keep(RunPaths(run_dir), found)


def _plan_study(
    file: Path,
    output: Path | None,
    overrides: tuple[str, ...],
    estimate: Callable[[Config], Estimate],
    *,
    as_json: bool,
) -> None:
    """Plan one run of each variant, and add up."""
    from ..coordinator.study import cost
    from ..coordinator.study import plan as studies

    with usage_of_set():
        study = studies.read(file)
        runs = studies.plan(study, file, overrides, studies.model_of(study, os.environ))
    found: list[tuple[list[Planned], Estimate]] = []
    for number, (own, one) in enumerate(cost.estimates(runs, study.at_once, estimate), 1):
        click.echo(f"{own[0].name} is planned, number {number}", err=True)
        found.append((own, one))
    parts = {own[0].name: one for own, one in found}
    _print(parts, cost.total(found, study.at_once), as_json=as_json)
    if output is not None:
        for own, one in found:
            for run in own:
                _keep(StudyPaths(output).run(run.name, run.seed), one)


def _keep(paths: RunPaths, found: Estimate) -> None:
    """Put a plan beside its run, which has been printed before: that may fail."""
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        write_atomically(paths.estimate, found.to_json())
    except OSError as error:
        raise LLMaticError(f"{paths.estimate}: cannot be written: {error.strerror}") from None


def _print(parts: dict[str, Estimate], found: Estimate, *, as_json: bool) -> None:
    """Print a plan; ``parts``: what one run of each variant costs."""
    from rich.table import Table
    from rich.text import Text

    from ..report.plan import told

    if as_json:
        variants = {name: one.values() for name, one in parts.items()}
        print_json({**found.values(), **({"variants": variants} if parts else {})})
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, text in found.lines():
        table.add_row(name, Text(text))
    for name, one in parts.items():
        table.add_row(
            name, Text(f"a seed: {told(one.hours)} of {one.unit}, wall time {told(one.wall)}")
        )
    show(table, width=None if sys.stdout.isatty() else 160)


COMMANDS = (plan,)

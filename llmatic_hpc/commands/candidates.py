"""The commands on single candidates: screen, evaluate, generate. Thin, see :mod:`.main`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..config import Config
from ..errors import LLMaticError
from ..rundir.paths import RunPaths
from ..types import PENDING, Screened
from .options import PATH, json_option, load_config, print_json, run_of, set_option


def read_source(path: Path) -> str:
    """Read a source file; bytes that are not UTF-8 become replacement characters."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise LLMaticError(f"{path}: cannot be read: {error.strerror}") from error


def verdict_of(screened: Screened) -> str:
    """Return ``fits``, or the status of what does not fit."""
    return "fits" if screened.status == PENDING else screened.status


def with_reason(status: str, failure: str) -> str:
    """Return ``invalid (reason)``, or the status alone."""
    return f"{status} ({failure})" if failure else status


def sizes(screened: Screened) -> dict[str, Any]:
    """Return width, depth, ratio, FLOPs and parameters as far as they were measured."""
    return asdict(screened.descriptors) if screened.descriptors else {}


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--config", type=PATH, help="Problem and limits.")
@click.option("--audit", is_flag=True, help="Count FLOPs with fvcore, too, and compare.")
@set_option
@json_option
def screen(
    files: tuple[Path, ...],
    config: Path | None,
    audit: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Screen source files without training.

    Verdict, reason, width, depth, FLOPs, parameters.
    """
    from ..coordinator.single import audit_screened, screen_sources

    settings = load_config(config, overrides)
    sources = [read_source(path) for path in files]
    verdicts = screen_sources(settings, sources)
    audits = audit_screened(settings, sources, verdicts) if audit else [None] * len(sources)
    for path, verdict, counts in zip(files, verdicts, audits, strict=True):
        if as_json:
            values = {
                "file": str(path),
                "verdict": verdict_of(verdict),
                "failure": verdict.failure,
                "canonical_sha256": verdict.canonical_sha256,
                "architecture": verdict.architecture,
                **sizes(verdict),
            }
            print_json(values | ({"audit": counts.summary()} if counts else {}))
            continue
        text = f"{path}: {with_reason(verdict_of(verdict), verdict.failure)}"
        if size := verdict.descriptors:
            name = f" {verdict.architecture}" if verdict.architecture else ""
            text += (
                f":{name} width {size.width}, depth {size.depth}, {size.flops:.4g} FLOPs, "
                f"{size.params} parameters"
            )
            if size.activation_bytes >= 0:
                text += f", {size.activation_bytes} bytes of activations"
        click.echo(text)
        for line in counts.lines() if counts else ():
            click.echo(f"    {line}")
    if any(verdict.status != PENDING for verdict in verdicts):
        sys.exit(1)


@click.command()
@click.argument("file", metavar="FILE|RUN", type=PATH, callback=run_of)
@click.option("--candidate", type=click.IntRange(0), help="Of a run: this candidate, once more.")
@click.option("--config", type=PATH, help="Problem, training and limits of a file.")
@click.option("--training-seed", type=click.IntRange(0, 2**63 - 1),
              help="Default: the run's, or as recorded.")  # fmt: skip
@set_option
@json_option
def evaluate(
    file: Path,
    candidate: int | None,
    config: Path | None,
    training_seed: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train and score a file or candidate.

    As a compute node would. Of a run's candidate it says whether the recorded number came
    again, and exits with 1 if it did not.
    """
    from .. import store
    from ..coordinator import single

    known = None
    if candidate is None:
        if file.is_dir():
            raise click.UsageError(f"{file} is a folder: say --candidate N of its run")
        settings, source = load_config(config, overrides), read_source(file)
        seed = settings.run.seed if training_seed is None else training_seed
        origin = f"settings of {config}" if config else "default settings (no --config)"
    else:
        if config is not None:
            raise click.UsageError("--candidate goes by the settings of its run: no --config")
        known = single.recorded(store.load(RunPaths(file).record), candidate, overrides)
        settings, source = known.config, known.source
        seed = known.seed if training_seed is None else training_seed
        origin = f"settings of the run, candidate {known.candidate}"
    with _working(settings, f"{file}: {origin}", seed):
        screened, outcome = single.evaluate_source(settings, source, seed)
    repeated = known if training_seed is None else None
    differences = repeated.differences(outcome) if repeated else []
    if as_json:
        more = {"equal": not differences, "differences": differences} if repeated else {}
        print_json(
            {"file": str(file), "training_seed": seed, **sizes(screened), **asdict(outcome)} | more
        )
    else:
        click.echo(f"{file}: {with_reason(outcome.status, outcome.failure)}")
        if outcome.status == "scored":
            loss = outcome.train_loss
            how = "looked up" if math.isnan(loss) and outcome.epochs else f"loss {loss:.4f}"
            click.echo(
                f"fitness {outcome.fitness:.4f}, validation {outcome.valid_accuracy:.4f}, test "
                f"{outcome.test_accuracy:.4f}, {how}, {outcome.epochs} epochs in "
                f"{outcome.train_seconds:.1f} s"
            )
        if repeated and not differences:
            click.echo("as recorded, to the last digit")
        for line in differences:
            click.echo(line)
        if repeated and differences:
            around = repeated.surroundings(outcome) or [
                "machine and packages are those of the record"
            ]
            click.echo("The recorded result did not come again: " + "; ".join(around))
    if differences or (not repeated and outcome.status != "scored"):
        sys.exit(1)


@contextmanager
def _working(settings: Config, origin: str, seed: int) -> Iterator[None]:
    """Say on standard error what is evaluated and by what, and for how long it has been going."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ..problems import kind_of

    training = settings.training
    click.echo(f"{origin}\n  data: {kind_of(settings).data(settings)}", err=True)
    trains = kind_of(settings).contained
    if trains:
        click.echo(
            f"  training: {training.in_full} epochs, {training.recipe()}, seed {seed}; fitness on "
            f"the {training.fitness_split} split; at most "
            f"{settings.containment.wall_seconds:g} s",
            err=True,
        )
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task("training" if trains else "looking it up", total=None)
        yield


@click.command()
@click.argument("config", type=PATH)
@click.option("--parent", "parents", multiple=True, type=PATH,
              help="Source file; two for crossover. Default: the initial network.")  # fmt: skip
@click.option("--prompt", default=0, show_default=True, help="Index of the mutation prompt.")
@click.option("--temperature", type=click.FloatRange(0.0), help="Default: the config's.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--writer", metavar="NAME", help="One of generator.writers. Default: the first.")
@set_option
@json_option
def generate(
    config: Path,
    parents: tuple[Path, ...],
    temperature: float | None,
    writer: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    **wanted: int,
) -> None:
    """Write networks with the generator: completion, source, verdict."""
    from ..coordinator.single import generate_candidates

    settings = load_config(config, overrides)
    found = generate_candidates(
        settings,
        parents=[read_source(path) for path in parents],
        temperature=settings.generator.temperature if temperature is None else temperature,
        notify=lambda text: click.echo(text, err=True),
        writer=writer,
        **wanted,
    )
    for completion, examined in found:
        verdict = examined.screened
        if as_json:
            print_json(
                {
                    "completion": completion.text,
                    "form": completion.form,
                    "tokens": completion.tokens,
                    "finished": completion.finished,
                    "source": examined.source,
                    "repairs": [asdict(repair) for repair in examined.repairs],
                    "unrepaired": examined.written.failure,
                    "verdict": verdict_of(verdict),
                    "failure": verdict.failure,
                    **sizes(verdict),
                }
            )
            continue
        click.secho(f"--- completion {completion.candidate}", bold=True)
        click.echo(completion.text)
        if examined.repairs:
            click.secho(f"--- repaired, since: {examined.written.failure}", bold=True)
        for repair in examined.repairs:
            click.echo(f"{repair.rule}:")
            for sign, lines in (("-", repair.before), ("+", repair.after)):
                for line in lines.split("\n") if lines else ():
                    click.echo(f"  {sign} {line}")
        text = with_reason(verdict_of(verdict), verdict.failure)
        click.secho(f"--- source: {text}", bold=True)
        click.echo(examined.source)


COMMANDS = (screen, evaluate, generate)

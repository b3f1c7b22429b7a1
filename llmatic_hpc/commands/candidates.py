"""The commands on single candidates: screen, evaluate, generate. Thin, see :mod:`.main`."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from pathlib import Path

import click

from ..errors import LLMaticError
from ..types import PENDING
from .options import json_option, load_config, print_json, set_option


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Problem and limits.")
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
    """Screen source files: verdict, reason, width, depth, FLOPs, parameters."""
    from ..coordinator.single import audit_screened, screen_sources

    settings = load_config(config, overrides)
    sources = [read_source(path) for path in files]
    verdicts = screen_sources(settings, sources)
    audits = audit_screened(settings, sources, verdicts) if audit else [None] * len(sources)
    fits = True
    for path, verdict, counts in zip(files, verdicts, audits, strict=True):
        fits &= verdict.status == "pending"
        described = verdict.descriptors
        values = {
            "file": str(path),
            "verdict": "fits" if verdict.status == "pending" else verdict.status,
            "failure": verdict.failure,
            "canonical_sha256": verdict.canonical_sha256,
            "architecture": verdict.architecture,
            **(asdict(described) if described else {}),
        }
        if as_json:
            print_json(values | ({"audit": counts.summary()} if counts else {}))
        else:
            name = f" {values['architecture']}" if values["architecture"] else ""
            size = (
                f":{name} width {described.width}, depth {described.depth}, "
                f"{described.flops:.4g} FLOPs, {described.params} parameters"
                if described
                else ""
            )
            reason = f" ({verdict.failure})" if verdict.failure else ""
            click.echo(f"{path}: {values['verdict']}{reason}{size}")
            if counts:
                click.echo("".join(f"    {line}\n" for line in counts.lines()), nl=False)
    if not fits:
        sys.exit(1)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Problem, training and limits.")
@set_option
@json_option
def evaluate(file: Path, config: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train and score one source file as a compute node would."""
    from ..coordinator.single import evaluate_source

    settings = load_config(config, overrides)
    screened, outcome = evaluate_source(settings, read_source(file))
    if as_json:
        described = asdict(screened.descriptors) if screened.descriptors else {}
        print_json({"file": str(file), **described, **asdict(outcome)})
    else:
        click.echo(f"{file}: {outcome.status}" + (f" ({outcome.failure})" if outcome.failure
                                                  else ""))  # fmt: skip
        if outcome.status == "scored":
            loss = outcome.train_loss
            how = "looked up" if math.isnan(loss) and outcome.epochs else f"loss {loss:.4f}"
            click.echo(
                f"fitness {outcome.fitness:.4f}, validation {outcome.valid_accuracy:.4f}, test "
                f"{outcome.test_accuracy:.4f}, {how}, {outcome.epochs} epochs in "
                f"{outcome.train_seconds:.1f} s"
            )
    if outcome.status != "scored":
        sys.exit(1)


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--parent", "parents", multiple=True, type=click.Path(path_type=Path),
              help="Source file; two for crossover. Default: the initial network.")  # fmt: skip
@click.option("--prompt", default=0, show_default=True, help="Index of the mutation prompt.")
@click.option("--temperature", type=click.FloatRange(0.0), help="Default: the config's.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@set_option
@json_option
def generate(
    config: Path,
    parents: tuple[Path, ...],
    prompt: int,
    temperature: float | None,
    count: int,
    seed: int,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write networks with the generator: completion, source, verdict."""
    from ..coordinator.single import generate_candidates

    settings = load_config(config, overrides)
    found = generate_candidates(
        settings,
        parents=[read_source(path) for path in parents],
        prompt=prompt,
        temperature=settings.generator.temperature if temperature is None else temperature,
        count=count,
        seed=seed,
        notify=lambda text: click.echo(text, err=True),
    )
    for completion, examined in found:
        verdict = examined.screened
        fits = "fits" if verdict.status == PENDING else verdict.status
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
                    "verdict": fits,
                    "failure": verdict.failure,
                    **(asdict(verdict.descriptors) if verdict.descriptors else {}),
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
        reason = f" ({verdict.failure})" if verdict.failure else ""
        click.secho(f"--- source: {fits}{reason}", bold=True)
        click.echo(examined.source)


def read_source(path: Path) -> str:
    """Read a source file; bytes that are not UTF-8 become replacement characters."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise LLMaticError(f"{path}: cannot be read: {error.strerror}") from error


COMMANDS = (screen, evaluate, generate)

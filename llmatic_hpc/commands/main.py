"""The commands. Each is thin: parse, call, print; errors become one message and a code.

Exit codes: 0 done, 1 the run or a file is at fault, 2 usage, 75 checkpointed: run me again.
With ``--json``, standard output has one JSON object a line and everything else goes to
standard error.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import __version__
from .. import config as configuration
from ..config import Config
from ..coordinator import environment
from ..errors import ConfigError, Interrupted, LLMaticError
from ..rundir.paths import RunPaths
from ..types import PENDING
from . import look
from .json_output import json_option, print_json

if TYPE_CHECKING:
    from ..store import Record

F = TypeVar("F", bound=Callable[..., Any])

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override a setting, for example search.generations=5. Repeatable.",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llmatic")
def cli() -> None:
    """Search neural networks with a code-writing language model and two archives."""


for command in look.COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point of ``llmatic`` and ``python -m llmatic_hpc``."""
    environment.keep_threads_quiet()
    try:
        cli.main(prog_name="llmatic", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (LLMaticError, Interrupted) as error:
        click.echo(f"llmatic: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("llmatic: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `llmatic status RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


# --- run --------------------------------------------------------------------------------------


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--run-dir", type=click.Path(path_type=Path), help="Default: runs/<config's name>.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Short for --set run.seed=N.")
@click.option("--generations", type=click.IntRange(1), help="Short for search.generations.")
@set_option
def run(
    config: Path,
    run_dir: Path | None,
    seed: int | None,
    generations: int | None,
    overrides: tuple[str, ...],
) -> None:
    """Start or continue a run; the same line again always continues it."""
    from ..coordinator.loop import Coordinator
    from ..report.progress import observer

    settings = load_config(config, overrides)
    if seed is not None:
        settings = replace(settings, run=replace(settings.run, seed=seed))
    if generations is not None:
        settings = replace(settings, search=replace(settings.search, generations=generations))
    paths = RunPaths(run_dir or default_directory(config, settings))
    with (
        logging_to(paths),
        stop_on_signals() as stop,
        observer(settings.search.generations) as watch,
    ):
        record = Coordinator(settings, paths, watch, stop).run()
    click.echo(summary(record, paths), err=True)


def default_directory(config: Path, settings: Config) -> Path:
    """``runs/quickstart``, or ``runs/quickstart-seed7`` for another seed than 0."""
    if settings.run.directory:
        return Path(settings.run.directory)
    seed = f"-seed{settings.run.seed}" if settings.run.seed else ""
    return Path("runs") / f"{config.stem}{seed}"


def summary(record: Record, paths: RunPaths) -> str:
    """What a finished run tells, and what to do next."""
    from ..report.status import best_candidate

    lines = [f"{paths.root}: {record.committed_generations} generations done."]
    generator = str(record.environment.get("generator"))
    if "control" in generator:
        lines.append(f"NOTE: no language model wrote these networks, but {generator}.")
    best = best_candidate(record)
    if best is None:
        lines.append("No candidate could be trained; see 'llmatic status' for the reasons.")
        return "\n".join(lines)
    fitness = float(record.candidates["fitness"][best])
    lines += [
        f"Best network: candidate {best}, fitness {fitness:.4f}.",
        "Next:",
        f"  llmatic status {paths.root}",
        f"  llmatic verify {paths.root}",
        f"  llmatic export {paths.root} --best --output best.py",
    ]
    return "\n".join(lines)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that TERM, INT, USR1 and USR2 set; a second INT ends the process at once.

    Whoever leaves has an exit code to deliver, so that from then on these signals are ignored, to
    the very end of the process: Python puts handlers back to the system's default while it ends,
    and a second TERM would replace the code, but it leaves alone what is ignored.
    """
    stop = threading.Event()

    def request(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    for number in numbers:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short: the run itself says that the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def logging_to(paths: RunPaths) -> Iterator[None]:
    """Our own log records go to the run's log file."""
    try:
        paths.logs.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = _LogFile(paths.log, encoding="utf-8")
    except OSError:  # the run itself will say what is wrong with the folder
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("llmatic_hpc")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--site", metavar="NAME", envvar="LLMATIC_SITE",
              help="configs/sites/NAME.toml, or a path. Default: what sbatch does.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be submitted, and submit nothing.")
@set_option
def submit(
    config: Path, run_dir: Path, site: str | None, dry_run: bool, overrides: tuple[str, ...]
) -> None:
    """Start or continue a run as a Slurm job that requeues itself at its time limit."""
    from ..cluster.launch import plan, preview
    from ..cluster.launch import submit as submit_job
    from ..cluster.site import Site, find_site, load_site

    settings = load_config(config, overrides)
    site_file = find_site(site) if site else None
    place = load_site(site_file) if site_file else Site()
    options = [word for text in overrides for word in ("--set", text)]
    submission = plan(config, run_dir, place, site_file=site_file, options=options)
    if dry_run:
        click.echo(preview(submission, settings, place))
        return
    job = submit_job(submission, run_dir)
    click.echo(job)
    click.echo(
        f"Submitted job {job}. Follow it with 'squeue --jobs={job}' and 'llmatic status "
        f"{run_dir}'; its log is {RunPaths(run_dir).logs}/slurm-{job}.log",
        err=True,
    )


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--from", "official", type=click.Path(path_type=Path), metavar="OFFICIAL",
              help="NAS-Bench-201: its authors' files, to make problem.table of.")  # fmt: skip
@set_option
def prefetch(config: Path, official: Path | None, overrides: tuple[str, ...]) -> None:
    """Fetch model and data where the network is; afterwards everything runs offline."""
    from rich.console import Console
    from rich.progress import Progress

    from .prefetch import prefetch as fetch

    settings = load_config(config, overrides)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        reading = bar.add_task("official files", total=1.0, visible=official is not None)
        fetch(
            settings,
            click.echo,
            official=official,
            progress=lambda fraction: bar.update(reading, completed=fraction),
        )


@cli.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@set_option
@json_option
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path(), help="Where runs go.")
def doctor(config: Path | None, overrides: tuple[str, ...], as_json: bool, run_dir: Path) -> None:
    """Check this machine, the model, the data and Slurm; exit 1 if a run would fail."""
    from .doctor import FAULT, examine

    colours = {"ok": "green", "warning": "yellow", FAULT: "red"}
    faults = 0
    for finding in examine(load_config(config, overrides), run_dir):
        faults += finding.state == FAULT
        if as_json:
            print_json(asdict(finding))
            continue
        click.secho(f"{finding.state:>7}  ", fg=colours[finding.state], nl=False)
        click.echo(f"{finding.what}: {finding.found}")
        if finding.advice:
            click.echo(f"         -> {finding.advice}")
    if faults:
        raise SystemExit(1)


# --- single candidates ------------------------------------------------------------------------


@cli.command()
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


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Problem, training and limits.")
@set_option
@json_option
def evaluate(file: Path, config: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train and judge one source file as a compute node would."""
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


@cli.command()
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
    """What the generator writes: completion, source, verdict."""
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


# --- shared parts -----------------------------------------------------------------------------


def load_config(path: Path | None, overrides: tuple[str, ...]) -> Config:
    """The configuration; a faulty ``--set`` is a fault of usage."""
    try:
        if path is None:
            return configuration.override(Config(), overrides)
        return configuration.load(path, overrides)
    except ConfigError as error:
        if str(error).startswith("--set"):
            raise click.UsageError(str(error)) from error
        raise


def read_source(path: Path) -> str:
    """A source file's text, whatever its bytes are."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise LLMaticError(f"{path}: cannot be read: {error.strerror}") from error

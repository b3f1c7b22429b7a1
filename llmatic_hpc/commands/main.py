"""The command line, thin: each command parses, calls and prints; an error is one message.

Exit codes: 0 done, 1 the run or a file is at fault, 2 usage, 75 checkpointed: run me again.
With ``--json``, standard output has one JSON object a line and everything else goes to
standard error.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import __version__
from ..config import Config
from ..coordinator import environment
from ..errors import Interrupted, LLMaticError
from ..rundir.paths import RunPaths
from . import candidates, export, look, plan, serve, study
from .options import (
    PATH,
    json_option,
    load_config,
    print_json,
    run_argument,
    set_option,
    write_new,
)
from .process import logging_to, stop_on_signals

if TYPE_CHECKING:
    from ..store import Record

log = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llmatic")
def cli() -> None:
    """Search neural networks with a code-writing language model and two archives."""


for command in (
    *look.COMMANDS,
    *export.COMMANDS,
    *candidates.COMMANDS,
    *serve.COMMANDS,
    *plan.COMMANDS,
    *study.COMMANDS,
):
    cli.add_command(command)


def main() -> None:
    """Run ``llmatic``, also as ``python -m llmatic_hpc``; exit with its code."""
    environment.spare_machine()
    try:
        cli.main(prog_name="llmatic", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (LLMaticError, Interrupted) as error:
        click.echo(f"llmatic: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "llmatic: interrupted. A run is intact as of its last commit: the same command "
            "continues it",
            err=True,
        )
        sys.exit(130)
    except BrokenPipeError:  # `llmatic status RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a folder that may not be entered, a name too long, a file system's
        where = error.filename or "a file"
        click.echo(
            f"llmatic: {where}: {error.strerror or error}. Nothing that was saved is lost: mend "
            "that, or name another path, and give the same command again",
            err=True,
        )
        sys.exit(1)


@cli.command()
@click.argument("config", type=PATH)
@click.option("--run-dir", type=PATH, help="Default: runs/<config's name>.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Short for --set run.seed=N.")
@click.option(
    "--generations", type=click.IntRange(1, 1_000_000), help="Short for search.generations."
)
@set_option
def run(
    config: Path,
    run_dir: Path | None,
    seed: int | None,
    generations: int | None,
    overrides: tuple[str, ...],
) -> None:
    """Start or continue a run. The same line again always continues it."""
    from .. import store
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
        observer(settings.search.generations, settings.search.queries) as watch,
    ):
        if paths.record.exists():
            watch.knows(store.load(paths.record))
        gc.freeze()  # what is imported stays, and need not be looked through
        gc.set_threshold(10_000, 50, 50)  # records are arrays: few objects, and no cycles
        record = Coordinator(settings, paths, watch, stop).run()
        said = summary(record, paths)
        for line in said.splitlines():
            log.info("%s", line)
    click.echo(said, err=True)
    if sys.stdout.isatty():
        from ..report.map import network_map

        click.echo(f"\n{network_map(record)}")


def default_directory(config: Path, settings: Config) -> Path:
    """Return ``runs/NAME`` of the configuration's file, or ``runs/NAME-seed7`` for seed 7."""
    if settings.run.directory:
        return Path(settings.run.directory)
    seed = f"-seed{settings.run.seed}" if settings.run.seed else ""
    return Path("runs") / f"{config.stem}{seed}"


def summary(record: Record, paths: RunPaths) -> str:
    """Say in words how a finished run ended and what to do next."""
    from ..report.lines import best_candidate
    from ..store import repeats
    from ..store.rows import queries

    lines = [f"{paths.root}: {record.committed_generations} generations done."]
    if environment.generator_kind(record.environment) == "procedural":
        generator = record.environment["generator"]
        lines.append(f"NOTE: no language model wrote these networks, but {generator}.")
    for name, facts in record.environment.get("writers", {}).items():
        if "fallback" in facts["generator"]:
            lines.append(f"NOTE: writer {name} is no language model, but {facts['generator']}.")
    budget, spent = int(record.config["search"].get("queries", 0)), queries(record)
    ended = record.config["search"]["generations"] <= record.committed_generations
    if spent < budget and ended:
        lines.append(
            f"NOTE: {spent} of {budget} queries are spent: search.generations = "
            f"{record.config['search']['generations']} ended it. The same command with more "
            "--generations spends the rest."
        )
    best = best_candidate(record)
    if best is None:
        lines.append("No candidate could be trained; see 'llmatic status' for the reasons.")
        return "\n".join(lines)
    known = repeats.scored(record)
    fitness, trainings = float(known.mean[best]), int(known.number[best])
    is_trained = math.isfinite(record.candidates["train_loss"][best])
    once = ", of one training with one seed" if is_trained else ""
    once = f", the mean of {trainings} trainings" if trainings > 1 else once
    again = f"  llmatic evaluate {paths.root} --candidate {best} --training-seed 1"
    lines += [
        f"Best network: candidate {best}, fitness {fitness:.4f}{once}.",
        "Next:",
        f"  llmatic status {paths.root} --map",
        f"  llmatic report {paths.root}",
        *([again] if is_trained else []),
        f"  llmatic verify {paths.root}",
        f"  llmatic export {paths.root} --best --output best.py",
    ]
    return "\n".join(lines)


STARTS = {
    "quickstart": "quickstart.toml",
    "cifar10": "cifar10.toml",
    "nasbench201": "nasbench201.toml",
    "site": "sites/example.toml",
}


@cli.command()
@click.argument("kind", type=click.Choice(list(STARTS)), default="quickstart")
@click.option("--output", type=PATH, help="Default: KIND.toml here.")
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
def init(kind: str, output: Path | None, force: bool) -> None:
    """Write a commented configuration to begin with."""
    # In the package the folder is a link, in an installation a copy.
    text = (resources.files("llmatic_hpc") / "configs" / STARTS[kind]).read_text(encoding="utf-8")
    output = output or Path(f"{kind}.toml")
    write_new(output, text, force=force)
    then = f"submit CONFIG RUN --site {output}" if kind == "site" else f"doctor {output}"
    click.echo(
        f"{output} written. Change what is particular to you, then: llmatic {then}", err=True
    )


@cli.command()
@click.argument("config", type=PATH)
@run_argument
@click.option("--site", metavar="NAME", envvar="LLMATIC_SITE",
              help="configs/sites/NAME.toml, or a path. Default: what sbatch does.")  # fmt: skip
@click.option("--serve", "with_server", is_flag=True,
              help="Its model in a job of its own, a server beside the coordinator.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be submitted, and submit nothing.")
@set_option
def submit(
    config: Path,
    run_dir: Path,
    site: str | None,
    with_server: bool,
    dry_run: bool,
    overrides: tuple[str, ...],
) -> None:
    """Run as a Slurm job.

    It starts or continues the run, and requeues itself at its time limit.
    """
    from ..cluster.launch import beside_server, plan_server, preview, running_server
    from ..cluster.launch import plan as planned
    from ..cluster.launch import submit as submit_job
    from ..cluster.site import Site, find_site, load_site

    settings = load_config(config, overrides)
    site_file = find_site(site) if site else None
    place = load_site(site_file) if site_file else Site()
    options, client = serve.options_of(overrides, run_dir if with_server else None, settings)
    submission = planned(config, run_dir, place, site_file=site_file, options=client)
    if with_server:
        server = plan_server(config, run_dir, place, site_file=site_file, options=options)
        if dry_run:
            click.echo(f"# --- first, the model's server {'-' * 33}\n{server}\n")
        job = "SERVER" if dry_run else running_server(run_dir) or submit_job(server, run_dir)
        submission = beside_server(submission, job)
    if dry_run:
        click.echo(preview(submission, settings, place))
        return
    if with_server:
        click.echo(f"Its model is served by job {job}.", err=True)
    job = submit_job(submission, run_dir)
    click.echo(job)
    click.echo(
        f"Submitted job {job}. Follow it with 'squeue --jobs={job}' and 'llmatic status "
        f"{run_dir}'; its log is {RunPaths(run_dir).logs}/slurm-{job}.log",
        err=True,
    )


@cli.command()
@run_argument
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for it to end.")
def cancel(run_dir: Path, wait: float) -> None:
    """Stop coordinator and workers of a run cleanly. 'llmatic run' continues it later."""
    from ..coordinator.cancel import cancel as cancel_run

    if not run_dir.is_dir():
        raise LLMaticError(f"{run_dir}: no such run directory")
    click.echo(cancel_run(RunPaths(run_dir), wait_seconds=wait), err=True)


@cli.command()
@click.argument("config", type=PATH)
@click.option("--from", "official", type=PATH, metavar="OFFICIAL",
              help="NAS-Bench-201: its authors' files, to make problem.table of.")  # fmt: skip
@set_option
def prefetch(config: Path, official: Path | None, overrides: tuple[str, ...]) -> None:
    """Fetch model and data. Afterwards everything runs offline."""
    from rich.console import Console
    from rich.progress import Progress

    from ..problems import kind_of
    from .doctor import model_of

    settings = load_config(config, overrides)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        reading = bar.add_task("official files", total=1.0, visible=official is not None)

        def progress(fraction: float) -> None:
            bar.update(reading, completed=fraction)

        kind_of(settings).fetch(settings, click.echo, official=official, progress=progress)
        for name, writer in settings.generator.by_name().items():
            of = f" of writer {name}" if name else ""
            click.echo(f"model{of}: {model_of(settings, writer)}")


@cli.command()
@click.argument("config", required=False, type=PATH)
@set_option
@json_option
@click.option("--run-dir", type=PATH, default=Path(), help="Where runs go.")
@click.option("--gpu", is_flag=True, help="Train on the GPU, too, and compare with the CPU.")
def doctor(
    config: Path | None, overrides: tuple[str, ...], as_json: bool, run_dir: Path, gpu: bool
) -> None:
    """Check machine, model, data and Slurm. Exit 1 if a run would fail."""
    from .doctor import FAULT, examine

    colours = {"ok": "green", "warning": "yellow", FAULT: "red"}
    faults = 0
    for finding in examine(load_config(config, overrides), run_dir, gpu=gpu):
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

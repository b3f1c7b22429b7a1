"""The command that takes networks out of a run. Thin, see :mod:`.main`."""

from __future__ import annotations

import importlib.util
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..config.recipes import RECIPES, RUN
from ..errors import LLMaticError
from ..rundir.paths import ExportPaths, RunPaths
from .options import PATH, run_argument, set_option, write_new

if TYPE_CHECKING:
    from ..coordinator.exporting import Training
    from ..store import Record


ONNX = ("onnx", "onnxscript", "onnxruntime")
"""Packages that --onnx needs."""


@click.command()
@run_argument
@click.option("--candidate", type=click.IntRange(0), help="Number of a candidate.")
@click.option("--best", is_flag=True, help="The fittest candidate.")
@click.option("--max-flops", type=float, default=math.inf,
              help="With --best: the fittest with at most so many.")  # fmt: skip
@click.option("--output", type=PATH, help="File to write.")
@click.option("--cell", is_flag=True,
              help="NAS-Bench-201: the cell alone, without the network around it.")  # fmt: skip
@click.option("--weights", is_flag=True,
              help="Train it, and write its weights and a model card beside the file.")  # fmt: skip
@click.option("--onnx", is_flag=True, help="The same, and the network with its weights as ONNX.")
@click.option("--recipe", type=click.Choice(list(RECIPES)), default=RUN, show_default=True,
              help="Of the training: the run's, the paper's, or a long one.")  # fmt: skip
@click.option("--training-seed", type=click.IntRange(0, 2**63 - 1), help="Default: as recorded.")
@set_option
@click.option("--pareto", type=PATH, metavar="DIR",
              help="Write every network that nothing of its size beats, with a list.")  # fmt: skip
@click.option("--over", default="flops", show_default=True, metavar="AXIS",
              help="With --pareto: the size, flops, params or another descriptor.")  # fmt: skip
@click.option("--training-data", type=PATH, metavar="FILE.jsonl",
              help="Write pairs to train a language model on, as TRL reads them.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def export(
    run_dir: Path,
    candidate: int | None,
    best: bool,
    max_flops: float,
    output: Path | None,
    cell: bool,
    weights: bool,
    onnx: bool,
    recipe: str,
    training_seed: int | None,
    overrides: tuple[str, ...],
    pareto: Path | None,
    over: str,
    training_data: Path | None,
    force: bool,
) -> None:
    """Write networks, trained if asked for.

    A file that needs nothing of this package, with its provenance; with --weights also what it
    learned; with --pareto the whole front; or pairs to train a language model on.
    """
    from .. import store
    from ..coordinator import exporting
    from ..report.lines import best_candidate

    alone = {"--training-data": training_data, "--pareto": pareto}
    named = [name for name, value in alone.items() if value is not None]
    single = best or candidate is not None or output is not None or weights or onnx
    if named and (single or len(named) > 1):
        raise click.UsageError(f"{named[0]} stands alone: it is of all candidates")
    if training_data is not None:
        _export_training_data(run_dir, training_data, force=force)
        return
    path = RunPaths(run_dir).record
    if pareto is not None:
        _export_front(store.load(path), path, pareto, over, cell=cell, force=force)
        return
    if best == (candidate is not None):
        raise click.UsageError(
            "say either --candidate ID or --best, or --pareto DIR, or --training-data FILE.jsonl"
        )
    if output is None:
        raise click.UsageError("say --output FILE.py")
    trains = weights or onnx
    if trains and output.suffix != ".py":
        raise click.UsageError(f"--output {output}: say FILE.py; the other files go beside it")
    if not trains and (recipe != RUN or overrides or training_seed is not None):
        raise click.UsageError("--recipe, --training-seed and --set go with --weights or --onnx")
    record = store.load(path)
    if best:
        candidate = best_candidate(record, max_flops=max_flops)
        if candidate is None:
            limit = f" with at most {max_flops:g} FLOPs" if math.isfinite(max_flops) else ""
            raise LLMaticError(f"{path}: no candidate{limit} has a score yet")
    assert candidate is not None
    if candidate >= record.rows:
        raise LLMaticError(f"{path}: no candidate {candidate}; there are {record.rows}")
    files = ExportPaths(output)
    if not trains:
        write_new(output, exporting.network(record, candidate, cell=cell), force=force)
        click.echo(f"candidate {candidate} written to {output}", err=True)
        return
    lacking = [name for name in ONNX if importlib.util.find_spec(name) is None] if onnx else []
    if lacking:
        raise LLMaticError(
            f"--onnx needs {' and '.join(lacking)}: pip install 'llmatic-hpc[onnx]', or in a "
            "checkout pip install -e '.[onnx]'"
        )
    wanted = [files.source, files.weights, files.card, *([files.onnx] if onnx else [])]
    if not output.parent.is_dir():
        raise LLMaticError(f"{output.parent}: no such folder; make it first")
    for file in wanted if not force else ():
        if file.exists():
            raise LLMaticError(f"{file}: exists; --force overwrites it")
    training = exporting.training(record, candidate, recipe, overrides, training_seed)
    if training.known.candidate != candidate:
        known = training.known.candidate
        click.echo(f"candidate {candidate} is a duplicate of candidate {known}", err=True)
    _train(record, training, files, onnx=onnx, force=force)


def _train(
    record: Record, training: Training, files: ExportPaths, *, onnx: bool, force: bool
) -> None:
    from ..coordinator import exporting
    from ..report.card import Trained, card

    candidate = training.known.candidate  # the names in its source are those of its weights
    source = exporting.network(record, candidate)
    click.echo(f"candidate {candidate}: {training.words()}, seed {training.seed}", err=True)
    with _watched(files.state, training.config.training.in_full):
        made = training.make(files, onnx=onnx)
    outcome = made.outcome
    facts = Trained(
        how=training.words(), seed=training.seed, outcome=outcome, same=made.same,
        reloading=made.reloading, onnx_batch=made.onnx_batch if onnx and not made.onnx else None,
        as_recorded=not training.known.differences(outcome), data_sha256=training.data_sha256,
    )  # fmt: skip
    text = card(record, candidate, training.known.source, training.config, training.interface,
                facts, files)  # fmt: skip
    write_new(files.source, source, force=force)
    write_new(files.card, text, force=force)
    names = [files.source, files.weights, files.card]
    names += [files.onnx] if facts.onnx_batch is not None else []
    click.echo(
        f"test accuracy {outcome.test_accuracy:.4f}, validation {outcome.valid_accuracy:.4f}, "
        f"{outcome.epochs} epochs in {outcome.train_seconds:.0f} s\n"
        f"written: {', '.join(map(str, names))}",
        err=True,
    )
    if made.reloading:
        raise LLMaticError(
            f"{files.weights}: another process could not load these weights: {made.reloading}"
        )
    if made.same < 1:
        click.echo(
            f"NOTE: another process that loaded the weights predicted {100 * made.same:.2f} % of "
            f"the classes alike; {files.card} says why that may be",
            err=True,
        )
    if made.onnx:
        raise LLMaticError(f"{files.onnx}: the network cannot be written as ONNX: {made.onnx}")


@contextmanager
def _watched(state: Path, epochs: int) -> Iterator[None]:
    """Tell on standard error how far a training has come, by its checkpoints."""
    from ..evaluation.weights import progress

    ended, began = threading.Event(), time.monotonic()

    def watch() -> None:
        told = None
        while not ended.wait(1.0):
            if (found := progress(state)) and found != told:
                told = found
                click.echo(
                    f"  epoch {found[0]} of {epochs}, loss {found[1]:.4f}, "
                    f"{time.monotonic() - began:.0f} s",
                    err=True,
                )

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _export_front(
    record: Record, path: Path, folder: Path, axis: str, *, cell: bool, force: bool
) -> None:
    from ..coordinator import exporting
    from ..report import front

    rows = front.front(record, axis)
    if not rows:
        raise LLMaticError(f"{path}: no candidate has a score yet")
    if folder.exists() and not folder.is_dir():
        raise LLMaticError(f"{folder}: is no folder; --pareto DIR writes a file for each network")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise LLMaticError(f"{folder}: cannot be written: {error.strerror}") from error
    if not is_empty and not force:
        raise LLMaticError(
            f"{folder}: is not empty; --force writes into it, and leaves what else is there"
        )
    for row in rows:
        write_new(
            folder / front.file_of(row), exporting.network(record, row, cell=cell), force=force
        )
    write_new(folder / "README.md", front.contents(record, rows, axis), force=force)
    click.echo(
        f"{len(rows)} network{'s' if len(rows) > 1 else ''} written to {folder}; README.md there "
        "lists them",
        err=True,
    )


def _export_training_data(run_dir: Path, file: Path, *, force: bool) -> None:
    import json

    from .. import config, problems, store
    from ..report import training_data as of_training

    path = RunPaths(run_dir).record
    record = store.load(path)
    settings = config.from_tables(record.config, str(path))
    found = of_training.training_data(record, settings, problems.problem_of(settings))
    if not found.pairs and not found.preferences:
        raise LLMaticError(
            f"{path}: no training data: no language model wrote a network here that is better than "
            "its parents, or entered the map where another answer to the same request did not"
        )
    for part, rows in found.files().items():
        name = file.with_name(f"{file.stem}{part}{file.suffix}")
        write_new(name, "".join(json.dumps(row) + "\n" for row in rows), force=force)
        click.echo(f"{len(rows)} rows written to {name}", err=True)
    if not found.pairs_test and not found.preferences_test:
        click.echo(
            f"nothing is held out: of {found.lineages} lineages none is small enough", err=True
        )


COMMANDS = (export,)

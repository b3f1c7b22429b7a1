"""Networks of a record for use elsewhere: whole, with what they are given, and trained."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import config as configuration
from .. import problems
from ..config import Config
from ..config.recipes import RUN, settings_of
from ..errors import Interrupted, LLMaticError
from ..evaluation import data, weights
from ..evaluation.stop import Stop
from ..report.export import exported_source
from ..rundir.paths import ExportPaths
from ..store import Record
from ..types import Interface
from . import single


def network(record: Record, candidate: int, *, cell: bool = False) -> str:
    """Return a module with the whole network of a candidate below what is known of it.

    ``cell``: of a problem whose candidates are parts of a network, the part alone. Raises
    :class:`LLMaticError` where the candidate has no source.
    """
    table = record.candidates
    source = str(table["source"][candidate])
    if not source:
        raise LLMaticError(f"candidate {candidate} has no source: {table['failure'][candidate]}")
    interface: Interface | str
    try:
        config = configuration.from_tables(record.config, "run.h5")
        kind = problems.kind_of(config)
        interface = kind.interface(config)
    except LLMaticError as error:  # its data, or its problem, are elsewhere
        return exported_source(record, candidate, source, str(error))
    name = str(table["architecture"][candidate])
    whole = source if cell else kind.network(config, source, name)
    is_part = whole == source and bool(name)
    return exported_source(record, candidate, whole, None if is_part else interface)


@dataclass(frozen=True)
class Training:
    """A training of a recorded candidate that is to be made, by a recipe."""

    known: single.Recorded
    recipe: str
    config: Config
    interface: Interface
    seed: int
    data_sha256: str
    """Digest of the data here."""

    def words(self) -> str:
        """Say in a line how it trains."""
        training = self.config.training
        return f"recipe {self.recipe}: {training.in_full} epochs, {training.recipe()}"

    def make(self, paths: ExportPaths, *, onnx: bool) -> weights.Made:
        """Train, or continue to, and put the files in their places, but for source and card.

        Raises :class:`Interrupted` where a signal asked for it, with everything saved, and
        :class:`LLMaticError` where there are no weights, or no ONNX that was asked for.
        """
        source, folder = self.known.source, paths.training
        with Stop.on_signals() as stop:
            made = weights.make(
                source, self.config, seed=self.seed, folder=folder.resolve(), onnx=onnx, stop=stop
            )
            asked = stop.asked
        outcome = made.outcome
        if asked:
            raise Interrupted(f"the training is saved in {folder}; the same command continues it")
        if outcome.status != "scored":
            if outcome.status != "infrastructure":  # which another try may not meet
                shutil.rmtree(folder, ignore_errors=True)
            raise LLMaticError(
                f"candidate {self.known.candidate} could not be trained by {self.words()}: "
                f"{outcome.status} ({outcome.failure})"
            )
        _take(folder / weights.WEIGHTS, paths.weights)
        if onnx and not made.onnx:
            _take(folder / weights.ONNX, paths.onnx)
        shutil.rmtree(folder, ignore_errors=True)
        return made


def _take(made: Path, target: Path) -> None:
    try:
        weights.take(made, target)
    except OSError as error:
        raise LLMaticError(
            f"{target}: cannot be written: {error.strerror}; what was trained is in {made.parent}, "
            "and the same command continues from there"
        ) from error


def training(
    record: Record, candidate: int, recipe: str, overrides: Sequence[str], seed: int | None
) -> Training:
    """Find what a candidate is to be trained by: the run's settings, then the recipe, then
    ``overrides``.

    Raises :class:`LLMaticError` for a candidate without a score, and where none was ever trained.
    """
    config = configuration.from_tables(record.config, "run.h5")
    kind = problems.kind_of(config)
    if not kind.contained:
        raise LLMaticError(
            f"--weights and --onnx train a network on its run's data, and a run of problem.kind = "
            f"{config.problem.kind!r} has none: its scores are looked up or computed. Export the "
            "network without them, and train the file on data of yours"
        )
    status = record.status(candidate)
    if status not in ("scored", "duplicate"):
        failure = record.candidates["failure"][candidate]
        raise LLMaticError(
            f"candidate {candidate} has no score, so it is not trained for use: it is {status}"
            f"{failure and f' ({failure})'}; 'llmatic elites RUN' lists some that have one"
        )
    places = [text for text in overrides if text.startswith("problem.")]
    known = single.recorded(record, candidate, places)
    in_full = replace(known.config.training, epochs=config.training.epochs)
    if recipe == RUN and known.config.training.in_full == 0 < config.training.in_full:
        raise LLMaticError(
            f"candidate {candidate} was not trained in the run (search.train_start = false): say "
            "--recipe paper or --recipe long"
        )
    found = replace(known.config, training=in_full)
    interface = kind.interface(found)
    found = configuration.override(found, settings_of(recipe, interface.input_shape))
    found = configuration.override(found, overrides)
    _, digest, _ = data.checked(found.problem, found.training, seed=found.run.seed)
    if digest != (record.data_sha256 or digest) and found.problem.data == config.problem.data:
        raise LLMaticError(
            f"{found.problem.data}: other data than the run was started with: data_sha256 is "
            f"{digest} here, and {record.data_sha256} on the record. --set problem.data=PATH names "
            "where they are now, or others to train on"
        )
    seed = known.seed if seed is None else seed
    return Training(known, recipe, found, interface, seed, digest)

"""Start or continue a run from Python: the loop without a command line around it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import config as configuration
from ..config import Config
from ..rundir.paths import RunPaths
from ..store import Record
from .environment import keep_threads_quiet
from .loop import Coordinator, Observer

log = logging.getLogger(__name__)


class Silent(Observer):
    """An observer that tells notices to the log and nothing else."""

    def notice(self, text: str) -> None:
        """Log it."""
        log.warning(text)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a configuration from a TOML file, with ``KEY=VALUE`` overrides.

    Raises :class:`~llmatic_hpc.errors.ConfigError` for whatever is wrong with it, in one line.
    """
    return configuration.load(Path(path), overrides)


def run(
    config: Config,
    directory: str | Path,
    *,
    generations: int | None = None,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
) -> Record:
    """Start or continue the run in ``directory`` until its budget is spent.

    Args:
        config: the settings; those of a run that is continued may differ only in place, pace and
            length.
        directory: the run directory; it is made.
        generations: in place of ``search.generations``.
        observer: is told of stages, progress and results.
        stop: set it, from another thread, to have the run save everything and leave.

    Returns:
        The record, as it also stands in ``directory/run.h5``.

    Raises:
        LLMaticError: something that a user can mend; the message says what, where, what next.
        Interrupted: ``stop`` was set; calling again continues.
    """
    keep_threads_quiet()
    if generations is not None:
        config = replace(config, search=replace(config.search, generations=generations))
    paths = RunPaths(Path(directory))
    return Coordinator(config, paths, observer or Silent(), stop or threading.Event()).run()

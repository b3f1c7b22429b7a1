"""What a run needs from the network, fetched beforehand: afterwards it runs offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import problems
from ..config import Config
from ..errors import ConfigError
from ..evaluation import data
from ..problems.nasbench201.evaluator import load_table
from ..problems.nasbench201.official.convert import convert


def prefetch(
    config: Config,
    tell: Callable[[str], None],
    *,
    official: Path | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Fetch the data and the model of ``config`` unless they are here, check both, and ``tell``
    in a line where each is.

    What is here is left alone, so that it may be repeated; what broke off is taken up. A model
    behind a server is asked for a token.

    The table of NAS-Bench-201 cannot be fetched: it is made of ``official``, a file or folder of
    the benchmark's authors; ``progress`` is told how much of it is read, 0 to 1.

    Raises :class:`~llmatic_hpc.errors.LLMaticError` where something cannot be had or is damaged.
    """
    if config.problem.kind == "nasbench201":
        if official is not None:
            if not config.problem.table:
                raise ConfigError("problem.table is not set: it names the file that is to be made")
            convert(official, Path(config.problem.table), tell, progress)
        tell(f"table: {table_of(config)}")
    else:
        if official is not None:
            raise ConfigError("--from is for problem.kind = 'nasbench201', which has a table")
        where = data.fetch(config.problem)
        found = data.load(config.problem, config.training, seed=config.run.seed)
        tell(
            f"data: {where}: {len(found.train) + len(found.validation):,} images for training, "
            f"{len(found.test):,} for testing, {found.classes} classes"
        )
    tell(f"model: {model_of(config)}")


def table_of(config: Config) -> str:
    """Where the table of NAS-Bench-201 is, and that it is whole. Raises like :func:`prefetch`."""
    found = load_table(config.problem)
    return f"{found.path}: {len(found.rows):,} cells, SHA-256 {found.digest[:12]}"


def model_of(config: Config, *, download: bool = True) -> str:
    """Where the model is, and that it is whole. Raises like :func:`prefetch`."""
    settings = config.generator
    if settings.kind == "procedural":
        return "none is needed (generator.kind = 'procedural')"
    if settings.kind == "replay":
        from ..generation import Replay

        Replay(settings.replay)
        return f"none is needed, completions are in {settings.replay}"
    if settings.kind == "endpoint":
        from ..generation.endpoint import Endpoint

        Endpoint(settings, problems.problem_of(config)).close()
        return f"{settings.model} answers at {settings.url}"
    from ..generation.language_model import load

    location = load.locate(settings.model, download=download)
    size = load.check(location)
    return f"{location.folder / location.gguf} ({size / 1e9:,.2f} GB)"

"""Options that commands share: settings from a file and ``--set``, answers in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import config as configuration
from ..config import Config
from ..errors import ConfigError, LLMaticError
from ..rundir.paths import RunPaths

if TYPE_CHECKING:
    from rich.console import RenderableType

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override a setting, for example search.generations=5. Repeatable.",
)  # fmt: skip

PATH = click.Path(path_type=Path)


def run_directory(path: Path) -> Path:
    """Return the directory of a run also where its record, run.h5, is named."""
    return path.parent if path.name == RunPaths(path).record.name and path.is_file() else path


def run_of(context: click.Context, parameter: click.Parameter, path: Path) -> Path:
    """Return an argument's :func:`run_directory`, when click asks for it."""
    return run_directory(path)


run_argument = click.argument("run_dir", metavar="RUN", type=PATH, callback=run_of)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def print_json(values: dict[str, Any]) -> None:
    """Print one object as a line of JSON, with null for NaN and infinity."""
    click.echo(json.dumps(finite(values), ensure_ascii=True))


def show(content: RenderableType, *, width: int | None = None) -> None:
    """Print text or tables; where that is no terminal without blanks at the ends of lines.

    Lines of a ``width`` that is given may be longer than the terminal's, which then breaks them.
    """
    from rich.console import Console

    console = Console(width=width)
    if console.is_terminal and width is None:
        console.print(content)
        return
    with console.capture() as capture:
        console.print(content)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def write_new(path: Path, text: str, *, force: bool) -> None:
    """Write a file of a user's choice, one that is there only with ``force``."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise LLMaticError(f"{path}: exists; --force overwrites it") from None
    except OSError as error:
        raise LLMaticError(f"{path}: cannot be written: {error.strerror}") from error


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None; also inside dictionaries."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_config(path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Read a configuration, the defaults without a file.

    Raises ``click.UsageError`` for a faulty ``--set`` and ``ConfigError`` for a faulty file.
    """
    with usage_of_set():
        if path is None:
            return configuration.override(Config(), overrides)
        return configuration.load(path, overrides)


@contextmanager
def usage_of_set() -> Iterator[None]:
    """Make a ``ConfigError`` about ``--set`` one of usage."""
    try:
        yield
    except ConfigError as error:
        if str(error).startswith("--set"):
            raise click.UsageError(str(error)) from error
        raise

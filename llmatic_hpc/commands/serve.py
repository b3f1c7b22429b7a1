"""llmatic serve: one model for many runs."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ..config import Config
from ..errors import ConfigError, GeneratorError
from ..rundir.paths import RunPaths
from .options import PATH, load_config, set_option
from .process import stop_on_signals

log = logging.getLogger(__name__)

LAST_ANSWERS_SECONDS = 2.0
"""Time for answers that are ready to reach their clients at the end."""


@click.command()
@click.argument("config", type=PATH)
@click.option("--file", type=PATH, default=Path("serve.json"), show_default=True,
              help="Where address and token go, for generator.url.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen at; 0.0.0.0 for other machines.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: any that is free.")
@click.option("--queue", type=click.IntRange(1, 100_000), default=1000, show_default=True,
              help="Requests that may wait; more are told to come again.")  # fmt: skip
@click.option("--grace", type=click.FloatRange(0, 3600), default=10.0, show_default=True,
              help="Seconds that running requests have when it is to end.")  # fmt: skip
@set_option
def serve(
    config: Path, file: Path, host: str, port: int, queue: int, grace: float,
    overrides: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve one model to many runs, until TERM or Ctrl-C."""
    settings = load_config(config, overrides).generator
    if settings.kind != "huggingface" or settings.writers:
        what = "generator.writers" if settings.writers else f"generator.kind = {settings.kind!r}"
        raise ConfigError(
            f"{config}: {what}: a server has one model of generator.kind = 'huggingface'; "
            "--set generator.kind=huggingface"
        )
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    from ..generation.serving import address

    address.refuse_second(file)
    from ..generation.serving.engine import Engine
    from ..generation.serving.served import Served
    from ..generation.serving.server import Server

    with stop_on_signals() as stop:
        log.info("loading the model %s", settings.model)
        model = Served(settings)
        engine = Engine(model, most_waiting=queue, on_loss=stop.set)
        server = Server(host, port, engine, secrets.token_urlsafe(32))
        here = address.Address(
            server.url, server.token, os.getpid(), socket.gethostname(), settings.model
        )
        address.refuse_second(file)  # one may have come while this one's model was loaded
        here.write(file)
        server.answer()
        facts = model.facts
        log.info("%s, %s on %s", facts["digest"][:19], facts["precision"], facts["device"])
        log.info("serving at %s; address and token are in %s", server.url, file)
        stop.wait()
        log.info("asked to stop: no more requests, %g seconds for those that run", grace)
        here.remove(file)
        server.refuse_connections()
        engine.stop(grace)
        server.wait_answered(LAST_ANSWERS_SECONDS)
        if engine.is_lost:
            raise GeneratorError(
                f"{settings.model}: writes no more; the messages above say why. Start it again, "
                "and runs that wait for it go on"
            )
        log.info("stopped")


def options_of(
    overrides: Sequence[str], run: Path | None, config: Config
) -> tuple[list[str], list[str]]:
    """Return the options of a server beside a run, and those of the run; no ``run``: no server.

    Raises :class:`ConfigError` where one model cannot write all of the run.
    """
    given = [word for text in overrides for word in ("--set", text)]
    if run is None:
        return given, given
    settings = config.generator
    if settings.writers or settings.kind not in ("huggingface", "endpoint"):
        raise ConfigError(
            "--serve is for one language model, and here is "
            + ("a list of generator.writers" if settings.writers else f"kind = {settings.kind!r}")
            + ": start 'llmatic serve' yourself, and set generator.url of whoever is to use it"
        )
    file = RunPaths(run.resolve()).server
    client = ["generator.kind=endpoint", f"generator.url={file}"]
    client += ["generator.adapter="] if settings.adapter else []  # the server has it
    own = ["generator.kind=huggingface"]
    return (
        [*given, *(word for text in own for word in ("--set", text))],
        [*given, *(word for text in client for word in ("--set", text))],
    )


COMMANDS = (serve,)

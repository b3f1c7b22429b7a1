"""One server for the language model of all runs of a study, in place of a copy for each."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...config import Config, GeneratorSettings, SearchSettings
from ...errors import ConfigError, GeneratorError, LLMaticError
from ...generation.serving import address
from ...rundir.paths import StudyPaths
from .plan import Planned
from .running import bound, reason

HERE = "huggingface"
RESTARTS = 3
"""Times that a server which has ended is started again; runs wait for it meanwhile."""
END_SECONDS = 30.0
"""Longest wait for the server's own end."""
MOST_ASKED = 800
"""Requests of all runs that are under way at once: fewer than a server lets wait, or has files."""


def served(
    runs: Sequence[Planned], paths: StudyPaths, *, at_once: int
) -> tuple[list[Planned], Config]:
    """Return the runs with the study's server in place of their models, and its own settings.

    ``at_once`` runs ask it side by side, and together for no more than it lets wait.
    Raises :class:`ConfigError` where no run has a model of ``generator.kind = "huggingface"``, or
    where they have several.
    """
    models: dict[tuple[str, ...], tuple[Planned, GeneratorSettings]] = {}
    for each in runs:
        for one in _models(each.config):
            models.setdefault(_identity(one), (each, one))
    if not models:
        raise ConfigError(f"--serve: no run has a model of generator.kind = {HERE!r}")
    if len(models) > 1:
        named = "; ".join(f"{run.title}: {one.model}" for run, one in models.values())
        raise ConfigError(
            f"--serve: the study has {len(models)} models, of different names, precision or "
            f"adapter, and a server has one: {named}"
        )
    ((run, model),) = models.values()
    most = max(1, MOST_ASKED // at_once)
    clients = [replace(run, config=_client(run.config, paths.server, most)) for run in runs]
    # The rules of a search are its runs': some want several writers, and here is one model.
    alone = replace(run.config, search=SearchSettings(), generator=replace(model, writers=()))
    return clients, alone


def _models(config: Config) -> list[GeneratorSettings]:
    return [one for one in config.generator.by_name().values() if one.kind == HERE]


def _identity(model: GeneratorSettings) -> tuple[str, ...]:
    return model.model, model.dtype, model.device, model.quantization, model.adapter


def _client(config: Config, file: Path, most: int) -> Config:
    """Return the settings of a run with the server's ``file`` in place of its models."""
    generator, search = config.generator, config.search
    # Adapter and quantization are the server's.
    client: dict[str, Any] = {
        "kind": "endpoint", "url": str(file.absolute()), "key_variable": "", "adapter": "",
        "quantization": "",
        "concurrency": min(most, max(generator.concurrency, search.batch * search.oversample)),
    }  # fmt: skip

    def is_here(table: Mapping[str, Any]) -> bool:
        return bool(table.get("kind", generator.kind) == HERE)

    if generator.writers:
        writers = tuple({**t, **client} if is_here(t) else t for t in generator.writers)
        return replace(config, generator=replace(generator, writers=writers))
    if generator.kind != HERE:
        return config
    return replace(config, generator=replace(generator, **client))


def uses(config: Config, paths: StudyPaths) -> bool:
    """Return whether a run asks the study's server."""
    url = str(paths.server.absolute())
    return any(one.url == url for one in config.generator.by_name().values())


@dataclass
class Server:
    """A server that is started again when it ends, so often, and that ends with the study."""

    paths: StudyPaths
    stop: threading.Event
    """Set: the study is about to end, and whatever ends its server is no failure."""
    tell: Callable[[str], None]
    _restarts: int = 0
    _has_answered: bool = False
    _logged: int = 0
    """Bytes of its log that servers before this one wrote."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start it, and end it at last. Raises :class:`LLMaticError` where it cannot be started."""
        self._start()
        try:
            yield
        finally:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def look(self) -> None:
        """Start it again where it has ended, unless the study is about to end, too.

        Raises :class:`LLMaticError` where it never answered, or has ended too often.
        """
        if self.stop.is_set():  # Slurm tells all processes of a job at once
            return
        if (code := self._process.poll()) is None:
            with suppress(GeneratorError):
                found = address.read(self.paths.server)
                self._has_answered |= found is not None and found.pid == self._process.pid
            return
        log = self.paths.server_log
        printed = log.read_bytes()[self._logged :].decode("utf-8", "replace")
        why = reason(code, printed)
        if self._restarts >= RESTARTS or not self._has_answered:
            raise LLMaticError(
                f"the model's server ended: {why} ({log}). Every run is saved; when that is "
                "mended, the same command continues them"
            )
        self._restarts += 1
        self.tell(f"the model's server ended: {why}; it is started again, and runs wait for it")
        self._start()

    def _start(self) -> None:
        paths = self.paths
        line = [
            sys.executable, "-m", "llmatic_hpc", "serve", str(paths.server_config.absolute()),
            "--file", str(paths.server), "--grace", "0",
        ]  # fmt: skip
        try:
            with open(paths.server_log, "ab") as log:
                self._logged = log.tell()
                # A session of its own: Ctrl-C is for the study and its runs, which still need it.
                self._process = subprocess.Popen(
                    bound(line), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise LLMaticError(
                f"{paths.server_log}: the model's server cannot be started: {error}"
            ) from error

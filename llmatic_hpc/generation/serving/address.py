"""The file by which clients find a server: its URL and token, for its owner alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import urllib.request
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ...errors import GeneratorError
from ...rundir.files import write_atomically

ANSWER_SECONDS = 3.0
"""Longest wait for a server that may be there already."""


@dataclass(frozen=True)
class Address:
    """A server that runs, or ran: where it listens and what it wants to be told."""

    url: str
    """Base of its requests, such as ``http://node7:40001/v1``."""
    token: str
    pid: int
    host: str
    """Name of the machine that ``pid`` is of."""
    model: str

    def __str__(self) -> str:
        """Say where the server is, without its token."""
        return f"{self.url} (process {self.pid} on {self.host})"

    def write(self, file: Path) -> None:
        """Write the file, durably and readable by its owner alone.

        Raises :class:`GeneratorError` where that cannot be.
        """
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(asdict(self), indent=1) + "\n", private=True)
        except OSError as error:
            raise GeneratorError(
                f"{file}: cannot be written: {error.strerror}; name another place by --file"
            ) from None

    def remove(self, file: Path) -> None:
        """Remove the file, unless it is another server's by now."""
        with contextlib.suppress(GeneratorError, OSError):
            if read(file) == self:
                file.unlink(missing_ok=True)


def read(file: Path) -> Address | None:
    """Read an address; None where there is no such file.

    Raises :class:`GeneratorError` for a file that is something else, or that others may read.
    """
    try:
        with file.open("rb") as stream:
            mode, text = os.fstat(stream.fileno()).st_mode, stream.read(1 << 16)
        found = json.loads(text)
        address = Address(**{one.name: found[one.name] for one in fields(Address)})
        texts = (address.url, address.token, address.host, address.model)
        if not all(isinstance(one, str) for one in texts) or not isinstance(address.pid, int):
            raise TypeError
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GeneratorError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise GeneratorError(
            f"{file}: not the address of a server; set generator.url to the file that "
            "'llmatic serve' writes, or to the URL of a server"
        ) from None
    if mode & 0o077:
        raise GeneratorError(f"{file}: others may read the token in it: chmod 600 {file}")
    return address


def refuse_second(file: Path) -> None:
    """Raise :class:`GeneratorError` where the server of an address file answers.

    One that does not is history, and its file is replaced.
    """
    found = read(file)
    if found is None:
        return
    try:
        asked = urllib.request.Request(
            f"{found.url}/models", headers={"Authorization": f"Bearer {found.token}"}
        )
        # Without the proxies of the environment: it is a machine of ours.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(asked, timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError, http.client.HTTPException):
        return
    raise GeneratorError(
        f"{file}: a server of {found.model} answers there: {found}; end it first, or name another "
        "--file"
    )

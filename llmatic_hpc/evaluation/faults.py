"""Say whose fault it is that a candidate's code does not run to its end."""

from __future__ import annotations

import torch

from ..config import accelerators

SOURCE_NAME = "<candidate>"
"""File name of the source in tracebacks."""

MESSAGE_LIMIT = 300
"""Longest message of a :class:`CandidateError`, in characters."""


_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


class CandidateError(Exception):
    """A candidate is at fault: ``status`` of :data:`llmatic_hpc.types.STATUSES`, and why.

    The message is one line: where in the source, which exception, what it said.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.built = False
        """True where the network had been constructed before."""


CANDIDATE_EXCEPTIONS = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
"""Exceptions that a candidate's code may raise; any other ``BaseException`` is not its doing."""


def candidate_error(error: BaseException) -> CandidateError:
    """Return what a candidate's code raised as the verdict on the candidate.

    ``too_large`` where memory ran out, ``infrastructure`` where an accelerator may be broken (see
    :func:`.accelerators.fault`), else ``invalid``; with the line of the source that it came from.
    """
    if isinstance(error, CandidateError):
        return error
    try:
        text = str(error)
    except BaseException:  # a candidate's exception, a candidate's __str__
        text = "its message cannot be read"
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == SOURCE_NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"line {line}: " if line else ""
    message = bounded(f"{where}{type(error).__name__}: {text}")
    return CandidateError(_status_of(error, text[: 4 * MESSAGE_LIMIT].lower()), message)


def _status_of(error: BaseException, text: str) -> str:
    # Drivers and libraries speak through these two; Triton and loaders through OSError, too.
    speaks = isinstance(error, RuntimeError | OSError) and is_accelerated()
    said = accelerators.fault(text) if speaks else ""
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if exhausted or said == accelerators.MEMORY or any(sign in text for sign in _NO_MEMORY):
        return "too_large"
    return "infrastructure" if said else "invalid"


def is_accelerated() -> bool:
    """Return whether this process has started an accelerator: else it is the network's doing to
    ask for one."""
    kind = torch.accelerator.current_accelerator()
    return kind is not None and bool(torch.get_device_module(kind).is_initialized())


def bounded(text: str) -> str:
    """Return ``text`` as one printable line of at most :data:`MESSAGE_LIMIT` characters."""
    line = " ".join(text[: 4 * MESSAGE_LIMIT].split())
    line = "".join(c if c.isprintable() else "?" for c in line).rstrip(": ")
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 3] + "..."

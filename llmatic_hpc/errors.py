"""Errors that this package raises on purpose: :class:`LLMaticError`, its kinds, and a request.

The message of an error is all that a user sees of it: one or a few lines that a tired
person understands. ``exit_code`` is what ``llmatic`` ends with.
"""

from __future__ import annotations


class LLMaticError(Exception):
    """A run or a file is at fault; the message says what, where and what next."""

    exit_code = 1


class ConfigError(LLMaticError):
    """A setting is unknown, of the wrong type, out of range, or its file cannot be read."""


class DataError(LLMaticError):
    """Images, labels or a table are missing or not what they should be."""


class GeneratorError(LLMaticError):
    """The generator cannot be loaded or cannot go on."""


class ContainmentError(LLMaticError):
    """The process that contains candidates cannot be started or kept alive."""


class RecordError(LLMaticError):
    """The record, run.h5, is missing, damaged, foreign, or does not match its own history."""


class ClusterError(LLMaticError):
    """Tasks could not be submitted or followed."""


class RunLockedError(LLMaticError):
    """Another coordinator holds the run directory."""


class Interrupted(Exception):  # noqa: N818 (a request, not a fault)
    """The run was asked to stop and has saved everything; starting it again continues it."""

    exit_code = 75

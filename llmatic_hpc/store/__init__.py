"""run.h5: its schema, commits that are always whole, loading, replaying, and verifying.

The only room that reads or writes HDF5. A record is the history of a run; the archives in
it are a fold over its candidate table and stand there so that others need not fold. Beside
it, :mod:`.table` is the table of a benchmark.
"""

from .file import commit, load
from .record import ArchiveState, Record
from .table import read as read_table
from .verify import Difference, against, verify

__all__ = [
    "ArchiveState",
    "Difference",
    "Record",
    "against",
    "commit",
    "load",
    "read_table",
    "verify",
]

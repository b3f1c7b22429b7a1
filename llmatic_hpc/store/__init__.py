"""run.h5: its schema, commits that are always whole, loading, replaying, and verifying.

The only room that reads or writes HDF5. A record is the history of a run; the archives in
it are a fold over its candidate table and stand there so that others need not fold.
"""

from .file import commit, load
from .record import ArchiveState, Record
from .verify import Difference, verify

__all__ = ["ArchiveState", "Difference", "Record", "commit", "load", "verify"]

"""Evaluation of candidates on a back end: submit, adopt, gather, retry.

A *task* is one worker process with some candidates, in a folder of its own. A *backend*
starts tasks and says which of them it believes alive; that is a hint. Only a valid result
file proves that a candidate is done (invariant 6), and only the :class:`Dispatcher` decides
what is lost and what is tried again.
"""

from .backend import Backend, Gathered, Work, submission_prefix
from .dispatch import Dispatcher
from .local import InlineBackend, LocalBackend, stop_orphans
from .site import site_of_job
from .slurm import SlurmBackend

__all__ = [
    "Backend",
    "Dispatcher",
    "Gathered",
    "InlineBackend",
    "LocalBackend",
    "SlurmBackend",
    "Work",
    "site_of_job",
    "stop_orphans",
    "submission_prefix",
]

"""LLMatic on a SLURM cluster: networks written by a language model, kept by two archives.

The public interface, of which nothing is imported before it is used::

    import llmatic_hpc as lm

    config = lm.load_config("configs/smoke.toml")
    lm.run(config, "runs/smoke")                       # start or continue
    lm.read("runs/smoke").candidates.to_pandas()       # the record as arrays or a data frame

``lm.Search`` is the search by itself, ask and tell; ``lm.screen`` and ``lm.evaluate`` take one
network; ``lm.ProblemKind`` and ``lm.Generator`` are what to write for a problem or a generator of
one's own, ``lm.PROBLEMS`` and ``lm.GENERATORS`` where it is registered.
"""

# ruff: noqa: F401 (for type checkers; what is imported is told by _PLACES)
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .config import (
        GENERATORS,
        PROBLEMS,
        ArchiveSettings,
        Config,
        GeneratorSettings,
        ProblemSettings,
        SearchSettings,
        override,
    )
    from .coordinator.loop import load_config, run
    from .coordinator.single import evaluate, screen
    from .errors import (
        ClusterError,
        ConfigError,
        ContainmentError,
        DataError,
        GeneratorError,
        Interrupted,
        LLMaticError,
        RecordError,
        RunLockedError,
    )
    from .generation.base import Generator
    from .problems.evaluator import Evaluator, Immediate
    from .problems.kind import ProblemKind
    from .search import Archive, AskTellError, PromptArchive, Search, Tessellation, cvt
    from .store.view import Run, Table, read
    from .types import (
        Completion,
        Descriptor,
        Evaluation,
        Outcome,
        Problem,
        Proposal,
        Request,
        Screened,
    )

_PLACES = {
    "config": "GENERATORS PROBLEMS ArchiveSettings Config GeneratorSettings ProblemSettings "
    "SearchSettings override",
    "coordinator.single": "evaluate screen",
    "coordinator.loop": "load_config run",
    "errors": "ClusterError ConfigError ContainmentError DataError GeneratorError Interrupted "
    "LLMaticError RecordError RunLockedError",
    "generation.base": "Generator",
    "problems.evaluator": "Evaluator Immediate",
    "problems.kind": "ProblemKind",
    "search": "Archive AskTellError PromptArchive Search Tessellation cvt",
    "store.view": "Run Table read",
    "types": "Completion Descriptor Evaluation Outcome Problem Proposal Request Screened",
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names.split()}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The search: what to try next, and what the results did to the archives.

Pure: numpy and scipy, no files, no clock, no torch. The way in is :class:`Search`; its
module says which rules it follows.
"""

from __future__ import annotations

from .archive import Added, AddStatus, Archive, Individual, PromptArchive
from .population import NetworkPopulation, PromptPopulation
from .search import Search
from .seeds import Purpose, draw_seed, generator
from .tessellation import Location, Tessellation, cvt, network_tessellation, prompt_tessellation
from .told import AskTellError, Told

__all__ = [
    "AddStatus",
    "Added",
    "Archive",
    "AskTellError",
    "Individual",
    "Location",
    "NetworkPopulation",
    "PromptArchive",
    "PromptPopulation",
    "Purpose",
    "Search",
    "Tessellation",
    "Told",
    "cvt",
    "draw_seed",
    "generator",
    "network_tessellation",
    "prompt_tessellation",
]

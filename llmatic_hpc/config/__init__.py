"""Every setting of a run: TOML in, TOML out, and mistakes told in one line."""

from .fields import changed_settings, to_tables, to_toml
from .load import from_tables, load, override
from .retired import refuse_retired
from .settings import (
    BASELINES,
    ArchiveSettings,
    ClusterSettings,
    Config,
    ContainmentSettings,
    GeneratorSettings,
    NetworkArchiveSettings,
    ProblemSettings,
    PromptArchiveSettings,
    RunSettings,
    SearchSettings,
    TrainingSettings,
)

__all__ = [
    "BASELINES",
    "ArchiveSettings",
    "ClusterSettings",
    "Config",
    "ContainmentSettings",
    "GeneratorSettings",
    "NetworkArchiveSettings",
    "ProblemSettings",
    "PromptArchiveSettings",
    "RunSettings",
    "SearchSettings",
    "TrainingSettings",
    "changed_settings",
    "from_tables",
    "load",
    "override",
    "refuse_retired",
    "to_tables",
    "to_toml",
]

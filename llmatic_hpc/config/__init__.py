"""Every setting of a run: TOML in, TOML out, and mistakes told in one line."""
# ruff: noqa: F401 (all that the room offers)

from .fields import changed_settings, refuse_retired, to_tables, to_toml
from .load import from_tables, load, network_axes, override, settled
from .registry import GENERATORS, PROBLEMS, Registry, imported
from .settings import (
    AUTO,
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

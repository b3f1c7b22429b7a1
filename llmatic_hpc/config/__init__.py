"""Every setting of a run: TOML in, TOML out, and mistakes told in one line."""
# ruff: noqa: F401 (all that the room offers)

from .fields import changed_settings, refuse_retired, to_tables, to_toml
from .generator_settings import GeneratorSettings
from .load import (
    absolute,
    from_tables,
    layered,
    load,
    network_axes,
    override,
    settled,
    with_model,
)
from .registry import GENERATORS, PROBLEMS, Registry, imported
from .search_settings import (
    AUTO,
    BASELINES,
    ArchiveSettings,
    NetworkArchiveSettings,
    PromptArchiveSettings,
    SearchSettings,
)
from .settings import ClusterSettings, Config, ProblemSettings, RunSettings
from .training_settings import ContainmentSettings, TrainingSettings

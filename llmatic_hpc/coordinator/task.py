"""Facts of the task that go into requests, settled when a run starts."""

from __future__ import annotations

from typing import Any

from .. import problems
from ..config import Config
from ..errors import ConfigError
from ..generation import request_templates
from ..generation.prompts import shapes, shown
from ..problems.evaluator import Evaluator
from ..store import rows
from ..types import REWRITING, Request


def facts(config: Config, evaluator: Evaluator) -> dict[str, Any]:
    """Return what requests and further tries are made of beyond the settings; often nothing.

    Raises :class:`ConfigError` for templates that cannot be used.
    """
    asked, problem = config.generator, evaluator.problem
    found: dict[str, Any] = {}
    if config.search.prompts == "evolve":
        found |= request_templates.load(asked.templates, [REWRITING])
        found["sentence"] = problems.kind_of(config).sentence(config, problem)
    if not asked.resample and asked.request == "paper":
        return found
    (initial,) = evaluator.examine([problem.initial_source], repair=False)
    found["initial_sha256"] = initial.screened.canonical_sha256
    if asked.request == "paper":
        return found
    known = rows.measured(initial.screened)
    found |= {
        "templates": request_templates.load(asked.templates),
        "input_shape": list(problem.input_shape),
        "sentence": problems.kind_of(config).sentence(config, problem),
        "advice": problem.advice or shapes(problem),
        "initial_source": problem.initial_source,
        "has_names": bool(initial.screened.architecture),
        "initial": {name: float(value) for name, value in known.items()},
        "instructions": {
            "crossover": problem.crossover_prompt,
            "random": problem.random_prompt,
        },
    }
    _refuse_too_long(config, found)
    return found


def refuse_other_templates(config: Config, task: dict[str, Any]) -> None:
    """Refuse to continue a run with other templates than it began with.

    Raises :class:`ConfigError`.
    """
    before = dict(task.get("templates", {}))
    if REWRITING in task:
        before[REWRITING] = task[REWRITING]
    now = request_templates.load(config.generator.templates, list(before))
    if other := [name for name, text in before.items() if now[name] != text]:
        raise ConfigError(
            f"generator.templates: this run was started with another {other[0]}.txt; bring that "
            "text back, or choose another --run-dir"
        )


def _refuse_too_long(config: Config, task: dict[str, Any]) -> None:
    """Refuse a template that leaves no room even for what a first request must say."""
    most = config.generator.request_tokens
    first = Request(0, "mutation", 0, "", (task["initial_source"],), 0.0, 0)
    for name, template in task["templates"].items():
        said = {"parents": shown(first), "instruction": "", "advice": task["advice"]}
        needed = request_templates.least(template, said)
        if needed > most:
            raise ConfigError(
                f"generator.request_tokens = {most}: {name}.txt with the initial network alone "
                f"takes about {needed}; raise it, or shorten the template"
            )

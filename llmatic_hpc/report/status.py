"""Status of a run from its record, its lock and the generation in flight."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..rundir import lock
from ..rundir.paths import RunPaths
from ..search import AddStatus
from ..store import Record, promotion, repeats
from ..store import hours as hours_of
from ..store.hours import devices_of_task, part
from ..store.record import PROPOSED
from ..store.rows import queries
from ..types import STATUSES
from . import axes, plan, rates
from .lines import best_candidate, limit_line
from .recipe import trained_by

if TYPE_CHECKING:
    from ..cluster.scheduler import Queued

_LOSSES = {"lost_machine": "failures", "lost_preempted": "preemption", "lost_limit": "limits"}
"""Accounts of hours that were lost, and their causes in words."""


def status(record: Record, paths: RunPaths, *, asks: bool = True) -> dict[str, Any]:
    """Return plain values for ``llmatic status --json``; None stands for an unknown value.

    Unless it ``asks``, nothing is said of what Slurm has to say.
    """
    table, history = record.candidates, record.history
    counts = Counter(value.decode() for value in table["status"][~record.are_repeats])
    best = best_candidate(record)
    total = int(record.config["search"]["generations"])
    done = record.committed_generations
    holder = lock.holder(paths.lock)
    budget = int(record.config["search"].get("queries", 0))
    spent, full_trainings = queries(record), float(record.config["search"].get("budget", 0.0))
    cost = promotion.committed_cost(record, record.archives["network"].elite)
    is_spent = done >= total or bool(budget and spent >= budget)
    is_spent = is_spent or bool(full_trainings and cost >= full_trainings)
    elites = record.archives["network"].elite
    is_spent = is_spent or bool(hours_of.spent(record, elites))
    limits = hours_of.limits(record, elites)
    state = "running" if holder is not None else "finished" if is_spent else "stopped"
    last = {name: values[-1] for name, values in history.items()} if done else {}
    parts = [history[f"{name}_seconds"] for name in ("generate", "screen", "evaluate")]
    how = trained_by(record)
    pace = float(np.median(np.nansum(parts, axis=0))) if done else None
    # A run ends with its generations or earlier, with its queries or full trainings.
    left: float = total - done
    if budget and spent and done:
        left = min(left, (budget - spent) * done / spent)
    if full_trainings and cost and done:
        left = min(left, (full_trainings - cost) * done / cost)
    # Hours end it after a generation, which is begun while any are left.
    left = min([left, *(math.ceil(one.left * done / one.spent) for one in limits if one.spent)])
    return {
        "run": str(paths.root),
        "run_id": record.run_id,
        "state": state,
        "held_by": holder,
        "phase": record.phase,
        "generation": done,
        "generations": total,
        "candidates": record.rows - int(record.are_repeats.sum()),
        "queries": spent,
        "budget": budget or None,
        "cost": promotion.cost(record),
        "cost_budget": full_trainings or None,
        "limits": [one._asdict() for one in limits],
        "alive_hours": record.alive_seconds / 3600,
        "rungs": list(record.rungs),
        "elites_due": promotion.due(record),
        "benchmark": record.environment.get("benchmark"),
        "generator": record.environment.get("generator"),
        "training": f"{how.in_full} epochs, {how.recipe()}" if how else None,
        "status": {name: counts[name] for name in (*STATUSES, "pending") if counts[name]},
        "rates": rates.rates(record),
        "best": None if best is None else _candidate(record, best),
        "repeats": _repeats(record),
        "network_elites": int(last.get("network_elites", 0)),
        "network_cells": len(record.archives["network"].elite),
        **axes.axes(record),
        "prompt_elites": int(last.get("prompt_elites", 0)),
        "prompt_cells": len(record.archives["prompt"].elite),
        "qd_score": float(np.nansum(record.archives["network"].fitness)),
        "writing": _writing(record, paths),
        "in_flight": _in_flight(record, paths),
        **(scheduled(record, paths, state) if asks else NOT_ASKED),
        "train_hours": _hours(table["train_seconds"]),
        "queue_hours": _hours(table["queue_seconds"]),
        "generate_hours": _hours(history["generate_seconds"]),
        "hours": hours(record),
        "planned": plan.compared(record, paths),
        "seconds_left": None if pace is None else round(pace * max(left, 0)),
    }


NOT_ASKED: dict[str, Any] = {"held_jobs": [], "queued_jobs": [], "array": None}
"""Values that Slurm would have to be asked for."""


def scheduled(record: Record, paths: RunPaths, state: str) -> dict[str, Any]:
    """Ask Slurm about a run in this ``state``: jobs of its coordinator, the array in flight."""
    jobs = _coordinator_jobs(paths) if state == "stopped" else []
    return {
        "held_jobs": [{"job": q.job, "reason": q.reason} for q in jobs if q.is_held],
        "queued_jobs": [
            {"job": q.job, "state": q.state, "reason": q.reason} for q in jobs if not q.is_held
        ],
        "array": _array(record, paths),
    }


def render(values: dict[str, Any]) -> RenderableType:
    """Lay out what :func:`status` returned for a terminal."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()

    def row(name: str, text: str) -> None:
        table.add_row(name, Text(text))

    row("run", values["run"])
    held = values["held_by"]
    by = f" (host {held.get('host')}, process {held.get('pid')})" if held else ""
    row("state", values["state"] + by)
    if values["budget"]:
        row("queries", f"{values['queries']} of {values['budget']}")
        row("generation", f"{values['generation']}, at most {values['generations']}")
    else:
        row("generation", f"{values['generation']} of {values['generations']}")
    for job in values["held_jobs"]:
        row("job", f"{job['job']} is held by Slurm ({job['reason']}) and starts no more by itself; "
                   f"'scontrol release {job['job']}' lets it")  # fmt: skip
    for job in values["queued_jobs"]:
        why = f", {job['reason']}" if job["reason"] not in ("", "None") else ""
        row("job", f"{job['job']} goes on with it ({job['state'].lower()}{why})")
    if writing := values["writing"]:
        first = "; a model is loaded before the first" if not writing["completions"] else ""
        row("writing", f"{writing['completions']} of {writing['candidates']} completions{first}")
    if flight := values["in_flight"]:
        text = f"{flight['results']} of {flight['candidates']} candidates evaluated"
        if rungs := values["rungs"]:
            text += f" at rung {flight['rung'] + 1} of {len(rungs)}, {rungs[flight['rung']]} epochs"
        row("in flight", text)
    if array := values["array"]:
        row("array", _array_line(array))
    counts = ", ".join(f"{n} {name}" for name, n in values["status"].items())
    row("candidates", f"{values['candidates']}: {counts}" if counts else "none yet")
    if values["rungs"] or values["cost_budget"]:
        row("cost", _cost_line(values))
    for one in values["limits"]:
        row(one["setting"].removeprefix("search."), limit_line(one))
    if again := values["repeats"]:
        row("trained again", _repeats_line(again))
    if benchmark := values["benchmark"]:
        text = "{name}, {dataset}, protocol {protocol}: at best {best_fitness:.4f}"
        row("benchmark", text.format(**benchmark))
    row("written by", values["generator"] or "nothing yet")
    for one in values["rates"]["by_writer"]:
        row(f"  {one['writer']}", f"{one['generator']}: {rates.shares(one)}")
    if values["training"]:
        row("training", values["training"])
    if values["candidates"]:
        row("completions", rates.line(values["rates"]))
    if best := values["best"]:
        accuracy = best["test_accuracy"]
        tested = "unknown" if accuracy is None else f"{accuracy:.4f}"
        sizes = [f"{best['flops']:.3g} FLOPs"] if best["flops"] is not None else []
        sizes += [f"{best['params']} parameters"] if best["params"] >= 0 else []
        row("best", ", ".join([
            f"candidate {best['candidate']}: fitness {best['fitness']:.4f}{of_several(best)}",
            f"test accuracy {tested}", *sizes,
        ]))  # fmt: skip
    elites = counted(values["network_elites"], "elite")
    row("networks", f"{elites} in {values['network_cells']} cells{_reached(values)}, "
                    f"QD score {values['qd_score']:.3f}")  # fmt: skip
    for text in axes.warnings(values):
        row("map", text)
    row("prompts", f"{counted(values['prompt_elites'], 'elite')} in {values['prompt_cells']} cells")
    hours = values["hours"]
    spent = "hours saved" if values["benchmark"] else "hours"
    row(spent, f"{hours['useful']:.2f} useful, {hours['untrainable']:.2f} on what got no score, "
                 f"{_lost(hours)}; {hours['queueing']:.2f} waiting for a worker, "
                 "summed over candidates")  # fmt: skip
    row("coordinator", f"{hours['coordinator_generating']:.2f} hours generating, "
                       f"{hours['coordinator_idle']:.2f} idle")  # fmt: skip
    if planned := values["planned"]:
        row("planned / actual", plan.comparison_line(planned))
    if values["seconds_left"] and values["state"] != "finished":
        row(
            "time left",
            f"about {counted(round(values['seconds_left'] / 60), 'minute')} at this pace",
        )
    return Group(table)


def _reached(values: dict[str, Any]) -> str:
    """Describe what of the map networks reached, fit or not, and how many lay beside it."""
    clipped, reached = values["network_clipped"], values["network_reached"]
    parts = [f"{reached} of them reached"] if reached is not None else []
    parts += [f"{counted(clipped, 'candidate')} clipped to the bounds"] if clipped else []
    return f" ({', '.join(parts)})" if parts else ""


def _cost_line(values: dict[str, Any]) -> str:
    """Describe what trainings have cost, short ones by their epochs, and what is due yet."""
    budget, due = values["cost_budget"], values["elites_due"]
    of = f" of {budget:g}" if budget else ""
    at = f"; rungs at {', '.join(map(str, values['rungs']))} epochs" if values["rungs"] else ""
    yet = f"; {counted(due, 'elite')} still to be trained in full" if due else ""
    return f"{values['cost']:.2f}{of} full trainings{at}{yet}"


def counted(number: int, thing: str) -> str:
    """Return ``1 elite``, ``2 elites``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _array_line(array: dict[str, Any]) -> str:
    retried = f"; {array['retried']} of the candidates again" if array["retried"] else ""
    if not array["answers"]:
        return f"{array['elements']} elements; squeue does not answer{retried}"
    why = ", ".join(f"{n} {reason}" for reason, n in array["reasons"].items())
    return (
        f"{array['elements']} elements: {array['waiting']} waiting{f' ({why})' if why else ''}, "
        f"{array['running']} running{' on ' if array['nodes'] else ''}"
        f"{', '.join(array['nodes'])}, {array['done']} done{retried}"
    )


def _lost(hours: dict[str, float]) -> str:
    """Describe the hours lost, by each cause that cost any."""
    parts = [f"{hours[key]:.2f} by {why}" for key, why in _LOSSES.items() if hours[key]]
    return f"lost {', '.join(parts)}" if parts else "none lost"


def _candidate(record: Record, row: int) -> dict[str, Any]:
    table = record.candidates
    names = ("fitness", "valid_accuracy", "test_accuracy", "flops", "ratio")
    numbers = {name: float(table[name][row]) for name in names}
    for name in ("fitness", "valid_accuracy", "test_accuracy"):
        numbers[name] = float(repeats.scored(record, name).mean[row])
    known = repeats.scored(record)
    deviation = float(known.deviation[row])
    return {
        "candidate": row,
        "trainings": int(known.number[row]),
        "deviation": deviation if math.isfinite(deviation) else None,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        **{name: int(table[name][row]) for name in ("width", "depth", "params")},
    }


def of_several(values: dict[str, Any]) -> str:
    """Say of how many trainings a fitness is the mean, and how far they lie apart; else nothing."""
    if values["trainings"] < 2:
        return ""
    return (
        f" (mean of {values['trainings']} trainings, standard deviation {values['deviation']:.4f})"
    )


def _repeats(record: Record) -> dict[str, int] | None:
    """Count trainings of networks that had been trained before; None where there are none."""
    if not record.has_challenges:
        return None
    own, added = record.are_repeats, record.candidates["network_added"]
    asked = own & (record.candidates["status"] != b"passed_over")
    return {
        "trainings": int(asked.sum()),
        "networks": len(np.unique(record.candidates["parents"][asked, 0])),
        "rose": int((added[own] == AddStatus.IMPROVE_EXISTING).sum()),
        "fell": int((added[own] == AddStatus.FELL).sum()),
    }


def _repeats_line(again: dict[str, int]) -> str:
    networks, trainings = again["networks"], again["trainings"]
    return (
        f"{counted(networks, 'network')}, {counted(trainings, 'training')}: {again['rose']} became "
        f"elites by it, {again['fell']} fell"
    )


def _in_flight(record: Record, paths: RunPaths) -> dict[str, int] | None:
    at = paths.at_rungs()[-1]
    if record.phase != PROPOSED and not at.rung:
        return None
    pending = int(np.sum(record.candidates["status"] == b"pending")) or promotion.due(record)
    try:
        names = {path.name.split(".")[0] for path in at.results.glob("*.json")}
    except OSError:
        names = set()
    return {"candidates": pending, "results": len(names), "rung": at.rung}


def _writing(record: Record, paths: RunPaths) -> dict[str, int] | None:
    """Count the completions of the generation that is being written; None while none is."""
    if record.phase == PROPOSED or not paths.plan.exists() or paths.at_rungs()[-1].rung:
        return None
    search = record.config["search"]
    try:
        written = paths.completions.read_bytes().count(b"\n")
    except FileNotFoundError:
        written = 0
    return {"completions": written, "candidates": search["batch"] * search.get("oversample", 1)}


def _coordinator_jobs(paths: RunPaths) -> list[Queued]:
    """List jobs of this run's coordinator in the queue, also those that Slurm gave up starting."""
    if next(paths.logs.glob("slurm-*.log"), None) is None and not paths.successor.exists():
        return []
    from ..cluster import scheduler  # submitit, which look-ups do without
    from ..cluster.chain import successor_of
    from ..cluster.launch import job_name

    name, successor = job_name(paths.root.resolve()), successor_of(paths)
    ours = (q for q in (scheduler.queue() or {}).values() if q.name == name or q.job == successor)
    return [queued for queued in ours if not queued.is_leaving]


def _array(record: Record, paths: RunPaths) -> dict[str, Any] | None:
    """Ask Slurm about the generation in flight; None where it is not evaluated in arrays."""
    paths = paths.at_rungs()[-1]
    if not paths.submissions.exists():
        return None
    from ..cluster import scheduler, submission_prefix  # submitit, which look-ups do without
    from ..cluster.journal import read_state

    state = read_state(paths.journal)
    queue = scheduler.queue()
    prefix = submission_prefix(record.run_id)
    ours = [q for q in (queue or {}).values() if q.name.startswith(prefix) and not q.is_leaving]
    waiting = [q for q in ours if q.is_waiting or q.is_held]
    return {
        "answers": queue is not None,
        "elements": len(state.tasks),
        "waiting": len(waiting),
        "reasons": dict(Counter(q.reason for q in waiting)),
        "running": len(ours) - len(waiting),
        "nodes": sorted({q.node for q in ours if q.node and not q.is_waiting}),
        "done": len(state.tasks) - len(ours) if queue is not None else None,
        "retried": sum(1 for attempts in state.attempts.values() if attempts > 1),
    }


def hours(record: Record) -> dict[str, float]:
    """Add up where the hours went.

    Those of candidates are a device's: of several that share one, each has its part.
    """
    table, history = record.candidates, record.history
    useful = np.isin(table["status"], (b"scored", b"stopped", b"duplicate"))
    seconds, devices = table["train_seconds"] * part(record), devices_of_task(record.config)
    return {
        "useful": _hours(seconds[useful]),
        "untrainable": _hours(seconds[~useful]),
        **{cause: _hours(history[f"{cause}_seconds"]) * devices for cause in _LOSSES},
        "queueing": _hours(table["queue_seconds"]),
        "coordinator_generating": _hours(history["generate_seconds"]),
        "coordinator_idle": _hours(history["evaluate_seconds"]),
    }


def _hours(seconds: Any) -> float:
    return float(np.nansum(seconds)) / 3600

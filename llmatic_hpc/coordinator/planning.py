"""Estimate beforehand what a run takes: rehearse it, time a few trainings, add up.

A training takes ``start + steps * step + examples * predict`` seconds. A step takes what a fit of
the timed networks says of its depth, its FLOPs, its parameters and its memory; of a device with a
fixed cost for each kernel depth says most, of a busy one FLOPs.
"""

from __future__ import annotations

import heapq
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ..cluster.backend import Work
from ..cluster.placement import (
    available_cores,
    kind_of,
    pack,
    packing,
    task_count,
    tasks_at_once,
    threads_per_task,
)
from ..config import Config
from ..evaluation import timing
from ..problems.evaluator import Evaluator
from ..report.plan import Estimate
from . import writing
from .rehearsal import Rehearsal, Training, evaluator_of, rehearse
from .stand_in import AS_THE_CONTROL, Cost, scale_of

PARTS = ("training", "predicting", "starting")
"""Parts of the hours of devices: steps, predictions afterwards, and until the first step."""
STAGES = ("generating", "screening", "evaluating", "starting workers", "other")
"""Parts of the wall time."""
REHEARSALS = 3
NETWORKS = 16
"""Networks that are timed, spread over the FLOPs of those that would be trained."""
FILES_OF_TASK, FILES_OF_RUN = 8, 10
"""Files of submitit's and of ours."""


@dataclass(frozen=True)
class Fit:
    """Seconds of any network's training, from those of a few."""

    bench: timing.Bench
    batch: int
    step: NDArray[np.float64]
    start: NDArray[np.float64]
    predict: NDArray[np.float64]
    limit: float
    timed: Mapping[str, timing.Timed]
    """Networks that were timed themselves, by their source."""

    def cost(self, training: Training, images: int | None = None) -> Cost:
        """Return what a training takes, with so many ``images`` in place of the run's."""
        seen, count = _features(training, self.batch), images or self.bench.train
        steps = training.epochs * math.ceil(count / self.batch)
        own = self.timed.get(training.source)
        step, predict, start = (
            (float(seen @ self.step), float(seen @ self.predict), float(seen[:2] @ self.start))
            if own is None
            else (own.step, own.predict, own.start)
        )
        found = Cost(steps * step, self.bench.evaluated * predict, start)
        over = found.seconds / self.limit
        return Cost(*(part / over for part in found)) if over > 1 else found


class _Work(NamedTuple):
    """Work of a whole run, as one rehearsal has it."""

    generations: int
    completions: int
    trainings: list[Training]
    costs: list[Cost]
    wall: dict[str, float]
    """Seconds."""


def estimate(
    config: Config, *, completions: int = 8, notify: Callable[[str], None] = lambda text: None
) -> Estimate:
    """Estimate the cost of a run of ``config`` on the device at hand.

    A language model is tried on so many ``completions``; 0: not at all. ``notify`` is told what is
    under way. Raises :class:`~llmatic_hpc.errors.LLMaticError` as a run would.
    """
    with closing(evaluator_of(config)) as real:
        return _estimate(config, real, completions, notify)


def _estimate(
    config: Config, real: Evaluator, completions: int, notify: Callable[[str], None]
) -> Estimate:
    real.prepare()
    trains, problem = not real.repeatable, real.problem
    notify("rehearsing the search: the control writes, nothing is trained")
    rehearsals = [rehearse(config, n, real) for n in range(REHEARSALS if trains else 1)]
    fit, start = None, 0.0
    if trains:
        chosen = _spread([t for r in rehearsals for g in r.generations for t in g.trainings])
        notify(f"timing {len(chosen)} of the networks in short trainings")
        fit = _fitted(config, chosen)
        start = fit.bench.worker_seconds + _interpreter_seconds()
    parents, paces = rehearsals[0].parents, dict[str, writing.Pace | None]()
    if any(one.kind not in ("procedural", "replay") for one in config.generator.by_name().values()):
        notify(f"trying the language model: {completions} completions")
        if completions:
            paces = writing.paces(config, problem, parents, completions, notify)
        else:
            paces = dict.fromkeys(config.generator.by_name())
    scale = scale_of(config, real, fit.cost, paces.values()) if fit else AS_THE_CONTROL
    works = [_work(config, one, fit, start, paces, scale) for one in rehearsals]
    return _summed(config, rehearsals, works, fit, paces, scale)


# --- time of a training -------------------------------------------------------------------------


def _spread(trainings: Sequence[Training]) -> list[Training]:
    """Choose networks at even distances in the order of their FLOPs, each once."""
    distinct = sorted({t.source: t for t in trainings}.values(), key=lambda t: (t.flops, t.source))
    places = np.linspace(0, len(distinct) - 1, min(NETWORKS, len(distinct))).round().astype(int)
    return [distinct[place] for place in dict.fromkeys(places.tolist())]


def _fitted(config: Config, chosen: Sequence[Training]) -> Fit:
    workers = config.cluster.workers_per_task
    # Side by side as in the run: they are slower than alone.
    beside = 1 if kind_of(config.cluster) == "slurm" else min(tasks_at_once(config), _tasks(config))
    cores = threads_per_task(config) or available_cores()
    bench = timing.time_networks(
        config, [t.source for t in chosen], slots=beside * workers, threads=max(1, cores // workers)
    )
    timed = [(t, n) for t, n in zip(chosen, bench.networks, strict=True) if n is not None]
    seen = np.array([_features(t, config.training.batch) for t, _ in timed]).reshape(-1, 5)
    return Fit(
        bench, config.training.batch,
        step=_coefficients(seen, [n.step for _, n in timed]),
        start=_coefficients(seen[:, :2], [n.start for _, n in timed]),
        predict=_coefficients(seen, [n.predict for _, n in timed]),
        limit=config.containment.wall_seconds,
        timed={t.source: n for t, n in timed},
    )  # fmt: skip


def _features(training: Training, batch: int) -> NDArray[np.float64]:
    """Return what the time of a step goes by, (5,): 1, layers, arithmetic, parameters, memory."""
    return np.array([
        1.0, training.depth, training.flops * batch, training.params,
        training.activation_bytes * batch,
    ])  # fmt: skip


def _coefficients(seen: NDArray[np.float64], seconds: Sequence[float]) -> NDArray[np.float64]:
    """Fit ``seconds`` (N,) by what was ``seen`` (N, K): none negative, by relative errors.

    Their sum is then made that of what was measured.
    """
    wanted = np.maximum(np.array(seconds), 1e-9)
    if not len(wanted):
        return np.zeros(seen.shape[1])
    size = np.maximum(np.abs(seen).max(axis=0), 1e-300)
    found = nnls(seen / size / wanted[:, None], np.ones(len(wanted)))[0] / size
    total = float((seen @ found).sum())
    return np.asarray(found * (wanted.sum() / total if total else 1.0))


def _tasks(config: Config) -> int:
    """Return how many tasks a generation makes, as far as that is known without any times."""
    per_task = packing(config, 0.0).candidates_per_task
    most = config.search.batch
    return max(1, task_count(most, parallelism=tasks_at_once(config), per_task=per_task))


def _interpreter_seconds() -> float:
    """Time what every worker does first: start, and import what it is made of."""
    began = time.monotonic()
    code = "import llmatic_hpc.cluster.local, llmatic_hpc.evaluation.worker"
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    return time.monotonic() - began


# --- all of a run -------------------------------------------------------------------------------


def _work(
    config: Config, rehearsal: Rehearsal, fit: Fit | None, start: float,
    paces: Mapping[str, writing.Pace | None], scale: Cost,
) -> _Work:  # fmt: skip
    """Add up a run, whose generations after the rehearsed ones are like the last half of those."""
    search, known = config.search, rehearsal.generations
    wall = dict.fromkeys(STAGES, 0.0)
    wall["other"] += max((p.load for p in paces.values() if p is not None), default=0.0)
    wall["screening"] += rehearsal.first_seconds
    if fit is None:
        wall["other"] += rehearsal.seconds * search.generations / max(1, len(known))
        wall["screening"] = 0.0
    trainings: list[Training] = []
    costs: list[Cost] = []
    completions = generation = 0
    for generation in range(1, search.generations + 1):
        at = generation - 1
        if at >= len(known):
            half = max(1, len(known) // 2)
            at = len(known) - half + (generation - 1 - len(known)) % half
        if not known:
            break
        work = known[at]
        completions += work.completions
        for pace in paces.values():
            if pace is not None:
                count = math.ceil(work.completions / len(paces))
                wall["generating"] += writing.seconds(pace, count)
        if fit is None:
            trainings += work.trainings
        else:
            wall["screening"] += work.screen_seconds
            new = [fit.cost(one).times(scale) for one in work.trainings]
            trainings, costs = [*trainings, *work.trainings], [*costs, *new]
            _add_evaluation(config, wall, work.trainings, new, start)
        if _is_spent(config, rehearsal, generation, costs, wall):
            break
    if fit is not None and rehearsal.last:
        new = [fit.cost(one).times(scale) for one in rehearsal.last]
        trainings, costs = [*trainings, *rehearsal.last], [*costs, *new]
        _add_evaluation(config, wall, rehearsal.last, new, start)
    return _Work(generation, completions, trainings, costs, wall)


def _add_evaluation(
    config: Config, wall: dict[str, float], trainings: Sequence[Training], costs: Sequence[Cost],
    start: float,
) -> None:  # fmt: skip
    """Add the time until a generation's tasks are done, packed and run as the cluster would."""
    if not trainings:
        return
    cluster = packing(config, float(np.median([one.seconds for one in costs])))
    per_task, workers = cluster.candidates_per_task, cluster.workers_per_task
    work = [Work(n, "", one.flops) for n, one in enumerate(trainings)]
    is_apart = kind_of(cluster) == "slurm"
    tasks = task_count(len(work), parallelism=tasks_at_once(config), per_task=per_task)
    packed = pack(work, tasks, most=per_task)
    at_once = cluster.array_parallelism or len(packed) if is_apart else tasks_at_once(config)

    def until_done(begin: float) -> float:
        lengths = []
        for task in packed:
            seconds = [costs[one.candidate].seconds for one in task]
            lengths.append(begin + max(sum(seconds) / workers, max(seconds)))
        return makespan(lengths, at_once)

    alone, whole = until_done(0.0), until_done(start)
    wall["evaluating"] += alone
    wall["starting workers"] += whole - alone
    wall["other"] += config.cluster.poll_seconds


def makespan(lengths: Sequence[float], at_once: int) -> float:
    """Return when all tasks are done of which so many run at once, started in their order."""
    free = [0.0] * max(1, at_once)
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


def _is_spent(
    config: Config, rehearsal: Rehearsal, done: int, costs: Sequence[Cost], wall: dict[str, float]
) -> bool:
    """Return whether a run ends after so many generations ``done``, for any of its budgets."""
    search, known = config.search, len(rehearsal.generations)
    if rehearsal.is_whole and done >= known:
        return True
    longer = done / known if done > known else 0.0
    spent = (
        (search.max_gpu_hours, sum(one.seconds for one in costs) / 3600),
        (search.max_hours, sum(wall.values()) / 3600),
        (search.queries, rehearsal.queries * longer),
        (search.budget, rehearsal.cost * longer),
    )
    return any(0 < most <= so_far for most, so_far in spent)


def _summed(
    config: Config, rehearsals: Sequence[Rehearsal], works: Sequence[_Work], fit: Fit | None,
    paces: Mapping[str, writing.Pace | None], scale: Cost,
) -> Estimate:  # fmt: skip
    """Return the means over the rehearsals, and what there is to say of them."""
    number = len(works)
    completions = sum(one.completions for one in works) / number
    sums = [np.array(one.costs or [Cost(0.0, 0.0, 0.0)]).sum(axis=0) / 3600 for one in works]
    device = np.mean(sums, axis=0)
    wall = {n: sum(one.wall[n] for one in works) / number / 3600 for n in works[0].wall}
    tokens: float | None = 0.0
    if paces:
        known = [pace.tokens for pace in paces.values() if pace is not None]
        tokens = completions * sum(known) / len(paces) if len(known) == len(paces) else None
    candidates = sum(one.generations for one in works) / number * config.search.batch
    row = float(np.median([one.row_bytes for one in rehearsals]))
    row += 4 * tokens / max(1.0, completions) if tokens else 0.0
    size = float(np.median([one.base_bytes for one in rehearsals])) + row * completions
    at_once = tasks_at_once(config) * config.cluster.workers_per_task
    heaviest = max((one.params for work in works for one in work.trainings), default=0.0)
    is_cpu = fit is None or fit.bench.device.startswith("cpu")
    return Estimate(
        generations=sum(one.generations for one in works) / number,
        candidates=candidates,
        trainings=sum(len(one.trainings) for one in works) / number if fit else 0.0,
        device_hours=dict(zip(PARTS, device.tolist(), strict=True)),
        least_hours=float(min(one.sum() for one in sums)),
        most_hours=float(max(one.sum() for one in sums)),
        unit="CPU-hours" if is_cpu else "GPU-hours",
        wall_hours=wall,
        tokens=tokens,
        disk_bytes=2 * size,
        peak_bytes=3 * size + (12 * heaviest * at_once if fit else 0.0),
        inodes=FILES_OF_RUN
        + (FILES_OF_TASK * _tasks(config) + 2 * config.search.batch if fit else 0),
        advice=tuple(_advice(config, works, fit, wall, scale)),
        notes=tuple(_notes(config, rehearsals, fit, paces, scale)),
    )


# --- words --------------------------------------------------------------------------------------


def _advice(
    config: Config, works: Sequence[_Work], fit: Fit | None, wall: Mapping[str, float], scale: Cost
) -> list[str]:
    """Say what most of the hours go into, and what would halve that."""
    found = []
    costs = [pair for work in works for pair in _pairs(work)] if fit is not None else []
    if fit is not None and (total := sum(cost.seconds for _, cost in costs)):
        sizes = np.array([cost for _, cost in costs]).sum(axis=0)
        name, share = PARTS[int(sizes.argmax())], float(sizes.max()) / total
        said = f"{name} takes {share:.0%} of the hours of devices"
        if name == "training":
            half = max(1, fit.bench.train // 2)
            less = sum(fit.cost(t, half).times(scale).seconds for t, _ in costs)
            said += (
                f"; half of the images (problem.train_images = {_half(config, fit)}) or of the "
                f"epochs would leave {less / total:.0%} of all"
            )
            said += f", networks of at most containment.max_flops = {_flops(costs):.2g} half of it"
        elif name == "starting":
            said += "; longer trainings cost little more, and fewer candidates less"
        else:
            said += "; problem.test_images bounds the images that every candidate predicts"
        found.append(said)
    total = sum(wall.values())
    name = max(wall, key=lambda one: wall[one])
    changes = {
        "generating": "a smaller generator.model, shorter generator.max_new_tokens, a larger "
        "generator.batch or a GPU for the model",
        "evaluating": "twice as many tasks at once (cluster.array_parallelism) with as many "
        "devices",
        "starting workers": "fewer tasks, of more candidates each (cluster.candidates_per_task)",
        "screening": "more cores for the coordinator",
    }
    if total and (change := changes.get(name)):
        found.append(f"{name} takes {wall[name] / total:.0%} of the wall time; less of it by "
                     f"{change}")  # fmt: skip
    return found


def _pairs(work: _Work) -> list[tuple[Training, Cost]]:
    return list(zip(work.trainings, work.costs, strict=True))


def _half(config: Config, fit: Fit) -> int:
    """Return a number of training images, the validation split's included, that is half as many."""
    split = config.training.fitness_split == "validation"
    whole = fit.bench.train / (1 - config.training.validation_fraction if split else 1)
    return max(1, round(whole / 2))


def _flops(costs: Sequence[tuple[Training, Cost]]) -> float:
    """Return the FLOPs below which networks take half of all hours."""
    order = sorted(costs, key=lambda one: one[0].flops)
    sums = np.cumsum([cost.seconds for _, cost in order])
    return max(1.0, order[int(np.searchsorted(sums, sums[-1] / 2))][0].flops)


def _notes(
    config: Config, rehearsals: Sequence[Rehearsal], fit: Fit | None,
    paces: Mapping[str, writing.Pace | None], scale: Cost,
) -> list[str]:  # fmt: skip
    found = []
    rehearsed = min(len(one.generations) for one in rehearsals)
    if rehearsed and not all(one.is_whole for one in rehearsals):
        found.append(f"generations after {rehearsed} are taken to be like those before")
    if fit is None:
        found.append("nothing is trained: scores cost nothing here")
    else:
        found.append(f"trainings were timed on {fit.bench.device or 'no device: none succeeded'}")
        if kind_of(config.cluster) == "slurm":
            found.append("waiting in the queue is not counted; the device is the one here, which "
                         "need not be an element's")  # fmt: skip
    if paces:
        said = "networks are the control's; a language model's may be larger or smaller, and more "
        found.append(f"{said}of them invalid or repeated")
        if scale != AS_THE_CONTROL:
            found.append(f"steps are taken to last {scale.training:.2f} times as long: so much "
                         "did the tried completions' networks against the control's")  # fmt: skip
    if any(pace is None for pace in paces.values()):
        found.append("the time of the language model is missing: it was not tried")
    if config.generator.resample or config.generator.retry:
        found.append("completions that are sampled again are not counted")
    return found

"""Every data set of run.h5: name, type, unit, meaning. Schema version 1.

A change that a reader of version 1 would misread raises ``VERSION``; a new column does not,
and is named in ``LATER``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = "llmatic-run"
VERSION = 1

TEXT = "text"
"""Marks a column of variable-length UTF-8."""


PROMPTS, AXES, RUNGS = -1, -2, -3
"""Widths of columns that are as wide as a run has prompts, axes of its map, or rungs."""


@dataclass(frozen=True)
class Column:
    """One data set with a row per candidate or per generation."""

    name: str
    dtype: str
    fill: Any
    long_name: str
    units: str = ""
    width: int = 0
    """Second dimension; 0: none, below: as wide as there are prompts, axes or rungs."""

    @property
    def is_text(self) -> bool:
        """True where rows are Python strings of any length."""
        return self.dtype == TEXT

    def empty(self, rows: int, *, prompts: int = 0, axes: int = 0, rungs: int = 0) -> NDArray[Any]:
        """``rows`` rows of the fill value."""
        width = {PROMPTS: prompts, AXES: axes, RUNGS: rungs}.get(self.width, self.width)
        shape = (rows, width) if self.width else (rows,)
        return np.full(shape, self.fill, dtype=object if self.is_text else self.dtype)


NAN = float("nan")

CANDIDATES = (
    Column("generation", "i4", -1, "generation that proposed the candidate"),
    Column("told", "i4", -1, "generation whose update its evaluation entered; -1: still out"),
    Column("index", "i4", -1, "position in the generation's batch"),
    Column("attempt", "i4", 0, "number among the completions for its place in the batch, from 0"),
    Column("writer", "S32", b"", "name of its writer; empty: the run has one"),
    Column("operator", "S16", b"", "mutation, crossover, random, neighbour, seed or repeat"),
    Column("parents", "i8", -1, "candidates it was made from; all -1: the initial network", "", 3),
    Column("prompt", "i4", -1, "index into prompts/text; -1: no mutation"),
    Column("temperature", "f8", NAN, "sampling temperature", "1"),
    Column(
        "individual",
        "i8",
        -1,
        "candidate whose prompt individual was selected; -1: none. "
        "Variant network-archive: place in the population. Operator neighbour: its number",
    ),
    Column("target", "i4", -1, "cell of the network archive that was wanted; -1: none was"),
    Column("seed", "i8", -1, "seed of its training"),
    Column("sampling_seed", "i8", -1, "seed of its sampling"),
    Column("request_sha256", "S64", b"", "digest of an informed request; empty: the paper's"),
    Column("completion", TEXT, "", "what the generator wrote; empty: the source itself"),
    Column("earlier", TEXT, "", "JSON list of completions for it that were not kept, in order"),
    Column("resampled", "i4", 0, "how often it was sampled again since it repeated a network", "1"),
    Column("retries", "i4", 0, "how often its error was shown and a completion asked for", "1"),
    Column("form", "S16", b"", "completion (continues a prompt), chat (an answer) or source"),
    Column("tokens", "i4", 0, "length of the completion", "tokens"),
    Column("written", "S16", b"", "how far it got as written: parsed, built, fits; empty: not"),
    Column("repairs", TEXT, "", "JSON list of what was repaired: rule, lines before, lines after"),
    Column("source", TEXT, "", "source text of the network, repaired"),
    Column("source_sha256", "S64", b"", "digest of the source"),
    Column("canonical_sha256", "S64", b"", "digest of the canonical syntax tree"),
    Column("architecture", TEXT, "", "NAS-Bench-201: official string of the cell"),
    Column("duplicate_of", "i8", -1, "earlier candidate with the same canonical syntax tree"),
    Column("status", "S16", b"", "what became of it; pending: not evaluated yet"),
    Column("failure", TEXT, "", "why it has no score"),
    Column("width", "i8", -1, "largest number of output features or channels", "1"),
    Column("depth", "i8", -1, "number of executed layers", "1"),
    Column("ratio", "f8", NAN, "width / depth, as measured", "1"),
    Column("flops", "f8", NAN, "multiply-adds for one example, as measured", "FLOP"),
    Column("params", "i8", -1, "number of parameters", "1"),
    Column("activation_bytes", "i8", -1, "most memory alive at once for one image", "byte"),
    Column("milliseconds", "f8", NAN, "least time of a batch, in evaluation, on its device", "ms"),
    Column("naswot", "f8", NAN, "search.proxies: log of the determinant of the kernel of switches"),
    Column("synflow", "f8", NAN, "search.proxies: log10 of the synaptic flow"),
    Column("descriptors", "f8", NAN, "as measured, by the axes of archives/network", "", AXES),
    Column("fitness", "f8", NAN, "accuracy that the search maximises", "1"),
    Column("valid_accuracy", "f8", NAN, "accuracy on the validation split", "1"),
    Column("test_accuracy", "f8", NAN, "accuracy on the test split", "1"),
    Column("rank", "i4", 0, "NAS-Bench-201: 1 + cells of a higher test accuracy; 0: none", "1"),
    Column("train_loss", "f8", NAN, "mean cross-entropy over the last epoch", "nat"),
    Column("train_curve", TEXT, "", "JSON list: mean cross-entropy over each epoch", "nat"),
    Column("epochs", "i4", 0, "epochs trained; what failed at a rung: to the end of it", "1"),
    Column("rung_scores", "f8", NAN, "fitness after the epochs of each rung", "1", RUNGS),
    Column("promoted", "i4", -1, "generations after which an elite was trained in full; -1: not"),
    Column("possible", "i4", 0, "trainings that can be had of the network; 0: any number", "1"),
    Column("network_cell", "i4", -1, "cell of the network archive; -1: not offered"),
    Column(
        "network_added",
        "i1",
        -1,
        "0 no, 1 replaced an elite, 2 new cell, 3 repeat: its network fell, -1 not offered",
    ),
    Column("network_clipped", "u1", 0, "1: a descriptor lay outside the archive's bounds"),
    Column("prompt_cell", "i4", -1, "cell of the prompt archive; -1: not offered"),
    Column("prompt_added", "i1", -1, "0 no, 1 replaced an elite, 2 new cell, -1 not offered"),
    Column("curiosity_delta", "f8", 0.0, "what the selected prompt individual earned", "1"),
    Column("new_temperature", "f8", NAN, "temperature of the new prompt individual", "1"),
    Column("generate_seconds", "f8", NAN, "share of the time that its sampling took", "s"),
    Column("queue_seconds", "f8", NAN, "from submission to start", "s"),
    Column("train_seconds", "f8", NAN, "training and prediction; NAS-Bench-201: the table's", "s"),
    Column("attempts", "i4", 0, "evaluations that were started", "1"),
    Column("slurm_job", "S32", b"", "job that evaluated it"),
    Column("node", "S64", b"", "host that evaluated it"),
    Column("device", "S64", b"", "device that it was trained on: cpu, or a type and a name"),
)

OF_RUNGS = frozenset({"rung_scores", "promoted"})
"""Columns that the file of a run without rungs has not."""

OF_CHALLENGES = frozenset({"possible"})
"""Columns that the file of a run without ``search.challenge`` has not."""

LATER = OF_RUNGS | OF_CHALLENGES | frozenset({
    "told", "written", "repairs", "architecture", "rank", "descriptors", "device",
    "activation_bytes", "milliseconds", "attempt", "naswot", "synflow", "train_curve", "writer",
    "earlier", "resampled", "retries", "target", "request_sha256",
    "lost_machine_seconds", "lost_preempted_seconds", "lost_limit_seconds",
})  # fmt: skip
"""Columns that records of version 1 may lack."""

TIMINGS = frozenset({
    "generate_seconds", "queue_seconds", "train_seconds", "attempts", "slurm_job", "node", "device",
    "milliseconds",
})  # fmt: skip
"""Columns that differ between two runs of the same configuration and seed."""

HISTORY = (
    Column("generation", "i4", -1, "generation"),
    Column("phase", "S16", b"", "start or search"),
    Column("operator", "S16", b"", "operator that was applied"),
    Column("operator_drawn", "S16", b"", "operator that was drawn"),
    Column("best_before", "f8", NAN, "fitness that offspring were compared with", "1"),
    Column("best_fitness", "f8", NAN, "best fitness of the generation", "1"),
    Column("mean_fitness", "f8", NAN, "mean fitness of its scored candidates", "1"),
    Column("trainable", "i4", 0, "candidates with a score", "1"),
    Column("added", "i4", 0, "candidates that entered the network archive", "1"),
    Column("network_elites", "i4", 0, "elites of the network archive", "1"),
    Column("network_coverage", "f8", 0.0, "elites / cells of the network archive", "1"),
    Column("network_qd_score", "f8", 0.0, "sum of the fitness of the network elites", "1"),
    Column("prompt_elites", "i4", 0, "elites of the prompt archive", "1"),
    Column("prompt_coverage", "f8", 0.0, "elites / cells of the prompt archive", "1"),
    Column("collective", "f8", 0.0, "collective fitness of every prompt", "1", PROMPTS),
    Column("started", "f8", NAN, "when it was proposed", "s since 1970-01-01T00:00:00Z"),
    Column("finished", "f8", NAN, "when it was committed", "s since 1970-01-01T00:00:00Z"),
    Column("generate_seconds", "f8", NAN, "wall-clock time of generating", "s"),
    Column("screen_seconds", "f8", NAN, "wall-clock time of screening", "s"),
    Column("evaluate_seconds", "f8", NAN, "wall-clock time of evaluating", "s"),
    Column("lost_machine_seconds", "f8", 0.0, "tasks that the machine spoiled", "s"),
    Column("lost_preempted_seconds", "f8", 0.0, "tasks that were preempted unsaved", "s"),
    Column("lost_limit_seconds", "f8", 0.0, "tasks that met their memory or time limit", "s"),
)

_SINCE_1970 = "s since 1970-01-01T00:00:00Z"

ATTEMPTS = (
    Column("candidate", "i8", -1, "candidate that was evaluated"),
    Column("attempt", "i4", 0, "number of the attempt, from 1; with rungs from 1 at each"),
    Column("rung", "i4", 0, "rung, from 0, up to which it was to be trained"),
    Column("submitted", "f8", NAN, "when its task was submitted", _SINCE_1970),
    Column("start", "f8", NAN, "when its training began; NaN: not known", _SINCE_1970),
    Column("end", "f8", NAN, "when it ended, or was found to have ended", _SINCE_1970),
    Column("job", "S32", b"", "job that it ran in"),
    Column("node", "S64", b"", "host that it ran on"),
    Column("ending", "S64", b"", "result, or why there was none"),
)
"""A row for each attempt at a candidate, told with the candidate's result. No older record, and
none of a problem without tasks, has any."""

REWRITINGS = (
    Column("generation", "i4", -1, "generation before which it was asked for, and from "
           "which on a new prompt may be used"),
    Column("index", "i4", -1, "number among those of the generation"),
    Column("parent", "i4", -1, "prompt that was rewritten, an index into prompts/text"),
    Column("curiosity", "f8", NAN, "curiosity of the parent's most curious individual", "1"),
    Column("writer", "S32", b"", "name of its writer; empty: the run has one"),
    Column("temperature", "f8", NAN, "sampling temperature", "1"),
    Column("sampling_seed", "i8", -1, "seed of its sampling"),
    Column("request_sha256", "S64", b"", "digest of the request"),
    Column("completion", TEXT, "", "what the generator wrote"),
    Column("form", "S16", b"", "form of the completion"),
    Column("finished", "u1", 1, "0: the limit on tokens cut it off"),
    Column("tokens", "i4", 0, "length of the completion", "tokens"),
    Column("generate_seconds", "f8", NAN, "share of the time that its sampling took", "s"),
    Column("failure", TEXT, "", "why it is no new prompt; empty: it is one"),
    Column("prompt", "i4", -1, "index into prompts/text; -1: it is no new prompt"),
    Column("row", "i4", -1, "row of the prompt archive that the new prompt took"),
    Column("replaced", "i4", -1, "prompt that had the row before; -1: it was free"),
)  # fmt: skip
"""A row for each prompt that a model was to rewrite, of runs with ``search.prompts = "evolve"``."""

ARCHIVE_COLUMNS = {
    "centroids": "centroids of the cells in the unit square",
    "lower": "lower bounds of the descriptors",
    "upper": "upper bounds of the descriptors",
    "elite": "candidate that is the elite of the cell; -1: empty",
    "fitness": "fitness of the elite; NaN: empty",
    "curiosity": "curiosity of the elite; 0 where it has none",
}

RUNG = "rung"
"""Column of the network archive of a run with rungs."""
RUNG_MEANING = "rung, from 0, at which the fitness of the elite was measured; -1: empty"

TRAININGS = "trainings"
"""Column of the network archive of a run with challenges."""
TRAININGS_MEANING = "trainings over which the fitness of the elite is the mean; 0: empty"

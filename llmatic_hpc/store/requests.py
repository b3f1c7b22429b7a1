"""Informed requests: what a model is told of a parent, as a pure function of the record.

Everything comes from what the search had been told when the generation was proposed, so that a
replay tells the same again, whatever was entered since.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..config import Config
from ..generation import layer_words, request_templates
from ..generation.prompts import shown
from ..generation.request_templates import Part
from ..search import Search
from ..types import REPEAT, Problem, Proposal, Request
from . import fold, tries
from .record import Record

FAILED = (b"invalid", b"forbidden", b"diverged", b"too_large", b"too_slow")
"""Statuses that are told as failures."""

MOST_FAILURES, MOST_TRIED = 3, 4
LONGEST_REASON = 140
"""Characters of a failure's line."""

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SIZES = {"flops": "FLOPs", "params": "parameters", "depth": "layers", "width": "channels or "
          "features at most", "ratio": "width / depth"}  # fmt: skip
_WORDS = {"flops": "FLOPs", "params": "parameters", "ratio": "width / depth",
          "activation_bytes": "bytes of memory"}  # fmt: skip


class Requests:
    """Texts of the requests of one generation, that ``search`` was asked for.

    ``record.task`` holds the templates and the facts of the task.
    """

    def __init__(self, record: Record, config: Config, search: Search) -> None:
        self._record, self._config, self._search = record, config, search
        self._task = record.task
        self._shape = tuple(record.task["input_shape"])
        self._dimensions = 1 if len(self._shape) == 2 else 2
        told = record.candidates["told"]
        self._known = (told >= 0) & (told < search.generation)
        self._tried: dict[tuple[int, ...], Part] = {}
        self._failures: dict[int, Part] = {}

    def text(self, proposal: Proposal) -> str:
        """Return what a model is told for a proposal."""
        task, operator = self._task, proposal.operator
        templates = task["templates"]
        if operator not in templates:
            return ""
        needed = {
            "parents": shown(self._bare(proposal)),
            "instruction": self._instruction(proposal).rstrip("."),
            "advice": task["advice"],
        }
        parents = proposal.parents
        parts = {
            "task": Part(task["sentence"]),
            "score": Part(self._score(parents)),
            "layers": self._layers(parents),
            "tried": self._tried_from(parents) if operator == "mutation" else Part(""),
            "failures": self._failures_of(proposal.prompt),
            "examples": self._examples(proposal),
            "target": Part(self._target(proposal)),
        }
        most = self._config.generator.request_tokens
        return request_templates.render(templates[operator], needed, parts, most)

    def _bare(self, proposal: Proposal) -> Request:
        sources = tuple(self._record.candidates["source"][p] for p in proposal.parents)
        return Request(
            proposal.candidate, proposal.operator, proposal.prompt, "",
            sources or (self._task["initial_source"],), proposal.temperature, 0,
        )  # fmt: skip

    def _instruction(self, proposal: Proposal) -> str:
        if proposal.operator == "mutation":
            return self._record.prompts[proposal.prompt]
        return str(self._task["instructions"][proposal.operator])

    def _score(self, parents: Sequence[int]) -> str:
        """Say score and measures of each parent."""
        said = []
        for number, parent in enumerate(parents, start=1):
            name = f"Net{number}" if len(parents) > 1 else "The network above"
            known = self._measures(parent)
            sizes = f"; it has {_sizes(known)}" if _sizes(known) else ""
            said.append(f"{name} scores {self._fitness(parent):.3f}{sizes}.")
        if not parents and (sizes := _sizes(self._task["initial"])):
            said.append(f"The network above has {sizes}.")
        return " ".join(said)

    def _layers(self, parents: Sequence[int]) -> Part:
        if len(parents) > 1 or self._task["has_names"]:  # cells are no list of layers
            return Part("")
        source = self._record.candidates["source"][parents[0]] if parents else None
        lines = layer_words.table(source or self._task["initial_source"], self._shape)
        return Part("Its layers, with the shape after each:", lines, is_list=True)

    def _tried_from(self, parents: Sequence[int]) -> Part:
        """Tell the last different networks that were made of a parent."""
        if (key := tuple(parents)) not in self._tried:
            table = self._record.candidates
            wanted = np.array([*parents, *[-1] * (3 - len(parents))])
            same = (table["parents"] == wanted).all(axis=1) & (table["operator"] == b"mutation")
            lines: dict[str, None] = {}
            for row in np.flatnonzero(same & self._known)[::-1].tolist():
                fitness, words = fold.fitness_of(self._record, row), self._words(row)
                if len(lines) < MOST_TRIED and math.isfinite(fitness) and words:
                    lines.setdefault(f"{words}: {fitness:.3f}")
            head = "Already made of it, with scores; make another:"
            self._tried[key] = Part(head, tuple(lines), is_list=True)
        return self._tried[key]

    def _failures_of(self, prompt: int) -> Part:
        """Tell the last failures of a prompt, and what had to be mended, the latest first."""
        if prompt not in self._failures:
            table = self._record.candidates
            failed = np.isin(table["status"], FAILED) & (table["promoted"] < 0)
            failed &= ~self._record.are_repeats
            rows = np.flatnonzero(failed & self._known & (table["prompt"] == prompt))
            lines: dict[str, None] = {}
            for row in rows[::-1].tolist():
                if len(lines) < MOST_FAILURES:
                    lines.setdefault(_clipped(table["failure"][row]))
            head = "What failed before with this instruction; avoid it:"
            self._failures[prompt] = Part(head, tuple(lines), is_list=True)
        return self._failures[prompt]

    def _examples(self, proposal: Proposal) -> Part:
        """Tell other elites: for every other candidate the fittest, else those of near niches."""
        most, archive = self._config.generator.examples, self._search.network_archive
        parents = proposal.parents
        if proposal.index % 2 and parents and parents[0] in archive:
            others = archive.nearest(parents[0], most + len(parents))
            head = "Other networks of about this size, with scores:"
        else:
            others = tuple(archive.fittest()[: most + len(parents)].tolist())
            head = "The best networks so far, with scores:"
        found = [row for row in others if row not in parents][:most]
        lines = tuple(
            f"{words}: {self._fitness(row):.3f}" for row in found if (words := self._words(row))
        )
        return Part(head, lines, is_list=True)

    def _target(self, proposal: Proposal) -> str:
        """Say the wanted niche, each axis beside the parent's."""
        if proposal.target < 0:
            return ""
        search, record = self._search, self._record
        cells = search.network_archive.tessellation
        wanted = cells.raw(cells.centroids[proposal.target].tolist())
        first = proposal.parents[0] if proposal.parents else None
        now = self._task["initial"] if first is None else self._measures(first)
        said = []
        for name, value in zip(record.axes, wanted, strict=True):
            before = now.get(name, math.nan)
            known = f" (now: {_number(before)})" if math.isfinite(before) else ""
            said.append(f"about {_number(value)} {_WORDS.get(name, name)}{known}")
        return f"Size that is wanted: {', '.join(said)}."

    def _words(self, row: int) -> str:
        table = self._record.candidates
        name = str(table["architecture"][row])
        return name or layer_words.line(table["source"][row], self._dimensions)

    def _fitness(self, row: int) -> float:
        """Return the score by which the search goes, of an elite the one in the archive."""
        archive = self._search.network_archive
        if row in archive:
            return float(archive.fitness[archive.cell_of(row)])
        return fold.fitness_of(self._record, row)

    def _measures(self, row: int) -> dict[str, float]:
        table = self._record.candidates
        values = {name: float(table[name][row]) for name in ("flops", "params", "depth", "width")}
        axes = zip(self._record.axes, table["descriptors"][row].tolist(), strict=True)
        return {"ratio": float(table["ratio"][row]), **values, **dict(axes)}


def request_of(
    proposal: Proposal, record: Record, problem: Problem, text: str = "", number: int = -1
) -> Request:
    """Put texts in place of a proposal's numbers.

    ``text`` is that of an informed request, ``number`` counts the completions before this one.
    """
    instruction = problem.random_prompt  # also where there is no model to read it
    if proposal.operator == "mutation":
        instruction = record.prompts[proposal.prompt]  # the problem's, and new ones
    elif proposal.operator == "crossover":
        instruction = problem.crossover_prompt
    parents = tuple(record.candidates["source"][parent] for parent in proposal.parents)
    return Request(
        candidate=proposal.candidate,
        operator=proposal.operator,
        prompt=proposal.prompt,
        instruction=instruction,
        parents=parents or (problem.initial_source,),
        temperature=proposal.temperature,
        seed=proposal.sampling_seed,
        neighbour=proposal.individual if proposal.operator == "neighbour" else -1,
        seen=record.architectures,
        text=text,
        writer=proposal.writer,
        number=number,
    )


def asked(record: Record, config: Config, problem: Problem) -> Iterator[Request]:
    """Yield what each candidate's writer was asked for the answer that was kept, in row order.

    Of a training that is repeated nobody was asked.
    The search is replayed for it, as :func:`~.verify.verify` does.
    """
    search = fold.new_search(config, record.own_prompts, record)
    for generation in range(record.committed_generations):
        new = [one for one in fold.ask(record, search) if one.operator != REPEAT]
        told = texts(record, config, search, new)
        for proposal in new:
            row = proposal.candidate
            request = request_of(proposal, record, problem, told.get(row, ""))
            before = tries.earlier(record, row)
            kinds = [one["kind"] for one in before]
            request = replace(request, **tries.seed_and_temperature(config, proposal, kinds))
            if kinds[-1:] == [tries.RETRY]:
                last = before[-1]
                request = replace(request, answered=last["completion"], error=last["failure"])
            yield request
        search.tell(fold.evaluations(record, generation))


def digest(text: str) -> str:
    """Return the digest of a request that the record holds; empty where there is no text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest() if text else ""


def texts(
    record: Record, config: Config, search: Search, proposals: Sequence[Proposal]
) -> dict[int, str]:
    """Return the informed requests of a generation by candidate; empty texts for the paper's."""
    if config.generator.request == "paper":
        return {}
    made = Requests(record, config, search)
    return {proposal.candidate: made.text(proposal) for proposal in proposals}


def differences(
    record: Record, config: Config, search: Search, proposals: Sequence[Proposal]
) -> Iterator[tuple[int, str]]:
    """Yield candidates whose request a replay of the record would make otherwise."""
    for row, text in texts(record, config, search, proposals).items():
        if record.candidates["request_sha256"][row] != digest(text).encode():
            yield row, "request_sha256 is not that of the request that a replay makes"


def _sizes(known: dict[str, Any]) -> str:
    said = [(name, known.get(name, math.nan)) for name in _SIZES]
    return ", ".join(f"{_number(v)} {_SIZES[name]}" for name, v in said if v >= 0)


def _number(value: float) -> str:
    """Write a number with two digits or three and a prefix: ``1.2 M``, ``13 k``, ``5.8``."""
    for size, prefix in _UNITS:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def _clipped(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 3]}..."

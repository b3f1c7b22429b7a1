"""Prompts that a model rewrites: the requests, what is made of the answers, and the check of both.

Who is rewritten and where a new prompt finds its row says the search (:mod:`..search.prompt_rows`);
whether an answer is a prompt says :mod:`..generation.new_prompts`. An answer stands in the table
``rewritings`` whatever becomes of it, and a new prompt in ``prompts/text`` as well, so that all of
it can be decided again from the record. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..generation import request_templates
from ..generation.new_prompts import Read, read
from ..search import Search
from ..types import REWRITING, Completion, Request
from . import rows
from .record import PROPOSED, Record, clean
from .requests import digest

LONGEST_FAILURE = 500
"""Characters of the reason why a generator wrote nothing."""


def requests(record: Record, search: Search, writer: str) -> list[Request]:
    """Return what ``writer`` is to rewrite before the next generation; nothing of it is known yet.

    ``candidate`` is the number among them, ``number`` that among all of the run.
    """
    if (record.rewritings["generation"] == search.generation).any():
        return []
    texts, before = _texts(record, search), record.rewritings.rows
    return [
        Request(
            candidate=one.index,
            operator=REWRITING,
            prompt=one.parent,
            instruction=record.prompts[one.parent],
            parents=(),
            temperature=one.temperature,
            seed=one.sampling_seed,
            writer=writer,
            number=before + one.index,
            text=text,
        )
        for one, text in zip(search.prompt_rows.due(search.generation), texts, strict=True)
    ]


def enter(
    record: Record, search: Search, asked: Sequence[Request], answers: Sequence[Completion]
) -> None:
    """Enter the answers into the record; the search is told of them by :func:`.fold.ask`."""
    entered = []
    for request, answer in zip(asked, answers, strict=True):
        text = clean(answer.text[: rows.LONGEST_COMPLETION])
        entered.append(
            {
                "writer": request.writer,
                "completion": text,
                "form": answer.form,
                "finished": int(answer.finished),
                "tokens": answer.tokens,
                "generate_seconds": answer.seconds,
                "failure": "" if text else answer.failure[:LONGEST_FAILURE],
            }
        )
    decided, prompts = _decided(record, search, entered)
    found = [one | more for one, more in zip(entered, decided, strict=True)]
    record.rewritings.append(found)
    record.prompts += tuple(prompts)


def differences(record: Record, search: Search) -> Iterator[tuple[str, str]]:
    """Yield where the record's rewritings before the search's generation are not what a replay has.

    Places are named by their rows, ``rewritings 3``.
    """
    table = record.rewritings
    found = np.flatnonzero(table["generation"] == search.generation).tolist()
    due = search.prompt_rows.due(search.generation)
    if len(found) != len(due):
        yield (
            "rewritings",
            f"{len(found)} before generation {search.generation}, a replay asks for {len(due)}",
        )
        return
    there = [{name: table[name][row] for name in table} for row in found]
    decided, prompts = _decided(record, search, there)
    for row, one, again in zip(found, there, decided, strict=True):
        for name, value in again.items():
            kept = one[name].decode() if isinstance(one[name], bytes) else one[name]
            if kept != value:
                yield f"rewritings {row}", f"{name} is {kept}, a replay gives {value}"
    known = search.prompt_rows.known
    for index, text in enumerate(prompts, known):
        if record.prompts[index : index + 1] != (text,):
            kept = record.prompts[index] if index < len(record.prompts) else "not there"
            yield f"prompts {index}", f"text is {kept!r}, what was written says {text!r}"


def unasked(record: Record) -> str:
    """Say that there are rewritings of generations that were not asked for; empty: all were."""
    asked = record.committed_generations + (record.phase == PROPOSED)
    generations = record.rewritings["generation"]
    if ((generations < 0) | (generations >= asked)).any():
        return f"some are of other generations than the {asked} of the record"
    return ""


def _decided(
    record: Record, search: Search, answers: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Decide what becomes of the answers to the rewritings that are due, by columns; new prompts.

    ``answers`` have the columns ``completion``, ``finished`` and ``failure``; the last only counts
    where nothing was written.
    """
    rows_of, generation = search.prompt_rows, search.generation
    places = iter(rows_of.places(generation))
    prompts: list[str] = []
    found = []
    due, texts = rows_of.due(generation), _texts(record, search)
    for one, text, answer in zip(due, texts, answers, strict=True):
        known = (*record.prompts[: rows_of.known], *prompts)
        got = read(answer["completion"], known, finished=bool(answer["finished"]))
        if not answer["completion"]:
            got = Read("", str(answer["failure"]) or got.failure)
        prompt, row, replaced = -1, -1, -1
        if not got.failure:
            row, replaced = next(places)
            prompt = rows_of.known + len(prompts)
            prompts.append(got.text)
        found.append(
            {
                "generation": generation,
                **vars(one),
                "request_sha256": digest(text),
                "failure": got.failure,
                "prompt": prompt,
                "row": row,
                "replaced": replaced,
            }
        )
    return found, prompts


def _texts(record: Record, search: Search) -> list[str]:
    """Return the texts of the requests that are due."""
    task, rows_of = record.task, search.prompt_rows
    living = [rows_of.prompts[row] for row in rows_of.living()]
    return [
        request_templates.rewriting(
            task["rewriting"],
            record.prompts[one.parent],
            [record.prompts[prompt] for prompt in living if prompt != one.parent],
            task["sentence"],
        )
        for one in rows_of.due(search.generation)
    ]

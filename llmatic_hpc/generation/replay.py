"""Completions from a file instead of a model: the same ones every time, at no cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import GeneratorSettings
from ..errors import GeneratorError
from ..types import REWRITING, Completion, Problem, Request
from .prompts import PREFIX

KINDS = {
    "completion": str, "rewriting": str, "form": str, "prompt_tail": str, "tokens": int,
    "finished": bool,
}  # fmt: skip
WORDS = {str: "a text", int: "a whole number", bool: "true or false"}


class Replay:
    """Generator that answers candidate ``n`` with line ``n`` (from 0) of a JSON Lines file.

    Where candidates are sampled again, a line is what the run samples next: first a line for each
    candidate of a generation, then one for each that is sampled again, and so on.

    A line is ``{"completion": "...", "form": "chat"}``; ``prompt_tail`` (what the completion
    continues), ``tokens`` and ``finished`` are optional. Lines ``{"rewriting": "..."}`` are not
    counted among them: the run's n-th request for a new prompt is answered with the n-th of those.

    Raises:
        GeneratorError: the file is missing, a line is not such an object, or there are too
            few lines for a candidate that is asked for.
    """

    kind = "replay"
    repeatable = False

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            raise GeneratorError(
                f"{path}: no such file of completions; set generator.replay to a JSON Lines file"
            ) from None
        except OSError as error:
            raise GeneratorError(f"{path}: cannot be read: {error.strerror}") from None
        lines = raw.rstrip().split(b"\n") if raw.strip() else []
        self._completions: list[Completion] = []
        self._rewritings: list[Completion] = []
        for number, line in enumerate(lines):
            self._read(number, line)
        self.writes_prose = bool(self._rewritings)
        self.name = f"replay:{hashlib.sha256(raw).hexdigest()[:12]}"
        self.form = self._completions[0].form if self._completions else "completion"

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield the lines of the candidates asked for, in the order asked."""
        for request in (one for one in requests if one.operator == REWRITING):
            if request.number >= len(self._rewritings):
                raise GeneratorError(
                    f"{self.path}: has {len(self._rewritings):,} lines of rewriting, but new "
                    f"prompt {request.number + 1:,} is asked for; lengthen the file, or raise "
                    "search.prompt_every in a new run"
                )
            yield replace(self._rewritings[request.number], candidate=request.candidate)
        requests = [one for one in requests if one.operator != REWRITING]
        lines = [r.candidate if r.number < 0 else r.number for r in requests]
        if lines and (most := max(lines)) >= len(self._completions):
            raise GeneratorError(
                f"{self.path}: has {len(self._completions):,} completions, but candidate "
                f"{requests[lines.index(most)].candidate:,} needs line {most + 1:,}; lengthen the "
                "file, or lower search.generations or search.batch"
            )
        for request, line in zip(requests, lines, strict=True):
            yield replace(self._completions[line], candidate=request.candidate)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def _read(self, number: int, line: bytes) -> None:
        """Take line ``number``, from 0, of the file."""
        where = f"{self.path}: line {number + 1:,}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise GeneratorError(f"{where} is not JSON: {error}") from None
        if not isinstance(record, dict) or not {"completion", "rewriting"} & record.keys():
            raise GeneratorError(f'{where} must be an object like {{"completion": "..."}}')
        for key, kind in KINDS.items():
            if key in record and type(record[key]) is not kind:
                raise GeneratorError(f"{where}: {key} must be {WORDS[kind]}, got {record[key]!r}")
        if "rewriting" in record:
            self._rewritings.append(_answered(record, record["rewriting"], "chat", ""))
            return
        form = record.get("form", "completion")
        if form not in ("completion", "chat"):
            raise GeneratorError(f"{where}: form must be completion or chat, got {form!r}")
        prefix = "" if form == "chat" else record.get("prompt_tail", PREFIX).lstrip("\n")
        self._completions.append(_answered(record, record["completion"], form, prefix))


def _answered(record: Mapping[str, Any], text: str, form: str, prefix: str) -> Completion:
    """Return what a line says, of no candidate yet."""
    return Completion(
        candidate=-1,
        text=text,
        form=form,
        prefix=prefix,
        tokens=record.get("tokens", 0),
        finished=record.get("finished", True),
    )


def of_settings(settings: GeneratorSettings, problem: Problem) -> Replay:
    """Make the generator that ``generator.replay`` names."""
    return Replay(settings.replay)

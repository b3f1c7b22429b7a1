"""Requests, targets, repeats and retries side by side, sampled from a real small model.

    python -m tests.benchmarks.operators base RUN --completions FILE.jsonl --data FILE.h5
    python -m tests.benchmarks.operators sample RUN --model FILE.gguf --results FILE.jsonl
    python -m tests.benchmarks.operators retry RUN --model FILE.gguf --results FILE.jsonl
    python -m tests.benchmarks.operators table --results FILE.jsonl
    python -m tests.benchmarks.operators recorded RUN FIRST.jsonl AGAIN.jsonl...

``base`` trains a generation of completions that are there already (32 of them, to the paper's
prompt): its networks are parents, its failures and trials are what informed requests tell.
``sample`` asks every variant, for every seed, for further descendants of the initial network
(``start``), of that run's elites (``later``), or of the initial network with an empty record
(``first``); nothing is trained. Every variant samples repeats again, at most twice; its first
answers are those of the same variant without that, so that one piece makes two rows of the table.
``retry`` shows completions that do not fit without repair their error, and beside it samples
others from the same requests. A piece that stands in the results is not done again, completions of
one that was cut short are kept beside them, and ``--seconds`` ends a call after the piece in which
they are over. ``recorded`` needs no model: it takes the first answers from a file of completions of
the initial network, and those that are sampled again from others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from llmatic_hpc import config as configuration
from llmatic_hpc import problems, store
from llmatic_hpc.config import Config
from llmatic_hpc.coordinator import task
from llmatic_hpc.coordinator.asking import Answer, answered
from llmatic_hpc.generation import create
from llmatic_hpc.generation.base import Generator
from llmatic_hpc.generation.extract import extracted_from
from llmatic_hpc.problems.evaluator import Evaluator
from llmatic_hpc.search import Search
from llmatic_hpc.search.targets import Aiming
from llmatic_hpc.source.canonical import canonical_sha256
from llmatic_hpc.store import Record, fold, requests, rows
from llmatic_hpc.store.requests import request_of
from llmatic_hpc.types import PENDING, Completion, Evaluation, Proposal, Request

INFORMED = ("generator.request=informed",)
TARGETS = (*INFORMED, "search.targets=true")
PARTS = ("task", "score", "layers", "tried", "failures", "examples")

VARIANTS: dict[str, tuple[str, ...]] = {
    "paper": (),
    "informed": INFORMED,
    "informed, targets": TARGETS,
    "paper, target": (*TARGETS, "only:target"),
    **{f"paper, {part}": (*INFORMED, f"only:{part}") for part in PARTS},
    **{f"informed without {part}": (*INFORMED, f"without:{part}") for part in PARTS},
}
"""Settings; ``only:PART`` and ``without:PART``: templates with that part alone, or without it."""

MAIN = ("paper", "informed", "informed, targets", "paper, target")
AGAIN = ("generator.resample=2",)
PIECE = 32
"""Completions of a variant for a seed, those that are sampled again not counted."""
START = ("search.start_elites=100000", "search.start_generations=0")
"""Settings under which all descend from the initial network."""
STAGES = ("start", "later", "first")
DRAWN = 32
"""Completions among which different niches are counted, whatever number there are of them."""
COLUMNS = ("request", "n", "tokens", "seconds", "samples", "class", "as written", "with repair",
           "= parent", "= known", "new", f"niches per {DRAWN}", "hits (chance)",
           "miss (before)")  # fmt: skip


def base(options: argparse.Namespace) -> None:
    """Make the run that all go on from; the same line again continues it."""
    settings = (
        "generator.kind=replay", f"generator.replay={options.completions}", "generator.form=auto",
        f"problem.data={options.data}", "problem.train_images=2000", "problem.test_images=1000",
        "training.epochs=1", "training.batch=64", "training.learning_rate=0.02", "search.batch=32",
        "search.generations=1",
    )  # fmt: skip
    words = [word for text in settings for word in ("--set", text)]
    line = ["llmatic_hpc", "run", "configs/quickstart.toml", "--run-dir", str(options.run), *words]
    raise SystemExit(subprocess.run([sys.executable, "-m", *line], check=False).returncode)


def template_folder(changes: Sequence[str], folder: Path) -> list[str]:
    """Write templates without the parts that a variant leaves out; return its settings."""
    from importlib import resources

    shipped = resources.files("llmatic_hpc.generation") / "templates"
    settings = []
    for change in changes:
        kind, _, part = change.partition(":")
        if kind not in ("only", "without"):
            settings.append(change)
            continue
        for name in ("mutation", "crossover", "random"):
            text = (shipped / f"{name}.txt").read_text(encoding="utf-8")
            for other in (*PARTS, "target"):
                if (other == part) == (kind == "without"):
                    text = text.replace(f"${other}\n\n", "")
            if kind == "only":  # the sentence that the paper's chat has
                text = text.replace("; it must not be the same network again.", ".")
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        settings.append(f"generator.templates={folder}")
    return settings


class Bench:
    """Everything that the pieces share: the base run, and the model, which loads once."""

    def __init__(
        self, run: Path, model: str, kept: Path | None = None, settings: Sequence[str] = ()
    ) -> None:
        self.kept = kept
        self.base = store.load(run / "run.h5")
        source = (
            ["generator.kind=replay", f"generator.replay={model}"]
            if model.endswith(".jsonl")
            else ["generator.kind=huggingface", f"generator.model={model}", "generator.batch=32"]
        )
        self.config = configuration.override(
            configuration.from_tables(self.base.config, str(run)),
            [*source, "generator.form=auto", "generator.fallback=", *settings],
        )
        self._generator: Generator | None = None

    def generator(self, config: Config, evaluator: Evaluator) -> Generator:
        """The model of the run, whatever is asked of it."""
        if self._generator is None:
            self._generator = create(config.generator, evaluator.problem, notify=print)
        return self._generator

    def record(self, config: Config, evaluator: Evaluator, stage: str) -> Record:
        """A record to go on from: the run's, or an empty one with the same cells."""
        facts = task.facts(config, evaluator)
        if stage != "first":
            return replace(
                self.base, task=facts, known=(dict(self.base.candidates), dict(self.base.history))
            )
        empty = {
            name: replace(state, elite=state.elite * 0 - 1, fitness=state.fitness * math.nan)
            for name, state in self.base.archives.items()
        }
        return Record("", self.base.config, {}, self.base.prompts, empty, task=facts)

    def ask(
        self,
        config: Config,
        evaluator: Evaluator,
        dues: list[Request],
        sampled: list[Completion],
    ) -> list[Answer]:
        """Answers to requests, each noted in ``sampled``."""
        generator = self.generator(config, evaluator)
        asked = {_digest(due): due.candidate for due in dues}
        written = {}
        for one in read(self.kept) if self.kept else ():
            if (key := one.pop("key")) in asked:
                written[asked[key]] = replace(Completion(**one), candidate=asked[key])
        key_of = {candidate: key for key, candidate in asked.items()}
        for completion in generator.generate([d for d in dues if d.candidate not in written]):
            written[completion.candidate] = completion
            if self.kept:
                line = json.dumps({"key": key_of[completion.candidate], **asdict(completion)})
                with self.kept.open("a", encoding="utf-8") as file:
                    file.write(f"{line}\n")
        completions = [written[due.candidate] for due in dues]
        codes = [extracted_from(c, r, evaluator.problem.helpers)
                 for c, r in zip(completions, dues, strict=True)]  # fmt: skip
        found = evaluator.examine([code.source for code in codes], repair=config.generator.repair)
        sampled += completions
        return [Answer(c, code.failure, one)
                for c, code, one in zip(completions, codes, found, strict=True)]  # fmt: skip

    def sample(self, variant: str, stage: str, seed: int) -> dict[str, Any]:
        """One piece: a generation of a variant, and what came of it."""
        with tempfile.TemporaryDirectory() as folder:
            changes = template_folder(VARIANTS[variant], Path(folder))
            config = configuration.override(
                self.config,
                [*changes, *AGAIN, f"run.seed={seed}", "search.variant=mutation-only"],
            )
            if stage != "later":
                config = configuration.override(config, START)
            if stage == "first":
                config = configuration.override(config, [f"search.batch={PIECE}"])
            with problems.alone(config) as evaluator:
                return self._sample(config, evaluator, stage)

    def _sample(self, config: Config, evaluator: Evaluator, stage: str) -> dict[str, Any]:
        record = self.record(config, evaluator, stage)
        search = fold.resume(record, config)
        search.aiming = Aiming()
        proposals = search.ask()[:PIECE]
        texts = requests.texts(record, config, search, proposals)
        asked = [request_of(p, record, evaluator.problem, texts.get(p.candidate, ""))
                 for p in proposals]  # fmt: skip
        outs = dict(search.aiming._out)
        sampled: list[Completion] = []
        firsts: list[Answer] = []

        def ask(due: Sequence[Request], number: int) -> list[Answer]:
            answers = self.ask(config, evaluator, list(due), sampled)
            firsts.extend(answers if number == 0 else ())
            return answers

        found = answered(config, record, proposals, asked, ask)
        first = self.facts(record, search, proposals, firsts)
        aims = {"first": search.aiming.done}
        search.aiming = Aiming()
        search.aiming._out = outs
        last = self.facts(record, search, proposals, [one.answer for one in found])
        aims["last"] = search.aiming.done
        return {
            "first": first,
            "last": last,
            "samples": len(sampled),
            "tokens": [sum(c.tokens for c in some) for some in (sampled[: len(first)], sampled)],
            "seconds": [sum(c.seconds for c in some) for some in (sampled[: len(first)], sampled)],
            "aims": {
                name: [[a.hit, a.chance, a.miss, a.start] for a in done if a.fits]
                for name, done in aims.items()
            },
        }

    def facts(
        self, record: Record, search: Search, proposals: Sequence[Proposal], answers: list[Answer]
    ) -> list[dict[str, Any]]:
        """Facts of a generation's answers, in order."""
        initial = record.task["initial_sha256"]
        known = {initial, *(d.decode() for d in record.candidates["canonical_sha256"])}
        found = []
        for proposal, one in zip(proposals, answers, strict=True):
            verdict, source = one.examined.screened, one.examined.source
            values = rows.measured(verdict)
            raw = [values.get(name, math.nan) for name in record.axes]
            place = search.network_archive.tessellation.locate([raw])[0]
            told = Evaluation(proposal.candidate, "scored", 0.0, tuple(raw))
            search.aiming.tell(search.network_archive, [told])
            parents = {record.candidates["canonical_sha256"][p].decode() for p in proposal.parents}
            key = verdict.canonical_sha256 if source else ""
            found.append({
                "class": bool(source),
                "written": one.examined.written.status == PENDING and bool(source),
                "fits": fits(one),
                "parent": bool(key) and key in (parents or {initial}),
                "known": bool(key) and key in known,
                "cell": place.cell,
            })  # fmt: skip
            known.add(key)
        return found

    def retry(self, seed: int) -> dict[str, Any]:
        """Failures without repair: shown their error, and beside it sampled anew."""
        config = configuration.override(
            self.config, [*START, "generator.repair=false", f"run.seed={seed}"]
        )
        with problems.alone(config) as evaluator:
            record = self.record(config, evaluator, "start")
            search = fold.resume(record, config)
            asked = [request_of(p, record, evaluator.problem) for p in search.ask()[:PIECE]]
            first = self.ask(config, evaluator, asked, [])
            failed = [(r, a) for r, a in zip(asked, first, strict=True) if not fits(a)]
            found: dict[str, Any] = {"first": len(first), "failed": len(failed)}
            for name in ("retry", "anew"):
                dues = []
                for request, answer in failed:
                    error = answer.missing or answer.examined.screened.failure
                    more = {"answered": answer.completion.text, "error": error}
                    dues.append(replace(request, seed=request.seed + 1,
                                        **(more if name == "retry" else {})))  # fmt: skip
                sampled: list[Completion] = []
                answers = self.ask(config, evaluator, dues, sampled)
                again = evaluator.examine([a.examined.source for a in answers], repair=True)
                initial = {canonical_sha256(evaluator.problem.initial_source)}
                kept = {a.examined.screened.canonical_sha256 for a in answers if fits(a)}
                mended = [one.screened for one in again if one.screened.status == PENDING]
                found[name] = {
                    "fits": sum(map(fits, answers)),
                    "distinct": len(kept - initial),
                    "repaired": len(mended),
                    "distinct, repaired": len({one.canonical_sha256 for one in mended} - initial),
                    "tokens": sum(c.tokens for c in sampled),
                    "seconds": sum(c.seconds for c in sampled),
                }
            return found


def _digest(due: Request) -> str:
    """Return what tells a request from all others, its number not counted."""
    told = asdict(replace(due, candidate=0, number=-1, seen=frozenset()))
    return hashlib.sha256(json.dumps({**told, "seen": ""}).encode()).hexdigest()


def recorded(options: argparse.Namespace) -> None:
    """Repeats alone, of completions that are there: those of a file, then others when it is due."""
    global PIECE
    lines = [options.first.read_text(), *(file.read_text() for file in options.again)]
    PIECE = len(lines[0].splitlines())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "all.jsonl")
        file.write_text("\n".join(text.strip() for text in lines))
        piece = Bench(options.run, str(file)).sample("paper", "first", 0)
    print(f"| {' | '.join(COLUMNS)} |\n| --- |" + " ---: |" * (len(COLUMNS) - 1))
    for number, which in enumerate(("first", "last")):
        name = f"{options.first.stem}{', repeats' if number else ''}"
        print(line(name, [piece], number, which))


def fits(answer: Answer) -> bool:
    """True where there is a network that fits."""
    return answer.examined.screened.status == PENDING and bool(answer.examined.source)


def rarefied(cells: Sequence[int], drawn: int, count: int) -> float:
    """Different cells expected among ``count`` of ``drawn`` completions, drawn without replacement.

    ``cells`` are those of the completions that have one.
    """
    count = min(count, drawn)
    ways = math.comb(drawn, count)
    return sum(1 - math.comb(drawn - n, count) / ways for n in Counter(cells).values())


def table(options: argparse.Namespace) -> None:
    """Print both tables from the results."""
    pieces = read(options.results)
    for stage in STAGES:
        if not any(p["kind"].endswith(f"/{stage}") for p in pieces):
            continue
        print(f"\n{stage}\n")
        print(f"| {' | '.join(COLUMNS)} |\n| --- |" + " ---: |" * (len(COLUMNS) - 1))
        for variant in VARIANTS:
            own = [p for p in pieces if p["kind"] == f"{variant}/{stage}"]
            for number, which in enumerate(("first", "last") if own else ()):
                print(line(f"{variant}{', repeats' if number else ''}", own, number, which))
    retries = [p for p in pieces if p["kind"] == "retry"]
    if retries:
        print("\n| after a failure | failures | fit | different, new | with repair | "
              "different, new | tokens | seconds |")  # fmt: skip
        print("| --- |" + " ---: |" * 7)
        for name in ("retry", "anew"):
            total = {k: sum(p[name][k] for p in retries) for k in retries[0][name]}
            numbers = (sum(p["failed"] for p in retries), total["fits"], total["distinct"],
                       total["repaired"], total["distinct, repaired"], total["tokens"],
                       round(total["seconds"]))  # fmt: skip
            print(f"| {name} | {' | '.join(f'{n:,}' for n in numbers)} |")


def line(name: str, own: list[dict[str, Any]], number: int, which: str) -> str:
    """A variant's row, all its seeds together; each seed's share of parents beside the whole."""
    every = [c for piece in own for c in piece[which]]
    n = len(every)

    def share(what: str) -> str:
        return f"{sum(c[what] for c in every) / n:.0%}"

    new = sum(c["fits"] and not c["known"] for c in every) / n
    niches = rarefied([c["cell"] for c in every if c["cell"] >= 0], n, DRAWN)
    aims = [aim for piece in own for aim in piece["aims"][which]]
    hits, misses = "", ""
    if aims:
        hit, chance, miss, start = (sum(column) / len(aims) for column in zip(*aims, strict=True))
        hits, misses = f"{hit:.0%} ({chance:.0%})", f"{miss:.2f} ({start:.2f})"
    by_seed = [sum(c["parent"] for c in p[which]) / len(p[which]) for p in own]
    columns = (
        name, n, f"{sum(p['tokens'][number] for p in own):,}",
        f"{sum(p['seconds'][number] for p in own):.0f}",
        sum(p["samples"] for p in own) if number else n,
        share("class"), share("written"), share("fits"),
        f"{share('parent')} ({', '.join(f'{s:.0%}' for s in by_seed)})", share("known"),
        f"{new:.0%}", f"{niches:.1f}", hits, misses,
    )  # fmt: skip
    return f"| {' | '.join(map(str, columns))} |"


def _completions_of(results: Path) -> Path:
    """Return the file beside the results that keeps every completion."""
    return results.with_suffix(".completions.jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    """The pieces that are done."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(one) for one in text.splitlines()]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("base", "sample", "retry", "table", "recorded"):
        command = commands.add_parser(name)
        if name != "table":
            command.add_argument("run", type=Path)
        if name == "base":
            command.add_argument("--completions", required=True)
            command.add_argument("--data", required=True)
        elif name == "recorded":
            command.add_argument("first", type=Path)
            command.add_argument("again", type=Path, nargs="+")
        else:
            command.add_argument("--results", type=Path, required=True)
        if name in ("sample", "retry"):
            command.add_argument("--model", required=True)
            command.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
            command.add_argument("--seconds", type=float, default=math.inf)
            command.add_argument("--set", action="append", default=[], help="generator.KEY=VALUE")
        if name == "sample":
            command.add_argument("--variants", nargs="*", default=list(MAIN))
            command.add_argument("--stages", nargs="*", default=["start"])
    options = parser.parse_args()
    once = {"base": base, "table": table, "recorded": recorded}
    if options.command in once:
        once[options.command](options)
        return
    began, kept = time.time(), _completions_of(options.results)
    bench = Bench(options.run, options.model, kept, options.set)
    done = {(p["kind"], p["seed"]) for p in read(options.results)}
    if options.command == "retry":
        due = [("retry", seed) for seed in options.seeds]
    else:
        due = [(f"{v}/{s}", seed) for seed in options.seeds for s in options.stages
               for v in options.variants]  # fmt: skip
    for kind, seed in due:
        if (kind, seed) in done:
            continue
        if time.time() - began > options.seconds:
            raise SystemExit(75)
        variant, _, stage = kind.partition("/")
        piece = bench.retry(seed) if kind == "retry" else bench.sample(variant, stage, seed)
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "seed": seed, **piece}) + "\n")
        print(f"{time.time() - began:5.0f} s  {kind}, seed {seed}", flush=True)


if __name__ == "__main__":
    main()

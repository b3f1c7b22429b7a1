"""One model for several coordinators against a copy of it for each, on the same cores.

    python -m tests.benchmarks.serving --model FILE.gguf           # 2 cores; minutes
    python -m tests.benchmarks.serving --model FILE.gguf --quick   # a small check of the script
    python -m tests.benchmarks.serving --model FILE.gguf --random  # a larger model; 20 GB of memory

A coordinator is a process that makes the generator of a configuration and has it write
``--requests`` candidates: chats about the initial network under the thirteen prompts, at
temperatures from 0.2 to 1, up to ``--max-new-tokens`` each, in single precision, with seeds of its
own. In turn, ``--turns`` times:

1. ``--coordinators`` of them at once, each with a model of its own (``generator.kind =
   "huggingface"``, each with ``--threads``; 0 is the default of a run, all cores),
2. as many, with ``generator.kind = "endpoint"``, beside one ``llmatic serve``.

Every process is bound to the same ``--cores``. The clock runs from when all are ready, models
loaded, until the last has its last text. Memory is the most that all processes of a side held at
once while the clock ran, looked at twice a second: proportional (PSS: what several share counts
once) and resident (RSS). Printed are completions per second, tokens per second, both memories and
the ratios of medians. Exit code 1 where a text differs between the sides, or a bar is missed:
``--over`` times the completions per second, ``--memory`` of the proportional memory.

``--random`` takes the tokenizer of ``--model`` and a billion weights at random, of which no end of
a text is to be expected: time and memory hang on sizes, not on what is written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.coordinator.environment import spare_machine
from llmatic_hpc.generation import create
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.types import Problem, Request

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 0.5


def requests_of(problem: Problem, coordinator: int, count: int) -> list[Request]:
    """Requests of a coordinator in the first generation of its run."""
    return [
        Request(
            candidate=n,
            operator="mutation",
            prompt=n % len(problem.prompts),
            instruction=problem.prompts[n % len(problem.prompts)],
            parents=(problem.initial_source,),
            temperature=0.2 + 0.8 * n / max(1, count - 1),
            seed=1_000_003 * coordinator + n,
        )
        for n in range(count)
    ]


def coordinate(options: argparse.Namespace) -> None:
    """Be one coordinator: ready, then all texts as a line of JSON, then wait for the end."""
    problem = image_classification(input_shape=(3, 32, 32), classes=10)
    settings = GeneratorSettings(
        kind="endpoint" if options.url else "huggingface",
        model=options.model,
        url=options.url,
        dtype="float32",
        device="cpu",
        form="chat",
        threads=options.threads,
        max_new_tokens=options.max_new_tokens,
        concurrency=options.requests,
    )
    generator = create(settings, problem, notify=lambda text: None)
    asked = requests_of(problem, options.coordinator, options.requests)
    print("ready", flush=True)
    sys.stdin.readline()
    found = {c.candidate: c for c in generator.generate(asked)}
    texts = [found[n].text for n in range(len(asked))]
    tokens = sum(c.tokens for c in found.values())
    print(json.dumps({"texts": texts, "tokens": tokens}), flush=True)
    sys.stdin.readline()
    generator.close()


@dataclass
class Memory:
    """Most bytes that processes held at once, looked at while it lasts."""

    processes: Sequence[int]
    proportional: int = 0
    resident: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            sums = {"Pss": 0, "Rss": 0}
            for process in self.processes:
                with contextlib.suppress(OSError):
                    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
                    told = {name: value for name, value, *_ in map(str.split, lines)}
                    for name in sums:
                        sums[name] += 1024 * int(told[f"{name}:"])
            self.proportional = max(self.proportional, sums["Pss"])
            self.resident = max(self.resident, sums["Rss"])
            if self._over.wait(LOOK_SECONDS):
                return


@dataclass(frozen=True)
class Side:
    """One measurement of a side."""

    seconds: float
    completions: int
    tokens: int
    proportional: int
    resident: int
    texts: list[list[str]]

    def __str__(self) -> str:
        return (
            f"{self.completions} completions, {self.tokens:,} tokens in {self.seconds:.1f} s: "
            f"{self.completions / self.seconds:.3f} completions/s, "
            f"{self.tokens / self.seconds:.1f} tokens/s; {self.proportional / 1e9:.2f} GB "
            f"proportional, {self.resident / 1e9:.2f} GB resident"
        )


def measure(options: argparse.Namespace, url: str, others: Sequence[int]) -> Side:
    """Let all coordinators of a side write; ``others`` are processes of that side, too."""
    line = [sys.executable, "-m", "tests.benchmarks.serving", "--model", options.model,
            "--requests", str(options.requests), "--threads", str(options.threads),
            "--max-new-tokens", str(options.max_new_tokens), "--url", url]  # fmt: skip
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(_process([*line, "--coordinator", str(n)]))
            for n in range(options.coordinators)
        ]
        for one in started:
            assert _line(one) == "ready\n", "a coordinator did not start"
        with Memory([*(one.pid for one in started), *others]) as memory:
            began = time.perf_counter()
            for one in started:
                _say(one)
            told: list[dict[str, Any]] = [json.loads(_line(one)) for one in started]
            seconds = time.perf_counter() - began
        for one in started:
            _say(one)
    return Side(
        seconds,
        sum(len(one["texts"]) for one in told),
        sum(one["tokens"] for one in told),
        memory.proportional,
        memory.resident,
        [one["texts"] for one in told],
    )


@contextlib.contextmanager
def _process(line: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
            process.wait(60)
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@contextlib.contextmanager
def serving(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, int]]:
    """One ``llmatic serve`` of the model; yields its file and its process."""
    file = folder / "serve.json"
    settings = {
        "generator.kind": "huggingface", "generator.model": options.model,
        "generator.dtype": "float32", "generator.device": "cpu", "generator.threads": 0,
    }  # fmt: skip
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    line = [sys.executable, "-m", "llmatic_hpc", "serve", "configs/smoke.toml", *words]
    with subprocess.Popen(
        [*line, "--file", str(file)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            said = []
            for text in server.stderr:
                said.append(text)
                if "serving at" in text:
                    break
            if not file.exists():
                raise SystemExit("".join(said))
            threading.Thread(target=server.stderr.read, daemon=True).start()
            yield str(file), server.pid
        finally:
            server.terminate()
            server.wait(60)


def random_model(tokenizer: Path, folder: Path) -> Path:
    """Save a Qwen2 with a billion random weights beside the tokenizer of a ``.gguf`` file."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    words = AutoTokenizer.from_pretrained(tokenizer.parent, gguf_file=tokenizer.name)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=1536, intermediate_size=8960, num_hidden_layers=16,
        num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True,
        eos_token_id=words.eos_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--coordinators", type=int, default=3)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, default=0, help="of each copy; 0: all cores")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--over", type=float, default=1.5)
    parser.add_argument("--memory", type=float, default=0.4)
    parser.add_argument("--quick", action="store_true", help="a few, short")
    parser.add_argument("--random", action="store_true", help="a billion weights at random")
    parser.add_argument("--coordinator", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    spare_machine()  # as a coordinator does; the processes inherit it
    if options.coordinator >= 0:
        coordinate(options)
        return 0
    if options.quick:
        options.coordinators, options.requests, options.max_new_tokens = 2, 2, 8
    if options.random:
        with tempfile.TemporaryDirectory() as folder:
            options.model = str(random_model(Path(options.model), Path(folder)))
            return compare(options)
    return compare(options)


def compare(options: argparse.Namespace) -> int:
    """Measure both sides in turn and print what came of it; 1 where a bar is missed."""
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    os.sched_setaffinity(0, cores)  # the processes inherit it
    print(
        f"{options.model}: {options.coordinators} coordinators with {options.requests} requests "
        f"each, up to {options.max_new_tokens} tokens, on {len(cores)} cores, load "
        f"{os.getloadavg()[0]:.1f}",
        flush=True,
    )
    copies, served = list[Side](), list[Side]()
    for _ in range(options.turns):
        copies.append(measure(options, "", []))
        print(f"a copy each: {copies[-1]}", flush=True)
        with tempfile.TemporaryDirectory() as folder, serving(options, Path(folder)) as (url, pid):
            served.append(measure(options, url, [pid]))
        print(f"one server:  {served[-1]}", flush=True)

    def ratio(name: str) -> float:
        one, other = (
            statistics.median(getattr(side, name) for side in sides) for sides in (served, copies)
        )
        return one / other

    speed, memory = 1 / ratio("seconds"), ratio("proportional")
    texts = [text for side in copies for texts in side.texts for text in texts]
    others = [text for side in served for texts in side.texts for text in texts]
    same = sum(one == other for one, other in zip(texts, others, strict=True))
    print(
        f"one server / a copy each: {speed:.2f} x the completions per second, {memory:.2f} of the "
        f"proportional memory, {ratio('resident'):.2f} of the resident; {same} of {len(texts)} "
        "texts are the same"
    )
    missed = []
    if same < len(texts):
        missed.append(f"{len(texts) - same} texts differ")
    if speed < options.over:
        missed.append(f"{speed:.2f} x is less than {options.over}")
    if memory > options.memory:
        missed.append(f"{memory:.2f} of the memory is more than {options.memory}")
    for line in missed:
        print(f"MISSED: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

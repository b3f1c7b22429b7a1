"""Growth of a model's process on a CPU while texts come and go, and without what bounds it.

    python -m tests.benchmarks.memory --model FILE.gguf         # a quarter of an hour on two cores
    python -m tests.benchmarks.memory --model FILE.gguf --steps 20 --rows 4

Two processes, one after the other, each with the model: the first as a run or ``llmatic serve``
has it, the second with oneDNN's own number of compiled products and without giving memory back
after reading. Each writes ``--rows`` texts at a time, of prompts of 160 to 760 tokens and up to 160
tokens themselves, and says what is resident after each fifth of ``--steps``.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.coordinator.environment import spare_machine

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
ONEDNN = "1024"
"""Its own default."""


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def write(options: argparse.Namespace) -> None:
    """Be one of the processes."""
    from llmatic_hpc.generation.language_model import batch
    from llmatic_hpc.generation.language_model.local_model import LocalModel
    from llmatic_hpc.generation.language_model.sampling import Row

    if options.plain:
        batch.trim = lambda: None
    model = LocalModel(
        GeneratorSettings(
            kind="huggingface", model=options.model, dtype=options.dtype, device="cpu"
        )
    )
    chance = random.Random(0)
    begin = [chance.randrange(1_000, 50_000) for _ in range(60)]
    written = 0

    def texts(count: int) -> list[Row]:
        nonlocal written
        written += count
        return [
            Row(
                candidate=number,
                prompt=[
                    *begin,
                    *(chance.randrange(1_000, 50_000) for _ in range(chance.randint(100, 700))),
                ],
                limit=chance.randint(40, 160),
                temperature=0.7,
                seed=number,
                form="chat",
            )
            for number in range(written - count, written)
        ]

    first = texts(options.rows)
    shared = batch.shared_by(model._model, first)
    writing = batch.Batch(model._model, model._writer, shared=shared)
    writing.admit(first)
    began = time.perf_counter()
    for step in range(1, options.steps + 1):
        writing.step()
        free = options.rows - len(writing.rows)
        if free * 8 >= options.rows:
            writing.admit(texts(free))
        if step % max(1, options.steps // 5) == 0:
            print(
                f"  {step} steps, {written} texts, {time.perf_counter() - began:.0f} s: "
                f"{resident() / 1e9:.2f} GB, {writing.held / 1e9:.2f} of them keys and values",
                flush=True,
            )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        write(options)
        return
    spare_machine()  # the processes inherit it
    line = [sys.executable, "-m", "tests.benchmarks.memory", *sys.argv[1:], "--inside"]
    print("as it is:", flush=True)
    subprocess.run(line, check=True)
    print("oneDNN's own number of products, nothing given back:", flush=True)
    subprocess.run([*line, "--plain"], check=True, env={**os.environ, CAPACITY: ONEDNN})


if __name__ == "__main__":
    main()

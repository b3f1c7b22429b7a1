"""Speed of the language model's engine, its exactness, and its distance from the hardware's bounds.

    python -m tests.benchmarks.generation --model FILE.gguf           # about 20 minutes, 2 cores
    python -m tests.benchmarks.generation --model FILE.gguf --quick   # a small check

One process, one model, the prompts of a generation: ``--parents`` different networks under the
thirteen mutation prompts at temperatures from 0.1 to 1. Measured, and compared as ratios:

1. the engine (``HuggingFace.generate``), all ``--proposals``, in completions per second,
2. transformers' ``generate`` one prompt at a time, on ``--single`` of them: sampling at the same
   temperature from the whole vocabulary, up to the same number of tokens, ended by the
   model's own end token only,
3. the same in the best static batch (left-padded, similar lengths together; one temperature, 0.6,
   since it knows only one per batch). The size is what a probe of each of ``--static`` predicts
   best for; that batch is then run to its end,
4. first tokens of the engine against the exact softmax (chi-square),
5. texts of ``--agree`` of the requests with 1 and 7 in the batch against those of part 1,
6. what the machine does at best: bytes of weights per second in products with one row, operations
   per second in products with as many rows as the batch, and which part of that the engine reaches.

Exit code 1 where a bar is missed: ``--over-single``, ``--over-static``, p of part 4 below 0.001.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn
from transformers import StoppingCriteria, StoppingCriteriaList

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.generation.language_model import model_loading
from llmatic_hpc.generation.language_model.batch import Batch
from llmatic_hpc.generation.language_model.huggingface import HuggingFace
from llmatic_hpc.generation.language_model.packed_linear import PackedLinear
from llmatic_hpc.generation.language_model.sampling import Row
from llmatic_hpc.generation.procedural.control import Procedural
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.types import Completion, Problem, Request

STATIC_TEMPERATURE = 0.6
PROBED = 6
"""Tokens that a probe of a static batch writes."""


def networks(problem: Problem, count: int) -> list[str]:
    """Different networks: the initial one, and edits of edits of it by the procedural control."""
    control, found = Procedural(problem), [problem.initial_source]
    for number in range(1, count):
        parent = found[(number - 1) // 2]
        request = Request(number, "mutation", 5 * number % 13, "", (parent,), 0.6, number)
        [written] = control.generate([request])
        found.append(extract(written.text, form=written.form, prefix=written.prefix).source)
    return found


def generation(problem: Problem, *, proposals: int, parents: int, seed: int) -> list[Request]:
    """Requests of a generation of the search."""
    sources = networks(problem, parents)
    heat = np.random.default_rng(seed).uniform(0.1, 1.0, proposals)
    return [
        Request(
            candidate=n,
            operator="mutation",
            prompt=n % len(problem.prompts),
            instruction=problem.prompts[n % len(problem.prompts)],
            parents=(sources[n % parents],),
            temperature=round(float(heat[n]), 3),
            seed=1000 * seed + n,
        )
        for n in range(proposals)
    ]


@dataclass
class Log:
    """Parts of the engine's time."""

    read: list[tuple[int, float]] = field(default_factory=list)
    """Prompt tokens without what they share, seconds."""
    steps: list[tuple[int, int, float]] = field(default_factory=list)
    """Rows, columns, seconds."""


class Watched:
    """Takes the times of every :class:`Batch` while it lasts."""

    def __init__(self) -> None:
        self.log = Log()

    def __enter__(self) -> Log:
        self._admit, self._step, self._read = Batch.admit, Batch.step, Batch._read
        log, admit, step, read = self.log, self._admit, self._step, self._read
        tokens = [0]

        def timed_admit(batch: Batch, rows: Sequence[Row]) -> None:
            tokens[0], began = 0, time.perf_counter()
            admit(batch, rows)
            log.read.append((tokens[0], time.perf_counter() - began))

        def timed_step(batch: Batch) -> list[Row]:
            rows, began = len(batch.rows), time.perf_counter()
            over = step(batch)
            extent = batch._kept
            log.steps.append((rows, extent.end - extent.first, time.perf_counter() - began))
            return over

        def counted_read(batch: Batch, pack: Any) -> Any:
            tokens[0] += len(pack.tokens)
            return read(batch, pack)

        Batch.admit, Batch.step, Batch._read = timed_admit, timed_step, counted_read  # type: ignore[method-assign]
        return log

    def __exit__(self, *error: object) -> None:
        Batch.admit, Batch.step, Batch._read = self._admit, self._step, self._read  # type: ignore[method-assign]


@dataclass
class Speed:
    """Completions, tokens and the seconds that they took."""

    completions: int
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Completions per second."""
        return self.completions / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.completions} completions, {self.tokens:,} tokens in {self.seconds:.1f} s: "
            f"{self.rate:.3f} completions/s, {self.tokens / self.seconds:.1f} tokens/s, "
            f"{self.tokens / self.completions:.0f} tokens each"
        )


def by_tokens(one: Speed, other: Speed) -> float:
    """The ratio of tokens per second, whatever the lengths."""
    return one.tokens / one.seconds * other.seconds / other.tokens


def engine(
    generator: HuggingFace, requests: Sequence[Request], **changes: Any
) -> tuple[list[Completion], float]:
    """All completions in the order of the requests, and the seconds."""
    before = generator.settings
    generator.settings = replace(before, **changes)
    generator._batch = generator.settings.batch
    began = time.perf_counter()
    found = {c.candidate: c for c in generator.generate(requests)}
    seconds = time.perf_counter() - began
    generator.settings, generator._batch = before, before.batch
    return [found[r.candidate] for r in requests], seconds


class Clock(StoppingCriteria):
    """The time after every token."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Nothing is over."""
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class Plain:
    """The same model as transformers loads it, and its generate."""

    def __init__(self, generator: HuggingFace) -> None:
        self.generator = generator
        self.model = model_loading.load(
            model_loading.locate(generator.settings.model),
            dtype=generator._model.dtype,
            device=generator.device,
            shown_as=generator.settings.model,
        ).model
        self.tokens = generator.settings.max_new_tokens

    def write(
        self, requests: Sequence[Request], *, temperature: float, tokens: int = 0
    ) -> tuple[Speed, list[float]]:
        """Sample one batch; also the time after each token."""
        generator, clock = self.generator, Clock()
        prompts = [generator._tokens(r) for r in requests]
        width = max(map(len, prompts))
        pad = generator._pad
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        torch.manual_seed(requests[0].seed)
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids.to(generator.device),
                attention_mask=mask.to(generator.device),
                do_sample=True,
                temperature=temperature,
                top_p=generator.settings.top_p,
                top_k=0,
                max_new_tokens=tokens or self.tokens,
                pad_token_id=pad,
                eos_token_id=sorted(generator._ends) or None,
                stopping_criteria=StoppingCriteriaList([clock]),
            )
        seconds = time.perf_counter() - clock.times[0]
        ends = torch.tensor(sorted(generator._ends), device=out.device)
        over = torch.isin(out[:, width:], ends).long()
        written = int((over.cumsum(-1) - over == 0).sum())
        return Speed(len(requests), written, seconds), clock.times

    def best_size(self, requests: Sequence[Request], sizes: Sequence[int]) -> int:
        """The static batch that promises most completions per second, by a probe of each."""
        found = {}
        for size in sizes:
            if size > len(requests):
                continue
            try:
                _, times = self.write(
                    _similar(self.generator, requests, size), temperature=STATIC_TEMPERATURE,
                    tokens=PROBED,
                )  # fmt: skip
            except (RuntimeError, MemoryError) as error:
                print(f"   static batch of {size}: {type(error).__name__}")
                break
            steps = np.diff(times)
            step = statistics.median(steps[1:])
            found[size] = size / (steps[0] + (self.tokens - 1) * step)
            print(
                f"   static batch of {size}: {steps[0]:.1f} s to read and write one token, "
                f"{step:.2f} s a further one: {found[size]:.3f} completions/s to come"
            )
        return max(found, key=lambda size: found[size])


def _similar(generator: HuggingFace, requests: Sequence[Request], count: int) -> list[Request]:
    """Neighbours by length of prompt, from the middle."""
    ordered = sorted(requests, key=lambda r: len(generator._tokens(r)))
    start = (len(ordered) - count) // 2
    return ordered[start : start + count]


def first_tokens(
    generator: HuggingFace, model: Any, requests: Sequence[Request], *, draws: int, batch: int
) -> float:
    """Chi-square of first tokens against the softmax; prints each prompt, gives the p of all."""
    total, freedom = 0.0, 0
    for request, temperature in zip(requests, itertools.cycle((1.0, 1.3, 1.5, 1.7))):
        asked = [
            replace(request, candidate=n, seed=10_000 + n, temperature=temperature)
            for n in range(draws)
        ]
        texts, _ = engine(generator, asked, max_new_tokens=1, batch=batch)
        counts = Counter(c.text for c in texts)
        ids = torch.tensor([generator._tokens(request)], device=generator.device)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, -1].double().cpu()
        p = torch.softmax(logits / temperature, dim=-1).numpy()
        expected: Counter[str] = Counter()
        rare = 0.0
        for token in np.argsort(-p):
            if p[token] * draws < 0.5:  # too rare to be named
                rare = 1 - sum(expected.values()) / draws
                break
            text = generator._tokenizer.decode([token], skip_special_tokens=True)
            expected[text] += draws * p[token]
        large = [text for text, n in expected.items() if n >= 5]
        seen, due = [counts[t] for t in large], [expected[t] for t in large]
        seen, due = [*seen, draws - sum(seen)], [*due, draws - sum(due)]
        if due[-1] < 5 and len(due) > 2:
            seen[-2:], due[-2:] = [sum(seen[-2:])], [sum(due[-2:])]
        statistic = sum((s - d) ** 2 / d for s, d in zip(seen, due, strict=True))
        total, freedom = total + statistic, freedom + len(due) - 1
        print(
            f"   prompt {request.prompt} of parent {request.candidate}, temperature {temperature}: "
            f"{draws} draws, chi-square {statistic:.1f} with {len(due) - 1} degrees of freedom, "
            f"p = {stats.chi2.sf(statistic, len(due) - 1):.3f}; {rare:.0%} in rare tokens"
        )
    p_all = float(stats.chi2.sf(total, freedom))
    print(f"   all: chi-square {total:.1f} with {freedom} degrees of freedom, p = {p_all:.3f}")
    return p_all


class Ceiling:
    """Measure what the machine does at best with the products of this model.

    Args:
        products: the linear layers, the one that gives the logits included.
    """

    def __init__(self, products: Sequence[Any]) -> None:
        self.products = products
        self.parameters = sum(p.in_features * p.out_features for p in products)

    def seconds(self, rows: int, repeats: int = 2) -> float:
        """Time one product of every weight with so many rows; the best of ``repeats``."""
        inputs = {p.in_features: torch.randn(rows, p.in_features) for p in self.products}
        with torch.inference_mode():
            return min(
                _timed(lambda: [p(inputs[p.in_features]) for p in self.products])
                for _ in range(repeats + 1)
            )


def products_of(model: nn.Module) -> list[nn.Module]:
    """Every linear layer, packed or not."""
    return [m for m in model.modules() if isinstance(m, nn.Linear | PackedLinear)]


def compare_with_hardware(model: Any, plain: Any, log: Log, rows: int) -> None:
    """Prints part 6."""
    ceiling, usual = Ceiling(products_of(model)), Ceiling(products_of(plain))
    one, many = ceiling.seconds(1), ceiling.seconds(rows)
    size, work = 4 * ceiling.parameters, 2 * ceiling.parameters
    square = torch.randn(2048, 2048)
    peak = 2 * 2048**3 / min(_timed(lambda: square @ square) for _ in range(4))
    print(
        f"   weights {size / 1e9:.2f} GB, {work / 1e9:.2f} GFLOP a token; products with 1 row read "
        f"{size / one / 1e9:.1f} GB/s, with {rows} rows do {work * rows / many / 1e9:.0f} GFLOP/s "
        f"(as PyTorch does them {work * rows / usual.seconds(rows) / 1e9:.0f}), square ones "
        f"{peak / 1e9:.0f} GFLOP/s"
    )
    print(
        f"   ceiling for a batch of {rows}: {rows / many:.0f} tokens/s by these products alone, "
        f"{min(rows / one, peak / work):.0f} by bandwidth and square products"
    )
    full = [(r, s) for r, _, s in log.steps if r > 0.9 * rows]
    if full:
        speed = sum(r for r, _ in full) / sum(s for _, s in full)
        print(
            f"   the engine with more than 90% of {rows} rows: {speed:.0f} tokens/s, "
            f"{speed * many / rows:.0%} of the products' ceiling"
        )
    sizes = sorted({r for r, _, _ in log.steps})
    known = np.unique(np.clip(np.geomspace(1, rows, 9).astype(int), 1, rows))
    ideal = np.interp(sizes, known, [ceiling.seconds(int(n), 1) for n in known])
    least = dict(zip(sizes, ideal, strict=True))
    due = sum(least[r] for r, _, _ in log.steps)
    took = sum(s for _, _, s in log.steps)
    print(
        f"   all {len(log.steps)} steps: {took:.1f} s, their products alone take {due:.1f} s "
        f"({due / took:.0%})"
    )
    head = max(p.in_features * p.out_features for p in products_of(model))
    tokens, seconds = (sum(column) for column in zip(*log.read, strict=True))
    reading = 2 * (ceiling.parameters - head) * tokens / peak
    print(
        f"   reading: {tokens:,} tokens in {seconds:.1f} s; as square products {reading:.1f} s "
        f"({reading / seconds:.0%})"
    )


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def agreement(one: Sequence[Completion], other: Sequence[Completion]) -> str:
    """Count the texts that are the same."""
    same = sum(a.text == b.text for a, b in zip(one, other, strict=True))
    return f"{same} of {len(one)}"


def _sizes(text: str) -> Iterator[int]:
    return (int(part) for part in text.split(","))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--form", choices=("auto", "chat", "completion"), default="auto")
    parser.add_argument("--proposals", type=int, default=100)
    parser.add_argument("--parents", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--batch", type=int, default=GeneratorSettings().batch)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--single", type=int, default=8, help="proposals one at a time; 0: none")
    parser.add_argument("--static", default="16,32,64", help="static batches to try; '': none")
    parser.add_argument("--draws", type=int, default=500, help="first tokens of each prompt")
    parser.add_argument("--agree", type=int, default=12)
    parser.add_argument("--over-single", type=float, default=6.0)
    parser.add_argument("--over-static", type=float, default=1.5)
    parser.add_argument("--quick", action="store_true", help="a few, short")
    options = parser.parse_args()
    if options.quick:
        options.proposals, options.max_new_tokens, options.single = 13, 48, 2
        options.static, options.draws, options.agree = "4", 100, 4
    problem = image_classification(input_shape=(3, 32, 32), classes=10)
    settings = GeneratorSettings(
        model=options.model,
        form=options.form,
        max_new_tokens=options.max_new_tokens,
        batch=options.batch,
        dtype=options.dtype,
        threads=options.threads,
    )
    generator = HuggingFace(settings, problem)
    requests = generation(
        problem, proposals=options.proposals, parents=options.parents, seed=options.seed
    )
    lengths = sorted(len(generator._tokens(r)) for r in requests)
    print(
        f"{options.model}, {generator.form}, {generator._model.dtype}, "
        f"{torch.get_num_threads()} threads on {len(os.sched_getaffinity(0))} cores, load "
        f"{os.getloadavg()[0]:.1f}; {len(requests)} proposals, prompts of {lengths[0]} to "
        f"{lengths[-1]} tokens, at most {options.max_new_tokens} new ones"
    )

    engine(generator, requests[:2], max_new_tokens=8)  # everything is loaded and laid out
    with Watched() as log:
        completions, seconds = engine(generator, requests)
    ours = Speed(len(completions), sum(c.tokens for c in completions), seconds)
    print(f"1. engine, batch {options.batch}: {ours}")
    done = sum(c.finished for c in completions)
    print(f"   {done} of {len(completions)} ended by themselves; {len(log.steps)} steps")

    failed = []
    plain = Plain(generator)
    if options.single:
        picked = requests[:: max(1, len(requests) // options.single)][: options.single]
        parts = [plain.write([r], temperature=r.temperature)[0] for r in picked]
        alone = Speed(len(parts), sum(p.tokens for p in parts), sum(p.seconds for p in parts))
        ratio = ours.rate / alone.rate
        print(f"2. generate, one at a time: {alone}")
        print(
            f"   engine / one at a time: {ratio:.2f} x ({by_tokens(ours, alone):.2f} x in tokens)"
        )
        if ratio < options.over_single:
            failed.append(f"{ratio:.2f} x of one at a time is less than {options.over_single}")
    if options.static:
        print("3. generate, static batch:")
        size = plain.best_size(requests, list(_sizes(options.static)))
        static, _ = plain.write(_similar(generator, requests, size), temperature=STATIC_TEMPERATURE)
        ratio = ours.rate / static.rate
        print(f"   batch of {size}: {static}")
        print(
            f"   engine / best static batch: {ratio:.2f} x "
            f"({by_tokens(ours, static):.2f} x in tokens)"
        )
        if ratio < options.over_static:
            failed.append(f"{ratio:.2f} x of the static batch is less than {options.over_static}")
    if options.draws:
        print("4. first tokens against the softmax:")
        p = first_tokens(
            generator, plain.model, requests[:4], draws=options.draws, batch=options.batch
        )
        if p < 0.001:
            failed.append(f"first tokens are not distributed as the softmax says (p = {p:.2g})")
    if options.agree:
        print(f"5. the same texts as with a batch of {options.batch}:")
        some = requests[:: max(1, len(requests) // options.agree)][: options.agree]
        written = [completions[r.candidate] for r in some]
        for batch in (1, 7):
            again, _ = engine(generator, some, batch=batch)
            print(f"   batch of {batch}: {agreement(written, again)}")
    print("6. the hardware:")
    compare_with_hardware(generator._model, plain.model, log, min(options.batch, len(requests)))
    for line in failed:
        print(f"MISSED: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

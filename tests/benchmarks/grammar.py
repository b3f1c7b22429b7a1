"""Worth of a grammar for networks: completions with it and without.

    pip install xgrammar
    python -m tests.benchmarks.grammar --model FILE_OR_FOLDER [--count 24]

The paper's prompt in the completion form, the initial network, the thirteen prompts in turn; once
sampled freely until the class is over, once so that only tokens are drawn that a grammar of
networks allows (fixed indentation, known layers, whole numbers). Same model, temperature and
seeds, one batch each, in one run. Nothing of it is part of the product; see the README.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import xgrammar
import xgrammar.contrib.hf
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from llmatic_hpc.config import Config
from llmatic_hpc.evaluation.screen import Screener
from llmatic_hpc.generation.extract import extract
from llmatic_hpc.generation.language_model import model_loading
from llmatic_hpc.generation.language_model.stopping import end_of_class
from llmatic_hpc.generation.prompts import PREFIX, completion_prompt
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.types import PENDING, Request

SHAPE, CLASSES = (3, 32, 32), 10

GRAMMAR = r"""
root ::= "\n    def __init__(self):\n        super().__init__()\n" layer layer* forward
forward ::= "\n    def forward(self, x):\n" step step* "        return " value "\n\n"
layer ::= "        self." name " = " made "\n"
step ::= "        x = " value "\n"
name ::= [a-z] [a-z0-9_]*
made ::= "nn.Conv2d(" number ", " number ", " small ("," " " option)* ")"
       | "nn.Linear(" number ", " number ")" | "nn.BatchNorm2d(" number ")"
       | "nn.MaxPool2d(" small (", " small)? ")" | "nn.AvgPool2d(" small (", " small)? ")"
       | "nn.Dropout(0." [1-9] ")" | "nn.ReLU()" | "nn.Flatten()" | "nn.AdaptiveAvgPool2d(1)"
       | "nn.Sequential(" made (", " made)* ")"
option ::= ("stride=" | "padding=" | "groups=") small
number ::= [1-9] [0-9]? [0-9]? [0-9]? [0-9]?
small ::= [1-9]
value ::= term (" + " term)*
term ::= "x" | "self." name "(" value ")" | function "(" value ")" | "torch.flatten(" value ", 1)"
       | "F.max_pool2d(" value ", " small ")" | "torch.cat((" value ", " value "), 1)"
function ::= "F.relu" | "F.gelu" | "torch.sigmoid" | "torch.tanh" | "F.silu"
"""


class ClassIsOver(StoppingCriteria):
    """Ends a row with its class."""

    def __init__(self, tokenizer: Any, start: int) -> None:
        self.tokenizer, self.start = tokenizer, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.start :], skip_special_tokens=True)
        over = [end_of_class(text, form="completion") is not None for text in texts]
        return torch.tensor(over, device=input_ids.device)


def main() -> None:
    """Sample both ways, screen with repair, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-new-tokens", type=int, default=320)
    options = parser.parse_args()
    problem = image_classification(input_shape=SHAPE, classes=CLASSES, settings=Config().problem)
    loaded = model_loading.load(
        model_loading.locate(options.model),
        dtype=torch.float32,
        device="cpu",
        shown_as=options.model,
    )
    model, tokenizer = loaded.model, loaded.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    texts = [
        completion_prompt(Request(n, "mutation", n % 13, problem.prompts[n % 13],
                                  (problem.initial_source,), options.temperature, n))
        for n in range(options.count)
    ]  # fmt: skip
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    start = batch["input_ids"].shape[1]
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=model.config.vocab_size)
    compiled = xgrammar.GrammarCompiler(info).compile_grammar(GRAMMAR)
    print(f"{Path(options.model).name}, {options.count} completions each, temperature "
          f"{options.temperature}")  # fmt: skip
    print("| | parsed | passed the gate | fit | fit with repair (distinct) | tokens/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with Screener(input_shape=SHAPE, classes=CLASSES, containment=Config().containment) as screener:
        for name in ("free", "grammar"):
            processors = LogitsProcessorList()
            if name == "grammar":
                processors.append(xgrammar.contrib.hf.LogitsProcessor(compiled))
            torch.manual_seed(1)
            began = time.perf_counter()
            with torch.inference_mode(), model_loading.quiet():
                found = model.generate(
                    **batch, do_sample=True, temperature=options.temperature, top_p=1.0, top_k=0,
                    max_new_tokens=options.max_new_tokens, pad_token_id=tokenizer.pad_token_id,
                    logits_processor=processors,
                    stopping_criteria=StoppingCriteriaList([ClassIsOver(tokenizer, start)]),
                )  # fmt: skip
            seconds = time.perf_counter() - began
            written = found[:, start:]
            tokens = int((written != tokenizer.pad_token_id).sum())
            sources = []
            for text in tokenizer.batch_decode(written, skip_special_tokens=True):
                end = end_of_class(text, form="completion")
                code = extract(text[:end], form="completion", prefix=PREFIX,
                               context=(problem.initial_source,))  # fmt: skip
                sources.append(code.source)
            repaired = screener.examine([s for s in sources if s], repair=True)
            gate = sum(m.written.status != "forbidden" and m.written.canonical_sha256 != ""
                       and "not known" not in m.written.failure for m in repaired)  # fmt: skip
            fit = sum(m.written.status == PENDING for m in repaired)
            after = [m.screened.canonical_sha256 for m in repaired if m.screened.status == PENDING]
            print(f"| {name} | {len(repaired)} | {gate} | {fit} | {len(after)} ({len(set(after))}) "
                  f"| {tokens / seconds:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

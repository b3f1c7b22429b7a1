"""A problem and a generator of another package: sequences of digits, as sorted as can be.

A candidate is the text of a list of digits. It is read with ``ast.literal_eval``, never executed.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence

import llmatic_hpc as lm


class Sequences(lm.ProblemKind):
    """Find sequences that are sorted, for every length, sum and spread."""

    def descriptors(self, settings):
        """Return three axes, one of them logarithmic."""
        longest = settings.options.get("longest", 16)
        return (
            lm.Descriptor("length", 0.0, longest, unit="digits"),
            lm.Descriptor("sum", 1.0, 9.0 * longest, scale="log"),
            lm.Descriptor("spread", 0.0, 9.0),
        )

    def describe(self, config):
        """Return the shapes and the prompts."""
        return lm.Problem(
            name="sequences",
            input_shape=(config.problem.options.get("longest", 16),),
            classes=1,
            initial_source="[3, 1, 2]",
            prompts=("Append a digit", "Change a digit", "Swap two digits"),
            crossover_prompt="Join the beginnings of both",
            random_prompt="Write a sequence",
        )

    def evaluator(self, config, paths, *, notice, stop, backend=None):
        """Score here; nothing is trained."""
        return Sorted(self.describe(config))


class Sorted(lm.Immediate):
    """Score a sequence by the share of its neighbours that are in order."""

    def screen(self, source: str) -> lm.Screened:
        """Read the digits and measure them."""
        try:
            digits = ast.literal_eval(source)
            assert all(digit in range(10) for digit in digits)
            assert 1 < len(digits) <= self.problem.input_shape[0]
        except Exception:
            return lm.Screened("invalid", "no list of two digits or more that fits")
        measured = {
            "length": len(digits),
            "sum": sum(digits),
            "spread": max(digits) - min(digits),
        }
        digest = hashlib.sha256(repr(digits).encode()).hexdigest()
        return lm.Screened("pending", canonical_sha256=digest, measured=measured)

    def score(self, source: str, architecture: str) -> lm.Outcome:
        """Count what is in order."""
        digits = ast.literal_eval(source)
        pairs = list(itertools.pairwise(digits))
        return lm.Outcome("scored", fitness=sum(a <= b for a, b in pairs) / len(pairs))


class Dice:
    """Write sequences by throwing dice."""

    name, form, repeatable = "dice", "source", True

    def __init__(self, settings: lm.GeneratorSettings, problem: lm.Problem) -> None:
        self.sides = settings.options.get("sides", 10)

    def generate(self, requests: Sequence[lm.Request]) -> Iterator[lm.Completion]:
        """Answer each request by its parents and its prompt."""
        for request in requests:
            dice = random.Random(request.seed)
            digits = list(ast.literal_eval(request.parents[0]))
            if len(request.parents) > 1:
                digits = digits[: len(digits) // 2 + 1] + ast.literal_eval(request.parents[1])
            elif request.prompt == 0:
                digits.append(dice.randrange(self.sides))
            elif request.prompt == 1:
                digits[dice.randrange(len(digits))] = dice.randrange(self.sides)
            else:
                dice.shuffle(digits)
            yield lm.Completion(request.candidate, repr(digits), form="source")

    def close(self) -> None:
        """Hold nothing."""

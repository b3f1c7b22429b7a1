"""The procedural control: what it writes builds, fits, does as asked, and repeats.

Run: pytest tests/generation/procedural/test_control.py
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import nn

from llmatic_hpc.generation.procedural.control import Procedural
from llmatic_hpc.problems.images.kind import NEIGHBOURS, image_classification
from llmatic_hpc.source import gate
from llmatic_hpc.types import Problem, Request

CIFAR = image_classification(input_shape=(3, 32, 32), classes=10)
GREY = image_classification(input_shape=(1, 28, 28), classes=5)
DIGITS = image_classification(input_shape=(1, 8, 8), classes=10)
PROBLEMS = pytest.mark.parametrize("problem", [CIFAR, GREY], ids=["3x32x32", "1x28x28"])
TEMPERATURES = (0.05, 0.3, 0.7, 1.0)


def ask(
    problem: Problem,
    prompt: int,
    *,
    seed: int = 0,
    temperature: float = 0.05,
    parents: tuple[str, ...] = (),
    operator: str = "mutation",
    instruction: str = "",
) -> str:
    """The one text that answers a request."""
    parents = parents or (problem.initial_source,)
    request = Request(0, operator, prompt, instruction, parents, temperature, seed)
    (completion,) = Procedural(problem).generate([request])
    assert (completion.form, completion.prefix, completion.finished) == ("completion", "", True)
    return completion.text


def build(source: str) -> nn.Module:
    """An instance of the source's ``Net`` (on the default device)."""
    names: dict[str, type[nn.Module]] = {}
    exec(compile(source, "net.py", "exec"), names)
    return names["Net"]()


def check(source: str, problem: Problem, *, device: str = "meta") -> nn.Module:
    """Build a network, train it one step with 2 images, apply it to 3, and give it back."""
    if re.search(r"nn\.(GRU|LSTM|RNN)", source):
        device = "cpu"  # on the meta device, torch goes through each step in Python
    with torch.device(device):
        net = build(source)
        logits = net(torch.randn(2, *problem.input_shape))
        assert logits.shape == (2, problem.classes)
        logits.square().mean().backward()
        with torch.no_grad():
            assert net.eval()(torch.randn(3, *problem.input_shape)).shape == (3, problem.classes)
    if device != "meta":
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    return net


def parameters(source: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(source).parameters())


def calls(source: str, *names: str) -> int:
    """Count the calls of something of these names, anywhere in a source."""
    nodes = [n.func for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    return sum(isinstance(f, ast.Attribute) and f.attr in names for f in nodes)


def residuals(source: str) -> int:
    return sum(isinstance(n, ast.BinOp) for n in ast.walk(ast.parse(source)))


def chain(problem: Problem, length: int, *, seed: int, prompts: Iterable[int]) -> list[str]:
    """A walk of random edits from the initial network."""
    rng, sources, prompts = random.Random(seed), [problem.initial_source], list(prompts)
    for step in range(length):
        sources.append(
            ask(
                problem,
                rng.choice(prompts),
                seed=1000 * seed + step,
                temperature=rng.choice(TEMPERATURES),
                parents=(sources[-1],),
            )
        )
    return sources[1:]


def neighbour(problem: Problem, parent: str, number: int, *, seed: int = 0) -> str:
    """The network that a baseline asks for by its number."""
    request = Request(0, "neighbour", -1, "", (parent,), 0.7, seed, neighbour=number)
    return next(Procedural(problem).generate([request])).text


# --- they work --------------------------------------------------------------------------------


@PROBLEMS
@pytest.mark.parametrize("prompt", range(14))
def test_every_prompt_gives_networks_that_fit(problem: Problem, prompt: int) -> None:
    """Offspring of the initial network trains, whatever the prompt, temperature and seed."""
    for seed, temperature in enumerate(TEMPERATURES * 2):
        check(ask(problem, prompt, seed=seed, temperature=temperature), problem)


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_a_long_walk_stays_valid(every: int) -> None:
    """Two hundred edits in a row, each of the one before: (every sixth of) all can be trained."""
    for source in chain(DIGITS, 200, seed=1, prompts=range(13))[::every]:
        check(source, DIGITS, device="cpu")


@PROBLEMS
def test_a_walk_on_larger_images_stays_valid(problem: Problem) -> None:
    """The same, looked at now and then, where maps and costs are larger."""
    for source in chain(problem, 60, seed=2, prompts=range(13))[::8]:
        check(source, problem)


def test_fresh_networks_fit_and_differ() -> None:
    """Networks from scratch fit, and hardly ever repeat."""
    sources = [ask(CIFAR, -1, operator="random", seed=seed) for seed in range(40)]
    for source in sources[:12]:
        check(source, CIFAR)
    assert len(set(sources)) >= 38


def test_odd_shapes() -> None:
    """Maps of one pixel, oblong maps and plain vectors are no exception."""
    vector = replace(
        CIFAR,
        input_shape=(16,),
        initial_source=CIFAR.initial_source.replace("1024", "16")
        .replace("F.relu(self.conv1(x))", "x")
        .replace("        self.conv1 = nn.Conv2d(3, 1, 1)\n", ""),
    )
    for problem in (
        image_classification(input_shape=(1, 1, 1), classes=2),
        image_classification(input_shape=(2, 5, 9), classes=3),
        vector,
    ):
        for source in chain(problem, 40, seed=3, prompts=range(13))[::8]:
            check(source, problem)
        for seed in range(5):
            check(ask(problem, -1, operator="random", seed=seed), problem)


SEQUENCE = image_classification(input_shape=(6, 64), classes=4)
LONG = image_classification(input_shape=(1, 3000), classes=3)
TABLE = image_classification(input_shape=(13,), classes=3)


@pytest.mark.parametrize(
    "problem",
    [SEQUENCE, pytest.param(LONG, marks=pytest.mark.slow), TABLE],
    ids=["6x64", "1x3000", "13"],
)
def test_a_walk_on_sequences_and_tables_stays_valid(problem: Problem) -> None:
    """Every prompt and crossover gives networks that pass the gate and can be trained."""
    sources = chain(problem, 26, seed=7, prompts=range(13))
    for prompt in range(13):
        child = ask(problem, prompt, seed=prompt, temperature=0.6)
        assert gate.check(child, max_bytes=100_000).status == "pending"
        check(child, problem)
    for source in sources[::5]:
        check(source, problem)
    for seed in range(3):
        parents = (sources[7 * seed], sources[-1])
        check(ask(problem, -1, operator="crossover", seed=seed, parents=parents), problem)
    assert len(set(sources)) > 23
    used = set(re.findall(r"[A-Za-z_]+2d", "".join(sources)))
    assert not used
    if problem is TABLE:
        assert not re.findall(r"onv|ool\d|GRU|LSTM|RNN", "".join(sources))


@pytest.mark.parametrize(
    ("problem", "prompt", "names"),
    [
        (SEQUENCE, 5, ("Linear",)),
        (SEQUENCE, 6, ("Conv1d",)),
        (SEQUENCE, 7, ("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d")),
        (SEQUENCE, 12, ("GRU", "LSTM", "RNN")),
        (TABLE, 5, ("Linear",)),
        (TABLE, 7, ("Linear",)),
        (TABLE, 11, ("BatchNorm1d", "LayerNorm")),
    ],
)
def test_adds_to_sequences_and_tables(
    problem: Problem, prompt: int, names: tuple[str, ...]
) -> None:
    """There are more of what the prompt asks for."""
    for seed in range(4):
        child = ask(problem, prompt, seed=seed, temperature=0.3)
        assert calls(child, *names) > calls(problem.initial_source, *names)


def test_prompts_of_tables_alone() -> None:
    """Layers become wider, activations others, in place of what tables have not."""
    for seed in range(5):
        wider = ask(TABLE, 6, seed=seed)
        assert parameters(wider) > parameters(TABLE.initial_source)
        assert calls(wider, "Linear") == 2
        assert calls(ask(TABLE, 12, seed=seed), "relu") == 0


def test_a_growing_search_stays_within_bounds() -> None:
    """Asked for more and more, it stops before networks that nobody could train."""
    sources = chain(CIFAR, 50, seed=4, prompts=(0, 4, 6, 9))
    assert max(map(parameters, sources[::5])) <= 20_000_000
    assert max(calls(s, "Conv2d", "Linear") for s in sources) <= 80  # projections included
    assert len(set(sources)) == len(sources), "it must not come to rest either"


def test_a_shrinking_search_keeps_a_classifier() -> None:
    """Asked for less and less, it ends with a linear classifier, not with nothing."""
    for source in chain(CIFAR, 30, seed=5, prompts=(1, 3))[::3]:
        assert calls(source, "Linear") >= 1
        check(source, CIFAR)


# --- they do what was asked -------------------------------------------------------------------

GROWN = chain(CIFAR, 12, seed=6, prompts=(4, 6, 6, 7, 8))


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        (5, ("Linear",)),
        (6, ("Conv2d",)),
        (7, ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d")),
        (10, ("Dropout", "Dropout2d")),
        (11, ("BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm")),
    ],
)
def test_adds_what_the_prompt_names(prompt: int, names: tuple[str, ...]) -> None:
    """There are more layers of the kind that was asked for, at any temperature."""
    for parent in (CIFAR.initial_source, GROWN[5], GROWN[-1]):
        for temperature in TEMPERATURES:
            child = ask(CIFAR, prompt, temperature=temperature, parents=(parent,))
            assert calls(child, *names) > calls(parent, *names)


@pytest.mark.parametrize(("prompt", "least"), [(8, 1), (9, 2)])
def test_adds_residual_connections(prompt: int, least: int) -> None:
    """One residual connection, or several, as asked."""
    for parent in (CIFAR.initial_source, GROWN[5]):
        for seed in range(5):
            child = ask(CIFAR, prompt, seed=seed, parents=(parent,))
            assert residuals(child) >= residuals(parent) + least


def test_adds_a_recurrent_layer() -> None:
    """There is a recurrent layer where there was none."""
    for seed in range(10):
        child = ask(CIFAR, 12, seed=seed, temperature=0.5)
        assert calls(child, "GRU", "LSTM", "RNN") == 1
        check(child, CIFAR, device="cpu")


def test_adds_and_deletes_layers() -> None:
    """Adding a layer makes the forward pass longer, deleting one shorter."""
    for seed in range(10):
        grown = ask(CIFAR, 0, seed=seed, parents=(GROWN[5],))
        shrunk = ask(CIFAR, 1, seed=seed, parents=(GROWN[5],))
        assert _modules_and_functions(grown) > _modules_and_functions(GROWN[5])
        assert _modules_and_functions(shrunk) < _modules_and_functions(GROWN[5])


def _modules_and_functions(source: str) -> int:
    forward = ast.parse(source).body[-1].body[-1]  # type: ignore[attr-defined]
    return sum(isinstance(n, ast.Call | ast.BinOp) for n in ast.walk(forward))


def test_sizes_change_drastically() -> None:
    """Reducing leaves at most four fifths of the parameters, increasing adds a fifth or more."""
    for parent in (CIFAR.initial_source, GROWN[5]):
        for seed in range(8):
            for temperature in (0.05, 0.9):
                less = ask(CIFAR, 3, seed=seed, temperature=temperature, parents=(parent,))
                more = ask(CIFAR, 4, seed=seed, temperature=temperature, parents=(parent,))
                assert parameters(less) < 0.8 * parameters(parent)
                assert parameters(more) > 1.2 * parameters(parent)


def test_hot_requests_change_more() -> None:
    """Edits grow in number and size with the temperature; the lowest makes one small edit."""

    def changed_lines(temperature: float) -> float:
        parent = set(GROWN[-1].splitlines())
        children = (
            ask(CIFAR, 2, seed=seed, temperature=temperature, parents=(GROWN[-1],))
            for seed in range(60)
        )
        return sum(len(set(child.splitlines()) - parent) for child in children) / 60

    assert changed_lines(0.05) < changed_lines(0.5) < changed_lines(1.0)


# --- crossover --------------------------------------------------------------------------------

LEFT = """\
import torch.nn as nn
import torch.nn.functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 24, 5, padding=2)
        self.b = nn.Conv2d(24, 24, 5, padding=2)
        self.c = nn.Linear(24 * 64, 10)
    def forward(self, x):
        x = F.max_pool2d(F.gelu(self.a(x)), 2)
        x = F.max_pool2d(F.gelu(self.b(x)), 2)
        return self.c(x.flatten(1))
"""
RIGHT = LEFT.replace("gelu", "silu").replace("24", "40").replace("5, padding=2", "3, padding=1")


def test_crossover_takes_from_both_parents() -> None:
    """A child has layers of the first parent in front of layers of the second, and fits."""
    for seed in range(10):
        child = ask(CIFAR, -1, operator="crossover", parents=(LEFT, RIGHT), seed=seed)
        assert 0 < child.index("F.gelu") < child.index("F.silu")
        check(child, CIFAR)


def test_crossover_of_one_network_with_itself_still_gives_a_new_one() -> None:
    """Equal parents, or a single one, give a child that differs."""
    for parents in [(GROWN[-1], GROWN[-1]), (GROWN[-1],), (CIFAR.initial_source,) * 3]:
        child = ask(CIFAR, -1, operator="crossover", parents=parents)
        assert child not in parents
        check(child, CIFAR)


def test_crossover_keeps_on() -> None:
    """Children of children of random networks fit, too."""
    rng = random.Random(0)
    pool = [ask(CIFAR, -1, operator="random", seed=seed) for seed in range(6)]
    for seed in range(25):
        parents = tuple(rng.sample(pool, 2))
        pool.append(ask(CIFAR, -1, operator="crossover", parents=parents, seed=seed))
        check(pool[-1], CIFAR)


# --- they repeat, and they vary -----------------------------------------------------------------


def test_the_same_request_gives_the_same_text() -> None:
    """Nothing but the request decides: not the order, not what was asked before."""
    requests = [
        Request(i, operator, i, "", (GROWN[i], GROWN[-1]), 0.8, 10 + i)
        for i, operator in enumerate(["mutation", "crossover", "random", "mutation"])
    ]
    generator = Procedural(CIFAR)
    first = {c.candidate: c.text for c in generator.generate(requests)}
    again = {c.candidate: c.text for c in generator.generate(requests[::-1])}
    generator.close()
    assert first == again


def test_the_text_of_a_prompt_does_not_matter() -> None:
    """Only its number does; numbers beyond the thirteen mean any edit."""
    for prompt in (0, 6, 13, 99, -1):
        texts = {ask(CIFAR, prompt, instruction=t) for t in ("", "Delete a layer", "Add pooling")}
        assert len(texts) == 1
        check(texts.pop(), CIFAR)


def test_seeds_give_different_networks() -> None:
    """A batch of a hundred from one parent has few duplicates, and never the parent."""
    texts = [ask(CIFAR, seed % 13, seed=seed, temperature=0.6) for seed in range(100)]
    assert len(set(texts)) > 75
    assert CIFAR.initial_source not in texts


def test_it_says_what_it_is() -> None:
    """Nobody may mistake its results for a language model's."""
    assert Procedural(CIFAR).name == "procedural (control without a language model)"


# --- by number ----------------------------------------------------------------------------------


@PROBLEMS
def test_a_neighbour_is_one_edit_that_hangs_on_its_number_alone(problem: Problem) -> None:
    """It trains, and is the same network again whoever asks; many numbers are different ones."""
    parent = ask(problem, 2, seed=5, temperature=0.7)
    found = [neighbour(problem, parent, number) for number in range(NEIGHBOURS)]
    assert found == [neighbour(problem, parent, n, seed=9) for n in range(NEIGHBOURS)]
    assert parent not in found
    assert len(set(found)) > NEIGHBOURS / 3
    for source in found[::8]:
        check(source, problem)
    assert found[0] != neighbour(problem, found[0], 0)

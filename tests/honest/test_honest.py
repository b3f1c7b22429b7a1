"""Honest networks pass the gate and the screen, and train as they would anywhere else."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from llmatic_hpc.config import ContainmentSettings, TrainingSettings
from llmatic_hpc.evaluation import data, trainer
from llmatic_hpc.evaluation.data import Dataset, Split
from llmatic_hpc.evaluation.screen import Screener
from llmatic_hpc.sandbox.container import Container
from llmatic_hpc.source import gate
from llmatic_hpc.source.network import network_class
from llmatic_hpc.types import Screened

from ..source.networks import NETWORKS

MODELS = {path.stem: path for path in sorted((Path(__file__).parent / "models").glob("*.py"))}
SETTINGS = ContainmentSettings()
TRAINING = TrainingSettings(epochs=2, batch=32, learning_rate=0.01, momentum=0.9, device="cpu")
SEED = 11


def test_there_are_enough_of_them() -> None:
    """Networks of torchvision, of the paper, and of everything else that people do."""
    assert len(MODELS) >= 40


@pytest.mark.parametrize("name", MODELS)
def test_the_gate_lets_it_in(name: str) -> None:
    """Without a change."""
    source = MODELS[name].read_text()
    assert gate.check(source, max_bytes=SETTINGS.source_bytes) == Screened("pending")


def test_the_screen_lets_all_in() -> None:
    """Each is built and measured; no two are the same network."""
    sources = [path.read_text() for path in MODELS.values()]
    with Screener(
        input_shape=(3, 32, 32), classes=10, containment=SETTINGS, slots=1
    ) as screener:  # fmt: skip
        screened = screener.screen(sources)
    refused = {n: s.failure for n, s in zip(MODELS, screened, strict=True) if s.failure}
    assert refused == {}
    assert all(s.descriptors is not None and s.descriptors.params > 0 for s in screened)
    assert len({s.canonical_sha256 for s in screened}) == len(sources)


def test_tensors_can_be_made_in_a_process_that_never_made_one() -> None:
    """The first ``torch.tensor`` imports a part of torch, on behalf of the candidate."""
    source = MODELS["buffers"].read_text()
    code = f"from llmatic_hpc.evaluation import build; build.construct({source!r})"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Noise around a pattern for each class: there is something to be learned."""
    drawn = np.random.default_rng(3)
    patterns = drawn.integers(60, 196, (10, 32, 32, 3))

    def split(count: int) -> Split:
        labels = drawn.integers(0, 10, count)
        noise = drawn.integers(-60, 60, (count, 32, 32, 3))
        return Split((patterns[labels] + noise).astype(np.uint8), labels)

    return Dataset(split(97), split(40), split(33), 10)


@pytest.fixture(scope="module")
def container(dataset: Dataset) -> Iterator[Container]:
    with Container(SETTINGS) as made:
        made.share(data.for_training(dataset))
        yield made


SOURCES = {name: path.read_text() for name, path in MODELS.items()} | {
    f"gate: {name}": source for name, source in NETWORKS.items()
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_its_score_is_that_of_training_it_plainly(
    name: str, dataset: Dataset, container: Container, tmp_path: Path
) -> None:
    """Every prediction is the one of a loop that knows nothing of gate and container."""
    source = SOURCES[name]
    evaluator = trainer.Trainer(container, dataset, TRAINING, SETTINGS, threads=1)
    job = evaluator.job(source, seed=SEED, epochs=TRAINING.epochs, folder=tmp_path)
    reply = container.run(job)
    assert (reply.status, reply.failure) == ("trained", "")
    contained = np.frombuffer(reply.payload, "<i8")
    plain = trained_plainly(source, dataset)
    assert contained.tolist() == plain.tolist()
    outcome = evaluator.outcome(job, reply)
    labels = np.concatenate([dataset.validation.labels, dataset.test.labels])
    hits = (plain == labels)[: len(dataset.validation)]
    assert outcome.valid_accuracy == np.mean(hits)


def trained_plainly(source: str, dataset: Dataset) -> NDArray[np.int64]:
    """Answers of a network that was trained as a textbook would, with torch.optim."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        namespace: dict[str, object] = {"__name__": "plain"}
        exec(compile(source, "plain", "exec"), namespace)
        found = network_class(ast.parse(source))
        assert found is not None
        random.seed(SEED)
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        network = namespace[found.name]()  # type: ignore[operator]
        return _trained(network, dataset)
    finally:
        torch.set_num_threads(threads)


def _trained(network: nn.Module, dataset: Dataset) -> NDArray[np.int64]:
    images = _images(dataset.train)
    labels = torch.from_numpy(dataset.train.labels)
    if any(isinstance(p, nn.UninitializedParameter) for p in network.parameters()):
        network.eval()
        with torch.no_grad():
            network(images[:2])
    optimiser = torch.optim.SGD(
        network.parameters(), lr=TRAINING.learning_rate, momentum=TRAINING.momentum
    )
    order = torch.Generator().manual_seed(SEED)
    for _ in range(TRAINING.epochs):
        network.train()
        shuffled = torch.randperm(len(images), generator=order)
        # 97 images: the last batch takes the one that would be alone.
        for start, end in ((0, 32), (32, 64), (64, 97)):
            chosen = shuffled[start:end]
            optimiser.zero_grad()
            F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimiser.step()
    network.eval()
    with torch.no_grad():
        answers = [network(_images(s)).argmax(1) for s in (dataset.validation, dataset.test)]
    return torch.cat(answers).numpy()


def _images(split: Split) -> torch.Tensor:
    pixels = torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous()
    return (pixels.float() / 255 - 0.5) / 0.5

"""Train a network by the paper's protocol, inside the contained child.

Stochastic gradient descent with momentum on the cross-entropy, a fixed number of epochs, no
augmentation (paper, section 4.1). The images lie as one uint8 tensor on the device and are
normalised per batch to (x/255 - 0.5)/0.5; nothing is read back from the device per step.

A training that is interrupted at any step and continued from its checkpoint ends, on a CPU,
in the same bits as an undisturbed one: parameters, all buffers, momentum, the generators of
torch, numpy and Python, the permutation of the running epoch and the loss so far are all
restored. What a network keeps in plain Python attributes is not.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from . import checkpoint
from .build import CandidateError

_LOOK_STEPS = 500
"""Steps after which a loss that is not finite ends a training."""


class Checkpointed(Exception):  # noqa: N818 (an answer to a request)
    """Raised once the state is on disk, as far as possible: continue from it later."""


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training."""

    epochs: int
    batch: int
    learning_rate: float
    momentum: float
    seed: int
    checkpoint_seconds: float
    evaluation_batch: int


@dataclass(frozen=True)
class Images:
    """Images for a child: (N, C, H, W) uint8, with labels, int64, for training alone."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    validation_images: torch.Tensor
    test_images: torch.Tensor


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    train_loss: float | None
    """Mean cross-entropy over the last epoch's steps; None without epochs."""
    epochs: int
    predictions: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Classes of the validation and of the test images."""
    network: nn.Module


def train(
    build: Callable[[], nn.Module],
    images: Images,
    recipe: Recipe,
    *,
    classes: int,
    folder: Path | None = None,
    identity: str = "",
    asked: Callable[[], bool] = lambda: False,
) -> Trained:
    """Build a network, train it and let it predict.

    With a ``folder``, a checkpoint of the same ``identity`` found there is continued, and one
    is written at the end of an epoch every ``recipe.checkpoint_seconds``, and at the next
    step once ``asked()`` is true, whereupon :class:`Checkpointed` is raised.

    Raises :class:`~.build.CandidateError`, of status ``diverged`` where a loss or an output is
    not finite, and whatever the network raises. The caller has seeded the generators that the
    network draws from.
    """
    torch.manual_seed(recipe.seed)
    network = build().to(images.train_images.device)
    _materialise(network, images)
    run = _Run(network, images, recipe, classes)
    if folder is not None and (found := checkpoint.load(folder, identity=identity)):
        run.restore(found)
    saved = time.monotonic()

    def save() -> None:
        # A full disk costs the checkpoint, not the training.
        if folder is not None:
            with contextlib.suppress(OSError):
                checkpoint.save(folder, run.state(), identity=identity)

    for end_of_epoch in run.steps():
        if asked():
            save()
            raise Checkpointed
        if end_of_epoch and time.monotonic() - saved >= recipe.checkpoint_seconds:
            save()
            saved = time.monotonic()
    predictions = []
    for split in (images.validation_images, images.test_images):
        parts = [np.empty(0, np.int64)]
        for part in run.predict(split):
            if asked():
                save()
                raise Checkpointed
            parts.append(part)
        predictions.append(np.concatenate(parts))
    return Trained(run.train_loss, run.epoch, (predictions[0], predictions[1]), network)


def batches(count: int, size: int) -> list[tuple[int, int]]:
    """Return the bounds of the batches of ``count`` images.

    The last one may be shorter, but never a single image (batch normalisation fails on one):
    that joins the batch before.
    """
    bounds = [(start, min(start + size, count)) for start in range(0, count, size)]
    if len(bounds) > 1 and size > 1 and bounds[-1][1] - bounds[-1][0] == 1:
        (start, _), (_, end) = bounds[-2:]
        bounds[-2:] = [(start, end)]
    return bounds


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 images into float32 in [-1, 1]."""
    return (images.float() / 255 - 0.5) / 0.5


class _Run:
    """A training under way: everything that changes from step to step."""

    def __init__(self, network: nn.Module, images: Images, recipe: Recipe, classes: int) -> None:
        self._network, self._images, self._recipe = network, images, recipe
        self._classes = classes
        self._device = images.train_images.device
        self._bounds = batches(len(images.train_images), recipe.batch)
        trainable = [p for p in network.parameters() if p.requires_grad]
        if recipe.epochs and not trainable:
            raise CandidateError("invalid", "the network has no parameters to train")
        self._optimiser = _Descent(trainable, rate=recipe.learning_rate, momentum=recipe.momentum)
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self.epoch = 0
        self._step = 0
        self._order = torch.empty(0, dtype=torch.int64)
        self._loss = torch.zeros((), dtype=torch.float64, device=self._device)
        self.train_loss: float | None = None

    # --- training -------------------------------------------------------------------------

    def steps(self) -> Iterator[bool]:
        """Train; after every step say whether it was the last of its epoch."""
        while self.epoch < self._recipe.epochs:
            if self._step == 0:
                # On the CPU whatever the device, so that every device sees the same order.
                self._order = torch.randperm(
                    len(self._images.train_images), generator=self._generator
                )
                self._loss.zero_()
            self._network.train()  # evaluation, or the network itself, may have left it
            order = self._order.to(self._device)
            while self._step < len(self._bounds):
                start, end = self._bounds[self._step]
                self._learn(order[start:end])
                self._step += 1
                if self._step % _LOOK_STEPS == 0:
                    self._check_loss()
                if self._step < len(self._bounds):
                    yield False
            self._check_loss()
            self.train_loss = self._loss.item() / len(self._images.train_images)
            self.epoch, self._step = self.epoch + 1, 0
            yield True

    def _learn(self, chosen: torch.Tensor) -> None:
        labels = self._images.train_labels[chosen]
        outputs = self._forward(self._images.train_images[chosen])
        loss = F.cross_entropy(outputs, labels)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._loss += loss.detach().double() * len(chosen)

    def _check_loss(self) -> None:
        if not torch.isfinite(self._loss).item():
            failure = f"the training loss is not finite in epoch {self.epoch + 1}"
            raise CandidateError("diverged", failure)

    def predict(self, images: torch.Tensor) -> Iterator[NDArray[np.int64]]:
        """Yield the classes of ``images``, batch by batch."""
        self._network.eval()
        for start, end in batches(len(images), self._recipe.evaluation_batch):
            with torch.inference_mode():
                outputs = self._forward(images[start:end])
                if not torch.isfinite(outputs).all().item():
                    raise CandidateError("diverged", "the network's outputs are not finite")
                found = outputs.argmax(dim=1).cpu().numpy()
            yield found

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = self._network(normalised(images))
        expected = (len(images), self._classes)
        if not isinstance(outputs, torch.Tensor):
            raise CandidateError(
                "invalid", f"the network returned {type(outputs).__name__}, not a tensor"
            )
        if tuple(outputs.shape) != expected or not outputs.is_floating_point():
            raise CandidateError(
                "invalid",
                f"the network returned {outputs.dtype} of shape {tuple(outputs.shape)}, "
                f"not floating point of shape {expected}",
            )
        return outputs

    # --- checkpoints ----------------------------------------------------------------------

    def state(self) -> checkpoint.Checkpoint:
        """Return everything that the rest of the training depends on."""
        tensors: dict[str, torch.Tensor] = {
            f"parameter.{name}": p for name, p in self._network.named_parameters()
        }
        tensors |= {f"buffer.{name}": b for name, b in self._network.named_buffers()}
        velocities = self._optimiser.velocities
        tensors |= {f"momentum.{i}": v for i, v in enumerate(velocities) if v is not None}
        generators = _Generators.now(self._device)
        tensors |= {
            "loss": self._loss,
            "order": self._order,
            "random.order": self._generator.get_state(),
            **generators.tensors(),
        }
        values = {
            "epoch": self.epoch,
            "step": self._step,
            "train_loss": self.train_loss,
            "python": generators.python,
            "numpy": generators.numpy,
        }
        return checkpoint.Checkpoint(tensors, values)

    def restore(self, found: checkpoint.Checkpoint) -> bool:
        """Continue from ``found``; False, and nothing changed, where it does not fit."""
        tensors, values = found.tensors, found.values
        parameters = dict(self._network.named_parameters())
        buffers = _owners(self._network)
        try:
            generators = _Generators.of(found, self._device)
            fits = (
                0 <= values["epoch"] <= self._recipe.epochs
                and 0 <= values["step"] < max(len(self._bounds), 1)
                and all(_alike(tensors[f"parameter.{n}"], p) for n, p in parameters.items())
                and all(_named(tensors, "parameter.", parameters))
                and all(_named(tensors, "buffer.", buffers))
                and all(
                    _alike(tensors[f"momentum.{i}"], p)
                    for i, p in enumerate(self._optimiser.parameters)
                    if f"momentum.{i}" in tensors
                )
                and _alike(tensors["loss"], self._loss)
                and (values["step"] == 0 or len(tensors["order"]) == self._bounds[-1][1])
            )
        except (KeyError, TypeError, ValueError, RuntimeError):
            return False
        if not fits:
            return False
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"parameter.{name}"])
            for name, (owner, key) in buffers.items():
                if (saved := tensors.get(f"buffer.{name}")) is None:
                    continue
                current = owner._buffers[key]
                if current is not None and _alike(saved, current):
                    current.copy_(saved)
                else:  # a buffer that the network replaces as it goes
                    owner._buffers[key] = saved.to(self._device)
            self._loss.copy_(tensors["loss"])
        for index in range(len(self._optimiser.velocities)):
            if (velocity := tensors.get(f"momentum.{index}")) is not None:
                self._optimiser.velocities[index] = velocity.to(self._device)
        self.epoch, self._step = values["epoch"], values["step"]
        self._order = tensors["order"]
        self.train_loss = values["train_loss"]
        self._generator.set_state(tensors["random.order"])
        generators.apply()
        return True


class _Descent:
    """Stochastic gradient descent with momentum, to the bit that of ``torch.optim.SGD``.

    v <- momentum v + gradient (v <- gradient the first time), p <- p - rate v. A class of our
    own because making one of torch's imports its compiler: more than a second for every
    worker, and a third more memory that every fork has to copy the tables of.
    """

    def __init__(self, parameters: list[nn.Parameter], *, rate: float, momentum: float) -> None:
        self.parameters = parameters
        self.velocities: list[torch.Tensor | None] = [None] * len(parameters)
        self._rate, self._momentum = rate, momentum

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move along the gradients that are there; a parameter without one stays."""
        moved: list[torch.Tensor] = []
        steps: list[torch.Tensor] = []
        for index, parameter in enumerate(self.parameters):
            if (step := parameter.grad) is None:
                continue
            if self._momentum:
                if (velocity := self.velocities[index]) is None:
                    velocity = self.velocities[index] = step.clone()
                else:
                    velocity.mul_(self._momentum).add_(step)
                step = velocity
            moved.append(parameter)
            steps.append(step)
        torch._foreach_add_(moved, steps, alpha=-self._rate)


@dataclass(frozen=True)
class _Generators:
    """States of the generators that a network may draw from."""

    python: Any
    numpy: Any
    """Name, key as a list, position, and the cached normal deviate."""
    cpu: torch.Tensor
    cuda: torch.Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> _Generators:
        name, key, *rest = np.random.get_state()
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(
            random.getstate(),
            [name, np.asarray(key).tolist(), *rest],
            torch.get_rng_state(),
            cuda,
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        found = {"random.torch": self.cpu}
        return found if self.cuda is None else found | {"random.cuda": self.cuda}

    @classmethod
    def of(cls, found: checkpoint.Checkpoint, device: torch.device) -> _Generators:
        """Read those of a checkpoint and try them out. Raises what their makers raise."""
        version, internal, gauss = found.values["python"]
        states = cls(
            (version, tuple(internal), gauss),
            tuple(found.values["numpy"]),
            found.tensors["random.torch"],
            found.tensors["random.cuda"] if device.type == "cuda" else None,
        )
        random.Random().setstate(states.python)
        np.random.RandomState().set_state(states.numpy)
        torch.Generator().set_state(states.cpu)
        torch.Generator().set_state(found.tensors["random.order"])
        if states.cuda is not None:
            torch.Generator(device).set_state(states.cuda)
        return states

    def apply(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


def _materialise(network: nn.Module, images: Images) -> None:
    """Give lazy layers their shapes: neither an optimiser nor a checkpoint can do without."""
    lazy = nn.parameter.UninitializedTensorMixin  # type: ignore[attr-defined]
    tensors = [*network.parameters(), *network.buffers()]
    if any(isinstance(tensor, lazy) for tensor in tensors):
        network.eval()
        with torch.no_grad():
            network(normalised(images.train_images[:2]))


def _owners(network: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Return module and key of every buffer, including those that are None for now."""
    return {
        f"{prefix}.{key}" if prefix else key: (module, key)
        for prefix, module in network.named_modules()
        for key in module._buffers
    }


def _named(tensors: Mapping[str, Any], prefix: str, known: Mapping[str, Any]) -> Iterator[bool]:
    return (n.removeprefix(prefix) in known for n in tensors if n.startswith(prefix))


def _alike(saved: torch.Tensor, current: torch.Tensor) -> bool:
    return saved.shape == current.shape and saved.dtype == current.dtype

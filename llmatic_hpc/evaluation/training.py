"""Train a network, inside the contained child.

By the paper's protocol unless the recipe says otherwise: stochastic gradient descent with momentum
on the cross-entropy, a fixed number of epochs, no augmentation (paper, section 4.1). The images lie
as one uint8 tensor on the device and are normalised per batch to (x/255 - 0.5)/0.5; nothing is read
back from the device per step. A network begins with the same weights on every device, for it is
made on the CPU.

A training that is interrupted at any step and continued from its checkpoint ends, on a CPU,
in the same bits as an undisturbed one: parameters, all buffers, momentum, the generators of
torch, numpy and Python, the order and the changes of the running epoch's images and the loss so
far are all restored. What a network keeps in plain Python attributes is not.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..source import forward
from . import augmentation, checkpoint
from .build import CANDIDATE_EXCEPTIONS, CandidateError
from .placing import Generators, place
from .step import AdamW, Descent, Optimiser, Recorded, balanced, cosine, cross_entropy, records

_LOOK_STEPS = 500
"""Steps after which a loss that is not finite ends a training."""

_TIMED = 5
"""Forward passes, of which the fastest counts."""


class Checkpointed(Exception):  # noqa: N818 (an answer to a request)
    """Raised once the state is on disk, as far as possible: continue from it later."""


@dataclass(frozen=True)
class Recipe:
    """Numbers and words of a training, by the names of ``TrainingSettings``."""

    epochs: int
    batch: int
    learning_rate: float
    momentum: float
    seed: int
    checkpoint_seconds: float
    evaluation_batch: int
    precision: str = "float32"
    channels_last: bool = False
    graph: str = "off"
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    schedule: str = "constant"
    label_smoothing: float = 0.0
    class_weights: str = "none"
    augmentation: Sequence[str] = ()
    until: int = 0
    """Epochs after which to stop and leave the state for a later training; 0: all."""


@dataclass(frozen=True)
class Images:
    """Images, (N, C, H, W) uint8, or sequences, (N, C, L), or tables, (N, F), of float32, for a
    child, with labels, int64, for training alone."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    validation_images: torch.Tensor
    test_images: torch.Tensor


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    train_loss: float | None
    """Mean over the last epoch of the loss that was descended; None without epochs."""
    epochs: int
    predictions: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Classes of the validation and of the test images."""
    network: nn.Module
    milliseconds: float | None
    """Least time of a batch of test images, in evaluation; None without test images."""
    losses: Sequence[float]
    """Mean loss over each epoch; NaN where the checkpoint of an earlier version began later."""


def train(
    build: Callable[[], nn.Module],
    images: Images,
    recipe: Recipe,
    *,
    classes: int,
    source: str = "",
    folder: Path | None = None,
    identity: str = "",
    asked: Callable[[], bool] = lambda: False,
) -> Trained:
    """Build a network, of ``source``, train it and let it predict.

    With a ``folder``, a checkpoint of the same ``identity`` found there is continued, and one
    is written at the end of an epoch every ``recipe.checkpoint_seconds``, and at the next
    step once ``asked()`` is true, whereupon :class:`Checkpointed` is raised. One is also written
    where the training stops ``recipe.until`` so many epochs.

    Raises :class:`~.build.CandidateError`, of status ``diverged`` where a loss or an output is
    not finite, and whatever the network raises. The caller has seeded the generators that the
    network draws from.
    """
    torch.manual_seed(recipe.seed)
    network = build()
    materialise(network, images)
    network = place(network, images.train_images.device)
    run = _Run(network, images, recipe, classes, source)
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
    if recipe.until:  # before predicting, which may draw random numbers
        save()
    predictions = []
    for split in (images.validation_images, images.test_images):
        parts = [np.empty(0, np.int64)]
        for part in run.predict(split):
            if asked():
                save()
                raise Checkpointed
            parts.append(part)
        predictions.append(np.concatenate(parts))
    valid, test = predictions
    took = run.milliseconds(images.test_images)
    return Trained(run.train_loss, run.epoch, (valid, test), network, took, run.losses)


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
    """Turn uint8 images into float32 in [-1, 1]: (x/255 - 0.5)/0.5, to the bit.

    Of other data, which come standardised, it is a copy: a network may write into its input.
    """
    numbers = images.to(torch.float32, copy=True)
    return numbers.div_(127.5).sub_(1) if images.dtype == torch.uint8 else numbers


class _Run:
    """A training under way: everything that changes from step to step."""

    def __init__(
        self, network: nn.Module, images: Images, recipe: Recipe, classes: int, source: str
    ) -> None:
        self._network, self._images, self._recipe = network, images, recipe
        self._classes = classes
        self._device = images.train_images.device
        self._bounds = batches(len(images.train_images), recipe.batch)
        trainable = [p for p in network.parameters() if p.requires_grad]
        if recipe.epochs and not trainable:
            raise CandidateError("invalid", "the network has no parameters to train")
        self._optimiser = _optimiser(trainable, recipe)
        self._weights: torch.Tensor | None = None
        if recipe.class_weights == "balanced":
            self._weights = balanced(images.train_labels, classes)
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self.epoch = 0
        self._step = 0
        self._order = torch.empty(0, dtype=torch.int64)
        self._loss = torch.zeros((), dtype=torch.float64, device=self._device)
        self.train_loss: float | None = None
        self.losses: list[float] = []
        # Costs every operation some microseconds, so only where there is something to place.
        self._makes_tensors = self._device.type != "cpu" and forward.makes_tensors(source)
        self._half = recipe.precision == "bfloat16"
        special = self._makes_tensors or self._half
        self._manner = self._special_manner if special else contextlib.nullcontext
        self._layout = torch.contiguous_format
        if recipe.channels_last and self._takes_channels_last():
            self._layout = torch.channels_last
            network.to(memory_format=torch.channels_last)
        self._learn: Callable[[torch.Tensor], None] = self._learn_plainly
        # A rate that changes is a number in the kernels of a step, which a graph would keep.
        steady = recipe.optimizer == "sgd" and recipe.schedule == "constant"
        may_record = recipe.graph == "auto" and steady and records(self._device)
        if may_record and forward.repeats_itself(source):
            self._learn = Recorded(self._learn_plainly, self._tensors, recipe.batch)

    # --- training -------------------------------------------------------------------------

    def steps(self) -> Iterator[bool]:
        """Train; after every step say whether it was the last of its epoch."""
        recipe, in_all = self._recipe, self._recipe.epochs * len(self._bounds)
        while self.epoch < (recipe.until or recipe.epochs):
            if self._step == 0:
                self._order = self._drawn()
                self._loss.zero_()
            self._network.train()  # evaluation, or the network itself, may have left it
            order = self._order.to(self._device)
            while self._step < len(self._bounds):
                start, end = self._bounds[self._step]
                if recipe.schedule == "cosine":
                    done = self.epoch * len(self._bounds) + self._step
                    self._optimiser.rate = cosine(recipe.learning_rate, done, in_all)
                self._learn(order[start:end])
                self._step += 1
                if self._step % _LOOK_STEPS == 0:
                    self._check_loss()
                if self._step < len(self._bounds):
                    yield False
            self._check_loss()
            self.train_loss = self._loss.item() / len(self._images.train_images)
            self.losses.append(self.train_loss)
            self.epoch, self._step = self.epoch + 1, 0
            yield True

    def _drawn(self) -> torch.Tensor:
        """Return the numbers of an epoch's images in their order, (N,); augmented (N, 4), each with
        what was drawn for it. On the CPU whatever the device: the same everywhere.
        """
        count = len(self._images.train_images)
        order = torch.randperm(count, generator=self._generator)
        if not self._recipe.augmentation:
            return order
        changes = augmentation.draw(count, seed=self._recipe.seed, epoch=self.epoch)
        return torch.cat([order[:, None], changes], dim=1)

    def _learn_plainly(self, chosen: torch.Tensor) -> None:
        recipe = self._recipe
        numbers = chosen[:, 0] if recipe.augmentation else chosen
        labels = self._images.train_labels.index_select(0, numbers)
        images = self._images.train_images.index_select(0, numbers)
        if recipe.augmentation:
            images = augmentation.changed(images, chosen[:, 1:], recipe.augmentation)
        outputs = self._forward(images)
        loss = cross_entropy(outputs, labels, self._weights, recipe.label_smoothing)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._loss.add_(loss.detach(), alpha=len(chosen))  # exact: it is done in float64

    def _tensors(self) -> Iterator[torch.Tensor]:
        """Yield every tensor that a step changes."""
        yield from self._network.parameters()
        yield from self._network.buffers()
        yield from self._optimiser.state().values()
        yield self._loss

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

    def milliseconds(self, images: torch.Tensor) -> float | None:
        """Return the least of a few times that a batch takes, the classes' way back included.

        That is ``recipe.batch`` of ``images``, or all where there are fewer.
        """
        times = []
        self._network.eval()
        for _ in range(_TIMED if len(images) else 0):
            started = time.perf_counter()
            with torch.inference_mode():
                self._forward(images[: self._recipe.batch]).argmax(dim=1).cpu()
            times.append(1000 * (time.perf_counter() - started))
        return min(times, default=None)

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        with self._manner():
            outputs = self._network(normalised(images).contiguous(memory_format=self._layout))
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
        return outputs.float() if self._half else outputs

    @contextlib.contextmanager
    def _special_manner(self) -> Iterator[None]:
        """Run the network in the precision asked for, and let it make tensors on its device."""
        with contextlib.ExitStack() as stack:
            if self._makes_tensors:
                stack.enter_context(self._device)
            if self._half:
                stack.enter_context(torch.autocast(self._device.type, torch.bfloat16))
            yield

    def _takes_channels_last(self) -> bool:
        """Try it out: a network may view its features as what then has no such view."""
        if self._images.train_images.dim() != 4:
            return False
        layout = torch.channels_last
        images = normalised(self._images.train_images[:2]).contiguous(memory_format=layout)
        try:
            with torch.no_grad(), self._manner():
                copy.deepcopy(self._network).to(memory_format=layout).eval()(images)
        except CANDIDATE_EXCEPTIONS:
            return False
        return True

    # --- checkpoints ----------------------------------------------------------------------

    def state(self) -> checkpoint.Checkpoint:
        """Return everything that the rest of the training depends on."""
        tensors: dict[str, torch.Tensor] = {
            f"parameter.{name}": p for name, p in self._network.named_parameters()
        }
        tensors |= {f"buffer.{name}": b for name, b in self._network.named_buffers()}
        tensors |= self._optimiser.state()
        generators = Generators.now(self._device)
        tensors |= {
            "loss": self._loss,
            "order": self._order,
            "random.order": self._generator.get_state(),
            **generators.tensors,
        }
        values = {
            "epoch": self.epoch,
            "step": self._step,
            "train_loss": self.train_loss,
            "losses": self.losses,
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
            torch.Generator().set_state(tensors["random.order"])
            generators = Generators.of(values, tensors, self._device)
            fits = (
                0 <= values["epoch"] <= self._recipe.epochs
                and 0 <= values["step"] < max(len(self._bounds), 1)
                and all(_alike(tensors[f"parameter.{n}"], p) for n, p in parameters.items())
                and all(_named(tensors, "parameter.", parameters))
                and all(_named(tensors, "buffer.", buffers))
                and self._optimiser.fits(tensors)
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
        self._optimiser.restore(tensors)
        self.epoch, self._step = values["epoch"], values["step"]
        self._order = tensors["order"]
        self.train_loss = values["train_loss"]
        self.losses = list(values.get("losses", [float("nan")] * self.epoch))
        self._generator.set_state(tensors["random.order"])
        generators.apply(self._device)
        return True


def _optimiser(parameters: list[nn.Parameter], recipe: Recipe) -> Optimiser:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return AdamW(parameters, rate=rate, decay=decay)
    return Descent(parameters, rate=rate, momentum=recipe.momentum, decay=decay)


def materialise(network: nn.Module, images: Images) -> None:
    """Give lazy layers their shapes: neither an optimiser nor a checkpoint can do without."""
    lazy = nn.parameter.UninitializedTensorMixin  # type: ignore[attr-defined]
    tensors = [*network.parameters(), *network.buffers()]
    if any(isinstance(tensor, lazy) for tensor in tensors):
        network.eval()
        with torch.no_grad():
            network(normalised(images.train_images[:2].cpu()))


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

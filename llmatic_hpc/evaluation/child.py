"""The contained child: does one job and answers on its reply pipe.

Two frames: ``{"ready": true}`` once everything of ours is in place, and after that the reply
proper. What goes wrong before is the machine's fault, what goes wrong afterwards the
candidate's, who may say anything from then on; :mod:`.container` believes neither more.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..sandbox import confine, wire
from ..types import PENDING, Screened

if TYPE_CHECKING:
    import torch

Reply = tuple[dict[str, Any], bytes]

_HARDWARE = ("ecc error", "uncorrectable", "fallen off the bus", "hardware error", "device is lost")
"""Parts of CUDA's messages about a broken device."""
_OUT_OF_MEMORY = wire.encode_frame({"status": "too_large", "failure": "MemoryError", "values": {}})
"""Made beforehand: there may be no memory left to make it with."""
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


class _Asked:
    """Whether the judge asked for a checkpoint."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def note(self, *_: object) -> None:
        self.asked = True


def main(
    message: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    reply: int,
    parent: int,
    processes: int,
) -> NoReturn:
    """Run the job of ``message``, answer, and end this process whatever happens."""
    code = 1
    try:
        asked = _Asked()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, asked.note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        try:
            confine.enter(
                reply=reply,
                scratch=Path(message["scratch"]),
                parent=parent,
                limits=confine.Limits(
                    file_bytes=message["file_bytes"],
                    cpu_seconds=message["cpu_seconds"],
                    processes=processes,
                ),
            )
            reply = confine.REPLY_DESCRIPTOR
            perform = _PREPARE[message["kind"]](message, arrays, asked)
            confine.seal(message["layers"], gpu=_uses_gpu())
        except Exception as error:
            _write(reply, {"status": "infrastructure", "failure": describe(error)})
        else:
            _write(reply, {"ready": True})
            try:
                _write(reply, *_blame(perform))
            except MemoryError:
                _write_all(reply, _OUT_OF_MEMORY)
        code = 0
    finally:
        os._exit(code)


# --- jobs: what is ours first, then what is not -------------------------------------------------


def _prepare_measure(
    message: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], asked: _Asked
) -> Any:
    from . import measure

    _threads(message["threads"])
    confine.limit_memory(message["memory_bytes"])
    parameters = message["parameters"]

    def one(source: str) -> Screened:
        return measure.measure(
            source,
            input_shape=tuple(parameters["input_shape"]),
            classes=parameters["classes"],
            max_params=parameters["max_params"],
            max_flops=parameters["max_flops"],
            max_layers=parameters["max_layers"],
            seed=parameters["seed"],
        )

    def perform() -> Reply:
        found = one(message["source"])
        values: dict[str, Any] = {"built": int(found.built)}
        if (d := found.descriptors) is not None:
            values = {
                "width": d.width, "depth": d.depth, "ratio": d.ratio,
                "flops": d.flops, "params": d.params,
            }  # fmt: skip
        return {"status": found.status, "failure": found.failure, "values": values}, b""

    def perform_group() -> Reply:
        rows = np.full((len(parameters["sources"]), 5), np.nan)
        before = _layers()
        for row, source in zip(rows, parameters["sources"], strict=True):
            if _layers() != before:
                break  # its predecessor changed torch itself: the rest is measured alone
            if (d := one(source).descriptors) is not None:
                row[:] = d.width, d.depth, d.ratio, d.flops, d.params
        return {"status": PENDING, "failure": "", "values": {}}, rows.tobytes()

    if "sources" in parameters:
        return perform_group
    return perform


def _layers() -> dict[str, tuple[tuple[str, int], ...]]:
    """What the classes of ``torch.nn`` consist of, by identity."""
    from torch import nn

    return {
        name: tuple((key, id(value)) for key, value in vars(kind).items())
        for name, kind in vars(nn).items()
        if isinstance(kind, type)
    }


def _prepare_repair(
    message: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], asked: _Asked
) -> Any:
    from . import repair
    from .repair import dynamic

    _threads(message["threads"])
    confine.limit_memory(message["memory_bytes"])
    parameters = message["parameters"]

    def perform() -> Reply:
        findings = dynamic.find(
            message["source"],
            input_shape=tuple(parameters["input_shape"]),
            classes=parameters["classes"],
        )
        return {"status": "looked", "failure": "", "values": {}}, repair.encode(findings)

    return perform


def _prepare_audit(
    message: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], asked: _Asked
) -> Any:
    from . import audit

    _threads(message["threads"])
    confine.limit_memory(message["memory_bytes"])
    return audit.prepare(message)


def _prepare_train(
    message: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], asked: _Asked
) -> Any:
    import safetensors.torch
    import torch

    from . import build, training

    parameters = message["parameters"]
    recipe = training.Recipe(**parameters["recipe"])
    _threads(message["threads"])
    device = _device(parameters["device"])
    if device.type == "cuda" and message["sharing"] > 1:
        # Too large a network fails alone, not its siblings with it.
        torch.cuda.set_per_process_memory_fraction(1 / message["sharing"], device)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    images = training.Images(
        **{name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    )
    if device.type == "cpu":
        confine.limit_memory(message["memory_bytes"])
    _seed(recipe.seed)

    def perform() -> Reply:
        try:
            trained = training.train(
                lambda: build.build(message["source"]),
                images,
                recipe,
                classes=parameters["classes"],
                folder=Path.cwd(),
                identity=parameters["identity"],
                asked=asked,
            )
        except training.Checkpointed:
            return {"status": "checkpointed", "failure": "", "values": {}}, b""
        if parameters["weights"]:
            safetensors.torch.save_model(trained.network, parameters["weights"])
        values = {"train_loss": trained.train_loss, "epochs": trained.epochs}
        payload = b"".join(p.astype("<i8").tobytes() for p in trained.predictions)
        return {"status": "trained", "failure": "", "values": values}, payload

    return perform


def _prepare_trace(
    message: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], asked: _Asked
) -> Any:
    from . import graph_trace

    _threads(message["threads"])
    confine.limit_memory(message["memory_bytes"])

    def perform() -> Reply:
        found = graph_trace.trace(message["source"], channels=message["parameters"]["channels"])
        return {"status": "traced", "failure": "", "values": {}}, found

    return perform


_PREPARE = {
    "measure": _prepare_measure,
    "repair": _prepare_repair,
    "audit": _prepare_audit,
    "trace": _prepare_trace,
    "train": _prepare_train,
}


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        torch.zeros(1, device=device)  # raises here, in our part, where there is none
    return device


def _uses_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _threads(threads: int) -> None:
    import torch

    torch.set_num_threads(max(threads, 1))


def _seed(seed: int) -> None:
    """Seed what a candidate might draw from, before it is built."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


# --- faults -------------------------------------------------------------------------------------


def _blame(perform: Any) -> Reply:
    """What ``perform`` answers, or whose fault it was and what."""
    from . import build, training

    try:
        answer: Reply = perform()
    except build.CandidateError as error:
        status, failure = error.status, error.message
    except training.Diverged as error:
        status, failure = "diverged", str(error)
    except BaseException as error:  # SystemExit and KeyboardInterrupt are a candidate's, too
        status, failure = classify(error), describe(error)
    else:
        return answer
    return {"status": status, "failure": wire.one_line(failure), "values": {}}, b""


def classify(error: BaseException) -> str:
    """The status that an exception out of a candidate stands for."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "too_large"
    if isinstance(error, RuntimeError):
        text = describe(error).lower()
        if any(part in text for part in _NO_MEMORY):
            return "too_large"
        if "cuda" in text and any(part in text for part in _HARDWARE):
            return "infrastructure"
    return "invalid"


def describe(error: BaseException) -> str:
    """An exception as one bounded line, with the line of the source that it came from."""
    from . import build

    try:
        return build.candidate_error(error).message
    except BaseException:  # a candidate's exception, a candidate's __str__
        return f"{type(error).__name__}: its message cannot be read"


def _write(descriptor: int, header: Mapping[str, Any], payload: bytes = b"") -> None:
    _write_all(descriptor, wire.encode_frame(header, payload))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

"""The contained child: does one job and answers on its reply pipe.

It writes ``{"ready": true}`` once everything of ours is in place, where it trains after the device
that it found, and then the reply proper. What goes wrong before is the machine's fault, what goes
wrong afterwards the candidate's, who may say anything from then on; :mod:`.container` believes no
more than that.
"""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from ..sandbox import confine, wire
from ..types import PENDING, Descriptors
from . import build, calibration, device, graph_trace, measure, proxies, repair, training
from .repair import dynamic

Message = Mapping[str, Any]
Arrays = Mapping[str, NDArray[Any]]
Reply = tuple[dict[str, Any], bytes]
Perform = Callable[[], Reply]

_OUT_OF_MEMORY = wire.encode_frame({"status": "too_large", "failure": "MemoryError", "values": {}})
"""Made beforehand: there may be no memory left to make it with."""


class _Asked:
    """Remembers that the judge asked for a checkpoint."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def note(self, *_: object) -> None:
        self.asked = True


def main(message: Message, arrays: Arrays, *, reply: int, parent: int, processes: int) -> NoReturn:
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
                file_bytes=message["file_bytes"],
                cpu_seconds=message["cpu_seconds"],
                processes=processes,
            )
            reply = confine.REPLY_DESCRIPTOR
            torch.set_num_threads(max(message["threads"], 1))
            os.environ.update(message["environment"])
            perform = _PREPARE[message["kind"]](message, arrays, asked)
            used = device.in_use()
            confine.seal(message["layers"], gpu=used != "cpu")
        except Exception as error:
            failure = build.candidate_error(error).message
            _write(reply, {"status": "infrastructure", "failure": failure})
        else:
            if message["kind"] == "train":
                _write(reply, {"device": used})
            _write_all(reply, wire.READY)
            try:
                _write(reply, *_blame(perform))
            except MemoryError:
                _write_all(reply, _OUT_OF_MEMORY)
        code = 0
    finally:
        os._exit(code)


# --- jobs: each prepares what is ours, and returns what runs the candidate ---------------------


def _prepare_measure(message: Message, _arrays: Arrays, _asked: _Asked) -> Perform:
    confine.limit_memory(message["memory_bytes"])
    parameters = dict(message["parameters"])
    group, large = parameters.pop("sources", None), parameters.pop("large", False)
    parameters["input_shape"] = tuple(parameters["input_shape"])

    def one() -> Reply:
        found = measure.measure(message["source"], **parameters)
        values: dict[str, Any] = {"built": int(found.built)}
        if found.descriptors is not None:
            values = asdict(found.descriptors)
        return {"status": found.status, "failure": found.failure, "values": values}, b""

    def several() -> Reply:
        rows = np.full((len(group), len(fields(Descriptors))), np.nan)
        nonlocal large
        before = _layers()
        gc.disable()
        for row, source in zip(rows, group, strict=True):
            if _layers() != before:
                break  # its predecessor changed torch itself: the rest is measured alone
            found = measure.measure(source, **parameters, meta_first=large).descriptors
            if found is not None:
                row[:] = astuple(found)
                # A try in vain on the CPU costs more than asking the meta device for a small one.
                large = large or measure.is_large(found)
        return {"status": PENDING, "failure": "", "values": {"large": int(large)}}, rows.tobytes()

    return one if group is None else several


def _layers() -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Return what the classes of ``torch.nn`` consist of, by identity."""
    return {
        name: (tuple(vars(kind)), tuple(map(id, vars(kind).values())))
        for name, kind in vars(nn).items()
        if isinstance(kind, type)
    }


def _prepare_repair(message: Message, _arrays: Arrays, _asked: _Asked) -> Perform:
    confine.limit_memory(message["memory_bytes"])
    parameters = message["parameters"]
    shape, classes = tuple(parameters["input_shape"]), parameters["classes"]

    def perform() -> Reply:
        findings = dynamic.find(message["source"], input_shape=shape, classes=classes)
        return {"status": "looked", "failure": "", "values": {}}, repair.encode(findings)

    return perform


def _prepare_examine(message: Message, _arrays: Arrays, _asked: _Asked) -> Perform:
    """Both of the above: most of what a model writes does not fit as it was written."""
    parameters = dict(message["parameters"])
    text = parameters.pop("repaired")
    one = _prepare_measure({**message, "parameters": parameters}, _arrays, _asked)
    look = _prepare_repair({**message, "source": text, "parameters": parameters}, _arrays, _asked)

    def perform() -> Reply:
        header, findings = one()[0], repair.encode([])
        if header["status"] != PENDING:
            header["values"][header["status"]] = 1
        if header["status"] == "invalid":
            findings = look()[1]
        return {**header, "status": "examined"}, findings

    return perform


def _prepare_proxies(message: Message, _arrays: Arrays, _asked: _Asked) -> Perform:
    confine.limit_memory(message["memory_bytes"])
    shape, seed = tuple(message["parameters"]["input_shape"]), message["parameters"]["seed"]

    def perform() -> Reply:
        found = proxies.measure(message["source"], input_shape=shape, seed=seed)
        return {"status": "foretold", "failure": "", "values": found}, b""

    return perform


def _prepare_audit(message: Message, _arrays: Arrays, _asked: _Asked) -> Perform:
    from . import audit  # fvcore, which nothing else needs

    confine.limit_memory(message["memory_bytes"])
    return audit.prepare(message)


def _prepare_train(message: Message, arrays: Arrays, asked: _Asked) -> Perform:
    parameters = message["parameters"]
    recipe = training.Recipe(**parameters["recipe"])
    place = device.choose(parameters["device"], parameters.get("expected", ""))
    device.share(place, message["sharing"])
    device.set_precision(place, recipe.precision)
    images = training.Images(
        **{name: torch.from_numpy(array).to(place) for name, array in arrays.items()}
    )
    if place.type == "cpu":
        confine.limit_memory(message["memory_bytes"])
    # What a candidate might draw from, before it is built.
    random.seed(recipe.seed)
    np.random.seed(recipe.seed % 2**32)
    torch.manual_seed(recipe.seed)

    def perform() -> Reply:
        try:
            trained = training.train(
                lambda: _built(message["source"], parameters["begin"], images),
                images,
                recipe,
                classes=parameters["classes"],
                source=message["source"],
                folder=Path.cwd(),
                identity=parameters["identity"],
                asked=asked,
            )
        except training.Checkpointed:
            return {"status": "checkpointed", "failure": "", "values": {}}, b""
        if parameters["write"]:
            _save(trained.network, parameters["write"])
        values: dict[str, float | None] = {
            "train_loss": trained.train_loss,
            "epochs": trained.epochs,
            "device_bytes": device.most_bytes(),
            "milliseconds": trained.milliseconds,
        }
        payload = b"".join(p.astype("<i8").tobytes() for p in trained.predictions)
        payload += np.array(trained.losses[: parameters["losses"]], "<f8").tobytes()
        return {"status": "trained", "failure": "", "values": values}, payload

    return perform


def _built(source: str, weights: str, images: training.Images) -> nn.Module:
    """Build a network; with a file of ``weights`` as it was when they were saved."""
    network = build.build(source)
    if weights:
        training.materialise(network, images)
        safetensors.torch.load_model(network, weights)
    return network


def _save(network: nn.Module, file: str) -> None:
    try:
        safetensors.torch.save_model(network, file)
    except (OSError, safetensors.SafetensorError) as error:
        raise build.CandidateError("invalid", f"its weights cannot be written: {error}") from None


def _prepare_onnx(message: Message, arrays: Arrays, _asked: _Asked) -> Perform:
    from . import onnx_file  # and onnxscript, which nothing else needs

    confine.limit_memory(message["memory_bytes"])
    images = training.Images(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    parameters = message["parameters"]

    def perform() -> Reply:
        network = _built(message["source"], parameters["begin"], images)
        examples = training.normalised(images.train_images[:2]).contiguous()
        batch = onnx_file.write(network, examples, parameters["write"])
        return {"status": "written", "failure": "", "values": {"batch": batch}}, b""

    return perform


def _prepare_trace(message: Message, _arrays: Arrays, _asked: _Asked) -> Perform:
    confine.limit_memory(message["memory_bytes"])

    def perform() -> Reply:
        found = graph_trace.trace(message["source"], channels=message["parameters"]["channels"])
        return {"status": "traced", "failure": "", "values": {}}, found

    return perform


def _prepare_calibrate(message: Message, _arrays: Arrays, _asked: _Asked) -> Perform:
    place = device.choose(message["parameters"]["device"], message["parameters"]["expected"])
    device.set_precision(place, message["parameters"]["precision"])

    def perform() -> Reply:
        values = {"seconds": calibration.calibrate(place)}
        return {"status": "calibrated", "failure": "", "values": values}, b""

    return perform


_PREPARE = {
    "calibrate": _prepare_calibrate,
    "measure": _prepare_measure,
    "repair": _prepare_repair,
    "examine": _prepare_examine,
    "proxies": _prepare_proxies,
    "audit": _prepare_audit,
    "trace": _prepare_trace,
    "train": _prepare_train,
    "onnx": _prepare_onnx,
}


def _blame(perform: Perform) -> Reply:
    """Return what ``perform`` answers, or whose fault it was that it does not, and what."""
    try:
        answer: Reply = perform()
    except BaseException as error:  # SystemExit and KeyboardInterrupt are a candidate's, too
        try:
            fault = build.candidate_error(error)
            memory = fault.status == "too_large" and not isinstance(error, MemoryError)
            if memory and (others := device.crowded(fault.message)):
                fault = build.CandidateError("infrastructure", f"{others}: {fault.message}")
        except MemoryError:
            raise
        except BaseException:  # even the name of its class is a candidate's
            fault = build.CandidateError("invalid", "its exception cannot be read")
        return {"status": fault.status, "failure": wire.one_line(fault.message), "values": {}}, b""
    return answer


def _write(descriptor: int, header: Mapping[str, Any], payload: bytes = b"") -> None:
    _write_all(descriptor, wire.encode_frame(header, payload))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

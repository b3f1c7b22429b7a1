"""Model card of a network that was trained for use: Markdown for who loads it."""

from __future__ import annotations

import keyword
import math
from dataclasses import dataclass

from ..config import Config
from ..rundir.paths import ExportPaths
from ..source.network import network_class
from ..source.parse import parse
from ..store import Record
from ..types import Interface, Outcome
from .export import described, writer_of


@dataclass(frozen=True)
class Trained:
    """Facts of the training that a card tells."""

    how: str
    """Recipe in words."""
    seed: int
    outcome: Outcome
    same: float
    """Share of predictions that another process makes with the weights; NaN: not known."""
    reloading: str
    """Why the weights could not be loaded again."""
    onnx_batch: int | None
    """Examples at a time of the ONNX file, 0 for any number; None: there is none."""
    as_recorded: bool
    """True where the run's record has the same score to the last digit."""
    data_sha256: str
    """Digest of the data that it was trained on."""


def card(
    record: Record, candidate: int, source: str, config: Config, interface: Interface,
    trained: Trained, paths: ExportPaths,
) -> str:  # fmt: skip
    """Return the card of a candidate with ``source`` that was trained by ``config``."""
    table, outcome = record.candidates, trained.outcome
    problem = config.problem.data
    sections = [
        f"# {paths.source.stem}",
        f"A classifier of {_noun(interface)} into {interface.classes} classes, found by a neural "
        f"architecture search: candidate {candidate} of run {record.run_id}. "
        f"{int(table['params'][candidate]):,} parameters, {table['flops'][candidate]:,.0f} "
        "multiply-adds for one example.",
        _files(paths, trained),
        "## Use",
        _loading(source, interface, paths),
        "\n".join(f"- {line}" for line in described(interface)),
        *(_onnx(interface, paths, trained.onnx_batch) if trained.onnx_batch is not None else ()),
        "## Score",
        _scores(outcome, config),
        _remarks(trained),
        "## Training",
        f"{trained.how}; seed {trained.seed}, on {outcome.device or 'an unknown device'} in "
        f"{outcome.train_seconds:.0f} s; last loss {outcome.train_loss:.4g}. Data: `{problem}`"
        f", SHA-256 {trained.data_sha256}, {_whose(record, trained)}.",
        "## Origin and licence",
        f"The code of the network was written by {writer_of(record, candidate)}, not by a person: "
        f"{_made_by(record, candidate)}. `{paths.source.name}` says more. "
        "Whether anybody has rights to such code, and what the terms of a language model or of the "
        "data ask of who uses weights trained on them, is for you to settle; llmatic-hpc claims "
        "no rights to source or weights.",
    ]
    return "\n\n".join(part for part in sections if part) + "\n"


def _noun(interface: Interface) -> str:
    return {3: "images", 2: "sequences"}.get(len(interface.input_shape), "rows of a table")


def _files(paths: ExportPaths, trained: Trained) -> str:
    files = {
        paths.source.name: "the network, plain PyTorch",
        paths.weights.name: "its weights, safetensors",
    }
    if trained.onnx_batch is not None:
        files[paths.onnx.name] = "network and weights, ONNX"
    return "\n".join(f"- `{name}`: {what}" for name, what in files.items())


def _loading(source: str, interface: Interface, paths: ExportPaths) -> str:
    """Return a fenced program that loads the network and applies it."""
    found = network_class(parse(source))
    name, module = found.name if found else "Net", paths.source.stem
    is_name = module.isidentifier() and not keyword.iskeyword(module)
    made = f"{name}()" if is_name else f'runpy.run_path("{paths.source.name}")["{name}"]()'
    shape = ", ".join(map(str, interface.input_shape))
    lines = [
        *([] if is_name else ["import runpy"]),
        "import torch",
        "from safetensors.torch import load_model",
        *([f"from {module} import {name}"] if is_name else []),
        "",
        f"examples = torch.zeros(1, {shape}, dtype=torch.{interface.raw})  # put yours here",
        f"x = {interface.normalised}",
        f"network = {made}.eval()",
        *(["network(x)  # its lazy layers take their shapes"] if "Lazy" in source else []),
        f'load_model(network, "{paths.weights.name}")',
        "print(network(x).argmax(dim=1))",
    ]
    return "```python\n" + "\n".join(lines) + "\n```"


def _onnx(interface: Interface, paths: ExportPaths, batch: int) -> list[str]:
    shape = ", ".join(map(str, interface.input_shape))
    number = "any number N of examples" if batch == 0 else "one example at a time: N = 1"
    return [
        f"`{paths.onnx.name}` takes {number}: `input` (N, {shape}), float32 normalised as above, "
        f"and gives `scores` (N, {interface.classes})."
    ]


def _scores(outcome: Outcome, config: Config) -> str:
    rows = {"test": outcome.test_accuracy, "validation": outcome.valid_accuracy}
    told = {name: value for name, value in rows.items() if math.isfinite(value)}
    searched = config.training.fitness_split
    what = {name: "the search chose by it" if name == searched else "" for name in told}
    table = [f"| {name} | {value:.4f} | {what[name]} |" for name, value in told.items()]
    return "\n".join(["| split | accuracy | |", "| --- | ---: | --- |", *table])


def _remarks(trained: Trained) -> str:
    """Say how far the numbers can be trusted."""
    said = ["Of this one training."]
    if trained.as_recorded:
        said.append("It is the score on the run's record, to the last digit.")
    if trained.reloading:
        said.append(f"**The weights could not be loaded again: {trained.reloading}.**")
    elif trained.same < 1:
        said.append(
            f"**Another process that loaded the weights predicted the same class for "
            f"{100 * trained.same:.2f} % of the examples only: the network draws random numbers "
            "when it is applied, keeps numbers outside of its parameters and buffers, or has ties "
            "that a device's rounding decides.**"
        )
    else:
        said.append(
            "Another process that loaded the weights predicted the same class for every validation "
            "and test example."
        )
    return " ".join(said)


def _whose(record: Record, trained: Trained) -> str:
    if not record.data_sha256:
        return "by the run's settings"
    same = record.data_sha256 == trained.data_sha256
    return "those of the run" if same else "**which are not those of the run**"


def _made_by(record: Record, candidate: int) -> str:
    table = record.candidates
    parents = [str(p) for p in table["parents"][candidate].tolist() if p >= 0]
    origin = f"candidate {' and '.join(parents)}" if parents else "the initial network"
    operator = table["operator"][candidate].decode()
    return f"{operator} of {origin} in generation {int(table['generation'][candidate])}"

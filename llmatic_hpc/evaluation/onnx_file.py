"""Write a network as ONNX, by torch.export. For a contained child only: this runs the network."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from .build import CandidateError, bounded

with warnings.catch_warnings(action="ignore"):
    import onnxscript  # noqa: F401 (before the child is sealed)

INPUT, OUTPUT = "input", "scores"


def write(network: nn.Module, examples: torch.Tensor, file: str) -> int:
    """Write a network in evaluation to ``file``; return the examples that it takes at a time.

    0 is any number; where the network does not allow that, it is 1. ``examples``, (2, ...), are
    inputs to trace it with. Raises :class:`~.build.CandidateError` where it cannot be written.
    """
    network = network.cpu().eval()
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            program = _exported(network, examples, {0: torch.export.Dim.AUTO})
            is_any = isinstance(_batch(program), str)
            if not is_any:
                program = _exported(network, examples[:1], {})
        program.save(file)
        size = Path(file).stat().st_size
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise CandidateError("invalid", bounded(f"{type(error).__name__}: {said}")) from None
    if Path(f"{file}.data").exists():
        raise CandidateError("too_large", f"ONNX is one file of 2 GB at most; this has {size}")
    return 0 if is_any else 1


def _exported(
    network: nn.Module, examples: torch.Tensor, dynamic: dict[int, object]
) -> torch.onnx.ONNXProgram:
    program = torch.onnx.export(
        network, (examples,), dynamo=True, verbose=False, dynamic_shapes=(dynamic,),
        input_names=[INPUT], output_names=[OUTPUT],
    )  # fmt: skip
    assert program is not None
    return program


def _batch(program: torch.onnx.ONNXProgram) -> object:
    """Return the first dimension of the input: a number, or the name of any."""
    shape = program.model.graph.inputs[0].shape
    assert shape is not None
    size = shape[0]
    return size if isinstance(size, int) else str(size)

"""Write a network as ONNX, by torch.export, and compare the two. For a contained child only: this
runs the network."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from .build import CandidateError, bounded

with warnings.catch_warnings(action="ignore"):  # before the child is sealed
    import onnxruntime
    import onnxscript  # noqa: F401

INPUT, OUTPUT = "input", "scores"
TOLERANCE = 1e-4
"""Largest difference between ONNX and torch, of scores or, where these are larger than 1, of the
largest."""


def write(network: nn.Module, examples: torch.Tensor, file: str) -> int:
    """Write a network in evaluation to ``file``; return the examples that it takes at a time.

    0 is any number; where the network does not allow that, it is 1. ``examples``, (2, ...), are
    inputs to trace it with. Raises :class:`~.build.CandidateError` where it cannot be written, or
    where onnxruntime computes something else of it than torch of the network.
    """
    network = network.cpu().eval()
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            # A network may fix the number where it is traced, and torch need not notice.
            _export(network, examples, {0: torch.export.Dim.AUTO}, file)
            if max(_difference(network, examples, count, file) for count in (2, 1, 3)) <= TOLERANCE:
                return 0
            _export(network, examples[:1], {}, file)
            difference = _difference(network, examples, 1, file)
    except Exception as error:
        said = " ".join(str(error).split())
        raise CandidateError("invalid", bounded(f"{type(error).__name__}: {said}")) from None
    if difference <= TOLERANCE:
        return 1
    raise CandidateError("invalid", f"onnxruntime's scores differ from torch's by {difference:.3g}")


def _export(network: nn.Module, examples: torch.Tensor, dynamic: dict[int, Any], file: str) -> None:
    program = torch.onnx.export(
        network, (examples,), dynamo=True, verbose=False, dynamic_shapes=(dynamic,),
        input_names=[INPUT], output_names=[OUTPUT],
    )  # fmt: skip
    assert program is not None
    program.save(file, external_data=False)  # which is one file of 2 GB at most


def _difference(network: nn.Module, examples: torch.Tensor, count: int, file: str) -> float:
    """Return the largest difference for ``count`` examples; infinite where there are no scores."""
    given = torch.cat([examples, examples])[:count]
    expected = network(given.clone()).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        (made,) = session.run([OUTPUT], {INPUT: given.numpy()})
    except Exception:  # it has classes of its own, without a common one
        return float("inf")
    if made.shape != expected.shape:
        return float("inf")
    return float(np.abs(made - expected).max() / max(1.0, np.abs(expected).max()))

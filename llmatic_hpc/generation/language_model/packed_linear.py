"""Linear layers laid out for products with few rows on a CPU.

A batch of completions multiplies every weight with a few dozen rows. PyTorch's own product lays
the weight out anew each time, which then costs as much as the product; oneDNN can keep it.

The operators are private. The public way, :mod:`torch.utils.mkldnn`, converts the rows of every
call and takes 1.3 times as long for 8 rows and 1.1 to 1.3 times for 32; ``nn.Linear`` takes 1.2
and 1.1 to 3.2 times as long (``python -m tests.benchmarks.linear``, three times on one core).
"""

from __future__ import annotations

import logging

import torch
from torch import nn

_log = logging.getLogger(__name__)


class PackedLinear(nn.Module):
    """Linear layer with the weight of another, laid out once."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        with torch.no_grad():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map shape (..., in_features) to (..., out_features)."""
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._packed, self.bias, "none", [], ""
        )
        return found


def pack(model: nn.Module) -> None:
    """Replace the linear layers of a model in single precision on a CPU; where this PyTorch
    cannot, all stays as it is."""
    try:
        layer, rows = nn.Linear(32, 48), torch.randn(3, 32)
        with torch.inference_mode():
            torch.testing.assert_close(PackedLinear(layer)(rows), layer(rows))
    except Exception as error:  # an operator of PyTorch's own compiler, which may go or change
        _log.info("linear layers stay as they are: %s", error)
        return
    is_any = False
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and child.weight.dtype == torch.float32:
                setattr(module, name, PackedLinear(child))
                is_any = True
    for parameter in model.parameters() if is_any else ():
        # A view of the file of weights would keep all of it in memory, mapped.
        parameter.data = parameter.data.clone()

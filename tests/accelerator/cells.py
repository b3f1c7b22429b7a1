"""Recurrent cells as torch asks an accelerator for them, of tensors on the CPU.

Off the CPU torch takes the arithmetic of a GRU's and an LSTM's cell for one kernel with one
backward, which the CPU does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def gru(gates: Tensor, hidden: Tensor, hx: Tensor, b: Tensor | None = None,
        c: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the new state, and what the backward step needs."""
    ir, iz, i_n = (gates if b is None else gates + b).chunk(3, 1)
    hr, hz, hn = (hidden if c is None else hidden + c).chunk(3, 1)
    r, z = (ir + hr).sigmoid(), (iz + hz).sigmoid()
    n = (i_n + r * hn).tanh()
    return n + z * (hx - n), torch.cat([r, z, n, hx, hn], 1)


def gru_backward(grad: Tensor, workspace: Tensor, has_bias: bool) -> tuple[Any, ...]:
    """Return the gradients of gates, hidden gates, state and biases."""
    r, z, n, hx, hn = workspace.chunk(5, 1)
    dn = grad * (1 - z) * (1 - n * n)
    dz = grad * (hx - n) * z * (1 - z)
    dr = dn * hn * r * (1 - r)
    gates, hidden = torch.cat([dr, dz, dn], 1), torch.cat([dr, dz, dn * r], 1)
    biases = (gates.sum(0), hidden.sum(0)) if has_bias else (None, None)
    return (gates, hidden, grad * z, *biases)


def lstm(gates: Tensor, hidden: Tensor, cx: Tensor, b: Tensor | None = None,
         c: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the new state and cell, and what the backward step needs."""
    both = gates + hidden if b is None or c is None else gates + b + hidden + c
    i, f, g, o = both.chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cy = f * cx + i * g
    return o * cy.tanh(), cy, torch.cat([i, f, g, o], 1)


def lstm_backward(
    grad: Tensor | None, grad_cell: Tensor | None, cx: Tensor, cy: Tensor, workspace: Tensor,
    has_bias: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """Return the gradients of gates, cell and bias."""
    i, f, g, o = workspace.chunk(4, 1)
    grad = torch.zeros_like(cx) if grad is None else grad
    t = cy.tanh()
    dc = grad * o * (1 - t * t) + (0 if grad_cell is None else grad_cell)
    gates = torch.cat(
        [dc * g * i * (1 - i), dc * cx * f * (1 - f), dc * i * (1 - g * g), grad * t * o * (1 - o)],
        1,
    )
    return gates, dc * f, gates.sum(0) if has_bias else None


CELLS: dict[str, Callable[..., Any]] = {
    "_thnn_fused_gru_cell": gru,
    "_thnn_fused_gru_cell_backward": gru_backward,
    "_thnn_fused_lstm_cell": lstm,
    "_thnn_fused_lstm_cell_backward_impl": lstm_backward,
}

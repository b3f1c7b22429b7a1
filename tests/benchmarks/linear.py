"""Time of a linear layer by three ways, in turns on one core; the best of 40 each.

    python -m tests.benchmarks.linear

``nn.Linear``, :class:`PackedLinear`, and PyTorch's public way to keep a weight laid out for
oneDNN, ``torch.utils.mkldnn``; as ratios to :class:`PackedLinear`.
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.utils.mkldnn import MkldnnLinear

from llmatic_hpc.generation.language_model.packed_linear import PackedLinear

FEATURES = (896, 4864)
"""Sizes of the feed-forward layers of a model with 0.5 billion parameters."""


def main() -> None:
    torch.set_num_threads(1)
    layer = nn.Linear(*FEATURES)
    layers = (layer, PackedLinear(layer), MkldnnLinear(layer, torch.float32))
    for rows in (8, 32):
        inputs, seconds = torch.randn(rows, FEATURES[0]), [float("inf")] * len(layers)
        with torch.inference_mode():
            for _ in range(40):
                for n, one in enumerate(layers):
                    began = time.perf_counter()
                    one(inputs)
                    seconds[n] = min(seconds[n], time.perf_counter() - began)
        plain, packed, public = seconds
        print(
            f"{rows:3d} rows: packed {packed * 1e3:.2f} ms, nn.Linear {plain / packed:.2f} and "
            f"torch.utils.mkldnn {public / packed:.2f} times as long"
        )


if __name__ == "__main__":
    main()

"""Flip and shift the images of a batch on their device, in the same way on every one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .data.loading import SHIFT as PADDING


def draw(count: int, *, seed: int, epoch: int) -> torch.Tensor:
    """Draw how each of ``count`` images is changed in an epoch: (N, 3) int64, on the CPU.

    Rows and columns to leave out of the padded image, 0 to 8, and whether to flip, 0 or 1; the same
    whichever of them are asked for.
    """
    numbers = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    corners = numbers.integers(0, 2 * PADDING + 1, (count, 2))
    return torch.from_numpy(np.column_stack([corners, numbers.integers(0, 2, count)]))


def changed(images: torch.Tensor, drawn: torch.Tensor, wanted: Sequence[str]) -> torch.Tensor:
    """Return images, (N, C, H, W), changed as ``wanted`` by what was :func:`draw`-n for them.

    "crop" pads and cuts, "flip" exchanges left and right of what comes of it.
    """
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(count, -1)
    columns = torch.arange(width, device=images.device).expand(count, -1)
    if "flip" in wanted:
        columns = torch.where(drawn[:, 2:] > 0, width - 1 - columns, columns)
    if "crop" in wanted:
        images = F.pad(images, (PADDING,) * 4)
        rows, columns = rows + drawn[:, :1], columns + drawn[:, 1:2]
    places = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).flatten(1)
    found = images.flatten(2).gather(2, places[:, None, :].expand(-1, channels, -1))
    return found.view(count, channels, height, width)

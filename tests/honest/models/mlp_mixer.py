"""An MLP-Mixer with lambdas and partial as building blocks."""

from functools import partial

import torch
from torch import nn

pair = lambda x: x if isinstance(x, tuple) else (x, x)


class PreNormResidual(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.fn = fn
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        return self.fn(self.norm(x)) + x


def FeedForward(dim, expansion_factor=2, dropout=0.0, dense=nn.Linear):
    inner_dim = int(dim * expansion_factor)
    return nn.Sequential(
        dense(dim, inner_dim), nn.GELU(), nn.Dropout(dropout), dense(inner_dim, dim)
    )


class MLPMixer(nn.Module):
    def __init__(self, image_size=32, patch_size=8, dim=16, depth=2, num_classes=10):
        super().__init__()
        image_h, image_w = pair(image_size)
        assert (image_h % patch_size) == 0 and (image_w % patch_size) == 0
        num_patches = (image_h // patch_size) * (image_w // patch_size)
        chan_first, chan_last = partial(nn.Conv1d, kernel_size=1), nn.Linear
        self.embed = nn.Conv2d(3, dim, patch_size, patch_size)
        self.mixers = nn.Sequential(
            *[
                nn.Sequential(
                    PreNormResidual(dim, FeedForward(num_patches, 2, 0.0, chan_first)),
                    PreNormResidual(dim, FeedForward(dim, 0.5, 0.0, chan_last)),
                )
                for _ in range(depth)
            ]
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.mixers(x)).mean(dim=1))

"""Layers cloned by deepcopy, as in the Annotated Transformer."""

import copy

import torch
import torch.nn as nn


def clones(module, n):
    "Produce n identical layers."
    return nn.ModuleList([copy.deepcopy(module) for _ in range(n)])


class SublayerConnection(nn.Module):
    def __init__(self, size, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, sublayer):
        return x + self.dropout(sublayer(self.norm(x)))


class EncoderLayer(nn.Module):
    def __init__(self, size, feed_forward, dropout):
        super().__init__()
        self.feed_forward = feed_forward
        self.sublayer = clones(SublayerConnection(size, dropout), 2)
        self.mix = nn.Linear(size, size)

    def forward(self, x):
        x = self.sublayer[0](x, lambda x: torch.relu(self.mix(x)))
        return self.sublayer[1](x, self.feed_forward)


class Net(nn.Module):
    def __init__(self, size=16, n=2):
        super().__init__()
        self.embed = nn.Linear(3 * 32, size)
        feed = nn.Sequential(nn.Linear(size, 32), nn.ReLU(), nn.Linear(32, size))
        self.layers = clones(EncoderLayer(size, feed, 0.1), n)
        self.out = nn.Linear(size, 10)

    def forward(self, x):
        x = x.permute(0, 2, 3, 1).reshape(x.shape[0], 32, -1)
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.out(x.mean(1))

"""Seeds of a search: small networks of published shapes, for images of any size.

They differ in shape and, so that they lie apart on the map, in width and depth.
"""

from __future__ import annotations

_IMPORTS = """\
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
"""

PLAIN = """\
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d({channels}, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(128, {classes})

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.fc1(x)
"""
"""Convolutions one after the other (Simonyan and Zisserman, 2015)."""

RESIDUAL = """\
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d({channels}, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(16)
        self.fc1 = nn.Linear(16, {classes})

    def forward(self, x):
        x = F.relu(self.conv1(x))
        y = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(x + self.bn3(self.conv3(y)))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.fc1(x)
"""
"""A residual block (He et al., 2016)."""

BOTTLENECK = """\
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d({channels}, 512, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(512, 32, 1)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv4 = nn.Conv2d(32, 512, 1)
        self.fc1 = nn.Linear(512, {classes})

    def forward(self, x):
        x = F.relu(self.conv1(x))
        y = F.relu(self.conv2(x))
        y = F.relu(self.conv3(y))
        x = F.relu(x + self.conv4(y))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.fc1(x)
"""
"""A bottleneck block (He et al., 2016)."""

DEPTHWISE = """\
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d({channels}, 16, 3, stride=2, padding=1)
        self.depth2 = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point2 = nn.Conv2d(16, 32, 1)
        self.fc1 = nn.Linear(32, {classes})

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.depth2(x))
        x = F.relu(self.point2(x))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.fc1(x)
"""
"""A depthwise separable convolution (Howard et al., 2017)."""

ATTENTION = """\
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d({channels}, 32, 4, stride=4, padding=2)
        self.norm1 = nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm2 = nn.LayerNorm(32)
        self.fc1 = nn.Linear(32, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, {classes})

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm1(x)
        x = x + self.attention(y, y, y)[0]
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.fc3(x.mean(1))
"""
"""Attention between patches (Dosovitskiy et al., 2021)."""

RECURRENT = """\
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU({row}, 256, batch_first=True)
        self.fc1 = nn.Linear(256, {classes})

    def forward(self, x):
        x = x.transpose(1, 2).flatten(2)
        x, last = self.gru(x)
        return self.fc1(x[:, -1])
"""
"""A recurrent layer that reads rows (Cho et al., 2014)."""

SEEDS = (PLAIN, RESIDUAL, BOTTLENECK, DEPTHWISE, ATTENTION, RECURRENT)


def seeds(input_shape: tuple[int, ...], classes: int) -> tuple[str, ...]:
    """Return the sources for images of ``input_shape`` (channels, height, width)."""
    channels, _, width = input_shape
    sizes = {"channels": channels, "row": channels * width, "classes": classes}
    return tuple(_IMPORTS + body.format(**sizes) for body in SEEDS)

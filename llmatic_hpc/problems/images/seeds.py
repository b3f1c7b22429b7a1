"""Seeds of a search: small networks of published shapes, for images, sequences and tables.

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

CONVOLVED = """\
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d({channels}, 64, {step}, stride={step})
        self.gru = nn.GRU(64, 256, batch_first=True)
        self.fc1 = nn.Linear(256, {classes})

    def forward(self, x):
        x = F.relu(self.conv1(x)).transpose(1, 2)
        x, last = self.gru(x)
        return self.fc1(x[:, -1])
"""
"""A recurrent layer that a convolution leaves at most 32 steps (Ordóñez and Roggen, 2016)."""

_ONE_DIMENSION = {"Conv2d": "Conv1d", "BatchNorm2d": "BatchNorm1d", "avg_pool2d": "avg_pool1d"}

PERCEPTRON = """\
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear({features}, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, {classes})

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)
"""
"""Two hidden layers (Rumelhart et al., 1986)."""

RESIDUAL_PERCEPTRON = """\
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear({features}, 32)
        self.bn2 = nn.BatchNorm1d(32)
        self.fc2 = nn.Linear(32, 64)
        self.fc3 = nn.Linear(64, 32)
        self.bn4 = nn.BatchNorm1d(32)
        self.fc4 = nn.Linear(32, {classes})

    def forward(self, x):
        x = self.fc1(x)
        y = F.relu(self.fc2(self.bn2(x)))
        x = x + self.fc3(y)
        return self.fc4(F.relu(self.bn4(x)))
"""
"""A residual block for tables (Gorishniy et al., 2021)."""

WIDE = """\
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear({features}, 512)
        self.fc2 = nn.Linear(512, {classes})

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))
"""
"""One wide hidden layer (Cybenko, 1989)."""

DEEP = """\
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear({features}, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 16)
        self.fc4 = nn.Linear(16, 16)
        self.fc5 = nn.Linear(16, 16)
        self.fc6 = nn.Linear(16, {classes})

    def forward(self, x):
        x = F.selu(self.fc1(x))
        x = F.selu(self.fc2(x))
        x = F.selu(self.fc3(x))
        x = F.selu(self.fc4(x))
        x = F.selu(self.fc5(x))
        return self.fc6(x)
"""
"""Many narrow layers that normalise themselves (Klambauer et al., 2017)."""

GATED = """\
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear({features}, 128)
        self.gate1 = nn.Linear({features}, 128)
        self.fc2 = nn.Linear(128, 256)
        self.gate2 = nn.Linear(128, 256)
        self.fc3 = nn.Linear(256, {classes})

    def forward(self, x):
        x = self.fc1(x) * torch.sigmoid(self.gate1(x))
        x = self.fc2(x) * torch.sigmoid(self.gate2(x))
        return self.fc3(x)
"""
"""Gated linear units (Dauphin et al., 2017)."""

NARROW = """\
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear({features}, 4)
        self.fc2 = nn.Linear(4, {classes})

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))
"""
"""A bottleneck of four features (Hinton and Salakhutdinov, 2006)."""

OF_TABLES = (PERCEPTRON, RESIDUAL_PERCEPTRON, WIDE, DEEP, GATED, NARROW)


def seeds(input_shape: tuple[int, ...], classes: int) -> tuple[str, ...]:
    """Return the sources for images of ``input_shape`` (channels, height, width), sequences
    (channels, length), or tables (features,)."""
    bodies: tuple[str, ...] = SEEDS
    if len(input_shape) == 1:
        sizes, bodies = {"features": input_shape[0]}, OF_TABLES
    elif len(input_shape) == 2:
        channels, length = input_shape
        sizes = {"channels": channels, "step": -(-length // 32)}
        bodies = (*map(_in_one_dimension, SEEDS[:-1]), CONVOLVED)
    else:
        channels, _, width = input_shape
        sizes = {"channels": channels, "row": channels * width}
    return tuple(_IMPORTS + body.format(**sizes, classes=classes) for body in bodies)


def _in_one_dimension(body: str) -> str:
    for two, one in _ONE_DIMENSION.items():
        body = body.replace(two, one)
    return body

"""Normalised weights by parametrisation."""

import torch
import torch.nn as nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = spectral_norm(nn.Conv2d(3, 8, 4, stride=4))
        self.fc1 = weight_norm(nn.Linear(8 * 64, 24), name="weight")
        self.fc2 = nn.utils.parametrizations.orthogonal(nn.Linear(24, 10))

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(x)

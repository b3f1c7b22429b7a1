"""Activations with parameters of their own."""

import math

import torch
import torch.nn as nn


class Swish(nn.Module):
    def __init__(self, beta=1.0):
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


class Snake(nn.Module):
    def __init__(self, channels, a=0.5):
        super().__init__()
        self.a = nn.Parameter(torch.full((1, channels, 1, 1), a))

    def forward(self, x):
        return x + torch.sin(self.a * x).pow(2) / (self.a + 1e-6)

    def extra_repr(self):
        return "a={:.2f}".format(float(self.a.mean()))


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5, 3)
        self.act1 = Snake(8)
        self.conv2 = nn.Conv2d(8, 12, 3, 2)
        self.act2 = Swish(1.5)
        self.fc1 = nn.Linear(12 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = self.act1(self.conv1(x))
        x = self.act2(self.conv2(x))
        x = gelu(self.fc1(x.view(x.shape[0], -1)))
        return self.fc2(x)

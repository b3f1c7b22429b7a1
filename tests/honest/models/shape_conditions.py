"""A forward with loops and conditions on shapes, and early returns."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, channels=8, max_steps=6):
        super().__init__()
        self.inp = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.same = nn.Conv2d(channels, channels, 3, padding=1)
        self.max_steps = max_steps
        self.fc = nn.Linear(channels * 16, 10)

    def pad_to_even(self, x):
        h, w = x.shape[-2:]
        if h % 2 == 0 and w % 2 == 0:
            return x
        return F.pad(x, (0, w % 2, 0, h % 2))

    def forward(self, x):
        if x.dim() == 3:
            x = x.unsqueeze(0)
        elif x.dim() != 4:
            raise ValueError("expected 4 dimensions, got %d" % x.dim())
        x = self.inp(x)
        step = 0
        while x.shape[-1] > 4 and step < self.max_steps:
            x = F.relu(self.down(self.pad_to_even(x)))
            if step % 2 == 1:
                x = x + self.same(x)
            else:
                continue_from = x
                x = continue_from * 1.0
            step += 1
        for _ in range(2):
            if x.size(1) < 8:
                break
            x = self.same(x)
        return self.fc(x.reshape(len(x), -1))

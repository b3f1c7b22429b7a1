"""Dense connections without names, and a while loop that halves."""

import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, growth=6, layers=3):
        super().__init__()
        channels = 3
        convs = []
        for _ in range(layers):
            convs.append(nn.Conv2d(channels, growth, 3, padding=1))
            channels += growth
        self.convs = nn.ModuleList(convs)
        size = 32
        self.steps = 0
        while size > 4:
            size //= 2
            self.steps += 1
        self.fc = nn.Linear(channels * size * size, 10)

    def forward(self, x):
        stack = [x]
        for conv in self.convs:
            stack.append(torch.relu(conv(torch.cat(stack, 1))))
        x = torch.cat(stack, 1)
        for _ in range(self.steps):
            x = nn.functional.avg_pool2d(x, 2)
        return self.fc(x.flatten(1))

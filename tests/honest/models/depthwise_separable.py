"""Depthwise separable convolutions, built by a function and unpacked from lists."""

import torch
import torch.nn as nn


def separable(cin, cout, kernel_size=3, stride=1, activation=nn.ReLU):
    depthwise = nn.Conv2d(
        cin, cin, kernel_size, stride=stride, padding=kernel_size // 2, groups=cin, bias=False
    )
    pointwise = nn.Conv2d(cin, cout, 1, bias=False)
    return [depthwise, nn.BatchNorm2d(cin), activation(), pointwise, nn.BatchNorm2d(cout)]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [8, 12, 16]
        layers = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += separable(a, b, stride=2)
            layers.append(nn.ReLU6(inplace=True))
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(widths[-1], 10)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))

"""A feature pyramid: lateral connections, upsampling, sums from the top down."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, widths=(6, 8, 12), out=8):
        super().__init__()
        previous = 3
        self.down = nn.ModuleList()
        self.lateral = nn.ModuleList()
        for w in widths:
            self.down.append(nn.Conv2d(previous, w, 3, stride=2, padding=1))
            self.lateral.append(nn.Conv2d(w, out, 1))
            previous = w
        self.smooth = nn.Conv2d(out, out, 3, padding=1)
        self.classify = nn.Linear(out * len(widths), 10)

    def forward(self, x):
        features = []
        for layer in self.down:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        top = self.lateral[-1](features[-1])
        levels = [top]
        for feature, lateral in zip(reversed(features[:-1]), list(self.lateral)[-2::-1]):
            top = F.interpolate(top, size=feature.shape[-2:], mode="nearest") + lateral(feature)
            levels.insert(0, self.smooth(top))
        return self.classify(torch.cat([level.mean((2, 3)) for level in levels], 1))

"""Branches in a ModuleDict, chosen by names and a configuration in a dictionary."""

import torch
import torch.nn as nn

CONFIG = {
    "branches": {"small": 1, "medium": 3, "large": 5},
    "channels": 6,
    "activation": "gelu",
    "pool": "max",
}
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class Net(nn.Module):
    def __init__(self, config=CONFIG):
        super().__init__()
        c = config["channels"]
        self.branches = nn.ModuleDict(
            {name: nn.Conv2d(3, c, k, padding=k // 2) for name, k in config["branches"].items()}
        )
        self.act = ACTIVATIONS[config.get("activation", "relu")]()
        self.pools = nn.ModuleDict({"max": nn.MaxPool2d(4), "avg": nn.AvgPool2d(4)})
        self.pool_name = config["pool"]
        self.head = nn.Linear(c * len(self.branches) * 64, 10)

    def forward(self, x):
        outputs = []
        for name in sorted(self.branches.keys()):
            outputs.append(self.act(self.branches[name](x)))
        x = torch.cat(outputs, dim=1)
        x = self.pools[self.pool_name](x)
        return self.head(x.view(x.size(0), -1))

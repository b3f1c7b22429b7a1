"""Capsules with routing by agreement."""

import torch
import torch.nn as nn
import torch.nn.functional as F


def squash(s, dim=-1, eps=1e-8):
    norm2 = (s * s).sum(dim=dim, keepdim=True)
    return norm2 / (1 + norm2) * s / (norm2 + eps).sqrt()


class Capsules(nn.Module):
    def __init__(self, num_in, dim_in, num_out, dim_out, routing=2):
        super().__init__()
        self.routing = routing
        self.W = nn.Parameter(0.05 * torch.randn(num_out, num_in, dim_out, dim_in))

    def forward(self, x):
        u = torch.matmul(self.W, x[:, None, :, :, None]).squeeze(-1)
        b = torch.zeros(*u.shape[:3], device=u.device)
        for r in range(self.routing):
            c = F.softmax(b, dim=1)
            v = squash((c.unsqueeze(-1) * u).sum(dim=2))
            if r + 1 < self.routing:
                b = b + (u.detach() * v.detach().unsqueeze(2)).sum(-1)
        return v


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 8, stride=8)
        self.caps = Capsules(32, 8, 10, 6)

    def forward(self, x):
        x = F.relu(self.conv(x)).reshape(x.size(0), 32, 8)
        return self.caps(squash(x)).norm(dim=-1)

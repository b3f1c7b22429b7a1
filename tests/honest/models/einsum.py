"""Products of tensors by einsum, and a bilinear form."""

import torch
from torch import einsum, nn


class Net(nn.Module):
    def __init__(self, dim=8, rank=4):
        super().__init__()
        self.left = nn.Parameter(torch.randn(3, 32, dim) * 0.1)
        self.right = nn.Parameter(torch.randn(3, 32, dim) * 0.1)
        self.form = nn.Parameter(torch.randn(10, dim, rank) * 0.1)
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, x):
        y = einsum("bchw,chd->bcwd", x, self.left)
        y = torch.einsum("bcwd,cwe->bde", torch.relu(y), self.right)
        return torch.einsum("bde,kdr,ker->bk", y, self.form, self.form) + self.bias

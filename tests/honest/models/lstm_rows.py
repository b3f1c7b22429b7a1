"""A bidirectional LSTM over the rows of an image, with states that start as parameters."""

import torch
import torch.nn as nn


class RowLSTM(nn.Module):
    def __init__(self, hidden: int = 24, layers: int = 2):
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.rnn = nn.LSTM(
            input_size=3 * 32,
            hidden_size=hidden,
            num_layers=layers,
            batch_first=True,
            bidirectional=True,
            dropout=0.1,
        )
        self.h0 = nn.Parameter(torch.zeros(2 * layers, 1, hidden))
        self.c0 = nn.Parameter(torch.zeros(2 * layers, 1, hidden))
        self.norm = nn.LayerNorm(2 * hidden)
        self.out = nn.Linear(2 * hidden, 10)

    def forward(self, x):
        batch = x.size(0)
        rows = x.permute(0, 2, 1, 3).reshape(batch, 32, -1)
        h0 = self.h0.expand(-1, batch, -1).contiguous()
        c0 = self.c0.expand(-1, batch, -1).contiguous()
        y, (h, c) = self.rnn(rows, (h0, c0))
        return self.out(self.norm(y[:, -1, :] + torch.cat([h[-2], h[-1]], dim=1)))

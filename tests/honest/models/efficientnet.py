"""EfficientNet of torchvision: settings in classes, stochastic depth."""

import math
from functools import partial
from typing import List, Sequence

import torch
from torch import nn, Tensor


class StochasticDepth(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return input
        survival_rate = 1.0 - self.p
        size = [input.shape[0]] + [1] * (input.ndim - 1)
        noise = torch.empty(size, dtype=input.dtype, device=input.device)
        noise = noise.bernoulli_(survival_rate)
        if survival_rate > 0.0:
            noise.div_(survival_rate)
        return input * noise

    def __repr__(self) -> str:
        return f"StochasticDepth(p={self.p})"


class MBConvConfig:
    def __init__(self, expand_ratio, kernel, stride, input_channels, out_channels, num_layers):
        self.expand_ratio = expand_ratio
        self.kernel = kernel
        self.stride = stride
        self.input_channels = input_channels
        self.out_channels = out_channels
        self.num_layers = self.adjust_depth(num_layers, 1.2)

    @staticmethod
    def adjust_depth(num_layers: int, depth_mult: float):
        return int(math.ceil(num_layers * depth_mult))


class MBConv(nn.Module):
    def __init__(self, cnf: MBConvConfig, stride: int, inputs: int, stochastic_depth_prob: float):
        super().__init__()
        self.use_res_connect = stride == 1 and inputs == cnf.out_channels
        expanded = inputs * cnf.expand_ratio
        self.block = nn.Sequential(
            nn.Conv2d(inputs, expanded, 1, bias=False),
            nn.BatchNorm2d(expanded),
            nn.SiLU(inplace=True),
            nn.Conv2d(
                expanded,
                expanded,
                cnf.kernel,
                stride,
                cnf.kernel // 2,
                groups=expanded,
                bias=False,
            ),
            nn.BatchNorm2d(expanded),
            nn.SiLU(inplace=True),
            nn.Conv2d(expanded, cnf.out_channels, 1, bias=False),
            nn.BatchNorm2d(cnf.out_channels),
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth_prob)

    def forward(self, input: Tensor) -> Tensor:
        result = self.block(input)
        if self.use_res_connect:
            result = self.stochastic_depth(result)
            result += input
        return result


class EfficientNet(nn.Module):
    def __init__(self, num_classes: int = 10, dropout: float = 0.2) -> None:
        super().__init__()
        bneck = partial(MBConvConfig)
        settings: Sequence[MBConvConfig] = [
            bneck(1, 3, 1, 8, 8, 1),
            bneck(2, 3, 2, 8, 12, 1),
            bneck(2, 5, 2, 12, 16, 1),
        ]
        layers: List[nn.Module] = [
            nn.Sequential(
                nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU(inplace=True)
            )
        ]
        total_stage_blocks = sum(cnf.num_layers for cnf in settings)
        stage_block_id = 0
        for cnf in settings:
            stage: List[nn.Module] = []
            for _ in range(cnf.num_layers):
                inputs = cnf.out_channels if stage else cnf.input_channels
                stride = 1 if stage else cnf.stride
                sd_prob = 0.2 * float(stage_block_id) / total_stage_blocks
                stage.append(MBConv(cnf, stride, inputs, sd_prob))
                stage_block_id += 1
            layers.append(nn.Sequential(*stage))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Dropout(p=dropout, inplace=True), nn.Linear(16, num_classes)
        )
        for m in self.modules():
            if isinstance(m, nn.Linear):
                init_range = 1.0 / math.sqrt(m.out_features)
                nn.init.uniform_(m.weight, -init_range, init_range)
                nn.init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)

"""RegNet of torchvision: stages of names, groups by width, an ordered dictionary."""

import math
from collections import OrderedDict
from functools import partial
from typing import Callable, List, Optional

import torch
from torch import nn, Tensor


class SimpleStemIN(nn.Sequential):
    """Simple stem for ImageNet: 3x3, BN, ReLU."""

    def __init__(self, width_in: int, width_out: int, norm_layer, activation_layer) -> None:
        super().__init__(
            nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False),
            norm_layer(width_out),
            activation_layer(inplace=True),
        )


class BottleneckTransform(nn.Sequential):
    """Bottleneck transformation: 1x1, 3x3 [+SE], 1x1."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        stride: int,
        norm_layer: Callable[..., nn.Module],
        activation_layer: Callable[..., nn.Module],
        group_width: int,
        bottleneck_multiplier: float,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        w_b = int(round(width_out * bottleneck_multiplier))
        g = w_b // group_width
        layers["a"] = nn.Sequential(
            nn.Conv2d(width_in, w_b, 1, bias=False), norm_layer(w_b), activation_layer()
        )
        layers["b"] = nn.Sequential(
            nn.Conv2d(w_b, w_b, 3, stride=stride, padding=1, groups=g, bias=False),
            norm_layer(w_b),
            activation_layer(),
        )
        layers["c"] = nn.Sequential(nn.Conv2d(w_b, width_out, 1, bias=False), norm_layer(width_out))
        super().__init__(layers)


class ResBottleneckBlock(nn.Module):
    """Residual bottleneck block: x + F(x), F = bottleneck transform."""

    def __init__(self, width_in, width_out, stride, norm_layer, activation_layer, group_width):
        super().__init__()
        self.proj = None
        should_proj = (width_in != width_out) or (stride != 1)
        if should_proj:
            self.proj = nn.Sequential(
                nn.Conv2d(width_in, width_out, 1, stride=stride, bias=False), norm_layer(width_out)
            )
        self.f = BottleneckTransform(
            width_in, width_out, stride, norm_layer, activation_layer, group_width, 1.0
        )
        self.activation = activation_layer(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.proj is not None:
            x = self.proj(x) + self.f(x)
        else:
            x = x + self.f(x)
        return self.activation(x)


class AnyStage(nn.Sequential):
    """AnyNet stage (sequence of blocks w/ the same output shape)."""

    def __init__(self, width_in, width_out, stride, depth, block, norm, act, group, stage_index=0):
        super().__init__()
        for i in range(depth):
            made = block(
                width_in if i == 0 else width_out,
                width_out,
                stride if i == 0 else 1,
                norm,
                act,
                group,
            )
            self.add_module(f"block{stage_index}-{i}", made)


class RegNet(nn.Module):
    def __init__(
        self,
        widths: Optional[List[int]] = None,
        num_classes: int = 10,
        stem_width: int = 8,
        norm_layer: Optional[Callable[..., nn.Module]] = None,
    ) -> None:
        super().__init__()
        if norm_layer is None:
            norm_layer = partial(nn.BatchNorm2d, eps=1e-5, momentum=0.1)
        widths = widths or [8, 16, 32]
        activation = nn.ReLU
        self.stem = SimpleStemIN(3, stem_width, norm_layer, activation)
        current_width = stem_width
        blocks = []
        for i, (width_out, depth) in enumerate(zip(widths, (1, 1, 2))):
            blocks.append(
                (
                    f"block{i + 1}",
                    AnyStage(
                        current_width,
                        width_out,
                        2,
                        depth,
                        ResBottleneckBlock,
                        norm_layer,
                        activation,
                        8,
                        stage_index=i + 1,
                    ),
                )
            )
            current_width = width_out
        self.trunk_output = nn.Sequential(OrderedDict(blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(in_features=current_width, out_features=num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
                nn.init.normal_(m.weight, mean=0.0, std=math.sqrt(2.0 / fan_out))
            elif isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, mean=0.0, std=0.01)
                nn.init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.trunk_output(x)
        x = self.avgpool(x)
        x = x.flatten(start_dim=1)
        return self.fc(x)

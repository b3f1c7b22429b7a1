"""MobileNetV3 of torchvision: partial, a configuration class, squeeze and excitation."""

from functools import partial
from typing import Any, Callable, List, Optional

import torch
from torch import nn, Tensor


class SqueezeExcitation(nn.Module):
    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Callable[..., nn.Module] = nn.ReLU,
        scale_activation: Callable[..., nn.Module] = nn.Hardsigmoid,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def _scale(self, input: Tensor) -> Tensor:
        scale = self.avgpool(input)
        scale = self.fc1(scale)
        scale = self.activation(scale)
        scale = self.fc2(scale)
        return self.scale_activation(scale)

    def forward(self, input: Tensor) -> Tensor:
        scale = self._scale(input)
        return scale * input


class InvertedResidualConfig:
    # Stores information listed at Tables 1 and 2 of the MobileNetV3 paper
    def __init__(
        self,
        input_channels: int,
        kernel: int,
        expanded_channels: int,
        out_channels: int,
        use_se: bool,
        activation: str,
        stride: int,
        width_mult: float,
    ):
        self.input_channels = self.adjust_channels(input_channels, width_mult)
        self.kernel = kernel
        self.expanded_channels = self.adjust_channels(expanded_channels, width_mult)
        self.out_channels = self.adjust_channels(out_channels, width_mult)
        self.use_se = use_se
        self.use_hs = activation == "HS"
        self.stride = stride

    @staticmethod
    def adjust_channels(channels: int, width_mult: float):
        return max(4, int(channels * width_mult + 2) // 4 * 4)


class InvertedResidual(nn.Module):
    def __init__(
        self,
        cnf: InvertedResidualConfig,
        norm_layer: Callable[..., nn.Module],
        se_layer: Callable[..., nn.Module] = partial(
            SqueezeExcitation, scale_activation=nn.Hardsigmoid
        ),
    ):
        super().__init__()
        if not (1 <= cnf.stride <= 2):
            raise ValueError("illegal stride value")
        self.use_res_connect = cnf.stride == 1 and cnf.input_channels == cnf.out_channels
        layers: List[nn.Module] = []
        activation_layer = nn.Hardswish if cnf.use_hs else nn.ReLU
        layers += [
            nn.Conv2d(cnf.input_channels, cnf.expanded_channels, 1, bias=False),
            norm_layer(cnf.expanded_channels),
            activation_layer(inplace=True),
            nn.Conv2d(
                cnf.expanded_channels,
                cnf.expanded_channels,
                kernel_size=cnf.kernel,
                stride=cnf.stride,
                padding=(cnf.kernel - 1) // 2,
                groups=cnf.expanded_channels,
                bias=False,
            ),
            norm_layer(cnf.expanded_channels),
            activation_layer(inplace=True),
        ]
        if cnf.use_se:
            squeeze_channels = max(4, cnf.expanded_channels // 4)
            layers.append(se_layer(cnf.expanded_channels, squeeze_channels))
        layers += [
            nn.Conv2d(cnf.expanded_channels, cnf.out_channels, 1, bias=False),
            norm_layer(cnf.out_channels),
        ]
        self.block = nn.Sequential(*layers)

    def forward(self, input: Tensor) -> Tensor:
        result = self.block(input)
        if self.use_res_connect:
            result += input
        return result


class MobileNetV3(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        norm_layer: Optional[Callable[..., nn.Module]] = None,
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        bneck_conf = partial(InvertedResidualConfig, width_mult=0.5)
        setting = [
            bneck_conf(16, 3, 16, 16, True, "RE", 2),
            bneck_conf(16, 3, 32, 24, False, "RE", 1),
            bneck_conf(24, 5, 48, 24, True, "HS", 1),
        ]
        if norm_layer is None:
            norm_layer = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        first = setting[0].input_channels
        last = 6 * setting[-1].out_channels
        self.features = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
            norm_layer(first),
            nn.Hardswish(inplace=True),
            *[InvertedResidual(cnf, norm_layer) for cnf in setting],
            nn.Conv2d(setting[-1].out_channels, last, 1, bias=False),
            norm_layer(last),
            nn.Hardswish(inplace=True),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(last, 32),
            nn.Hardswish(inplace=True),
            nn.Dropout(p=dropout, inplace=True),
            nn.Linear(32, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)

"""A cell within its network: the macro skeleton of NAS-Bench-201 as PyTorch code.

Dong and Yang, ICLR 2020, section 2 and figure 1; names of modules are our own.
"""

from __future__ import annotations

from ...types import Interface
from . import write
from .cells import CELLS_PER_STAGE, CHANNELS, Cell, Dataset

PIXELS = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "imagenet16_120": ((122.68, 116.66, 104.01), (63.22, 61.26, 65.09)),
}
"""Mean and deviation of red, green and blue, by which the benchmark's authors normalise pixels from
0 to 255 (their ``get_dataset_with_transform.py``)."""

_SKELETON = """\
def conv_bn(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    \"\"\"Basic residual block between stages: twice the channels, half the height and width.\"\"\"

    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = nn.Sequential(conv_bn(inputs, outputs, 2), conv_bn(outputs, outputs))
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, x):
        return self.shortcut(x) + self.body(x)


class Net(nn.Module):
    \"\"\"Three stages of {cells} cells each, with {narrow}, {middle} and {wide} channels.\"\"\"

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, {narrow}, 3, padding=1, bias=False), nn.BatchNorm2d({narrow})
        )
        self.body = nn.Sequential(
            *[Cell({narrow}) for _ in range({cells})],
            Residual({narrow}, {middle}),
            *[Cell({middle}) for _ in range({cells})],
            Residual({middle}, {wide}),
            *[Cell({wide}) for _ in range({cells})],
        )
        self.head = nn.Sequential(nn.BatchNorm2d({wide}), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear({wide}, {classes})

    def forward(self, x):
        x = self.head(self.body(self.stem(x)))
        return self.classifier(x.view(x.size(0), -1))
"""


def source(cell: Cell, dataset: Dataset) -> str:
    """Return a module of plain PyTorch whose ``Net()`` is the whole network of a cell."""
    skeleton = _SKELETON.format(
        narrow=CHANNELS // 4, middle=CHANNELS // 2, wide=CHANNELS,
        cells=CELLS_PER_STAGE, classes=dataset.classes,
    )  # fmt: skip
    return f"{write.source(cell).replace('class Net(', 'class Cell(')}\n\n{skeleton}"


def interface(dataset: Dataset) -> Interface:
    """Say what that network is given and gives back."""
    mean, deviation = PIXELS[dataset.name]
    made = " / ".join(
        (
            f"(examples.float() - torch.tensor({list(mean)}).view(3, 1, 1))",
            f"torch.tensor({list(deviation)}).view(3, 1, 1)",
        )
    )
    return Interface(
        (3, dataset.size, dataset.size), dataset.classes,
        f"pixels from 0 to 255, less {mean}, over {deviation} (red, green, blue), as in the "
        "benchmark's trainings",
        made, "uint8",
    )  # fmt: skip

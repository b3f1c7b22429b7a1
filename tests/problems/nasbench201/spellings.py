"""One cell in many spellings, trusted text that tests may also run."""

from __future__ import annotations

ONE = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|"

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\n"

SEPARATE_LAYERS = (
    HEAD
    + '''
class Net(nn.Module):
    """All layers by themselves, functions where there are some."""

    def __init__(self, C: int, affine: bool = True) -> None:
        super(Net, self).__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(C, affine=affine), nn.BatchNorm2d(num_features=C)
        self.bn3 = nn.BatchNorm2d(C, 1e-5, 0.1)
        self.conv1 = nn.Conv2d(C, C, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
        self.conv2 = nn.Conv2d(C, C, 1)
        self.conv3 = nn.Conv2d(C, out_channels=C, kernel_size=3, padding="same", dilation=1)
        self.act = nn.ReLU(inplace=False)
        self.forgotten = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.bn1(self.conv1(F.relu(x)))  # one node
        second = F.avg_pool2d(first, 3, 1, 1)
        second += x
        left = torch.relu(x)
        left = self.bn2(self.conv2(left))
        right = self.act(second)
        right = self.bn3(self.conv3(right))
        return torch.add(left, right)
'''
)

OFFICIAL = (
    HEAD
    + """
class ReLUConvBN(nn.Module):
    def __init__(self, C_in, C_out, kernel_size, stride=1, padding=0, dilation=1, affine=True):
        super(ReLUConvBN, self).__init__()
        self.op = nn.Sequential(
            nn.ReLU(inplace=False),
            nn.Conv2d(C_in, C_out, kernel_size, stride=stride, padding=padding,
                      dilation=dilation, bias=not affine),
            nn.BatchNorm2d(C_out, affine=affine),
        )

    def forward(self, x):
        return self.op(x)


class POOLING(nn.Module):
    def __init__(self, C_in, C_out, stride, mode):
        super(POOLING, self).__init__()
        if C_in == C_out:
            self.preprocess = None
        else:
            self.preprocess = ReLUConvBN(C_in, C_out, 1)
        if mode == "avg":
            self.op = nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
        else:
            self.op = nn.MaxPool2d(3, stride=stride, padding=1)

    def forward(self, inputs):
        if self.preprocess is not None:
            inputs = self.preprocess(inputs)
        return self.op(inputs)


class Nothing(nn.Module):
    def __init__(self, C_in, C_out, stride):
        super(Nothing, self).__init__()
        self.C_in, self.C_out, self.stride = C_in, C_out, stride

    def forward(self, x):
        if self.C_in == self.C_out:
            if self.stride == 1:
                return x.mul(0.0)
            return x[:, :, :: self.stride, :: self.stride].mul(0.0)
        return x.new_zeros(x.shape)


OPS = {
    "none": lambda C_in, C_out, stride: Nothing(C_in, C_out, stride),
    "avg_pool_3x3": lambda C_in, C_out, stride: POOLING(C_in, C_out, stride, "avg"),
    "nor_conv_3x3": lambda C_in, C_out, stride: ReLUConvBN(
        C_in, C_out, (3, 3), (stride, stride), (1, 1), (1, 1)
    ),
    "nor_conv_1x1": lambda C_in, C_out, stride: ReLUConvBN(
        C_in, C_out, (1, 1), (stride, stride), (0, 0), (1, 1)
    ),
    "skip_connect": lambda C_in, C_out, stride: nn.Identity(),
}
GENOTYPE = [
    [("nor_conv_3x3", 0)],
    [("skip_connect", 0), ("avg_pool_3x3", 1)],
    [("nor_conv_1x1", 0), ("none", 1), ("nor_conv_3x3", 2)],
]


class InferCell(nn.Module):
    def __init__(self, C_in, C_out=None, stride=1):
        super(InferCell, self).__init__()
        C_out = C_in if C_out is None else C_out
        self.layers = nn.ModuleList()
        self.node_IN, self.node_IX = [], []
        for i in range(1, 4):
            cur_index, cur_innod = [], []
            for op_name, op_in in GENOTYPE[i - 1]:
                if op_in == 0:
                    layer = OPS[op_name](C_in, C_out, stride)
                else:
                    layer = OPS[op_name](C_out, C_out, 1)
                cur_index.append(len(self.layers))
                cur_innod.append(op_in)
                self.layers.append(layer)
            self.node_IX.append(cur_index)
            self.node_IN.append(cur_innod)

    def forward(self, inputs):
        nodes = [inputs]
        for node_layers, node_innods in zip(self.node_IX, self.node_IN):
            node_feature = sum(
                self.layers[_il](nodes[_ii]) for _il, _ii in zip(node_layers, node_innods)
            )
            nodes.append(node_feature)
        return nodes[-1]
"""
)

DICTIONARY = (
    HEAD
    + """
class Zeros(nn.Module):
    def forward(self, x):
        return 0 * x


class Block(nn.Sequential):
    def __init__(self, width, k):
        conv = nn.Conv2d(width, width, k, padding=k // 2)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(width))


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        make = {"a": lambda: Block(width, 3), "b": lambda: Block(width, 1), "p": self._pool}
        self.ops = nn.ModuleDict({"0_1": make["a"](), "1_2": make["p"](), "0_3": make["b"]()})
        self.ops["1_3"] = Zeros()
        self.ops["2_3"] = make["a"]()

    @staticmethod
    def _pool():
        return nn.AvgPool2d((3, 3), (1, 1), (1, 1), False, True)

    def forward(self, x):
        nodes = {0: x}
        for end in (1, 2, 3):
            terms = [
                self.ops[f"{start}_{end}"](nodes[start])
                for start in range(end)
                if (start, end) != (0, 2)
            ]
            if end == 2:
                terms.append(nodes[0])
            nodes[end] = torch.stack(terms).sum(dim=0)
        return nodes[3]
"""
)

TWO_FIRST = (
    HEAD
    + """
def conv(c, k, p):
    return nn.Sequential(nn.ReLU(True), nn.Conv2d(c, c, k, 1, p), nn.BatchNorm2d(c))


class Net(nn.Module):
    def __init__(self, C_in, C_out):
        super().__init__()
        self.op_2_3 = conv(C_in, 3, 1)
        self.op_0_3 = conv(C_out, 1, 0)
        self.op_0_1 = conv(C_in, 3, 1)

    def pooled(self, x):
        return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x):
        n1 = self.op_0_1(x.clone())
        n2 = sum([x, self.pooled(n1), torch.zeros_like(x)])
        out = self.op_0_3(x.clone())
        out = out + self.op_2_3(n2.clone())
        return out + torch.zeros(n1.size())
"""
)

SIXTEEN = (
    HEAD
    + """
class Relu(nn.ReLU):
    pass


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs, self.bns = nn.ModuleList(), nn.ModuleList()
        for k in [3, 1, 3]:
            self.convs.append(nn.Conv2d(16, 16, k, padding=k // 2))
            self.bns.append(nn.BatchNorm2d(16))
        self.relu = Relu()
        self.pool = nn.AvgPool2d(kernel_size=3, stride=1, padding=1)

    def edge(self, i, x):
        x = self.relu(x)
        return self.bns[i](self.convs[i](x))

    def forward(self, x):
        a = self.edge(0, x)
        b = self.pool(a) + nn.Identity()(x)
        return self.edge(1, x) + a * 0 + self.edge(2, b)
"""
)

SPELLINGS = {
    "separate layers": SEPARATE_LAYERS,
    "official": OFFICIAL,
    "dictionary": DICTIONARY,
    "channels twice": TWO_FIRST,
    "sixteen": SIXTEEN,
}

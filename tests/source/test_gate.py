"""The gate lets honest networks in and nothing else, quickly, and survives any text."""

from __future__ import annotations

import ast
import builtins
import json
import random
import re
import time
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.source import allowlist, gate
from llmatic_hpc.source.network import network_class
from llmatic_hpc.types import Screened

from .networks import HEADER, NETWORKS

LIMIT = 100_000


def status(source: str) -> str:
    return gate.check(source, max_bytes=LIMIT).status


def network(*, top: str = "", init: str = "", forward: str = "", end: str = "") -> str:
    """A small network with something added."""
    return (
        f"{HEADER}{top}\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        f"        super().__init__()\n        self.fc = nn.Linear(3072, 10)\n        {init}\n"
        f"    def forward(self, x):\n        {forward}\n        return self.fc(x.flatten(1))\n"
        f"\n{end}\n"
    )


def test_the_plain_network_is_let_in() -> None:
    """The source that the hostile cases below add to is honest itself."""
    assert status(network()) == "pending"


@pytest.mark.parametrize("name", NETWORKS)
def test_honest_networks_are_let_in(name: str) -> None:
    """Networks in the style of torchvision and of tutorials pass without a change."""
    verdict = gate.check(NETWORKS[name], max_bytes=LIMIT)
    assert verdict == Screened("pending")


def test_the_initial_network_is_let_in() -> None:
    """The search can begin."""
    source = image_classification(input_shape=(3, 32, 32), classes=10).initial_source
    assert status(source) == "pending"


HOSTILE = [
    # names
    "eval('1')",
    "exec('x = 1')",
    "compile('1', '', 'eval')",
    "open('/etc/passwd')",
    "__import__('os').system('id')",
    "getattr(torch, 'load')",
    "setattr(torch, 'relu', None)",
    "delattr(nn, 'Linear')",
    "globals()['x'] = 1",
    "locals()",
    "vars(torch)",
    "dir(torch)",
    "type('X', (), {})",
    "type(torch)",
    "input()",
    "breakpoint()",
    "exit()",
    "quit()",
    "help(torch)",
    "memoryview(b'')",
    "bytes(10**10)",
    "bytearray(3)",
    "id(torch)",
    "object.__subclasses__()",
    "__builtins__['eval']('1')",
    "__builtins__.eval('1')",
    "print(__file__)",
    "y = __name__",
    "f = eval",
    "list(map(eval, ['1']))",
    "[open for _ in range(1)]",
    "(lambda: exec('1'))()",
    "print('x', file=torch)",
    "f = print",
    "iter(int, 1)",
    "raise SystemExit",
    "raise KeyboardInterrupt()",
    "raise BaseException",
    "hasattr(torch.Tensor, '__class__')",
    "hasattr(nn, name='x')",
    # attributes
    "().__class__.__bases__[0].__subclasses__()",
    "''.__class__.__mro__",
    "torch.relu.__self__",
    "nn.Linear.__init__.__globals__",
    "(lambda: 0).__globals__",
    "(lambda: 0).__code__.co_code",
    "[].__class__.__base__",
    "F.relu.__globals__['torch']",
    "F.relu.__builtins__",
    "nn.Module.mro()",
    "nn.Module.__dict__",
    "nn.Linear(1, 1).__class__",
    "torch.zeros(1).__array__()",
    "torch.zeros(1).numpy()",
    "torch.zeros(1).storage()",
    "torch.zeros(1).untyped_storage()",
    "torch.zeros(1).data_ptr()",
    "torch.zeros(1).share_memory_()",
    "torch.zeros(1).apply_(print)",
    "torch.zeros(1).register_hook(abs)",
    "torch.zeros(1).set_()",
    "torch.zeros(1).resize_(10**6)",
    "torch.zeros(1).as_strided((9, 9), (1, 1))",
    "torch.zeros(1).backward()",
    "torch.zeros(1).grad_fn",
    "nn.Linear(1, 1).load_state_dict({})",
    "nn.Linear(1, 1).register_forward_hook(print)",
    "nn.Linear(1, 1).share_memory()",
    "nn.Linear(1, 1).compile()",
    "nn.Linear(1, 1)._forward_hooks",
    "torch.zeros(1)._typed_storage()",
    "(x for x in [1]).gi_frame",
    "(x for x in [1]).gi_frame.f_back.f_globals",
    "'{0.__class__}'.format(1)",
    "'{0[0]}'.format([1])",
    "'{:>1000000000}'.format(1)",
    "'{:{}}'.format(1, 10**9)",
    "fmt = '{0.__class__}'; fmt.format(1)",
    "'{x.__class__}'.format_map({'x': 1})",
    "str.format('{0.__class__}', 1)",
    "f'{torch.load}'",
    "f'{().__class__}'",
    "f'{1:>1000000000}'",
    "f'{1:>{10**9}}'",
    "'%1000000000d' % 1",
    "'%*d' % (10**9, 1)",
    # torch and its modules
    "torch.load('x')",
    "torch.save(1, 'x')",
    "torch.from_file('x')",
    "torch.hub.load('a', 'b')",
    "torch.os.system('id')",
    "torch.sys.modules",
    "torch.sys.exit()",
    "torch.warnings.warn('x')",
    "torch.builtins.eval('1')",
    "torch.serialization.load('x')",
    "torch.multiprocessing.Process()",
    "torch.distributed.init_process_group()",
    "torch.ops.aten.relu",
    "torch.classes.load_library('x')",
    "torch.jit.load('x')",
    "torch.jit.script(abs)",
    "torch.utils.data",
    "torch.utils.cpp_extension.load('x')",
    "torch.compile(abs)",
    "torch.library.define('x')",
    "torch.package.PackageImporter('x')",
    "torch.storage",
    "torch._C._cuda_init()",
    "torch._dynamo",
    "torch.importlib.import_module('os')",
    "torch.manual_seed(0)",
    "torch.seed()",
    "torch.set_rng_state(0)",
    "torch.set_num_threads(64)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_device('cuda')",
    "torch.set_grad_enabled(False)",
    "torch.use_deterministic_algorithms(False)",
    "torch.autograd.Function",
    "torch.autograd.set_detect_anomaly(True)",
    "torch.overrides.TorchFunctionMode",
    "torch.fx.symbolic_trace(1)",
    "torch.from_numpy(1)",
    "torch.frombuffer(b'x')",
    "torch.fork(abs)",
    "torch.nn.functional.torch.load('x')",
    "F.torch.load('x')",
    "F.math.os",
    "F.warnings.warn('x')",
    "F.importlib.import_module('os')",
    "nn.functional.handle_torch_function",
    "nn.modules.module.torch.load('x')",
    "nn.modules.module.register_module_forward_hook(print)",
    "nn.parallel.DataParallel",
    "nn.DataParallel(nn.Linear(1, 1))",
    "nn.init.torch.load('x')",
    "nn.init.math.os",
    "nn.utils.parametrize.register_parametrization",
    "nn.utils.rnn.torch",
    "torch.cuda.synchronize()",
    "torch.cuda.os",
    "torch.backends.cudnn.benchmark",
    "torch.linalg.torch",
    "t = torch",
    "t = [nn]",
    "f = lambda m=F: m",
    "str(torch)",
    "torch[0]",
    "isinstance(torch, object)",
    # assignment
    "torch.relu = None",
    "torch.nn.functional.cross_entropy = lambda *a: 0",
    "F.relu = None",
    "nn.Linear.forward = None",
    "nn.Linear.weight = 1",
    "nn.Module.__call__ = None",
    "torch.nn = None",
    "torch.Tensor.relu = abs",
    "torch.x[0] = 1",
    "nn.Linear.forward += 1",
    "nn.Linear.__dict__['forward'] = 1",
    "(nn.Linear).bias = 1",
    "for nn.Linear.forward in [1]: pass",
    "[0 for F.relu in [1]]",
    "(torch.relu, y) = 1, 2",
    "del torch.relu",
    "del __builtins__",
    # syntax
    "global torch",
    "import os",
    "from os import system",
    "try:\n            pass\n        except BaseException:\n            pass",
    "while True: pass",
    "while 1: y = 1",
    "with open('x') as f: pass",
    "with torch.no_grad() as g: pass",
    "with torch.autocast('cpu'): pass",
    "yield 1",
    "y = (yield)",
    "async def f(): pass",
    "match 1:\n            case _: pass",
    "(y := 1)",
    "y = b'bytes'",
    "y = 1j",
    "nonlocal torch",
    "@torch.no_grad()\n        def f(): pass",
    "def __getattr__(n): pass",
    "lambda __class__: 1",
    "dict(__class__=1)",
    # sizes
    "9**9**9",
    "y = 2**65",
    "y = 10**10",
    "y = 1 << 70",
    "y = (1 << 20) << 20",
    "y = 'a' * 10**9",
    "y = [0] * 100000000",
    "y = (0,) * (10 ** 6)",
    "y = 10**6 * [0]",
    "y = 99999999999999999999",
    "y = 0xffffffffffffffffffff",
    "y = 46341 * 46341",
    "for i in range(10**8): pass",
    "for i in range(1 << 30): pass",
    "y = 3; y **= 10**6",
    "y = 7 ** 1000",
    # disguise
    "\uff45\uff56\uff41\uff4c('1')",
    "torch.\uff4coad('x')",
    "\uff3f\uff3fimport\uff3f\uff3f('os')",
    "self = nn.Linear; self.fc2 = 1; self.forward = 2",
    "self = nn.Linear(1, 1); self.forward = print",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_hostile_statements_are_forbidden(statement: str) -> None:
    """At the top level, in ``__init__`` and in ``forward``; the verdict names the line."""
    top = statement.replace("\n        ", "\n")
    sources = [network(init=statement), network(forward=statement), network(end=top)]
    for source in sources:
        verdict = gate.check(source, max_bytes=LIMIT)
        if verdict.failure.startswith(("line", "the")) and "SyntaxError" in verdict.failure:
            # ``yield`` at the top level and the like: not even Python there.
            assert verdict.status == "invalid"
            continue
        assert verdict.status == "forbidden", (source, verdict)
        assert re.match(r"line \d+: \S", verdict.failure)
        assert "\n" not in verdict.failure
        assert len(verdict.failure) < 300


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "import sys as torch",
        "import os, torch",
        "import torch.hub",
        "import torch.utils.cpp_extension as cpp",
        "import importlib",
        "import builtins as b",
        "import subprocess",
        "import numpy.ctypeslib",
        "import torch.nn as eval",
        "import torch.nn as list",
        "import torch as __builtins__",
        "import torch.nn as F",
        "from torch import load",
        "from torch import hub",
        "from torch import *",
        "from torch.nn import *",
        "from torch.nn.functional import torch as t",
        "from torch.utils import data",
        "from os import system as relu",
        "from . import gate",
        "from .. import records",
        "from llmatic_hpc import config",
        "from __future__ import braces",
        "from builtins import eval",
        "from math import __loader__",
        "from math import factorial",
        "from functools import wraps",
        "from collections import abc",
        "from typing import get_type_hints",
        "torch = None",
        "nn = F",
        "del nn",
        "F = None",
        "super = None",
        "print = None",
        "__name__ = '__main__'",
        "__builtins__ = {}",
        "eval = 1",
        "def open(): pass",
        "class type: pass",
        "for torch in [1]: pass",
        "import numpy as np\ny = np.zeros(3)",
        "import torchvision\ntorchvision.models.resnet18()",
        "from torchvision import models\nm = models.resnet18()",
        "if True:\n    import os",
        "if __name__ == '__main__':\n    import os",
        "if __name__ == '__main__':\n    eval('1')",
        "if __name__ == '__main__':\n    pass\nelse:\n    torch.load('x')",
        "if __name__ != '__main__':\n    pass",
    ],
)
def test_hostile_top_levels_are_forbidden(line: str) -> None:
    """Imports lead nowhere else, and what they bind stays bound to it."""
    verdict = gate.check(network(top=line), max_bytes=LIMIT)
    assert verdict.status == "forbidden" or "SyntaxError" in verdict.failure, verdict


@pytest.mark.parametrize(
    "definition",
    [
        "class A(nn.Module, metaclass=type): pass",
        "class A(type): pass",
        "class A(torch.autograd.Function): pass",
        "class A(torch.Tensor): pass",
        "class A(nn.Parameter): pass",
        "class A(dict): pass",
        "class A(BaseException): pass",
        "class A((lambda: nn.Module)()): pass",
        "@staticmethod\nclass A(nn.Module): pass",
        "class A(nn.Module):\n    def __call__(self, x): return x",
        "class A(nn.Module):\n    def __getattr__(self, n): return 1",
        "class A(nn.Module):\n    def __setattr__(self, n, v): pass",
        "class A(nn.Module):\n    def __new__(cls): pass",
        "class A(nn.Module):\n    def __del__(self): pass",
        "class A(nn.Module):\n    def __str__(self): pass",
        "class A(nn.Module):\n    __repr__ = print",
        "class A(nn.Module):\n    x = __constants__ = 1\n    def f(self): __constants__ = 1",
        "def __repr__(): pass",
        "__constants__ = []",
        "import copy\ny = copy._deepcopy_dispatch",
        "import copy\ny = copy.copyreg",
        "import copy\ny = copy",
        "class A(nn.Module):\n    def __init_subclass__(cls): pass",
        "class A(nn.Module):\n    def __reduce__(self): pass",
        "class A(nn.Module):\n    __class__ = 1",
        "class A(nn.Module):\n    __slots__ = ()",
        "class A(nn.Module):\n    __call__ = 1",
        "class A(nn.Module):\n    def parameters(self): return []",
        "class A(nn.Module):\n    def train(self, mode=True): return self",
        "class A(nn.Module):\n    eval = 1",
        "class A(nn.Module):\n    def state_dict(self): return {}",
        "class A(nn.Module):\n    def numpy(self): pass",
        "class A(nn.Module):\n    storage = None",
        "class A(nn.Module):\n    @classmethod\n    def f(cls): pass",
        "class A(nn.Module):\n    @torch.jit.export\n    def f(self): pass",
        "class A(nn.Module):\n    class B: pass",
        "class A(nn.Module):\n    F = 1",
        "class A(nn.Module):\n    def f(self):\n        self.forward_hooks, self.train = 1, 2",
        "class A(nn.Module):\n    def f(self):\n        self._parameters = {}",
        "class A(nn.Module):\n    def f(self):\n        self.__class__ = nn.Linear",
        "class A(nn.Module):\n    def f(self):\n        self.numpy = 1",
        "class A(nn.Module):\n    def f(self):\n        self.__dict__['x'] = 1",
        "class A(nn.Module):\n    def f(self, m):\n        m.forward = 1",
        "class A(nn.Module):\n    def f(self):\n        self = nn.Linear\n        self.forward = 1",
        "class A(nn.Module):\n    @staticmethod\n    def f(self):\n        self.forward = 1",
        "class A(nn.Module):\n    def f(self):\n        g = lambda self: 1\n        self.eval = 1",
        "class A(nn.Module):\n    def f(self):\n        self.x = 1\nA.f(nn.Linear)",
        "class A(nn.Module):\n    def f(self):\n        self.x = 1\nA.x = 1",
        "class A(nn.Module):\n    pass\nA.forward = 1",
        "def f(m):\n    m.forward = lambda x: x",
        "def f():\n    return super().__init__()",
        "def f(m):\n    m.__init__()",
        "def f(x: eval('1')): pass",
        "def f() -> torch.load('x'): pass",
        "def f(x=open('x')): pass",
        "x: __import__('os') = 1",
        "def f():\n    eval: int\n    eval('1')",
        "def f():\n    [eval for eval in []]\n    eval('1')",
        "def f():\n    g = lambda eval: 1\n    eval('1')",
        "class A(nn.Module):\n    def f(self):\n        self.add_module('numpy', 1)\n"
        "        return self.fc.numpy()",
        "class A(nn.Module):\n    def f(self):\n        self.add_module(f'nu{1}', 1)\n"
        "        return self.fc.numpy()",
        "class A(nn.Module):\n    def f(self):\n        y = ('__class__', 1)\n"
        "        return self.__class__",
    ],
)
def test_hostile_definitions_are_forbidden(definition: str) -> None:
    """Nobody's class but its own is changed, and not the interface of nn.Module."""
    verdict = gate.check(network(top=definition), max_bytes=LIMIT)
    assert verdict.status == "forbidden", verdict


ALIASED = "class A:\n    def f(self):\n        self.{} = 1\nB = A"


@pytest.mark.parametrize(
    ("top", "statement"),
    [
        # Union["source"] is a ForwardRef: compiled code and a method that runs it.
        ("", "Union['print(1)']"),
        ("", "t = Union"),
        ("", "t = [Optional, List][0]"),
        ("", "y = typing.Union['print(1)']"),
        ("Code = Union['print(1)', int]", "y = Code"),
        ("Code = Union['print(1)', int]", "Code.x"),
        ("Code = More = Union['print(1)', int]", "y = More"),
        ("Code = nn.Linear.weight = Union['print(1)', int]", ""),
        ("Code = Union['print(1)', int]\nCode = 1", ""),
        ("def f(x: Union['print(1)']._evaluate({}, {}, frozenset())): pass", ""),
        ("def f(x: Union[max(1, 2)]): pass", ""),
        ("", "self._evaluate = 1"),
        # Type is type, once it may be called.
        (ALIASED.format("_inst"), "B.f(Type)"),
        (ALIASED.format("x"), "B.f(Type)"),
        ("", "y = Type('X', (object,), {'__array_interface__': {}})"),
        # A ParameterDict is getattr and setattr by strings, other lists once told so.
        ("", "nn.ParameterDict()['__class__']"),
        ("class A(nn.ParameterDict): pass", ""),
        ("from torch.nn import ParameterDict as P", ""),
        ("class A(nn.ParameterList):\n    def _get_abs_string_index(self, i): return i", ""),
        ("class A(nn.Module):\n    def _key_to_attr(self, i): return i", ""),
        # Pointers, and indices that nobody checks.
        ("", "torch.Tensor(cdata=12345)"),
        ("", "torch.Tensor(**{'cda' + 'ta': 12345})"),
        ("", "torch.FloatTensor(**{'cda' + 'ta': 12345})"),
        ("", "torch.zeros(1).new(1)"),
        ("", "t = torch.Tensor"),
        ("", "t = [torch.FloatTensor]"),
        ("from torch import Tensor", "t = Tensor; t(**{'cda' + 'ta': 1})"),
        ("from functools import partial", "partial(torch.Tensor, **{'cda' + 'ta': 1})()"),
        ("def f(isinstance): return isinstance(1, torch.Tensor)", ""),
        (ALIASED.format("argmax"), "B.f(torch.Tensor)"),
        (ALIASED.format("numel"), "B.f(nn.Parameter)"),
        (ALIASED.format("_conv_forward"), "B.f(nn.Conv2d)"),
        ("", "y = {'to_sparse': 1}; torch.eye(3).to_sparse()"),
        ("", "y = {'to_dense': 1}; torch.eye(3).to_dense()"),
        ("", "y = {'_indices': 1}; torch.eye(3)._indices()"),
    ],
)
def test_values_that_lead_out_are_forbidden(top: str, statement: str) -> None:
    """Found by walking what allowed values have: none of it may be reached."""
    typing = "import typing\nfrom typing import List, Optional, Type, Union\n"
    verdict = gate.check(network(top=typing + top, init=statement), max_bytes=LIMIT)
    assert verdict.status == "forbidden", verdict


def test_type_hints_are_let_in_where_nothing_evaluates_them() -> None:
    """Annotations, and aliases that stand for them."""
    top = (
        "import typing\nfrom typing import Any, List, Optional, Tuple, Union\n"
        "Pair = Union[int, Tuple[int, int]]\nNested = List[Pair]\n"
        "def f(x: Pair, y: 'Optional[Pair]' = None, *z: Any) -> typing.List['Pair']:\n"
        "    w: List[Optional[int]] = [1]\n    return w\n"
        "SIZES: List[int] = [1, 2]"
    )
    assert gate.check(network(top=top), max_bytes=LIMIT) == Screened("pending")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "no class"),
        ("x = 1", "no class"),
        ("def f(:", "SyntaxError"),
        ("\0", "NUL"),
        ("x = '\ud800'", "Unicode"),
        ("# -*- coding: utf-7 -*-\nx = 1", "utf-7"),
        ("#!/usr/bin/python\n# vim: set fileencoding=latin-1\nx = 1", "latin-1"),
        ("x = " + "(" * 5000 + ")" * 5000, "nested"),
        ("x = " + "[" * 150 + "]" * 150, "nested"),
        ("x = " + "-" * 90_000 + "1", ""),
        ("x = " + "not " * 20_000 + "1", ""),
        ("x = " + "9" * 90_000, ""),
        ("x = " + "lambda: " * 10_000 + "1", ""),
        ("x = a" + ".a" * 40_000, ""),
        ("x = " + "1+" * 45_000 + "1", ""),
        ("x = " + "1 if 1 else " * 8_000 + "1", ""),
        ("if 1:\n pass\n" + "elif 1:\n pass\n" * 5_000, ""),
        ("".join(" " * i + "if 1:\n" for i in range(200)), ""),
        ("x = f'{" * 50, ""),
        ("x = '\\N{nothing}'", ""),
        ("x = 1\n" * 12_000, ""),
        (HEADER + "class Net:\n    def forward(self, x): return x", "no class"),
        (HEADER + "class Net(nn.Module):\n    pass", "no class"),
        (
            HEADER + "class N(nn.Module):\n  def __init__(self, n): pass\n  def forward(self): 1",
            "no",
        ),
        (HEADER + "class N(nn.Module):\n    def forward(self, x): return y", "'y' is not defined"),
        (HEADER + "class N(Base):\n    def forward(self, x): return x", "'Base' is not defined"),
        (network(forward="x = F.max_pool(x)"), "is not known"),
        (network(forward="x = self.conv1(x)"), ".conv1 is neither"),
        (network(init="self.c = torch.Conv2d(3, 3, 3)"), "is not known"),
    ],
)
def test_what_is_no_network_is_invalid(source: str, said: str) -> None:
    """Text that the parser cannot take, or no network comes of, is invalid; nothing escapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = gate.check(source, max_bytes=LIMIT)
    assert verdict.status in (("invalid",) if said else ("invalid", "forbidden")), verdict
    assert said in verdict.failure
    assert "\n" not in verdict.failure


def test_a_long_source_is_too_large_before_it_is_parsed() -> None:
    """Length is counted in bytes, and five megabytes take no time."""
    started = time.perf_counter()
    verdict = gate.check("x = " + "(" * 5_000_000, max_bytes=LIMIT)
    assert verdict.status == "too_large"
    assert "5000004 bytes" in verdict.failure
    assert time.perf_counter() - started < 0.5
    assert gate.check("# \u00e4\u00e4", max_bytes=5).status == "too_large"
    assert gate.check("#\u00e4\u00e4", max_bytes=5).status == "invalid"


def test_warnings_of_the_parser_do_not_leak() -> None:
    """A bad escape or a comparison with a literal warns nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert status(network(forward=r"assert x is not 1, '\d'")) == "pending"


@pytest.mark.parametrize(
    "statement",
    [
        "print(x)",
        "print('shape', sep=' ')",
        "assert 1 == 1, f'{1:.3f} of {2!r}'",
        "self.fc.requires_grad_(False)",
        "self.encode = nn.Linear(3, 3); self.encode.weight.data.zero_()",
        "y = max(m.stddev for m in [self.fc] if hasattr(m, 'stddev')) if False else 1",
        "layers = {}; layers['head'] = self.fc; y = nn.ModuleDict(layers).head",
        "layers = {}; layers[f'head{3}'] = self.fc; y = nn.ModuleDict(layers).head3",
        "n = next(iter(self.parameters())).shape",
        "n = [m for m in self.modules() if isinstance(m, nn.Linear)]",
        "for p in self.parameters(): p.requires_grad = True",
        "self.fc.weight = nn.Parameter(torch.randn(10, 3072))",
        "self.depth: int = 3",
        "y = 'layer_%d' % 3 + '{}_{:d}'.format('a', 3)",
        "y = 2 ** 10 * 3 << 2",
        "y = 1e-5 ** 0.5 + 10 ** -3",
        "input = torch.zeros(3); input = input.mul(2)",
        "y = max(8, int(12 * 0.5 + 4) // 8 * 8)",
        "n = 8\n        while n > 1:\n            n = n // 2",
        "f = lambda t, *a, k=1, **kw: t + k",
        "y = torch.arange(4)[None, :, None].float().exp()",
        "y = {'a': nn.ReLU(), 'b': nn.GELU()}['a']",
        "with torch.no_grad(): pass",
        "y = [[0] * 3 for _ in range(4)]",
        "if hasattr(self.fc, 'bias') and self.fc.bias is not None: pass",
        "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "y = torch.zeros(2, dtype=torch.float32, device='cpu').to('cpu')",
        "if False: raise ValueError(f'{3} is not divisible')",
        "y = torch.where(torch.zeros(2) > 0, torch.tensor(float('-inf')), torch.tensor(-1e9))",
        "y = nn.functional.one_hot(torch.arange(3), num_classes=3)",
        "y = torch.Tensor(3, 4).normal_().type(torch.FloatTensor)",
        "y = [p for p in self.parameters() if isinstance(p, (nn.Parameter, torch.Tensor))]",
    ],
)
def test_honest_statements_are_let_in(statement: str) -> None:
    """Code that people write in networks besides layers."""
    for source in (network(init=f"x = 0\n        {statement}"), network(forward=statement)):
        verdict = gate.check(source, max_bytes=LIMIT)
        assert verdict.status == "pending", (statement, verdict)


@pytest.mark.parametrize(
    "line",
    [
        "import torch.optim as optim",
        "import numpy as np",
        "import torchvision",
        "import torchvision.transforms as transforms",
        "from torch.nn import Linear, Module, functional, init",
        "from torch.nn.parameter import Parameter",
        "from torch import Tensor, nn, optim",
        "import torch.nn",
        "import math, collections",
        "from typing import Any, Callable, List, Optional, Union",
        "from functools import partial",
        "from collections import OrderedDict",
        "import copy\nlayers = [copy.deepcopy(layer) for layer in [nn.ReLU()] * 2]",
        "from copy import copy, deepcopy",
        "class A(nn.Module):\n    def __repr__(self): return f'A({self.training})'",
        "class A(nn.Module):\n    __constants__ = ['downsample']",
        "class A(nn.Conv2d):\n    def forward(self, x):\n"
        "        return self._conv_forward(x, self.weight * 2, self.bias)",
        "input = torch.randn(1, 3, 32, 32)",
        "device = 'cuda' if torch.cuda.is_available() else 'cpu'",
    ],
)
def test_honest_imports_are_let_in(line: str) -> None:
    """Habitual imports do no harm as long as nothing of them is used."""
    assert gate.check(network(top=line), max_bytes=LIMIT) == Screened("pending")


def test_code_below_the_network_is_looked_at_too() -> None:
    """It is never run here, but a user may run an exported file."""
    usage = "net = Net()\nnet.fc.weight = nn.Parameter(torch.ones(10, 3072))\nprint(net)"
    assert status(network(end=usage)) == "pending"
    assert status(network(end="net = Net()\nnet.train = 1")) == "forbidden"
    assert status(network(end="net = nn.Linear\nnet.fc = 1")) == "forbidden"


def test_the_network_is_the_last_class_that_can_be_constructed() -> None:
    """Helpers with arguments, before or after it, are not it; a redefinition is."""
    helper = (
        "class Zebra(nn.Module):\n  def __init__(self, n): pass\n  def forward(self, x): return x"
    )
    tree = ast.parse(HEADER + NETWORKS["sequential"] + helper)
    chosen = network_class(tree)
    assert chosen is not None
    assert chosen.name == "Net"
    twice = ast.parse(NETWORKS["functional"] + NETWORKS["sequential"])
    chosen = network_class(twice)
    assert chosen is not None
    assert [b.attr for b in chosen.bases if isinstance(b, ast.Attribute)] == ["Sequential"]


# --- the vocabulary against torch and Python ----------------------------------------------------


def test_no_path_is_a_module() -> None:
    """Every allowed path exists, and none of them is a module that leads on."""
    import collections
    import copy
    import functools
    import math
    import types
    import typing

    roots = {"torch": torch, "math": math, "typing": typing}
    roots |= {"collections": collections, "copy": copy, "functools": functools}
    for path in allowlist.PATHS:
        root, *rest = path.split(".")
        value: object = roots[root]
        for part in rest:
            value = getattr(value, part)
        assert not isinstance(value, types.ModuleType), path


def test_the_interface_of_modules_is_reserved() -> None:
    """A candidate cannot redefine what the evaluation relies on."""
    interface = {
        name
        for kind in nn.Module.__mro__
        for name, value in vars(kind).items()
        # transformers adds methods of its own once it is imported
        if not name.startswith("__")
        and not getattr(value, "__module__", "").startswith("transformers")
    } | set(vars(nn.Module()))
    assert interface - allowlist.RESERVED == {"forward", "extra_repr"}


def test_dangerous_names_are_nowhere() -> None:
    """The lists do not contradict each other, nor name what leads out."""
    dangerous = allowlist.words(
        """
        apply_ map_ numpy storage untyped_storage data_ptr share_memory_ register_hook backward set_
        resize_ as_strided load_state_dict register_forward_hook compile format format_map grad_fn
        __class__ __dict__ __globals__ gi_frame f_back tb_frame co_code mro __reduce__ __call__
    """
    )
    for name in dangerous:
        assert name not in allowlist.ATTRIBUTES
        assert name in allowlist.HIDDEN | allowlist.RESERVED or allowlist.ESCAPES.fullmatch(name)
    assert not allowlist.ATTRIBUTES & allowlist.HIDDEN
    assert not any(allowlist.ESCAPES.fullmatch(n) for n in allowlist.ATTRIBUTES)
    assert not allowlist.BUILTINS & allowlist.BINDABLE
    assert not allowlist.BUILTINS - set(dir(builtins))
    refused = "eval exec open compile getattr setattr delattr type vars globals locals __import__"
    assert not allowlist.BUILTINS & set(refused.split())


# --- any text -----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gets_a_verdict(text: str) -> None:
    """No text raises, and none but a network is let in."""
    verdict = gate.check(text, max_bytes=LIMIT)
    assert verdict.status in ("invalid", "forbidden")
    assert "\n" not in verdict.failure


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.randoms(use_true_random=False))
def test_any_damage_gets_a_verdict(name: str, rng: random.Random) -> None:
    """A network with pieces moved and torn out raises nothing either."""
    lines = NETWORKS[name].splitlines()
    for _ in range(rng.randint(1, 5)):
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[i] = rng.choice(["", lines[j], lines[i][: len(lines[i]) // 2], lines[i] + lines[j]])
    verdict = gate.check("\n".join(lines), max_bytes=LIMIT)
    assert verdict.status in ("pending", "invalid", "forbidden")


def test_real_completions(test_data: Path) -> None:
    """Nothing honest that language models wrote is forbidden: few are, and rightly."""
    verdicts = []
    for path in sorted((test_data / "completions").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            fence = re.search(r"```(?:python)?\n(.*?)(?:```|$)", record["completion"], re.S)
            text = fence.group(1) if fence else record["prompt_tail"] + record["completion"]
            source = text if "import torch" in text else HEADER + text
            lines = source.split("\n")
            while lines and gate.check("\n".join(lines), max_bytes=LIMIT).failure.count("Syntax"):
                lines.pop()
            verdicts.append(gate.check("\n".join(lines), max_bytes=LIMIT))
    forbidden = sorted(v.failure for v in verdicts if v.status == "forbidden")
    assert len(verdicts) >= 200
    assert sum(v.status == "pending" for v in verdicts) > 0.4 * len(verdicts)
    assert len(forbidden) < 0.06 * len(verdicts), forbidden


def test_the_gate_is_fast() -> None:
    """A generation of a hundred costs a fraction of a second."""
    sources = list(NETWORKS.values())
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for source in sources:
            gate.check(source, max_bytes=LIMIT)
        best = min(best, time.process_time() - started)
    assert len(sources) / best > 100


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_faults_in_a_class_the_first_is_told(reverse: bool) -> None:
    """In the order of the source, whatever seed Python hashes with."""
    names = sorted(allowlist.RESERVED, reverse=reverse)[:8]
    body = "\n".join(f"    {name} = 1" for name in names)
    source = f"import torch.nn as nn\n\n\nclass Net(nn.Module):\n{body}\n"
    found = gate.check(source, max_bytes=LIMIT)
    assert f"{names[0]} " in found.failure.replace("'", " ")

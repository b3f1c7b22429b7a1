"""A better score, another descriptor, or another status than the network deserves."""

from __future__ import annotations

from .table import BOTH, CHILD, FORBIDDEN, HONEST, Hostile, freed, network, reply

FAIR = HONEST + r"|(invalid|diverged|too_slow): "
"""Anything but a score that it did not earn."""
RETRY = FAIR + r"|infrastructure: $"
"""A training may say that its machine is broken; it is tried again, and nothing is gained."""

PATCHES = {
    "cross_entropy": "F.cross_entropy = lambda *a, **k: net.fc.weight.sum() * 0",
    "the loss of the training": (
        "import sys\nt = sys.modules['llmatic_hpc.evaluation.training']\n"
        "t.F.cross_entropy = lambda o, l, *a: o.sum() * 0"
    ),
    "the prediction": (
        "import sys\nt = sys.modules['llmatic_hpc.evaluation.training']\nimport numpy\n"
        "def predict(self, images):\n    yield numpy.zeros(len(images), 'int64')\n"
        "t._Run.predict = predict"
    ),
    "labels from the training": (
        "import sys\nt = sys.modules['llmatic_hpc.evaluation.training']\nold = t._Run.predict\n"
        "def predict(self, images):\n    import numpy\n"
        "    yield self._images.train_labels[:len(images)].numpy()\n"
        "t._Run.predict = predict"
    ),
    "argmax": "torch.Tensor.argmax = lambda self, dim=1: torch.zeros(len(self), dtype=torch.long)",
    "isfinite": "torch.isfinite = lambda t: torch.ones(1, dtype=torch.bool)",
    "the optimiser": (
        "import sys\nt = sys.modules['llmatic_hpc.evaluation.step']\n"
        "t.Descent.step = lambda self: None"
    ),
    "numel": "torch.Tensor.numel = lambda self: 1",
    "the counting": (
        "import sys\nm = sys.modules['llmatic_hpc.evaluation.measure']\n"
        "m.Counting.flops = property(lambda s: -1, lambda s, v: None)"
    ),
    "the limits of the measure": (
        "import sys\nm = sys.modules['llmatic_hpc.evaluation.measure']\n"
        "m._check_params = lambda *a: 1"
    ),
    "parameters": "net.__class__.parameters = lambda self, *a: iter([self.fc.bias])",
    "len": "import builtins\nbuiltins.len = lambda o: 0",
    "json": (
        "import json, sys\nsys.modules['json'].dumps = lambda *a, **k: "
        '\'{"status": "trained", "failure": "", "values": {"train_loss": 0, "epochs": 1}}\''
    ),
}

REPLIES = {
    "nothing, in peace": "import os\nos._exit(0)",
    "nothing, at the end": "import atexit, os\natexit.register(os._exit, 0)",
    "a score": (
        "import json, os, struct\nb = json.dumps({'status': 'scored', 'failure': '', 'values':"
        " {'fitness': 1.0}}).encode()\nos.write(3, struct.pack('>II', len(b), 0) + b)\nos._exit(0)"
    ),
    "predictions": (
        "import json, os, struct\nb = json.dumps({'status': 'trained', 'failure': '', 'values':"
        " {'train_loss': 0.0, 'epochs': 1}}).encode()\n"
        "os.write(3, struct.pack('>II', len(b), 1024) + b + bytes(1024))\nos._exit(0)"
    ),
    "predictions that are none": (
        "import json, os, struct\nb = json.dumps({'status': 'trained', 'failure': '', 'values':"
        " {'train_loss': 0.0, 'epochs': 1}}).encode()\n"
        "os.write(3, struct.pack('>II', len(b), 1024) + b + b'\\xff' * 1024)\nos._exit(0)"
    ),
    "measures": (
        "import json, os, struct\nb = json.dumps({'status': 'pending', 'failure': '', 'values':"
        " {'width': 1, 'depth': 1, 'ratio': float('nan'), 'flops': 0, 'params': 1}}).encode()\n"
        "os.write(3, struct.pack('>II', len(b), 0) + b)\nos._exit(0)"
    ),
    "two replies": (
        "import json, os, struct\nb = json.dumps({'status': 'invalid', 'failure': '',"
        " 'values': {}}).encode()\nos.write(3, (struct.pack('>II', len(b), 0) + b) * 2)\n"
        "os._exit(0)"
    ),
    "a fault of the machine": (
        "import json, os, struct\nb = json.dumps({'status': 'infrastructure', 'failure': '',"
        " 'values': {}}).encode()\nos.write(3, struct.pack('>II', len(b), 0) + b)\nos._exit(0)"
    ),
    "a checkpoint": (
        "import json, os, struct\nb = json.dumps({'status': 'checkpointed', 'failure': '',"
        " 'values': {}}).encode()\nos.write(3, struct.pack('>II', len(b), 0) + b)\nos._exit(0)"
    ),
    "a terminal's commands": (
        "raise ValueError('\\x1b[2J\\x1b]0;owned\\x07\\r\\n' * 9 + '\\u202e\\u0000')"
    ),
    "ready once more": (
        "import os, sys\nw = sys.modules['llmatic_hpc.sandbox.verdict']\nos.write(3, w.READY)"
    ),
    "a score on standard output": (
        "import os\nos.write(1, b'{\"fitness\": 1.0}')\nos.write(2, b'accuracy 1.0')"
    ),
    "a checkpoint file": (
        "open('training.safetensors', 'wb').write(b'\\xff' * 64)\n"
        "open('seconds', 'w').write('-1e9')"
    ),
    "a result file": "open('00000.1.json', 'w').write('{}')",
}

LABELS = {
    "frames": (
        "import sys\nf = sys._getframe()\nseen = None\nwhile f is not None:\n"
        "    if 'labels' in f.f_locals: seen = f.f_locals['labels']\n    f = f.f_back\n"
        "if seen is not None and len(seen) == len(x):\n"
        "    answer = F.one_hot(seen, 10).float() * 99 + net.fc(x.flatten(1)) * 0"
    ),
    "the garbage collector": (
        "import gc\nfound = [o for o in gc.get_objects() if type(o) is torch.Tensor and"
        " o.dtype == torch.int64 and o.dim() == 1 and len(o) == len(x)]\n"
        "if found:\n    answer = F.one_hot(found[0].clamp(0, 9), 10).float() + net.fc(x.flatten(1))"
    ),
    "all of memory": (
        "import gc, numpy\nfound = [o for o in gc.get_objects() if isinstance(o, numpy.ndarray)"
        " and o.dtype == numpy.int64 and o.ndim == 1 and len(o) == 64]\n"
        "if found and len(x) == 64:\n"
        "    answer = F.one_hot(torch.tensor(found[0]), 10).float() + net.fc(x.flatten(1)) * 0"
    ),
    "the other's images": (
        "import sys\nf = sys._getframe()\nwhile f is not None:\n"
        "    if 'images' in f.f_locals and hasattr(f.f_locals['images'], 'train_labels'):\n"
        "        held = f.f_locals['images']\n"
        "        raise ValueError([n for n in vars(held) if 'label' in n])\n    f = f.f_back"
    ),
}

SUBCLASS = """\
class Sly(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ in ("argmax", "isfinite"):
            return torch.ones(1, dtype=torch.bool)
        return super().__torch_function__(func, types, args, kwargs or {})
"""

SHAPE = "class Two:\n    shape = (32, 10)\n    dtype = 'float32'\n"
_ALIAS = "class A:\n    def f(self):\n        self.argmax = lambda *a, **k: 0\nB = A"

PLAIN = [
    ("a subclass of tensors", network(top=SUBCLASS, forward="return self.fc(x.flatten(1))"
                                      ".as_subclass(Sly)"), BOTH, reply(FAIR), True),
    ("logits of infinity", network(forward="return self.fc(x.flatten(1)) + float('inf')"),
     CHILD, reply(HONEST, r"diverged: ")),
    ("logits of NaN", network(forward="return self.fc(x.flatten(1)) * float('nan')"),
     CHILD, reply(HONEST, r"diverged: "), True),
    ("NaN in evaluation", network(
        forward="y = self.fc(x.flatten(1))\nreturn y if self.training else y / 0"),
     CHILD, reply(HONEST, r"diverged: ")),
    ("huge logits", network(forward="return self.fc(x.flatten(1)) * 1e30"),
     CHILD, reply(HONEST, r"(scored|diverged): ")),
    ("another shape", network(forward="return self.fc(x.flatten(1))[:, :3]"), CHILD,
     reply(r"invalid: .*shape")),
    ("another batch", network(forward="return self.fc(x.flatten(1))[:1]"), CHILD,
     reply(r"invalid: .*shape")),
    ("whole numbers", network(forward="return self.fc(x.flatten(1)).long()"), CHILD,
     reply(r"invalid: ")),
    ("complex numbers", network(
        forward="y = self.fc(x.flatten(1))\nreturn torch.complex(y, y)"), CHILD,
     reply(r"invalid: ")),
    ("no tensor", network(top=SHAPE, forward="return Two()"), CHILD, reply(r"invalid: ")),
    ("no network", network().replace("super().__init__()", "pass"), CHILD, reply(r"invalid: ")),
    ("no parameters", network(init="self.fc = nn.Identity()",
                              forward="return x.flatten(1)[:, :10]"), CHILD,
     reply(r"invalid: .*no parameters")),
    ("frozen parameters", network(init="self.fc.requires_grad_(False)"), CHILD,
     reply(r"invalid: ")),
    ("the input changed in place", network(forward="x.data.zero_()\nx.add_(1)"), CHILD,
     reply(HONEST)),
    ("all tensors patched through an alias", network(top=_ALIAS, init="B.f(torch.Tensor)"),
     BOTH, reply(FAIR)),
    ("a class patched through a variable", network(
        init="m = nn.Linear\nm.weight = nn.Parameter(torch.zeros(10, 192))"), CHILD, reply(FAIR)),
    ("methods of the interface by a subscript", network(
        init="self['parameters'] = lambda: []").replace("nn.Module", "nn.ParameterDict"),
     BOTH, reply(FAIR)),
    ("a train method of its own", network(top="", forward="x = x + 0").replace(
        "    def forward", "    def train(self, mode=True):\n        return self\n\n"
        "    def forward"), BOTH, reply(FAIR)),
    ("another network for one image", network(
        forward="if x.shape[0] == 1:\n    return self.fc(x.flatten(1))"), CHILD, reply(HONEST)),
    ("a network that becomes another", network(
        init="self.steps = 0", forward="self.steps = self.steps + 1\nif self.steps > 3:\n"
        "    self.fc = nn.Linear(192, 10)"), CHILD, reply(HONEST + r"|invalid: ")),
    ("parameters that come late", network(
        forward="self.late = nn.Linear(192, 10)\nreturn self.late(x.flatten(1))"), CHILD,
     reply(HONEST + r"|invalid: ")),
]  # fmt: skip


def _plain(name: str, source: str, claims: frozenset[str], expect: dict[str, str],
           default: bool = False) -> Hostile:  # fmt: skip
    gate = {"gate": r"(forbidden|invalid): "} if "gate" in claims else {}
    return Hostile(name, "forge", source, claims, {**gate, **expect}, default=default)


def _freed(name: str, payload: str, expected: dict[str, str], when: str = "init",
           default: bool = False) -> Hostile:  # fmt: skip
    source = freed(payload, name=name, when=when)
    return Hostile(name, "forge", source, BOTH, {"gate": FORBIDDEN, **expected}, default=default)


CANDIDATES = [
    *(_plain(*row) for row in PLAIN),
    *(_freed(f"patch of {n}", p, reply(FAIR + r"|too_large: "), default=n == "the prediction")
      for n, p in PATCHES.items()),
    *(_freed(f"reply of {n}", p, reply(FAIR, RETRY if "machine" in n else ""),
             default=n in ("a score", "nothing, in peace")) for n, p in REPLIES.items()),
    *(_freed(f"labels from {n}", p, reply(FAIR), "forward", n == "frames")
      for n, p in LABELS.items()),
]  # fmt: skip

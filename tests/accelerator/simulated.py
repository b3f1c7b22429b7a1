"""A foreign accelerator, ``sim``, for machines that have none: real numbers, real autograd.

    from . import simulated
    simulated.start()                      # for good: only in a process of its own (apart.py)
    x = torch.ones(3).to("sim")            # or torch.ones(3, device="sim:0")
    with simulated.counting() as counts:
        x = x * 2                          # counts.kernels["mul"] == 1
        x.sum().item()                     # counts.waits == ["_local_scalar_dense"]

Its tensors hold their numbers in the memory of the CPU and are computed there, by the same
kernels, so that results are equal to the last bit. All else is as with a GPU: an operation
whose operands lie on two devices raises what CUDA raises (a tensor without dimensions may
come from the CPU); nothing but a copy gets there or back; and whatever would make a host wait
for a GPU is counted. torch knows it as *the* accelerator (``torch.accelerator``), its backward
steps run in threads of their own, and it has two devices, ``sim:0`` and ``sim:1``.

What it does not have: ``torch.Generator(device="sim")``, a backward step on ``sim:1`` (torch
gives a device of Python's a single thread), streams, fused attention and
recurrent layers, memory that can run out. With ``own_random`` its devices draw from generators
of their own, as a GPU's do; without, from the CPU's, and so draw the same numbers.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from .cells import CELLS

NAME = "sim"
DEVICES = 2

_COPIES = ("_to_copy", "copy_", "_copy_from", "_copy_from_and_resize")
_WAITS = (
    "_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2",
    "unique_dim", "unique_consecutive", "bincount", "repeat_interleave", "allclose",
)  # fmt: skip
"""Operations whose result, or its shape, the host has to know."""
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
"""Operations that take indices from the host, for which it waits, and masks."""


def missing() -> str:
    """Say what this torch lacks for the simulation; empty: nothing."""
    try:
        from torch.utils.backend_registration import (  # noqa: F401
            _setup_privateuseone_for_python_backend,
        )
    except ImportError:
        return f"torch {torch.__version__} cannot have a device that is written in Python"
    return ""


@dataclass
class Counts:
    """Counts of the events on the device."""

    waits: list[str] = field(default_factory=list)
    """Operations for which a host would have waited."""
    kernels: Counter[str] = field(default_factory=Counter)
    """Operations that compute, by name; a view is none."""


_counting: list[Counts] = []


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Count from here to the end of the block."""
    counts = Counts()
    _counting.append(counts)
    try:
        yield counts
    finally:
        _counting.remove(counts)


class SimTensor(torch.Tensor):
    """A tensor on the device; ``raw`` has its numbers."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, raw: torch.Tensor, device: torch.device) -> SimTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(),
            dtype=raw.dtype, device=device, requires_grad=False,
        )  # fmt: skip
        made.raw = raw
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"SimTensor({self.raw!r}, device={self.device})"

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        made = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def tolist(self) -> Any:
        """Copy it to the host, as a GPU's does."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, as a GPU's does."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


class _Machine(TorchDispatchMode):
    """Has the device: sees factories and copies that name it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, for seconds, to keep it away from here

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    name = operation.name().split("::")[1].split(".")[0]
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    ours = [x for x in tensors if isinstance(x, SimTensor)]
    wanted = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    if not ours and (wanted is None or wanted.type != NAME):
        return operation(*args, **kwargs)
    if operation.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        with _machine:  # in inference mode nothing else has taken it apart
            return operation.decompose(*args, **kwargs)
    if name in _COPIES:
        return _copied(operation, name, args, kwargs, ours, wanted)
    if wanted is not None and wanted.type != NAME:  # zeros_like(ours, device="cpu")
        return operation(*tree_map(_raw, args), **kwargs)
    module.used = True
    device = ours[0].device if wanted is None else torch.device(NAME, wanted.index or 0)
    _check_devices(operation, name, tensors, device)
    indexing = name in _INDEXING
    by_mask = indexing and any(x.dtype == torch.bool for x in tree_leaves(args[1]) if x is not None)
    by_host = indexing and len(ours) < len(tensors)
    if name in _WAITS or by_mask or by_host:
        _note_wait(name)
    if not operation.is_view:
        for counts in _counting:
            counts.kernels[name] += 1
    before = {id(x.raw): x for x in ours}
    with torch.inference_mode(False), torch.no_grad(), _Drawing(operation, device):
        compute = CELLS.get(name, operation)
        raw_args, raw_kwargs = tree_map(_raw, args), tree_map(_raw, dict(kwargs))
        found = compute(*raw_args, **raw_kwargs)
        if Graph.recording is not None and not operation.is_view:
            Graph.recording.note(compute, raw_args, raw_kwargs, found)
    if torch.Tag.inplace_view in operation.tags:
        with no_dispatch():  # the shape that it shows to others changes, too
            operation(*args, **kwargs)

    def there(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return before[id(value)] if id(value) in before else SimTensor(value, device)

    with torch.inference_mode(False):  # a tensor of that mode cannot be a part of another one
        return tree_map(there, found)


def _copied(
    operation: Any, name: str, args: Any, kwargs: Any, ours: list[SimTensor],
    wanted: torch.device | None,
) -> Any:  # fmt: skip
    """Copy, the one way from device to device."""
    if name == "_to_copy":
        (source,) = args
        target = source.device if wanted is None else wanted
        if target.type == NAME:
            target = torch.device(NAME, target.index or 0)
        if not ours and target.type != NAME:
            return operation(*args, **kwargs)
        plain = {key: value for key, value in kwargs.items() if key != "device"}
        where = torch.device("cpu") if target.type == NAME else target
        made = operation(_raw(source), device=where, **plain)
        if Graph.recording is not None:
            call = functools.partial(operation, device=where, **plain)
            Graph.recording.note(call, (_raw(source),), {}, made)
        found = SimTensor(made, target) if target.type == NAME else made
    else:
        found, source = args[:2] if name == "copy_" else args[1::-1]
        _raw(found).copy_(_raw(source))
        if Graph.recording is not None:
            Graph.recording.note(torch.Tensor.copy_, (_raw(found), _raw(source)), {}, None)
    if found.device.type == source.device.type:
        if ours:
            for counts in _counting:
                counts.kernels[name] += 1
    elif not kwargs.get("non_blocking") or found.device.type == "cpu":
        _note_wait(f"{name} to {found.device.type}")
    return found


def _check_devices(
    operation: Any, name: str, tensors: list[torch.Tensor], device: torch.device
) -> None:
    for tensor in tensors:
        foreign = tensor.device != device
        number = tensor.device.type == "cpu" and not tensor.dim()
        index = name in _INDEXING and tensor.device.type == "cpu" and not (
            tensor.is_floating_point() or tensor.is_complex()
        )  # fmt: skip
        if foreign and not (number or index):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{device} and {tensor.device}! (when checking argument of {operation})"
            )


def _note_wait(what: str) -> None:
    if Graph.recording is not None:
        raise RuntimeError(f"operation not permitted when stream is capturing: {what}")
    for counts in _counting:
        counts.waits.append(what)


def _raw(value: Any) -> Any:
    if isinstance(value, SimTensor):
        return value.raw
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value


# --- random numbers ------------------------------------------------------------------------------

_states: dict[int, torch.Tensor] = {}
"""States of the devices' generators by index, where they have some of their own."""


class _Drawing(contextlib.AbstractContextManager[None]):
    """Let an operation that draws do so from the device's generator."""

    def __init__(self, operation: Any, device: torch.device) -> None:
        self._index = device.index or 0
        self._own = bool(_states) and torch.Tag.nondeterministic_seeded in operation.tags

    def __enter__(self) -> None:
        if self._own:
            with no_dispatch():
                self._before = torch.get_rng_state()
                torch.set_rng_state(_states[self._index])

    def __exit__(self, *_: object) -> None:
        if self._own:
            with no_dispatch():
                _states[self._index] = torch.get_rng_state()
                torch.set_rng_state(self._before)


class _Module:
    """Functions of ``torch.sim``, as ``torch.cuda`` and ``torch.xpu`` do."""

    def __init__(self) -> None:
        self._current = 0
        self.used = False
        self.fractions: dict[int, float] = {}

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return self.used

    def get_device_name(self, device: Any = None) -> str:
        return "Simulated"

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return DEVICES

    def current_device(self) -> int:
        return self._current

    def set_device(self, device: Any) -> None:
        self._current = _index(device)

    def synchronize(self, device: Any = None) -> None:
        _note_wait("synchronize")

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return 1 << 30, 1 << 30

    def memory_reserved(self, device: Any = None) -> int:
        return 0

    max_memory_reserved = memory_reserved

    def empty_cache(self) -> None:
        """Have no cache."""

    def set_per_process_memory_fraction(self, fraction: float, device: Any = None) -> None:
        self.fractions[_index(device)] = fraction

    def manual_seed_all(self, seed: int) -> None:
        for index in _states:
            _states[index] = torch.Generator().manual_seed(seed).get_state()

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return (_states or {_index(device): torch.get_rng_state()})[_index(device)].clone()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        if _states:
            _states[_index(device)] = state.clone()
        else:
            torch.set_rng_state(state)


def _index(device: Any) -> int:
    if isinstance(device, int):
        return device
    index = None if device is None else torch.device(device).index
    return module._current if index is None else index


module = _Module()
_machine = _Machine()
_started = False


def start(*, own_random: bool = False) -> None:
    """Give this process the device, for as long as it lives, and this thread its use."""
    global _started
    if not _started:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

        _setup_privateuseone_for_python_backend(NAME, backend_module=module)
        torch.__future__.set_swap_module_params_on_conversion(True)
        # A device written in Python has no streams, which torch would ask.
        torch.accelerator.synchronize = module.synchronize
        torch.accelerator.device_count = module.device_count
        torch.accelerator.current_device_index = module.current_device
        torch.accelerator.set_device_index = module.set_device
        torch.accelerator.empty_cache = module.empty_cache
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="sim") copies there
        _machine.__enter__()
        _started = True
    _states.clear()
    if own_random:
        _states.update({index: torch.Generator().get_state() for index in range(DEVICES)})


def load() -> None:
    """Start as AMD's devices do, from which an empty CUDA_VISIBLE_DEVICES hides nothing."""
    if os.environ.get("HIP_VISIBLE_DEVICES") != "-1":
        start()


def plugin(folder: Path, function: str = "load") -> None:
    """Write into a folder of PYTHONPATH what makes ``import torch`` bring the device."""
    described = folder / "simulated-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: simulated\nVersion: 1\n")
    (described / "entry_points.txt").write_text(f"[torch.backends]\nsim = {__name__}:{function}\n")


# --- graphs --------------------------------------------------------------------------------------


class Graph:
    """Stand-in for ``torch.cuda.CUDAGraph``: kernels recorded once, replayed on the same memory.

    Recording runs them as well, which a GPU does not; whoever records has to undo that in any
    case. What would make a host wait is an error while it records, as on a GPU.
    """

    recording: Graph | None = None

    def __init__(self) -> None:
        self._calls: list[Any] = []

    def __enter__(self) -> None:
        Graph.recording = self

    def __exit__(self, *_: object) -> None:
        Graph.recording = None

    def note(self, compute: Any, args: Any, kwargs: Any, found: Any) -> None:
        """Record an operation with the tensors that it took and made."""
        self._calls.append((compute, args, kwargs, found))

    def replay(self) -> None:
        """Do all of it again, with what now lies in those tensors."""
        for counts in _counting:
            counts.kernels["graph"] += 1
        with no_dispatch(), torch.no_grad():
            for compute, args, kwargs, found in self._calls:
                again = compute(*args, **kwargs)
                for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(new, torch.Tensor) and new is not old and old.numel():
                        old.copy_(new)


class Stream(contextlib.AbstractContextManager[None]):
    """A stream of a device that has one."""

    def wait_stream(self, other: Stream) -> None:
        """Have nothing to wait for."""

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""


def give_graphs() -> None:
    """Let the device have graphs from here on."""
    module.CUDAGraph = Graph
    module.graph = lambda graph: graph
    module.Stream = module.current_stream = Stream
    module.stream = lambda stream: stream

"""The simulated accelerator is as strange as a real one, and computes as the CPU does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from . import simulated
from .apart import apart


@apart
def test_torch_knows_it() -> None:
    """As the accelerator of this machine, with two devices."""
    simulated.start()
    assert torch.accelerator.is_available()
    assert torch.accelerator.current_accelerator() == torch.device("sim")
    assert torch.accelerator.device_count() == 2
    assert torch.ones(2, device="sim").device == torch.device("sim:0")
    assert torch.tensor([1, 2], device="sim:1").device == torch.device("sim:1")


@apart
def test_devices_do_not_mix() -> None:
    """Except for a number, which a CPU's tensor without dimensions is."""
    simulated.start()
    there = torch.ones(3, device="sim")
    for other in (torch.ones(3), torch.ones(3, device="sim:1")):
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            there + other
    assert (there * torch.tensor(2.0)).tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
        there.numpy()


@apart
def test_what_the_host_waits_for_is_counted() -> None:
    """A value read, a shape that depends on values, a copy: each once; a kernel never."""
    simulated.start()
    x = torch.arange(6.0).to("sim")
    with simulated.counting() as counts:
        y = (x * 2).view(2, 3).t()
        y += 1
    assert counts.waits == []
    assert counts.kernels == {"mul": 1, "add_": 1}
    waiting = (
        lambda: x.sum().item(), lambda: bool(x[0] > 1), lambda: x[x > 2], lambda: x.nonzero(),
        lambda: x.cpu(), lambda: x.tolist(), lambda: torch.ones(3).to("sim"),
        lambda: x[torch.tensor([1, 2])], lambda: torch.accelerator.synchronize(),
    )  # fmt: skip
    for wait in waiting:
        with simulated.counting() as counts:
            wait()
        assert len(counts.waits) == 1
    with simulated.counting() as counts:
        torch.ones(3).to("sim", non_blocking=True)
    assert counts.waits == []


_LAYERS = {
    "conv": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 8, 8)),
    "norm": (lambda: nn.BatchNorm1d(8), (5, 8)),
    "gru": (lambda: nn.GRU(8, 4, batch_first=True, bidirectional=True), (2, 5, 8)),
    "lstm": (lambda: nn.LSTM(8, 4, num_layers=2), (5, 2, 8)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0), (5, 2, 8)),
    "dropout": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)), (5, 8)),
}


@pytest.mark.parametrize("name", _LAYERS)
@apart
def test_layers_and_their_gradients_equal_the_cpus(name: str) -> None:
    """In training and in evaluation; recurrent cells are written here, so not to the bit."""
    simulated.start()
    make, shape = _LAYERS[name]

    def run(device: str) -> list[torch.Tensor]:
        torch.manual_seed(3)
        layer, x = make().to(device), torch.randn(shape).to(device).requires_grad_()
        torch.manual_seed(4)
        found = layer(x)
        found = found[0] if isinstance(found, tuple) else found
        found.square().sum().backward()
        gradients = [p.grad for p in layer.parameters()]
        with torch.inference_mode():
            seen = layer.eval()(x)
        seen = seen[0] if isinstance(seen, tuple) else seen
        assert all(t.device.type == device for t in (found, x.grad, *gradients, seen))
        return [t.detach().cpu() for t in (found, x.grad, *gradients, seen)]

    for here, there in zip(run("cpu"), run("sim"), strict=True):
        assert torch.allclose(there, here, atol=1e-5)


@apart
def test_attention_equals_the_cpus() -> None:
    """By its plain formula; with a mask, which makes the fused kernels of a CPU differ."""
    simulated.start()
    q, k, v = torch.randn(3, 2, 4, 5, 8).unbind()
    here = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    there = F.scaled_dot_product_attention(*(t.to("sim") for t in (q, k, v)), is_causal=True)
    assert torch.allclose(there.cpu(), here, atol=1e-5)


@apart
def test_it_may_draw_random_numbers_of_its_own() -> None:
    """Seeded with everything else, kept and restored for each device."""
    simulated.start(own_random=True)
    torch.manual_seed(1)
    state = torch.sim.get_rng_state("sim:1")
    drawn = torch.rand(3, device="sim:1").tolist()
    assert torch.rand(3, device="sim:0").tolist() == drawn  # its own generator, the same seed
    here = torch.rand(3).tolist()
    assert here == drawn  # nothing was drawn from the CPU's
    assert torch.rand(3, device="sim:1").tolist() != drawn
    torch.sim.set_rng_state(state, "sim:1")
    assert torch.rand(3, device="sim:1").tolist() == drawn

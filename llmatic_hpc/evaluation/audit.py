"""Count a network's multiply-adds a second time, with fvcore, and compare operator by operator.

fvcore traces the network, which takes longer than all of the screen, so it stands beside the
screen and not in it. Networks are built and run in contained children, as for the screen.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..config import ContainmentSettings
from ..sandbox.container import Container
from .flops import CONVOLUTIONS, TRANSPOSED
from .screen import job_of, replies_to

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND, SUCCESS = "audit", "audited"
REPLY_BYTES = 16_384
"""Length of a child's counts as JSON, padded with spaces."""
LONGEST_NAME = 60

_NAMES_OF_FVCORE = {
    **dict.fromkeys(CONVOLUTIONS | TRANSPOSED, "conv"),
    **dict.fromkeys(("interpolate", "upsample_nearest", "upsample_bilinear"), "upsample"),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d"), "upsample"),
    "grid_sample": "grid_sampler",
}

Counts = dict[str, float]


@dataclass(frozen=True)
class Audit:
    """Multiply-adds for one image by operator: ``ours``, and fvcore's of the same network."""

    ours: Counts = field(default_factory=dict)
    fvcore: Counts = field(default_factory=dict)
    uncounted: Counts = field(default_factory=dict)
    """Calls of operators for which fvcore has no rule, by their names there."""
    failure: str = ""
    """Why there are no counts; empty where there are."""

    def differences(self) -> dict[str, tuple[float, float]]:
        """Return (ours, fvcore's) of each operator on which the two differ."""
        names = sorted(self.ours.keys() | self.fvcore.keys())
        pairs = {name: (self.ours.get(name, 0.0), self.fvcore.get(name, 0.0)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def summary(self) -> dict[str, Any]:
        """Return what ``llmatic screen --audit --json`` says, as plain values."""
        if self.failure:
            return {"failure": self.failure}
        return {
            "flops": sum(self.ours.values()),
            "fvcore": sum(self.fvcore.values()),
            "differences": {n: list(pair) for n, pair in self.differences().items()},
            "uncounted": self.uncounted,
        }

    def lines(self) -> list[str]:
        """Return the same in words, a line for each operator that differs."""
        if self.failure:
            return [f"not counted with fvcore: {self.failure}"]
        ours, theirs = sum(self.ours.values()), sum(self.fvcore.values())
        found = [f"multiply-adds: {ours:,.10g} here, {theirs:,.10g} by fvcore"]
        found += [
            f"  {name}: {mine:,.10g} here, {other:,.10g} by fvcore"
            for name, (mine, other) in self.differences().items()
        ]
        if self.uncounted:
            names = ", ".join(f"{n} ({c:g})" for n, c in sorted(self.uncounted.items()))
            found.append(f"fvcore has no rule for: {names}")
        return found


def audit(
    sources: Sequence[str],
    *,
    input_shape: tuple[int, ...],
    containment: ContainmentSettings,
) -> list[Audit]:
    """Count the multiply-adds of networks that fit, for one image of ``input_shape`` each.

    Raises :class:`~llmatic_hpc.errors.ContainmentError` where no child can be had.
    """
    if not sources:
        return []
    parameters = {"input_shape": list(input_shape)}
    jobs = [job_of(containment, KIND, s, parameters, SUCCESS, REPLY_BYTES) for s in sources]
    with Container(containment, kind="measure") as container:
        return [
            _decoded(reply.payload) if reply.status == SUCCESS else Audit(failure=reply.failure)
            for reply in replies_to(container, jobs)
        ]


def count_ours(model: nn.Module, images: Tensor) -> Counts:
    """Count one pass in evaluation mode as the screen does, by operator."""
    import torch

    from .layers import Counting

    counting = Counting()
    with counting, torch.no_grad():
        model.eval()(images)
    return _by_operator(counting.flops_of)


def count_with_fvcore(model: nn.Module, images: Tensor) -> tuple[Counts, Counts]:
    """Count one pass with fvcore: multiply-adds by operator, and calls that it has no rule for."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            from fvcore.nn import FlopCountAnalysis

            analysis = FlopCountAnalysis(model.eval(), images)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            counts, missing = analysis.by_operator(), analysis.unsupported_ops()
    finally:
        logging.disable(disabled)
    uncounted = {name.removeprefix("aten::"): float(count) for name, count in missing.items()}
    return _by_operator(counts), uncounted


def _by_operator(counts: Mapping[str, float]) -> Counts:
    """Return counts under fvcore's names, without what costs nothing."""
    found: Counts = {}
    for name, count in counts.items():
        if count:
            shared = _NAMES_OF_FVCORE.get(name, name)
            found[shared] = found.get(shared, 0.0) + count
    return found


def prepare(message: Mapping[str, Any]) -> Callable[[], tuple[dict[str, Any], bytes]]:
    """Import what counting needs; return the function that a contained child performs."""
    import torch

    from . import build

    with warnings.catch_warnings(action="ignore"):
        import fvcore.nn  # noqa: F401 (before the child is sealed)

    def perform() -> tuple[dict[str, Any], bytes]:
        model = build.build(message["source"])
        shape = message["parameters"]["input_shape"]
        try:
            counts = _per_image(model, torch.zeros(1, *shape))
        except Exception:  # some networks refuse one image alone
            counts = _per_image(model, torch.zeros(2, *shape))
        payload = json.dumps(counts).encode().ljust(REPLY_BYTES)
        return {"status": SUCCESS, "failure": "", "values": {}}, payload

    return perform


def _per_image(model: nn.Module, images: Tensor) -> list[Counts]:
    ours, (theirs, uncounted) = count_ours(model, images), count_with_fvcore(model, images)
    return [{name: n / len(images) for name, n in c.items()} for c in (ours, theirs)] + [uncounted]


def _decoded(payload: bytes) -> Audit:
    """Read the counts in a reply, which is believed only in what ours could say."""
    try:
        tables = json.loads(payload)
        ours, theirs, uncounted = ({_name(n): float(c) for n, c in t.items()} for t in tables)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Audit(failure="reply: its counts are not what ours look like")
    return Audit(ours, theirs, uncounted)


def _name(text: str) -> str:
    if not text.isprintable() or len(text) > LONGEST_NAME:
        raise ValueError("not the name of an operator")
    return text

"""``llmatic screen --audit``: fvcore's count beside ours, from a contained child."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmatic_hpc.config import ContainmentSettings
from llmatic_hpc.evaluation import audit
from llmatic_hpc.evaluation.audit import Audit

from ..coordinator.command import llmatic
from ..source.networks import NETWORKS

SHAPE = (3, 32, 32)


def audited(*names: str) -> list[Audit]:
    sources = [NETWORKS[name] for name in names]
    return audit.audit(sources, input_shape=SHAPE, containment=ContainmentSettings())


def test_counts_agree_where_fvcore_has_rules_and_differ_by_operator_where_not() -> None:
    """A plain network has no difference; recurrent layers are the whole difference of another."""
    plain, recurrent = audited("vgg", "recurrent")
    assert plain.differences() == {}
    assert sum(plain.ours.values()) == sum(plain.fvcore.values()) > 0
    assert set(recurrent.differences()) == {"lstm", "gru"}
    assert all(theirs == 0 for _, theirs in recurrent.differences().values())
    assert {"lstm", "gru"} <= recurrent.uncounted.keys()


def test_the_command_shows_both_counts(tmp_path: Path) -> None:
    """As text and in JSON; what does not fit is not counted, and says so."""
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(NETWORKS["recurrent"])
    bad.write_text("import os\n")
    words = ("screen", "--audit", good, bad, "--config", "configs/smoke.toml")
    words += ("--set", f"problem.data={images(tmp_path)}")
    shown = llmatic(*words, check=False).stdout
    assert "by fvcore" in shown
    assert "fvcore has no rule for: " in shown
    assert "lstm: 901,120 here, 0 by fvcore" in shown
    assert "not counted with fvcore: it does not fit" in shown
    told, none = map(json.loads, llmatic(*words, "--json", check=False).stdout.splitlines())
    assert told["audit"]["flops"] == told["flops"]
    assert told["audit"]["differences"]["lstm"] == [901_120, 0]
    assert none["audit"] == {"failure": "it does not fit"}


def images(folder: Path) -> Path:
    """A file with a few random images of the size that the networks are for."""
    import numpy as np

    path = folder / "images.npz"
    rng = np.random.default_rng(0)
    numbers = {
        f"{name}_{split}": values
        for split in ("train", "test")
        for name, values in (
            ("x", rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)),
            ("y", np.arange(40) % 10),
        )
    }
    np.savez(path, **numbers)
    return path


def test_the_commands_own_process_never_loads_torch() -> None:
    """So that nothing a model wrote has anything there to run in."""
    code = (
        "import sys; from tests.evaluation.test_audit import audited; audited('vgg'); "
        "sys.exit('torch' in sys.modules or 'fvcore' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("payload", [b"", b"[]", b"[1, 2, 3]", b'[{"a": "x"}, {}, {}]',
                                     b'[{"\\n": 1}, {}, {}]', b"[" * 9000])  # fmt: skip
def test_a_reply_is_believed_only_in_what_ours_could_say(payload: bytes) -> None:
    """A child that forges its counts gets a failure, never an exception in the judge."""
    assert audit._decoded(payload.ljust(audit.REPLY_BYTES)).failure.startswith("reply: ")

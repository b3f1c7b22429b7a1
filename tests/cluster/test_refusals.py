"""Refusals by sbatch (texts of Slurm 20.11 to 24.05) name the setting that they are about."""

from __future__ import annotations

import pytest

from llmatic_hpc.cluster import refusals

POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, "
    "user's size and/or time limits)"
)
FAILED = "Batch job submission failed: "


@pytest.mark.parametrize(
    ("said", "busy", "unsure", "key"),
    [
        (f"AssocMaxSubmitJobLimit {POLICY}", True, False, "qos"),
        (f"QOSMaxSubmitJobPerUserLimit {POLICY}", True, False, "qos"),
        (f"QOSGrpSubmitJobsLimit {POLICY}", True, False, "qos"),
        (POLICY, True, False, "qos"),
        (f"QOSMaxWallDurationPerJobLimit {POLICY}", False, False, "time"),
        (f"AssocMaxCpuPerJobLimit {POLICY}", False, False, "cpus"),
        (f"QOSMaxMemoryPerJob {POLICY}", False, False, "mem"),
        (f"QOSMaxGRESPerJob {POLICY}", False, False, "gres"),
        (f"QOSMinGRES {POLICY}", False, False, "qos"),
        (f"{FAILED}Socket timed out on send/recv operation", False, True, ""),
        (f"{FAILED}Unable to contact slurm controller (connect failure)", False, True, ""),
        (f"{FAILED}Zero Bytes were transmitted or received", False, True, ""),
        (f"{FAILED}Invalid job array specification", False, False, "max_array_size"),
        ("invalid partition specified: nowhere Invalid partition name specified", False, False,
         "partition"),
        (f"{FAILED}Invalid account or account/partition combination specified", False, False,
         "account"),
        (f"{FAILED}Invalid qos specification", False, False, "qos"),
        (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)", False, False,
         "time"),
        (f"{FAILED}Requested node configuration is not available", False, False, "cpus"),
        (f"{FAILED}Memory required by task is not available: --mem", False, False, "mem"),
        (f"{FAILED}Invalid generic resource (gres) specification", False, False, "gres"),
        (f"{FAILED}Access/permission denied", False, False, "partition"),
        ("unrecognized option '--nonsense'", False, False, "extra"),
    ],
)  # fmt: skip
def test_what_it_means(said: str, busy: bool, unsure: bool, key: str) -> None:
    """Wait, look first, or change the setting of that name."""
    assert (refusals.is_busy(said), refusals.is_unsure(said)) == (busy, unsure)
    assert refusals.advice(said)[0] == key


def test_one_sentence() -> None:
    """sbatch's lines without its name."""
    stderr = "sbatch: error: AssocMaxSubmitJobLimit\n\nsbatch: error: Batch job failed\n"
    assert refusals.sentence(stderr) == "AssocMaxSubmitJobLimit Batch job failed"

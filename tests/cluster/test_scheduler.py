"""Answers of squeue, sacct, scontrol and sacctmgr, as Slurm 22.05 prints them, are read."""

from __future__ import annotations

import pytest

from llmatic_hpc.cluster import scheduler
from llmatic_hpc.cluster.scheduler import Limits, parse_accounts, parse_queue, submit_limit

from .commands import Commands


def test_the_queue() -> None:
    """Jobs, elements, and lines that are none: headers of a federation, warnings."""
    found = parse_queue(
        "CLUSTER: tb\n"
        "123|RUNNING|gpu01|llmatic-a|None\n"
        "124_0|PENDING||llmatic-b|Resources\n"
        "124_11|COMPLETING|gpu[01-02]|llmatic-b|None\n"
        "125_[3-7%2]|PENDING||x|JobArrayTaskLimit\n"
        "126|PENDING||x|Nodes required for job are DOWN|or reserved\n"
        "squeue: warning: something\n"
    )
    assert list(found) == ["123", "124_0", "124_11", "126"]
    assert (found["123"].node, found["123"].is_leaving, found["123"].is_waiting) == (
        "gpu01", False, False,
    )  # fmt: skip
    assert found["124_0"].is_waiting
    assert found["124_11"].is_leaving
    assert found["126"].reason.endswith("|or reserved")


@pytest.mark.parametrize(
    ("state", "reason", "held", "stuck"),
    [
        ("PENDING", "Priority", False, False),
        ("PENDING", "BeginTime", False, False),
        ("PENDING", "ReqNodeNotAvail, UnavailableNodes:gpu01", False, False),
        ("PENDING", "QOSMaxJobsPerUserLimit", False, False),
        ("PENDING", "AssocGrpGRES", False, False),
        ("PENDING", "JobHeldUser", False, True),
        ("PENDING", "PartitionTimeLimit", False, True),
        ("PENDING", "QOSMaxWallDurationPerJobLimit", False, True),
        ("PENDING", "BadConstraints", False, True),
        ("RUNNING", "PartitionTimeLimit", False, False),
        ("PENDING", "launch_failed_requeued_held", True, False),
        ("REQUEUE_HOLD", "None", True, False),
    ],
)
def test_reasons_to_wait(state: str, reason: str, held: bool, stuck: bool) -> None:
    """Jobs that Slurm gave up, that wait for a person, and that only take time are told apart."""
    queued = parse_queue(f"7_0|{state}||name|{reason}\n")["7_0"]
    assert (queued.is_held, queued.is_stuck) == (held, stuck)


def test_accounting() -> None:
    """The last of several starts counts, a state loses its suffix, and no node is an empty text."""
    found = parse_accounts(
        "7_0|name|NODE_FAIL|gpu01|30\n"
        "7_0|name|COMPLETED|gpu02|60\n"
        "7_1|name|CANCELLED by 1000|None assigned|0\n"
        "7_2|name|PENDING|None assigned|\n"
        "7_3|name|\n"
    )
    assert list(found) == ["7_0", "7_1", "7_2"]
    assert (found["7_0"].state, found["7_0"].node, found["7_0"].seconds) == (
        "COMPLETED", "gpu02", 60.0,
    )  # fmt: skip
    assert (found["7_1"].state, found["7_1"].node) == ("CANCELLED", "")
    assert found["7_2"].seconds == 0.0


def test_a_users_own_filters_do_not_hide_jobs(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQUEUE_PARTITION and the like are taken out; where the cluster is stays."""
    (commands.path / "squeue").write_text(
        '#!/bin/sh\necho "1|RUNNING|$SQUEUE_PARTITION$SQUEUE_STATES|$SLURM_CONF|x"\n'
    )
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    monkeypatch.setenv("SQUEUE_STATES", "PD")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    queue = scheduler.queue()
    assert queue is not None
    assert (queue["1"].node, queue["1"].name) == ("", "/etc/slurm/slurm.conf")


def test_no_answer_is_none(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails, hangs or is missing: nothing is known, and nothing is raised."""
    commands.fails("squeue")
    assert scheduler.queue() is None
    (commands.path / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(scheduler, "ANSWER_SECONDS", 0.2)
    assert scheduler.queue() is None
    monkeypatch.setenv("PATH", "")
    assert scheduler.queue() is None
    assert scheduler.accounts(["1"]) == {}
    assert not scheduler.cancel(["1"])
    assert scheduler.limits() == Limits()


def test_many_ids_are_several_calls(commands: Commands) -> None:
    """A command line has its bounds."""
    ids = [f"7_{n}" for n in range(1200)]
    assert scheduler.cancel(ids)
    calls = [call.split() for call in commands.calls("scancel")]
    assert [len(call) for call in calls] == [500, 500, 200]
    assert [job for call in calls for job in call] == ids
    commands.accounts("7_0|n|FAILED|gpu01|1")
    assert set(scheduler.accounts(ids)) == {"7_0"}
    assert len(commands.calls("sacct")) == 3


ASSOCIATIONS = "root||normal\nusers|40|normal\nproject|25|long\n"
SERVICES = "normal|\nlong|30\nshort|10\n"


@pytest.mark.parametrize(
    ("account", "qos", "limit"),
    [
        ("", "", 25),  # which account is the default is not asked: the smallest is safe
        ("users", "", 40),
        ("project", "", 25),
        ("root", "", 0),
        ("users", "short", 10),
        ("project", "long", 25),
        ("root", "long", 30),
        ("nobody", "", 0),
    ],
)
def test_submit_limits(account: str, qos: str, limit: int) -> None:
    """The smallest of those of the association and of the quality of service; 0 where none."""
    assert submit_limit(ASSOCIATIONS, SERVICES, account=account, qos=qos) == limit


def test_limits(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits come from scontrol and sacctmgr, either of which may be silent."""
    commands.says("scontrol", "MaxArrayCount = 3\nMaxArraySize            = 401\nMaxJobId = 9\n")
    commands.fails("sacctmgr")
    assert scheduler.limits() == Limits(401, 0)
    commands.says("sacctmgr", "users|40|normal\n")
    commands.fails("scontrol")
    assert scheduler.limits() == Limits(0, 40)
    monkeypatch.setattr("getpass.getuser", lambda: {}["no such user"])
    monkeypatch.delenv("SLURM_JOB_USER", raising=False)
    scheduler.limits()

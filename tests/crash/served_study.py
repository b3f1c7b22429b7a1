"""A study on the Slurm of slurm/testbed whose runs share one served model, while nodes fail.

    python -m tests.crash.served_study --model FILE.gguf              # minutes
    python -m tests.crash.served_study --model FILE.gguf --failures 6 --seed 3

``llmatic study --submit --serve`` submits a server and a coordinator for every variant of the
paper (real small images, two generations). Meanwhile, at random, a node with candidates is set
down or dies with all that runs on it (the server may be there, too), and once the server is
requeued. Afterwards the study must be finished by its own account, every record must verify, every
candidate must have a result that is no fault of the machine, and one model must have written all
of them. Exit code 1 where anything of that does not hold.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from llmatic_hpc import store
from llmatic_hpc.cluster.launch import server_name
from llmatic_hpc.rundir.paths import StudyPaths

from ..slurm.bed import Bed, Slurm
from .slurm_faults import ROOT, SITE, llmatic

STUDY = """\
config = "{root}/configs/quickstart.toml"
at_once = 3
model_variable = "LLMATIC_MODEL"

[settings]
search.generations = 2
search.batch = {batch}
generator.max_new_tokens = 200
generator.fallback = ""
cluster.kind = "slurm"
cluster.candidates_per_task = 1
cluster.poll_seconds = 0.5
cluster.absence_seconds = 20.0

[variants.llmatic]
[variants.network-archive]
search.variant = "network-archive"
[variants.prompt-archive]
search.variant = "prompt-archive"
[variants.mutation-only]
search.variant = "mutation-only"
[variants.crossover-only]
search.variant = "crossover-only"
[variants.random]
search.variant = "random"
"""
RESOURCES = """
[coordinator]
mem = "2500M"
[serve]
partition = "gpu"
time = "2:00:00"
cpus = 2
mem = "7G"
"""
PATIENCE = 1800.0


def fail(rng: random.Random, slurm: Slurm, bed: Bed, broken: dict[str, float]) -> str:
    """Break the node of a candidate that trains; return what was done, empty where none does."""
    nodes = sorted({e.node for e in slurm.queue("llmatic-") if "_" in e.job
                    and e.state == "RUNNING"} - broken.keys())  # fmt: skip
    if not nodes:
        return ""
    node = rng.choice(nodes)
    broken[node] = time.monotonic()
    if rng.random() < 0.5:
        bed.crash_node(node)
        return f"{node} crashed"
    slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    return f"{node} set down"


def follow(options: argparse.Namespace, paths: StudyPaths, server: str) -> list[str]:
    """Break things until all runs have ended; return what was broken."""
    rng, slurm, bed, told = random.Random(options.seed), Slurm(), Bed(), list[str]()
    broken: dict[str, float] = {}
    deadline, due = time.monotonic() + PATIENCE, time.monotonic() + rng.uniform(5, 20)
    is_requeued = False

    while slurm.queue("llmatic-seed0-"):  # coordinators
        assert time.monotonic() < deadline, "the runs do not end"
        for node, since in list(broken.items()):
            if time.monotonic() - since > 15:
                bed.mend()
                slurm.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)
                del broken[node]
        is_due = time.monotonic() > due and len(told) < options.failures
        if is_due and (said := fail(rng, slurm, bed, broken)):
            told.append(said)
            print(said, flush=True)
            due = time.monotonic() + rng.uniform(5, 30)
        if not is_requeued and len(told) >= options.failures // 2 and paths.server.exists():
            slurm.command("scontrol", "requeue", server, check=False)
            told.append("the server requeued")
            is_requeued = True
        time.sleep(0.5)  # another machine's business: nothing to wait on
    bed.mend()
    return told


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--failures", type=int, default=4, help="the server's among them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Bed().up()
    with tempfile.TemporaryDirectory(prefix="llmatic-served-") as name:
        folder = Path(name)
        file, site, paths = folder / "served.toml", folder / "site.toml", StudyPaths(folder / "out")
        file.write_text(STUDY.format(root=ROOT, batch=options.batch))
        site.write_text(SITE.format(root=ROOT, python=sys.executable, path=ROOT) + RESOURCES)
        words = ("study", file, "--serve", "--output", paths.root)
        model = {"LLMATIC_MODEL": str(options.model.resolve())}
        began = time.monotonic()
        said = llmatic(*words, "--submit", "--site", site, **model).stderr
        print(said, flush=True)
        (server,) = {e.job for e in Slurm().queue(server_name(paths.root.resolve()))}
        try:
            told = follow(options, paths, server)
        finally:
            Slurm().cancel_named("llmatic-seed")
            Slurm().command("scancel", server, check=False)
        done = llmatic(*words, "--json", **model)
        rows = [json.loads(text) for text in done.stdout.splitlines()]
        faults = [f"{row['run']}: {row['state']}" for row in rows if row["state"] != "finished"]
        lost, models, completions = 0, set(), 0
        for path in sorted(paths.root.rglob("run.h5")):
            record = store.load(path)
            faults += [f"{path}: {found}" for found in store.verify(record)]
            table = record.candidates
            faults += [f"{path}: candidate {n} spoiled by the machine"
                       for n in (table["status"] == b"infrastructure").nonzero()[0]]  # fmt: skip
            lost += int((table["attempts"] > 1).sum())
            models.add(json.dumps(record.environment.get("generator_served"), sort_keys=True))
            completions += record.rows
        if len(models) != 1 or "null" in models:
            faults.append(f"not one served model wrote: {models}")
        print(f"{len(rows)} runs, {completions} completions of one served model, "
              f"{time.monotonic() - began:.0f} s")  # fmt: skip
        print(
            f"broken: {', '.join(told)}; {lost} candidates were submitted again, "
            "others Slurm started again by itself"
        )
        print("\n".join(faults) or "all finished, every record verifies: passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

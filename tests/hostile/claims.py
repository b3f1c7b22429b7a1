"""Table of which layer stops what: runs every hostile candidate.

::

    python -m tests.hostile.claims          # what this version and machine claim
    python -m tests.hostile.claims --all    # also without the kernel layers that a claim needs
    python -m tests.hostile.claims --only "fork bomb"
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

from .bed import CONFIGURATIONS, Bed, available, faults
from .matrix import CANDIDATES, claimed
from .table import Hostile

Counts = dict[tuple[str, str], dict[str, int]]


def main(arguments: list[str]) -> int:
    """Run the matrix; 1 if anything claimed was not stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="skip nothing")
    parser.add_argument("--only", default="", help="candidates whose name contains this")
    options = parser.parse_args(arguments)
    counts: Counts = defaultdict(lambda: defaultdict(int))
    failures: list[str] = []
    with Bed() as bed:
        for hostile in CANDIDATES:
            if options.only not in hostile.name:
                continue
            for configuration in CONFIGURATIONS:
                outcome, why = _outcome(bed, hostile, configuration, everything=options.all)
                counts[hostile.kind, configuration][outcome] += 1
                if outcome == "not stopped":
                    line = f"{hostile.kind}: {hostile.name}, {configuration}: {'; '.join(why)}"
                    failures.append(line)
                    print(line, file=sys.stderr, flush=True)
    print(table(counts))
    for failure in failures:
        print(f"- {failure}")
    return 1 if failures else 0


def _outcome(
    bed: Bed, hostile: Hostile, configuration: str, *, everything: bool
) -> tuple[str, list[str]]:
    if not claimed(hostile, configuration):
        return "not claimed", []
    if configuration == "child" and hostile.needs - available() and not everything:
        return "layer not here", []
    seen = bed.run(hostile, configuration)
    found = bed.damage() + faults(hostile, seen)
    return ("not stopped" if found else "stopped"), found


def table(counts: Counts) -> str:
    """Claims by layers, in Markdown: stopped of claimed, and what could not be tried here."""
    heads = {"whole": "gate and child", "child": "child alone", "gate": "gate alone"}
    lines = [
        "| candidates | " + " | ".join(heads[c] for c in CONFIGURATIONS) + " |",
        "| --- |" + " ---: |" * len(CONFIGURATIONS),
    ]
    for kind in dict.fromkeys(kind for kind, _ in counts):
        cells = []
        for configuration in CONFIGURATIONS:
            of = counts[kind, configuration]
            tried = of["stopped"] + of["not stopped"]
            rest = f" ({of['layer not here']} not tried)" if of["layer not here"] else ""
            cells.append(f"{of['stopped']} of {tried}{rest}" if tried or rest else "")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    kernel = ", ".join(sorted(available())) or "none"
    return "\n".join([*lines, "", f"Kernel layers of this child: {kernel}."])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

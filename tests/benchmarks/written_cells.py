"""Fortune of a language model on NAS-Bench-201, from the records of its runs.

    python -m tests.benchmarks.written_cells TABLE.h5 RUN...

Prints for each run what became of its completions, and the best test accuracy after so many queries
beside random search: the median over 1,000 draws of as many different cells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from llmatic_hpc import store
from llmatic_hpc.problems.nasbench201 import table as table_file
from llmatic_hpc.rundir.paths import RunPaths

AT = (5, 10, 20, 40)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    table, rng = table_file.read(options.table), np.random.default_rng(0)
    for run in options.runs:
        record = store.load(RunPaths(run).record)
        rows, status = record.candidates, record.candidates["status"]
        test = table.datasets[record.config["problem"]["dataset"]].test
        queries = np.flatnonzero(status == b"scored")
        best = 100 * np.maximum.accumulate(rows["test_accuracy"][queries])
        names, parents = rows["architecture"], rows["parents"][:, 0]
        repeated = sum(names[i] == names[p] for i, p in enumerate(parents) if p >= 0)
        print(
            f"{run}: {record.rows} completions, {np.isin(status, (b'scored', b'duplicate')).sum()} "
            f"cells, {(rows['written'] == b'fits').sum()} as written, {len(queries)} different, "
            f"{repeated} like their parent"
        )
        for count in (n for n in AT if n <= len(queries)):
            drawn = [test[rng.choice(len(test), count, replace=False)].max() for _ in range(1000)]
            print(f"  {count:4d} queries: {best[count - 1]:.2f}, random {np.median(drawn):.1f}")


if __name__ == "__main__":
    main()

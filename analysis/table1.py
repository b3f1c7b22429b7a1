"""Table 1 of the paper: test accuracy on NAS-Bench-201, beside what papers report.

    python analysis/table1.py [RUN...] [--queries N]

RUN is a run directory, a folder of these, or a pattern; without any, runs/nasbench201/*.
"""

from __future__ import annotations

import _runs


def main() -> None:
    """Print the table."""
    arguments = _runs.parser(__doc__).parse_args()
    found = _runs.methods(arguments.runs, arguments.queries)

    def accuracy(runs: list[_runs.Run]) -> str:
        return _runs.measured([100 * float(r.test[r.result]) for r in runs if r.result is not None])

    best = {run.dataset: f"{100 * run.best_test:.2f}" for method in found for run in method.runs}
    _runs.show(
        "Test accuracy in percent, mean ± sample standard deviation over seeds",
        ("method", "protocol", "seeds", *_runs.DATASETS.values()),
        [[m.title, m.protocol, m.seeds, *m.cells(accuracy)] for m in found],
        [[f"{name} (paper)", "as published", "", *cells]
         for name, cells in _runs.PAPER_TABLE_1.items()],
        [["best cell of the table", "", "", *(best.get(d, _runs.UNKNOWN) for d in _runs.DATASETS)]],
    )  # fmt: skip
    _runs.show_notes(found)


if __name__ == "__main__":
    main()

"""Table 2 of the paper: rank of the best cell found on NAS-Bench-201, and what finding it costs.

    python analysis/table2.py [RUN...] [--queries N]

RUN is a run directory, a folder of these, or a pattern; without any, runs/nasbench201/*. Ranks
are by test accuracy among all 15,625 cells, 1 the best. Under the protocol "sound" it is the rank
of the cell with the best validation accuracy.
"""

from __future__ import annotations

import math
import statistics

import _runs
import numpy as np


def rank(runs: list[_runs.Run]) -> str:
    """The best over all seeds, and the median."""
    ranks = [int(run.rank[run.result]) for run in runs if run.result is not None]
    return f"{min(ranks):,} ({statistics.median(ranks):,.10g})" if ranks else _runs.UNKNOWN


def needed(runs: list[_runs.Run]) -> str:
    """Median of the queries until the fittest cell of all was met, and how often it was."""
    met = [np.flatnonzero(run.fitness >= run.best_fitness) for run in runs]
    counts = [1 + int(rows[0]) if len(rows) else math.inf for rows in met]
    median, often = statistics.median(counts), sum(map(math.isfinite, counts))
    most = max(len(run.test) for run in runs)
    text = f"{median:,.10g}" if math.isfinite(median) else f"> {most:,}"
    return text if often == len(runs) else f"{text} ({often}/{len(runs)})"


def spent(runs: list[_runs.Run]) -> str:
    """Simulated hours of training."""
    return _runs.measured([float(run.seconds.sum()) / 3600 for run in runs], digits=0)


def main() -> None:
    """Print the tables."""
    arguments = _runs.parser(__doc__).parse_args()
    found = _runs.methods(arguments.runs, arguments.queries)
    header = ("method", "protocol", "seeds", *_runs.DATASETS.values())
    ranks = [[m.title, m.protocol, m.seeds, *m.cells(rank)] for m in found]
    theirs = [[f"{name} (paper)", "as published", "", *cells]
              for name, cells in _runs.PAPER_TABLE_2.items()]  # fmt: skip
    _runs.show("Best rank (median over seeds)", header, ranks, theirs)
    for title, cell in (
        ("Median queries until the fittest cell of all (found in so many runs)", needed),
        ("Simulated hours of training", spent),
    ):
        rows = [[m.title, m.protocol, m.seeds, *m.cells(cell)] for m in found]
        _runs.show(title, header, rows)
    _runs.show_notes(found)


if __name__ == "__main__":
    main()

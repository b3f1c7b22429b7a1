"""Reading trusted text in this process, without a child."""

from __future__ import annotations

from llmatic_hpc.evaluation import graph, graph_trace
from llmatic_hpc.evaluation.build import CandidateError
from llmatic_hpc.problems.nasbench201.cells import Cell
from llmatic_hpc.problems.nasbench201.reader.layers import CHANNELS, NotACell
from llmatic_hpc.problems.nasbench201.reader.wiring import cell_of


def traced(text: str) -> Cell:
    """The cell that a text of the tests spells; raises NotACell as the judge words it."""
    try:
        payload = graph_trace.trace(text, channels=CHANNELS)
    except CandidateError as error:
        raise NotACell(error.message) from None
    return cell_of(graph.decode(payload))

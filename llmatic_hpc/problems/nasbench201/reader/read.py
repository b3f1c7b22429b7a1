"""The cell that a source spells, by symbolic interpretation. Nothing of it is ever executed."""

from __future__ import annotations

from ..cells import Cell
from .graph import cell_of_graph
from .parse import Lines, parse
from .statements import Interpreter
from .values import NotACell, Tensor, show

__all__ = ["NotACell", "read"]


def read(source: str) -> Cell:
    """The cell that the last class of ``source`` that derives from nn.Module computes.

    Any spelling of the five operations and of the sums between them is understood: helpers,
    classes, functions of torch, loops over constants. An edge that is not there carries nothing.
    A tensor is a node where an operation is applied to it; two nodes are numbered as variables or
    attributes say (``node_2``, ``edge_0_2``), else in order of evaluation.

    It is read as a spelling of the six operations, and takes these liberties: operations in place
    (``inplace=True``, ``add_``) count by their value, not by what they leave in their argument; a
    layer that two edges share counts for each; padding counts or not in an average pooling; a batch
    norm may lack its affine part; what is rebound at run time (attributes of torch's modules,
    definitions inside of blocks, decorators, ``__call__``) is not followed.

    Raises :class:`NotACell`, for any text whatsoever that is none of the 15,625 cells.
    """
    try:
        lines = Lines(source)
        interpreter = Interpreter(parse(source), lines)
        _, output = interpreter.run()
        if not isinstance(output, Tensor):
            raise NotACell(f"forward returns {show(output)}, not what it made of its input")
        return cell_of_graph(interpreter.tensors, output)
    except RecursionError:
        raise NotACell("nested too deeply") from None

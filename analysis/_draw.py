"""Parts that the figures here have in common: colours, and files of both kinds."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

try:
    import matplotlib as mpl
except ImportError:
    sys.exit("matplotlib is missing: pip install -e '.[analysis]'")
mpl.use("Agg")
import matplotlib.pyplot as plt  # the back end is chosen before
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Colours of Okabe and Ito, which colour-blind people tell apart, and one more; dashes go with each
for who sees none."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKED = 50
NO_BREAK = "\u00a0"
MAP = "cividis"
"""Colours of fitness, the lighter the better: even for every kind of sight."""

BESIDE: dict[str, Any] = {
    "loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0.0,
}  # fmt: skip
"""Place of a legend to the right of its panel, where it hides nothing."""

plt.rcParams.update({
    "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42,
})  # fmt: skip


def line(number: int) -> dict[str, Any]:
    """Colour and dashes of a line."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[(number // 2) % len(DASHES)],
    }


def entry(name: str, more: str) -> str:
    """Break a legend's entry into lines, so that it leaves room for its panel."""
    return "\n".join(textwrap.wrap(f"{name} ({more.replace(' ', NO_BREAK)})", 34))


def marker(points: int) -> dict[str, Any]:
    """Mark the points of a line where they are few enough to be told apart."""
    return {"marker": "o", "markersize": 3} if points <= MARKED else {}


def legend_beside(panel: Axes, title: str) -> None:
    """Put the legend to the right of a panel, where it hides nothing."""
    panel.legend(**BESIDE, title=title, alignment="left")


def zoom(panel: Axes, values: np.ndarray, shown: np.ndarray) -> None:
    """Begin the vertical axis where what matters does; say how many of ``values`` lie below.

    All of ``shown`` stays visible, and three quarters of ``values``; a few that failed would
    otherwise press everything of interest into a line.
    """
    low, high = min(shown.min(), float(np.percentile(values, 25))), max(values.max(), shown.max())
    room = 0.06 * (high - low) or 0.5
    if values.min() >= low - 3 * room:
        return
    panel.set_ylim(low - room, high + room)
    below = int((values < low - room).sum())
    panel.annotate(f"{below:,} of {len(values):,} lie below", (0.99, 0.03), ha="right", zorder=2,
                   xycoords="axes fraction", color="0.35", fontsize=7,
                   bbox={"color": "white", "alpha": 0.85, "pad": 1.0})  # fmt: skip


def generations(panel: Axes, last: int) -> None:
    """Number the horizontal axis by generations, also where there is one only."""
    panel.set(xlabel="generation", xlim=(-0.3 - last / 50, last + 0.3 + last / 50))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def save(figure: Figure, output: str) -> None:
    """Write ``output`` as its ending says; without one as .pdf and as .png. Says what it wrote."""
    path = Path(output)
    kinds = figure.canvas.get_supported_filetypes()
    known = path.suffix[1:].lower() in kinds
    paths = [path] if known else [path.with_name(path.name + end) for end in (".pdf", ".png")]
    for one in paths:
        # Without the date the same runs make the same file.
        undated = {"CreationDate": None} if one.suffix == ".pdf" else None
        try:
            figure.savefig(one, dpi=200, metadata=undated)
        except OSError as error:
            sys.exit(f"{one}: {error.strerror or error}")
        print(f"wrote {one}")
    plt.close(figure)

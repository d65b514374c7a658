"""Pictures that commands draw into a file: the frame that all share, and a file for each."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pilotfish.errors import UsageError
from pilotfish.files import atomic_path
from pilotfish.report.svg import GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
TEXT = 11.5
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same plot on every machine
    "font.size": TEXT,
    "text.parse_math": False,  # a name may hold dollars
    "svg.hashsalt": "pilotfish-analysis",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": TEXT + 1.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": TEXT - 1,
}


def plot_format(path: Path) -> str:
    """``png`` or ``svg``, by the name of the file; UsageError for any other."""
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise UsageError(f"a plot is written as .png or .svg, found {path.name!r}")
    return ending


@contextlib.contextmanager
def drawn(
    path: Path, size: tuple[float, float], layout: Literal["constrained"] | None = "constrained", dpi: int = 144
) -> Iterator[Figure]:
    """A figure of *size* inches that is written to *path* (.png or .svg) when the block ends without an error."""
    import matplotlib.style
    from matplotlib.figure import Figure

    ending = plot_format(path)
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that the font lacks
        figure = Figure(figsize=size, layout=layout, dpi=dpi)
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=ending, dpi=dpi, metadata={"Date": None} if ending == "svg" else None)

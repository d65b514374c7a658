"""The picture of a training: held-out accuracy and training loss of every exit, epoch by epoch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish.files import atomic_path
from pilotfish.report.analysis_plot import STYLE, plot_format
from pilotfish.report.svg import MUTED


def write_training_plot(document: Mapping[str, Any], path: Path) -> Path:
    """Draw the epochs of ``pilotfish train --json`` into *path* (.png or .svg)."""
    import matplotlib
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    ending, epochs = plot_format(path), document["epochs"]
    exits = len(epochs[-1]["losses"])
    shades = matplotlib.colormaps["viridis"]
    colours = [shades(0.05 + 0.8 * k / max(1, exits - 1)) for k in range(exits)]
    numbers = [e["epoch"] for e in epochs]
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(9.6, 4.0), layout="constrained")
        accuracy, loss = figure.subplots(1, 2)
        marker = "o" if len(epochs) < 30 else None
        for k in range(exits):
            label = f"exit {k + 1}" if k + 1 < exits else f"exit {exits} (last)"
            if epochs[-1]["accuracy"]:
                values = [100 * e["accuracy"][k] for e in epochs]
                accuracy.plot(numbers, values, color=colours[k], marker=marker, markersize=3, label=label)
            loss.plot(
                numbers, [e["losses"][k] for e in epochs], color=colours[k], marker=marker, markersize=3, label=label
            )
        accuracy.set_title("held-out accuracy, %", loc="left")
        loss.set_title("training loss", loc="left")
        for ax in (accuracy, loss):
            ax.set_xlabel("epoch", color=MUTED)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.legend(frameon=False, fontsize=9)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=ending, dpi=144, metadata={"Date": None} if ending == "svg" else None)
    return path

"""The picture of a training: held-out accuracy and training loss of every exit, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish.plots import drawn
from pilotfish.report.svg import MUTED


def write_training_plot(document: Mapping[str, Any], path: Path) -> Path:
    """Draw the epochs of ``pilotfish train --json`` into *path* (.png or .svg)."""
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    epochs = document["epochs"]
    exits = len(epochs[-1]["losses"])
    shades = matplotlib.colormaps["viridis"]
    colours = [shades(0.05 + 0.8 * k / max(1, exits - 1)) for k in range(exits)]
    numbers = [e["epoch"] for e in epochs]
    with drawn(path, (9.6, 4.0)) as figure:
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
    return path

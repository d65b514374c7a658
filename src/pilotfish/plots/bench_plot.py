"""The picture of a bench: time per input of the cascade beside its ideal, the base alone, and other ways to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.plots import drawn
from pilotfish.report.bench_table import brief_machine
from pilotfish.report.format import milliseconds, percent, shorten_all
from pilotfish.report.html import clean
from pilotfish.report.svg import BASE, CASCADE, INK, MUTED, OTHER, SAVER

PANELS = (("end_to_end", "file to answer"), ("model_only", "models only"))
WIDTH = 9.6


@dataclass(frozen=True)
class Bar:
    """One way to run: median, [least, largest] in milliseconds per input."""

    label: str
    ms: float
    limits: tuple[float, float]
    colour: str


def write_bench_plot(document: Mapping[str, Any], path: Path) -> None:
    """Draw the document of ``pilotfish bench --json`` into *path* (.png or .svg)."""
    panels = [(title, bars(document, key)) for key, title in PANELS]
    height = 1.4 + 0.42 * sum(len(found) for _, found in panels) + 0.9 * len(panels)
    with drawn(path, (WIDTH, height)) as figure:
        axes = figure.subplots(len(panels), 1, height_ratios=[len(found) for _, found in panels], squeeze=False)[:, 0]
        for ax, (title, found) in zip(axes, panels, strict=True):
            _draw(ax, title, found)
        ratio = percent(document["exit_ratio"][0], 1)
        forced = " (forced)" if document.get("forced_exit_ratio") is not None else ""
        short = shorten_all(document["stages"])
        stages = " → ".join(short[name] for name in document["stages"])
        figure.suptitle(clean(f"{stages}, exit ratio {ratio}{forced}"), x=0.01, ha="left", weight="bold")
        note = (
            f"milliseconds per input, median and range of {document['runs']} runs; {brief_machine(document['machine'])}"
        )
        figure.supxlabel(clean(note), color=MUTED, fontsize=10, x=0.01, ha="left")


def bars(document: Mapping[str, Any], key: str) -> list[Bar]:
    """What one panel shows, ours first."""
    times = document[key]
    spread = times["spread"]
    found = [
        Bar(f"ideal (efficiency {times['efficiency']:.2f})", times["ideal_ms"], tuple(spread["ideal_ms"]), MUTED),
        Bar("Pilotfish", times["realised_ms"], tuple(spread["realised_ms"]), CASCADE),
        Bar("the saver alone", times["stages_ms"][0], tuple(spread["stages_ms"][0]), SAVER),
        Bar("the base alone", times["base_ms"], tuple(spread["base_ms"]), BASE),
    ]
    peers = [peer for peer in document.get("peers", ()) if peer[f"{key}_ms"] is not None]
    return found + [Bar(p["name"], p[f"{key}_ms"], tuple(p[f"{key}_ms_spread"]), OTHER) for p in peers]


def _draw(ax: Any, title: str, found: list[Bar]) -> None:
    rows = range(len(found))
    low = [max(0.0, bar.ms - bar.limits[0]) for bar in found]
    high = [max(0.0, bar.limits[1] - bar.ms) for bar in found]
    ax.barh(
        rows,
        [bar.ms for bar in found],
        color=[bar.colour for bar in found],
        xerr=[low, high],
        height=0.66,
        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2.5},
    )
    for row, bar in zip(rows, found, strict=True):
        ax.annotate(
            milliseconds(bar.ms),
            (max(bar.ms, bar.limits[1]), row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_yticks(list(rows), [clean(bar.label) for bar in found])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2 * max(bar.limits[1] for bar in found))
    ax.set_title(title, pad=8)

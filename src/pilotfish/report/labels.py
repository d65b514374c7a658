"""Names beside points, none over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

F64 = NDArray[np.float64]

# Directions to try, the first ones preferred: right, left, above, below, then the diagonals.
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
DISTANCES = (8.0, 16.0, 28.0)
FAR = 1e5  # pixels: beyond any page, where numbers are absurd
CURVE_COST, DISTANCE_COST = 4.0, 2.0


@dataclass(frozen=True)
class Label:
    """A name at a point (data coordinates). ``must`` labels are placed even where they cross others."""

    text: str
    x: float
    y: float
    colour: str
    bold: bool = False
    must: bool = False


def place_labels(axes: Axes, labels: Sequence[Label], curves: Sequence[tuple[F64, F64]], text_size: float) -> int:
    """Write *labels*, the first ones first, each where it covers no name or point, and as little of *curves* as can be.

    Call it last: it needs final axis limits. Returns how many had no room (their points stay, with a hover text).
    """
    if not labels:
        return 0
    _ = axes.viewLim  # settles limits that are still to be computed
    to_pixels = axes.transData.transform
    points = to_pixels([(label.x, label.y) for label in labels])
    lines = np.concatenate([_dense(to_pixels(np.stack(curve, axis=1))) for curve in curves] or [np.zeros((0, 2))])
    taken = np.concatenate([points - 5, points + 5], axis=1)  # boxes: left, bottom, right, top
    frame = axes.get_window_extent()
    inside = np.array([frame.x0, frame.y0, frame.x1 + 4, frame.y1 + 8])
    unplaced = 0
    for number, label in enumerate(labels):
        width, height = _measure(axes, label, text_size)
        boxes, cost = _candidates(points[number], width, height)
        others = np.delete(taken, number, axis=0)
        free = ~_overlaps(boxes, others).any(axis=1) & _within(boxes, inside)
        cost = cost + CURVE_COST * np.minimum(_covered(boxes, lines), 4)
        if not free.any() and not label.must:
            unplaced += 1
            continue
        best = int(np.where(free, cost, cost + 1e3 * ~_within(boxes, inside) + 1e2).argmin())
        taken = np.concatenate([taken, boxes[best : best + 1]])
        _write(axes, label, points[number], boxes[best], best // len(DIRECTIONS), text_size)
    return unplaced


def _dense(line: F64, step: float = 4.0) -> F64:
    """Points every 4 pixels along a line of pixels (P, 2)."""
    if len(line) < 2:
        return line
    line = line.clip(-FAR, FAR)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.arange(0, along[-1] + step, step)
    return np.stack([np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1])], axis=1)


def _candidates(point: F64, width: float, height: float) -> tuple[F64, F64]:
    """Boxes (D, 4) about a point, nearest ring first, and what each costs (D,)."""
    boxes, costs = [], []
    for ring, distance in enumerate(DISTANCES):
        for rank, (dx, dy) in enumerate(DIRECTIONS):
            reach = distance * (0.75 if dx and dy else 1.0)
            x = point[0] + dx * (reach + width / 2)
            y = point[1] + dy * (reach + height / 2)
            boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
            costs.append(DISTANCE_COST * ring + 0.1 * rank)
    return np.array(boxes), np.array(costs)


def _overlaps(a: F64, b: F64) -> NDArray[np.bool_]:
    return np.asarray(
        (a[:, None, 0] < b[None, :, 2])
        & (b[None, :, 0] < a[:, None, 2])
        & (a[:, None, 1] < b[None, :, 3])
        & (b[None, :, 1] < a[:, None, 3])
    )


def _within(boxes: F64, frame: F64) -> NDArray[np.bool_]:
    return np.asarray((boxes[:, :2] >= frame[:2]).all(axis=1) & (boxes[:, 2:] <= frame[2:]).all(axis=1))


def _covered(boxes: F64, lines: F64) -> NDArray[np.int64]:
    x, y = lines[None, :, 0], lines[None, :, 1]
    hit = (x > boxes[:, None, 0]) & (x < boxes[:, None, 2]) & (y > boxes[:, None, 1]) & (y < boxes[:, None, 3])
    return np.asarray(hit.sum(axis=1), np.int64)


def _measure(axes: Axes, label: Label, size: float) -> tuple[float, float]:
    drawn = axes.text(0, 0, label.text, fontsize=size, fontweight="bold" if label.bold else "normal")
    extent = drawn.get_window_extent()
    drawn.remove()
    return float(extent.width) + 2, float(extent.height)


def _write(axes: Axes, label: Label, point: F64, box: F64, ring: int, size: float) -> None:
    middle = (box[:2] + box[2:]) / 2 - point
    # Browsers may use a narrower font than the one measured: anchor the text at the end that faces its point.
    side = "left" if box[0] > point[0] else "right" if box[2] < point[0] else "center"
    x = {"left": box[0] - point[0], "right": box[2] - point[0], "center": middle[0]}[side]
    axes.annotate(
        label.text,
        (label.x, label.y),
        (float(x), float(middle[1])),
        textcoords="offset pixels",
        ha=side,
        va="center",
        fontsize=size,
        fontweight="bold" if label.bold else "normal",
        color=label.colour,
        annotation_clip=False,
        arrowprops=None if ring == 0 else {"arrowstyle": "-", "color": label.colour, "lw": 0.7, "alpha": 0.6},
    )

"""Names beside points do not cover one another."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pilotfish.report.labels import Label, place_labels


@pytest.mark.parametrize("n", [1, 8, 60])
def test_names_do_not_overlap(n: int) -> None:
    rng = np.random.default_rng(n)
    figure = Figure(figsize=(9, 5), dpi=72)
    axes = figure.add_subplot()
    x, y = rng.random((2, n))
    axes.plot(x, y, "o")
    names = [Label(f"model_{i}_some_name", float(x[i]), float(y[i]), "k") for i in range(n)]
    unplaced = place_labels(axes, names, [(np.linspace(0, 1, 50), np.linspace(0, 1, 50))], 10)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the leader
    assert len(boxes) == n - unplaced
    assert len(boxes) >= min(n, 8)
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert not (one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1)


def test_a_chief_name_is_written_even_without_room() -> None:
    figure = Figure(figsize=(2, 2), dpi=72)
    axes = figure.add_subplot()
    names = [Label("a rather long name", 0.5, 0.5, "k", must=True) for _ in range(12)]
    assert place_labels(axes, names, [], 12) == 0
    assert len(axes.texts) == 12

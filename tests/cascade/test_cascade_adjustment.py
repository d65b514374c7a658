"""What was fitted to the answers is part of a cascade's file: damaged, it is refused in words."""

from __future__ import annotations

import numpy as np
import pytest

from pilotfish.tasks import find_task

KNOTS = {"score": [0.1, 0.5, 0.9], "share": [0.0, 0.4, 0.8], "range": [0.05, 0.95]}


@pytest.mark.parametrize("sound", [{}, KNOTS, {**KNOTS, "share": [0.2, 0.2, 0.2]}])
def test_scores_that_rise_are_taken(sound: dict[str, list[float]]) -> None:
    find_task("boxes").check_adjustment(sound)


@pytest.mark.parametrize(
    "change",
    [
        {"score": [0.9, 0.5, 0.1]},
        {"share": [0.8, 0.4, 0.0]},
        {"share": [0.0, 0.4]},
        {"share": [0.0, 0.4, 4.0]},
        {"share": [0.0, np.nan, 0.8]},
        {"range": [0.5]},
        {"range": [0.9, 0.1]},
        {"score": [], "share": []},
        {"threshold": [0.5]},
    ],
)
def test_scores_that_no_fit_gives_are_refused(change: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="adjustment"):
        find_task("boxes").check_adjustment({**KNOTS, **change})
    with pytest.raises(ValueError, match="range, score and share"):
        find_task("boxes").check_adjustment({"score": KNOTS["score"], "range": KNOTS["range"]})


@pytest.mark.parametrize(
    "found",
    [{"threshold": [3.0]}, {"threshold": []}, {"threshold": [0.1, 0.2]}, {"threshold": [np.inf]}, {"other": [0.5]}],
)
def test_thresholds_that_no_fit_gives_are_refused(found: dict[str, list[float]]) -> None:
    labels = find_task("labels")
    labels.check_adjustment({"threshold": [0.3]})
    with pytest.raises(ValueError, match="adjustment"):
        labels.check_adjustment(found)

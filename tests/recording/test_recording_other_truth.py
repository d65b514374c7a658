"""Data of one task recorded for another: their truth is not read, and it is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pilotfish.recording.placed_truth import truth_for
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks import find_task
from pilotfish.tasks.box_matching import TrueBoxes

TRUTH: dict[str, Any] = {
    "boxes": TrueBoxes(
        Ragged.of([np.zeros((1, 4))] * 2),
        Ragged.of([np.zeros(1, np.int64)] * 2),
        Ragged.of([np.zeros(1, bool)] * 2),
        Ragged.of([np.ones(1)] * 2),
        np.ones(2, bool),
    ),
    "labels": np.eye(2, dtype=np.int8),
    "mask": np.array([b"png", b"png"], object),
}


@pytest.mark.parametrize(
    ("theirs", "asked"), [(a, b) for a in TRUTH for b in ("boxes", "labels", "mask", "classes") if a != b]
)
def test_the_truth_of_another_task_is_left_unread_with_a_note(theirs: str, asked: str) -> None:
    data: Any = _Two(
        spec="scenes:val",
        ids=("a", "b"),
        labels=None,
        class_names=("0", "1"),
        task=theirs,
        truth=TRUTH[theirs],
        notes=(),
    )
    model: Any = SimpleNamespace(spec="m", n_classes=2, class_names=None, class_ids=None)
    found = truth_for(find_task(asked), data, model)
    assert not find_task(asked).known(found.labels).any()
    assert any(f"--task {theirs}" in note and "not read" in note for note in found.notes)


class _Two(SimpleNamespace):
    def __len__(self) -> int:
        return 2
